"""Where what ships with the lab lies: the bundle, prompts and stored figures."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).parent


def data_folder() -> Path:
    """`data/`: a wheel carries it inside the package, a checkout has it beside."""
    inside = _PACKAGE / "data"
    return inside if inside.is_dir() else _PACKAGE.parent / "data"
