"""Named presets of configs, each a frozen dataclass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

from lab.errors import LabError

Config = TypeVar("Config")


def build(
    cls: type[Config], presets: Mapping[str, Mapping[str, Any]], name: str, overrides: Mapping[str, Any]
) -> Config:
    """The config of a preset, with some fields of it replaced. Raises LabError for an unknown preset or field."""
    if name not in presets:
        raise LabError(f"{cls.__name__}: no preset {name!r}; there are {', '.join(presets)}")
    known = {field.name for field in fields(cls)}  # type: ignore[arg-type]
    if unknown := set(overrides) - known:
        raise LabError(f"{cls.__name__}: no field {sorted(unknown)[0]!r}; there are {', '.join(sorted(known))}")
    return cls(**{**presets[name], **overrides})
