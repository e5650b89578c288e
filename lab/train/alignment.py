"""Which tokens of two readings of one text say the same, by dynamic time warping."""

from __future__ import annotations

import librosa
import numpy as np
import torch
from torch import Tensor

from lab.corpora import Utterance
from lab.tokens import TOKEN_HOP, Tokenizer

_OFF_DIAGONAL = 0.02  # what a token of distance from even tempo costs an alignment, in cosines


def align(first: Tensor, second: Tensor) -> np.ndarray:
    """Two readings of one text as unit vectors (T, C) and (S, C) -> which say the same (M, 2), ascending.

    Dynamic time warping near an even tempo: every vector of either has a match.
    """
    here, there = (each.float().cpu().numpy() for each in (first, second))
    even = np.arange(len(here))[:, None] * len(there) / len(here)
    costs = 1 - here @ there.T + _OFF_DIAGONAL * np.abs(even - np.arange(len(there)))
    _, path = librosa.sequence.dtw(C=costs.astype(np.float64))
    return path[::-1]


@torch.no_grad()
def aligned(directions: Tensor, lengths: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Which tokens of rows 2k and 2k + 1 say the same: unit vectors (B, T, C), tokens of speech in each row (B,), rows
    to align (B,) bool -> indices into (B T): two (M,)."""
    length, paths = directions.shape[1], [np.zeros((0, 2), np.int64)]
    for row in range(0, len(directions), 2):
        # Of NaN librosa would raise an error, where the step is to be rejected.
        if rows[row] and rows[row + 1] and directions[row : row + 2].isfinite().all():
            path = align(*(directions[each, : lengths[each]] for each in (row, row + 1)))
            paths.append(path + length * np.array([row, row + 1]))
    first, second = torch.from_numpy(np.concatenate(paths)).to(directions.device).unbind(1)
    return first, second


@torch.inference_mode()
def beside(tokenizer: Tokenizer, reading: Utterance, reference: Utterance) -> tuple[np.ndarray, Tensor]:
    """For each whole token of a reading the one of another reading of the same text that says the same (T,), and what
    the tokens of that are made of (S, C)."""

    def directions(utterance: Utterance) -> Tensor:
        samples = torch.from_numpy(utterance.samples()[: len(utterance.waveform) // TOKEN_HOP * TOKEN_HOP])
        frames = tokenizer.mel(samples[None].to(tokenizer.device))
        return tokenizer.quantizer.on_sphere(tokenizer.narrow(tokenizer.features(frames))[0])

    here, there = directions(reading), directions(reference)
    path = align(here, there)
    first, behind = (np.searchsorted(path[:, 0], np.arange(len(here)), side) for side in ("left", "right"))
    return path[(first + behind - 1) // 2, 1], there
