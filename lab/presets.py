"""Named presets of configs, each a frozen dataclass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, ClassVar, Self

from lab.errors import LabError


class Presets:
    """What a config derives from. PRESETS: by name, the fields in which a preset differs from the defaults."""

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]]

    @classmethod
    def preset(cls, name: str, **overrides: Any) -> Self:
        """A preset, with some fields of it replaced. Raises LabError for an unknown preset or field."""
        if name not in cls.PRESETS:
            raise LabError(f"{cls.__name__}: no preset {name!r}; there are {', '.join(cls.PRESETS)}")
        known = {field.name for field in fields(cls)}  # type: ignore[arg-type]
        if unknown := set(overrides) - known:
            raise LabError(f"{cls.__name__}: no field {sorted(unknown)[0]!r}; there are {', '.join(sorted(known))}")
        return cls(**{**cls.PRESETS[name], **overrides})
