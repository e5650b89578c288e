"""The pitch of clean speech, for the codec to learn: autocorrelation, and the likeliest path through its peaks."""

from __future__ import annotations

from functools import cache

import librosa
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from lab.audio import SAMPLE_RATE
from lab.voice.codec import HALF
from lab.voice.excitation import BINS, frequencies

UNVOICED = -1
_WINDOW = 1024  # samples, 64 ms: three periods of the lowest voice
_VOICED, _SOFT = 0.5, 1e-4  # least autocorrelation of a voiced frame; its least power, of the loudest frame's
_SHORTER = 0.08  # of two periods that correlate alike the shorter is the pitch
_SHARPNESS = 12.0  # nats of likelihood an autocorrelation of 1
_LEAP = 25  # bins, 6 semitones: what a voice moves in 20 ms at most


def track(waveform: np.ndarray) -> np.ndarray:
    """Waveform (N,) float32 at 16 kHz -> bins of `excitation.frequencies` (N // 320,) int16, -1 where unvoiced.

    Autocorrelation over that of the window (Boersma 1993) as emissions of a hidden Markov model of the pitch.
    """
    count = len(waveform) // HALF
    if not count:
        return np.zeros(0, np.int16)
    margin = (_WINDOW - HALF) // 2
    frames = sliding_window_view(np.pad(waveform, (margin, margin + HALF)), _WINDOW)[::HALF][:count]
    periods = SAMPLE_RATE / frequencies().numpy()
    low = periods.astype(int)
    part = periods - low
    window = np.hanning(_WINDOW)
    own = _autocorrelation(window)
    scores, power = np.empty((count, BINS)), np.empty(count)
    for start in range(0, count, 2000):  # 16 MB of spectra at once
        piece = frames[start : start + 2000].astype(np.float64)
        piece = piece - piece.mean(1, keepdims=True)
        power[start : start + 2000] = np.square(piece).mean(1)
        periodic = _autocorrelation(piece * window) / np.maximum(own, 1e-3)
        scores[start : start + 2000] = periodic[:, low] * (1 - part) + periodic[:, low + 1] * part
    likelihood = np.exp(_SHARPNESS * (scores.clip(0, 1) + _SHORTER * np.linspace(0, 1, BINS)))
    emissions = likelihood / likelihood.sum(1, keepdims=True)
    path = librosa.sequence.viterbi(emissions.T, _transitions())
    voiced = (scores[np.arange(count), path] > _VOICED) & (power > max(_SOFT * power.max(), 10**-5.5))
    return np.where(voiced, path, UNVOICED).astype(np.int16)


def _autocorrelation(frames: np.ndarray) -> np.ndarray:
    """(..., 1024) -> (..., 1024), of lag 0 on, over that of lag 0."""
    full = np.fft.irfft(np.abs(np.fft.rfft(frames, 2 * _WINDOW)) ** 2)[..., :_WINDOW]
    return full / np.maximum(full[..., :1], 1e-12)


@cache
def _transitions() -> np.ndarray:
    return librosa.sequence.transition_local(BINS, _LEAP, window="triangle")
