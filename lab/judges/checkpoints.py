"""What a result tells of the weights that judged it."""

from __future__ import annotations

import hashlib
from importlib.metadata import version
from pathlib import Path

_WEIGHTS = (".safetensors", ".gguf", ".onnx", ".bin", ".pt", ".ckpt")


def provenance(package: str, checkpoint: str, weights: Path | None = None, **more: str) -> dict[str, str]:
    """Backend, checkpoint (of a path its name alone) and the first 12 digits of the SHA-256 of the weights, where they
    are a file or lie in a folder here."""
    told = {"backend": f"{package} {version(package)}", "checkpoint": Path(checkpoint).name if weights else checkpoint}
    return told | ({"weights": digest(weights)} if weights else {}) | more


def digest(weights: Path) -> str:
    """The first 12 digits of the SHA-256 of a file, or of the files of weights in a folder."""
    found = hashlib.sha256()
    inside = (path for path in weights.rglob("*") if path.suffix in _WEIGHTS) if weights.is_dir() else [weights]
    for path in sorted(inside):
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                found.update(block)
    return found.hexdigest()[:12]
