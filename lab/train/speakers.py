"""The same words from another speaker: made by arithmetic, or a second reading brought into step with the first."""

from __future__ import annotations

import librosa
import numpy as np
import torch
from torch import Tensor

from lab.tokens import mel

SHARPNESS = 15.0  # of scores that ask one reading for the tokens of another: cosines of 0.2 apart are 20 to 1
_OFF = 0.02  # what a token of distance from even tempo costs a match, in cosines


def in_step(first: Tensor, second: Tensor) -> np.ndarray:
    """Two readings of one text as unit vectors (T, C) and (S, C) -> which say the same (M, 2), ascending.

    Dynamic time warping near an even tempo: every vector of either has a match.
    """
    here, there = (each.float().cpu().numpy() for each in (first, second))
    even = np.arange(len(here))[:, None] * len(there) / len(here)
    costs = 1 - here @ there.T + _OFF * np.abs(even - np.arange(len(there)))
    _, path = librosa.sequence.dtw(C=costs.astype(np.float64))
    return path[::-1]


def perturb(frames: Tensor) -> Tensor:
    """Another speaker, room and level, in step: frequency warped by 0.88 to 1.14, tilted, gained, noised, bands hidden.

    Log-mel (B, M, 80) -> the same shape. Numbers below are in nats.
    """
    rows, _, bands = frames.shape
    device = frames.device

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(rows, 1, 1, device=device)

    place = torch.arange(bands, device=device, dtype=frames.dtype)
    # Bands are near linear in log-frequency above 1 kHz (about 23 bands an octave) and near linear below.
    source = (place + uniform(-1, 1) * 4.5 * (place / bands).clamp(min=0.05).sqrt()).clamp(0, bands - 1)  # (B, 1, 80)
    low = source.floor().long().clamp(max=bands - 2)
    part = source - low
    index = low.expand(frames.shape)
    warped = frames.gather(2, index) * (1 - part) + frames.gather(2, index + 1) * part
    centred = (place - bands / 2) / bands
    shaped = (
        warped * mel.SPREAD
        + mel.MEAN
        + uniform(-1.8, 1.8)
        + uniform(-3.0, 3.0) * centred
        + uniform(-1.2, 1.2) * torch.cos(torch.pi * (centred * 4 + uniform(0, 2)))
    )
    floor = uniform(-11.6, -7.4) + 0.9 * torch.randn_like(shaped)
    noisy = torch.logaddexp(shaped, floor)  # powers add
    start = uniform(0, bands)
    band = (place >= start) & (place < start + uniform(0, 12))
    return (torch.where(band, floor, noisy) - mel.MEAN) / mel.SPREAD
