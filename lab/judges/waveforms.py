"""What can be judged by ear: sound, and enough of it."""

from __future__ import annotations

import numpy as np

from lab import audio
from lab.audio import SAMPLE_RATE, SILENCE, Waveform
from lab.errors import LabError


def audible(waveform: np.ndarray, seconds: float) -> Waveform:
    """The waveform (N,). Raises LabError for what is none, for less than `seconds`, and for a peak under -60 dBFS."""
    waveform = audio.as_waveform(waveform)
    length = len(waveform) / SAMPLE_RATE
    if length < seconds:
        raise LabError(f"{length:.2f} s are too short to be judged; give {seconds:g} s or more")
    if np.abs(audio.without_offset(waveform)).max() < 10 ** (SILENCE / 20):
        raise LabError(f"there is nothing to judge in {length:.2f} s of silence; give audible speech")
    return waveform
