"""What `Player` shows below a spectrogram, on the same time axis: curves, marks, tokens and words."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from lab.errors import LabError
from lab.tokens import TOKEN_RATE
from lab.view import style


def numbers(name: str, values: Any, kinds: str = "fiu") -> np.ndarray:
    """An array (n,) of numbers, of a dtype of these kinds. Raises LabError for anything else."""
    try:
        found = np.asarray(values.detach().cpu() if isinstance(values, torch.Tensor) else values)
    except (TypeError, ValueError) as error:  # ragged lists, bfloat16
        raise LabError(f"{name} cannot be read as numbers: {error}") from error
    if found.ndim != 1 or (found.size and found.dtype.kind not in kinds):
        wanted = "numbers" if "f" in kinds else "whole numbers"
        raise LabError(f"{name} is of {found.dtype} and shape {found.shape}; give {wanted}, shape (n,)")
    return found


def moments(name: str, values: Any, rising: bool = False) -> np.ndarray:
    """An array (n,) of moments in seconds. Raises LabError unless they are finite, and in order where `rising`."""
    times = numbers(name, values)
    if not np.isfinite(times).all():
        raise LabError(f"{name} holds {times[~np.isfinite(times)][0]} s; give finite seconds")
    if rising and (back := np.flatnonzero(np.diff(times) < 0)).size:
        raise LabError(f"{name} goes back from {times[back[0]]:g} to {times[back[0] + 1]:g} s; sort it by time")
    return times


def _colour(colour: str) -> str:
    if not re.fullmatch("#[0-9a-fA-F]{6}", str(colour)):
        raise LabError(f"{colour!r} is no colour of the form #rrggbb")
    return colour


@dataclass(frozen=True)
class Curve:
    """A number over time: values (n,) at times (n,) in seconds, rising; NaN is a gap. colour: #rrggbb."""

    name: str
    times: Sequence[float] | np.ndarray
    values: Sequence[float] | np.ndarray
    unit: str = ""
    colour: str = style.CONTINUATION

    def line(self) -> dict[str, Any]:
        times = moments(f"the curve {self.name!r}, times,", self.times, rising=True).astype(np.float32)
        values = numbers(f"the curve {self.name!r}", self.values).astype(np.float32)
        if times.shape != values.shape:
            raise LabError(f"the curve {self.name!r} has times {times.shape} and values {values.shape}; give (n,) both")
        colour = _colour(self.colour)
        return {"name": self.name, "colour": colour, "times": times.tobytes(), "values": values.tobytes()}


@dataclass(frozen=True)
class Marks:
    """Moments, in seconds. colour: #rrggbb."""

    name: str
    times: Sequence[float] | np.ndarray
    colour: str = style.SEAM

    def lane(self) -> dict[str, Any]:
        times = moments(f"the marks {self.name!r}", self.times).tolist()
        return {"kind": "marks", "name": self.name, "colour": _colour(self.colour), "times": times}


@dataclass(frozen=True)
class Ribbon:
    """Tokens (n,), 0 to 65535, as colours, `rate` a second; the number is shown under the pointer."""

    name: str
    values: Sequence[int] | np.ndarray | torch.Tensor
    rate: float = TOKEN_RATE

    def lane(self) -> dict[str, Any]:
        values = numbers(f"the ribbon {self.name!r}", self.values, kinds="iu")
        if values.size and not 0 <= values.min() <= values.max() < 2**16:
            raise LabError(f"the ribbon {self.name!r} holds {values.min()} to {values.max()}; give tokens, 0 to 65535")
        if not 0 < self.rate < np.inf:
            raise LabError(f"the ribbon {self.name!r} has {self.rate} tokens a second; give a positive rate")
        pcm = values.astype(np.uint16).tobytes()
        return {"kind": "ribbon", "name": self.name, "rate": float(self.rate), "values": pcm}


@dataclass(frozen=True)
class Words:
    """A transcript: (start, stop, text) of each word, seconds, in order. The page shows those around the cursor."""

    name: str
    spans: Sequence[tuple[float, float, str]]

    def lane(self) -> dict[str, Any]:
        try:
            starts, stops, texts = zip(*self.spans, strict=True) if len(self.spans) else ((), (), ())
        except (TypeError, ValueError) as error:
            raise LabError(f"the words {self.name!r} are not (start, stop, text) each") from error
        name = f"the words {self.name!r},"
        begin, end = moments(f"{name} starts,", starts, rising=True), moments(f"{name} stops,", stops)
        if (short := np.flatnonzero(end < begin)).size:
            raise LabError(f"{name} {texts[short[0]]!r} stops before it starts, at {end[short[0]]:g} s")
        spans = zip(begin.round(3).tolist(), end.round(3).tolist(), map(str, texts), strict=True)
        return {"kind": "words", "name": self.name, "spans": [list(span) for span in spans]}


Track = Curve | Marks | Ribbon | Words


def lane(track: Track | Sequence[Curve]) -> dict[str, Any]:
    """A track as the page wants it. Curves in a tuple share one lane, scale and unit. LabError for anything else."""
    if isinstance(track, Marks | Ribbon | Words):
        return track.lane()
    curves = [track] if isinstance(track, Curve) else list(track) if isinstance(track, list | tuple) else []
    if not curves or not all(isinstance(curve, Curve) for curve in curves):
        raise LabError(f"{track!r:.80} is no track; give Curve, Marks, Ribbon, Words, or a tuple of Curve")
    name = curves[0].name if len(curves) == 1 else ""
    return {"kind": "curve", "name": name, "unit": curves[0].unit, "lines": [curve.line() for curve in curves]}


def stretch(lane: dict[str, Any], start: float, stop: float) -> dict[str, Any]:
    """What `lane` made of a track, from one second to another, counted from there; bytes in base64, as JSON wants."""
    if lane["kind"] == "curve":
        return {**lane, "lines": [_line_between(line, start, stop) for line in lane["lines"]]}
    if lane["kind"] == "ribbon":
        values = np.frombuffer(lane["values"], np.uint16)
        part = values[round(start * lane["rate"]) : round(stop * lane["rate"])]
        return {**lane, "values": base64.b64encode(part.tobytes()).decode()}
    if lane["kind"] == "marks":
        return {**lane, "times": [time - start for time in lane["times"] if start <= time <= stop]}
    spans = [[begin - start, end - start, text] for begin, end, text in lane["spans"] if start <= begin < stop]
    return {**lane, "spans": [[round(begin, 3), round(end, 3), text] for begin, end, text in spans]}


def _line_between(line: dict[str, Any], start: float, stop: float) -> dict[str, Any]:
    times, values = (np.frombuffer(line[name], np.float32) for name in ("times", "values"))
    inside = (times >= start) & (times <= stop)
    parts = {"times": times[inside] - np.float32(start), "values": values[inside]}
    return {**line, **{name: base64.b64encode(part.tobytes()).decode() for name, part in parts.items()}}
