"""What `Player` shows below a spectrogram, on the same time axis: curves, marks, tokens, words and maps; and
paths beside it."""

from __future__ import annotations

import base64
import math
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
    """Moments, in seconds. colour: #rrggbb. sound: which one of a comparison they are of, by name."""

    name: str
    times: Sequence[float] | np.ndarray
    colour: str = style.SEAM
    sound: str = ""

    def group(self) -> dict[str, Any]:
        times = moments(f"the marks {self.name!r}", self.times).tolist()
        return {"name": self.name, "colour": _colour(self.colour), "times": times}


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
        rate = _rate(f"the ribbon {self.name!r}", self.rate)
        return {"kind": "ribbon", "name": self.name, "rate": rate, "values": values.astype(np.uint16).tobytes()}


@dataclass(frozen=True)
class Words:
    """A transcript: (start, stop, text) of each word, seconds, in order. The page shows those around the cursor.

    sound: which one of a comparison says it, by name; the page shows the words of the one that is heard.
    """

    name: str
    spans: Sequence[tuple[float, float, str]]
    sound: str = ""

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
        return {"kind": "words", "name": self.name, "sound": self.sound, "spans": [list(span) for span in spans]}


@dataclass(frozen=True)
class Heat:
    """A map: values (rows, n), 0 to 1, `rate` columns a second; the ink of the page at 1.

    ends: what stands beside the top row and the bottom row.
    """

    name: str
    values: np.ndarray | torch.Tensor
    rate: float = TOKEN_RATE
    ends: tuple[str, str] = ("", "")

    def lane(self) -> dict[str, Any]:
        return {"kind": "heat", "name": self.name, "ends": list(self.ends), **_map(self)}


@dataclass(frozen=True)
class Causes:
    """What each second put into the moment under the pointer, or else under the cursor.

    values: shares (seconds, n) of what is there at n moments, `rate` a second; one below 0 is drawn as none.
    """

    name: str
    values: np.ndarray | torch.Tensor
    rate: float = TOKEN_RATE
    colour: str = style.STATE

    def lane(self) -> dict[str, Any]:
        return {"kind": "causes", "name": self.name, "colour": _colour(self.colour), **_map(self)}


@dataclass(frozen=True)
class Trajectory:
    """A path in a plane, beside the lanes, that runs on with the sound and carries the words of the player's `Words`.

    values: (n, 2), across and up, `rate` points a second. axes: what stands at the two of them.
    """

    name: str
    values: np.ndarray | torch.Tensor
    axes: tuple[str, str]
    rate: float = TOKEN_RATE
    colour: str = style.STATE

    def lane(self) -> dict[str, Any]:
        name, values = f"the trajectory {self.name!r}", np.asarray(self.values)
        if values.ndim != 2 or values.shape[1] != 2 or not len(values):
            raise LabError(f"{name} is of shape {values.shape}; give (n, 2)")
        if not np.isfinite(numbers(name, values.ravel())).all():
            raise LabError(f"{name} holds numbers that are not finite; give a place for each moment")
        kind = {"kind": "trajectory", "name": self.name, "axes": list(self.axes), "colour": _colour(self.colour)}
        return {**kind, "rate": _rate(name, self.rate), "values": values.astype(np.float32).tobytes()}


def _map(track: Heat | Causes) -> dict[str, Any]:
    """Values as bytes, a row after the other, with their rate. Raises LabError for anything but (rows, n) finite."""
    name = f"the map {track.name!r}"
    values = np.asarray(track.values)
    if values.ndim != 2 or not values.size:
        raise LabError(f"{name} is of shape {values.shape}; give (rows, n)")
    flat = numbers(name, values.ravel())
    if not np.isfinite(flat).all():
        raise LabError(f"{name} holds {flat[~np.isfinite(flat)][0]}; give finite numbers")
    shades = np.round(255 * flat.clip(0, 1)).astype(np.uint8).tobytes()
    return {"rate": _rate(name, track.rate), "rows": len(values), "values": shades}


def _rate(name: str, rate: float) -> float:
    if not 0 < rate < np.inf:
        raise LabError(f"{name} has {rate} values a second; give a positive rate")
    return float(rate)


Track = Curve | Marks | Ribbon | Words | Heat | Causes | Trajectory
Lane = Track | Sequence[Curve] | Sequence[Marks]  # what `Player` is given


def lane(track: Lane) -> dict[str, Any]:
    """A track as the page wants it. Curves in a tuple share one lane, scale and unit; marks in a tuple share one lane
    and differ in shape. LabError for anything else."""
    if isinstance(track, Ribbon | Words | Heat | Causes | Trajectory):
        return track.lane()
    several: list[Any] = list(track) if isinstance(track, list | tuple) else [track]
    name = several[0].name if isinstance(track, Curve | Marks) else ""
    if several and all(isinstance(each, Curve) for each in several):
        return {"kind": "curve", "name": name, "unit": several[0].unit, "lines": [curve.line() for curve in several]}
    if several and all(isinstance(each, Marks) for each in several):
        groups = [marks.group() for marks in several]
        return {"kind": "marks", "name": name, "sound": several[0].sound, "groups": groups}
    kinds = "Curve, Marks, Ribbon, Words, Heat, Causes, Trajectory"
    raise LabError(f"{track!r:.80} is no track; give {kinds}, or a tuple of Curve or of Marks")


def stretch(lane: dict[str, Any], start: float, stop: float) -> dict[str, Any]:
    """What `lane` made of a track, from one second to another, counted from there; bytes in base64, as JSON wants."""
    if lane["kind"] == "curve":
        return {**lane, "lines": [_line_between(line, start, stop) for line in lane["lines"]]}
    if lane["kind"] == "ribbon":
        values = np.frombuffer(lane["values"], np.uint16)
        part = values[round(start * lane["rate"]) : round(stop * lane["rate"])]
        return {**lane, "values": base64.b64encode(part.tobytes()).decode()}
    if lane["kind"] in ("heat", "causes"):
        shades = np.frombuffer(lane["values"], np.uint8).reshape(lane["rows"], -1)
        shades = shades[:, round(start * lane["rate"]) : round(stop * lane["rate"])]
        if lane["kind"] == "causes":  # its rows are seconds: those of a clip begin with it
            shades = shades[round(start) : math.ceil(stop)]
        return {**lane, "rows": len(shades), "values": base64.b64encode(shades.tobytes()).decode()}
    if lane["kind"] == "trajectory":
        path = np.frombuffer(lane["values"], np.float32).reshape(-1, 2)
        first = min(round(start * lane["rate"]), len(path) - 1)  # where it ends it stays: the page needs a point
        path = path[first : max(first + 1, round(stop * lane["rate"]))]
        return {**lane, "values": base64.b64encode(path.tobytes()).decode()}
    if lane["kind"] == "marks":
        inside = ([time - start for time in group["times"] if start <= time <= stop] for group in lane["groups"])
        groups = [{**group, "times": times} for group, times in zip(lane["groups"], inside, strict=True)]
        return {**lane, "groups": groups}
    spans = [[begin - start, end - start, text] for begin, end, text in lane["spans"] if start <= begin < stop]
    return {**lane, "spans": [[round(begin, 3), round(end, 3), text] for begin, end, text in spans]}


def _line_between(line: dict[str, Any], start: float, stop: float) -> dict[str, Any]:
    times, values = (np.frombuffer(line[name], np.float32) for name in ("times", "values"))
    inside = (times >= start) & (times <= stop)
    parts = {"times": times[inside] - np.float32(start), "values": values[inside]}
    return {**line, **{name: base64.b64encode(part.tobytes()).decode() for name, part in parts.items()}}
