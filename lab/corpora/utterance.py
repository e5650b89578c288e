"""A piece of speech with its text, and where it comes from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Utterance:
    """Waveform (N,) int16 at 16 kHz (half the memory of float32: corpora of hours are held whole), text as spelled."""

    waveform: np.ndarray
    text: str
    narrator: str
    source: str  # "narrated" or "librispeech"
    story: int = -1  # seed, where there is one

    @property
    def seconds(self) -> float:
        return len(self.waveform) / 16_000

    def samples(self) -> np.ndarray:
        """Waveform (N,) float32 in [-1, 1]."""
        return self.waveform.astype(np.float32) / 32768


def int16(waveform: np.ndarray) -> np.ndarray:
    """Waveform (N,) float32 -> int16, limited rather than wrapped."""
    return (np.clip(waveform, -1, 1) * 32767).astype(np.int16)
