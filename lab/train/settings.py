"""What a run may have other than its recipe: a few values, saved in its folder as run.toml and given back."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lab.errors import LabError
from lab.files import replacing

KINDS: dict[str, type] = {
    "preset": str,  # of the language models
    "length": str,  # of the pieces that they learn from, such as 4min; left out: the preset's
    "seed": int,
    "steps": int,
    "learning_rate": float,
    "warmup": int,  # steps
    "floor": float,  # share of the learning rate at the end
    "weight_decay": float,
    "betas": list,  # of AdamW, two numbers
    "clip": float,  # norm of the gradients
    "save_seconds": float,
    "log_every": int,  # steps
    "evaluate_every": int,  # steps
    "batch": int,  # pieces of a step, of the language models
    "checkpointing": bool,  # compute blocks again in the backward pass, to save memory
    "compile": bool,  # blocks by torch.compile
    "workers": int,  # processes that make batches ahead of training; 2 on a GPU, and else none
    "keep": int,  # best checkpoints by held-out loss beside the last, for `lab choose`
    "precision": str,  # float32, or mixed: matrix products in bfloat16
}
LEAST = {"batch": 1, "log_every": 1, "evaluate_every": 1, "workers": 0, "keep": 0}  # the schedule knows its own
SHORT = {"lr": "learning_rate"}


def gathered(config: Path | None, assignments: Iterable[str]) -> dict[str, Any]:
    """The settings in a TOML file, and over them those of `name=value`.

    Raises LabError for a file that cannot be read, an unknown name, a value of another type and one that is too small.
    """
    found: dict[str, Any] = {}
    if config is not None:
        try:
            found = tomllib.loads(config.read_text())
        except (OSError, ValueError) as error:
            raise LabError(f"cannot read {config}: {error}; give a TOML file, such as the run.toml of a run") from None
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not equals:
            raise LabError(f"cannot set {assignment!r}; give a name and a value, such as lr=3e-4")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return {SHORT.get(name, name): _checked(SHORT.get(name, name), value) for name, value in found.items()}


def _checked(name: str, value: Any) -> Any:
    if name not in KINDS:
        raise LabError(f"there is no setting {name!r}; there are lr, {', '.join(KINDS)}")
    kind = KINDS[name]
    fits = isinstance(value, (int, float) if kind is float else kind)
    if not fits or isinstance(value, bool) != (kind is bool):
        wanted = {int: "a whole number", float: "a number", bool: "true or false", str: "a name", list: "[0.9, 0.95]"}
        raise LabError(f"cannot set {name} to {value!r}; give {wanted[kind]}")
    if name in LEAST and value < LEAST[name]:
        raise LabError(f"cannot set {name} to {value!r}; give {LEAST[name]} or more")
    if name == "precision" and value not in ("float32", "mixed"):
        raise LabError(f"cannot set {name} to {value!r}; give float32 or mixed")
    return value


def text(values: Mapping[str, Any]) -> str:
    """The settings among `values`, as TOML."""
    return "".join(f"{name} = {json.dumps(values[name])}\n" for name in KINDS if name in values)


def write(path: Path, values: Mapping[str, Any]) -> None:
    with replacing(path) as part:
        part.write_text(text(values))
