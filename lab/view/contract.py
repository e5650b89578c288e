"""What notebooks print so that nbval can compare it: values that tell a working lab from a dead one.

A number that depends on weights or on the order of float sums is printed as the range that it lies in, and as itself
only where it lies outside. So the line is the same on every machine, and differs where the claim no longer holds.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from typing import Any

import numpy as np
import plotly.graph_objects as go

from lab.audio import as_waveform, level
from lab.audio.levels import decibels, frame_power

QUIET = -60.0  # dBFS of a frame of 20 ms


def within(value: float, low: float, high: float, unit: str = "") -> str:
    """`low to high`, or the value and that it is not there. NaN is nowhere."""
    said = f"{low:g} to {high:g}{unit}"
    return said if low <= value <= high else f"{value:.3g}{unit}, which is not {said}"


def sounding(waveform: np.ndarray) -> str:
    """Level of the speech, peak and share of quiet frames of waveform (N,), each as the range of speech.

    Silence, noise at full scale and a tone without a pause fall out of one of them. Raises LabError for no waveform.
    """
    waveform = as_waveform(waveform)
    frames = [decibels(float(power)) < QUIET for power in frame_power(waveform)]
    quiet = np.mean(frames) if frames else 1.0
    peak = float(np.abs(waveform).max(initial=0.0))
    ranges = within(level(waveform), -40, -8, " dBFS"), within(peak, 0.05, 1), within(float(quiet), 0, 0.6)
    return "level {}; peak {}; quiet {}".format(*ranges)


def shows(figure: go.Figure, points: bool = False, values: int | None = None) -> str:
    """Traces of a figure by type, which of them are empty or hold one value only, and how many points it has.

    points: print the number of points, where it does not depend on the profile or on a story. values: the digits
    after the point to which all y and z are rounded before they are hashed, where they depend on no model.
    """
    kinds = Counter(trace.type for trace in figure.data)
    said = [", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())) or "nothing"]
    arrays = [_numbers(trace) for trace in figure.data]
    said.append(f"{sum(not array.size for array in arrays)} empty")
    spread = [array for array in arrays if array.size > 1]
    said.append(f"{sum(np.ptp(array) == 0 for array in spread)} level")
    if points:
        said.append(f"{sum(array.size for array in arrays)} points")
    if values is not None:
        rounded = [(array.round(values) + 0.0).tobytes() for array in arrays]  # + 0.0: no negative zero
        said.append(hashlib.sha256(b"|".join(rounded)).hexdigest()[:8])
    return "; ".join(said)


def _numbers(trace: Any) -> np.ndarray:
    """The finite numbers that a trace draws: z of a map, else y, else x."""
    for name in ("z", "y", "x"):
        if name in trace and trace[name] is not None:
            flat = np.asarray(trace[name], dtype=object).ravel()
            numbers = [float(value) for value in flat if isinstance(value, int | float | np.number)]
            return np.array([value for value in numbers if math.isfinite(value)])
    return np.zeros(0)
