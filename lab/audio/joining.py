"""Waveforms joined to the next, and at other rates."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import numpy as np
import soxr

from lab.audio.levels import Waveform
from lab.errors import LabError


def resample(waveform: np.ndarray, from_rate: float, to_rate: float) -> Waveform:
    """(N,) at one rate to (N * to_rate / from_rate,) at another, band-limited (soxr HQ)."""
    return soxr.resample(waveform.astype(np.float32, copy=False), from_rate, to_rate)


def crossfade(left: np.ndarray, right: np.ndarray) -> Waveform:
    """From `left` to `right`, both (N,), over their whole length, at equal power.

    Where the two are unrelated their powers add, and cos^2 + sin^2 = 1 keeps the level where equal gain would
    dip by 3 dB; the more alike they are, the more the middle swells, up to 3 dB (notebook 02 measures it).
    """
    if left.shape != right.shape:
        raise LabError(f"cannot cross-fade {left.shape} samples with {right.shape}; give equal lengths")
    angle = (np.arange(len(left), dtype=np.float32) + 0.5) * (math.pi / 2 / max(1, len(left)))
    return (left * np.cos(angle) + right * np.sin(angle)).astype(np.float32)


def join(left: np.ndarray, right: np.ndarray, fade: int) -> Waveform:
    """`left` (N,) and `right` (M,) in one: (N + M - fade,).

    The last `fade` samples of left and the first of right render the same moment and are cross-faded; 0 is
    the plain cut of the paper (Fig. 4b). Raises LabError if a piece is shorter than the fade.
    """
    if not 0 <= fade <= min(len(left), len(right)):
        raise LabError(f"cannot fade over {fade} samples between pieces of {len(left)} and {len(right)}")
    middle = crossfade(left[len(left) - fade :], right[:fade])
    return np.concatenate([left[: len(left) - fade], middle, right[fade:]])


def stitch(pieces: Iterable[np.ndarray], fade: int) -> Iterator[Waveform]:
    """`join` for pieces that are still being made: audio comes out piece by piece, `fade` samples behind.

    Neighbours share `fade` samples centred on the cut: take `window.scaled(640).kept(fade // 2)` of each
    window's waveform (lab.windows), with `fade` even. What comes out is as long as the kept parts together.
    """
    tail = np.zeros(0, np.float32)
    for index, piece in enumerate(pieces):
        joined = join(tail, piece, fade if index else 0)
        done = max(0, len(joined) - fade)
        yield joined[:done]
        tail = joined[done:]
    yield tail
