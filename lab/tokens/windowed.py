"""A tokenizer of windows on a waveform of any length (paper section 3.3, Fig. 4a)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from lab import audio, windows
from lab.errors import LabError


def in_windows(
    tokenize: Callable[[Tensor], Tensor], waveform: np.ndarray, hop: int, reach: int, window: int, overlap: int
) -> Tensor:
    """Waveform (N,) float32 at 16 kHz -> tokens (ceil(N / hop),) int64, in windows of `window` tokens.

    tokenize: a window (1, N), N a multiple of `hop` -> its tokens (1, N / hop), each of which sees `reach` tokens to
    each side. The last window is filled with the *start of the same waveform* and the tokens of the filling are
    dropped. Silence would tell the tokens before it that the end is near, and a language model would learn to end
    ("implicit EOS"). Raises LabError for what is no waveform, is empty or not finite.
    """
    waveform = audio.as_waveform(waveform)
    tokens = -(-len(waveform) // hop)
    if tokens == 0:
        raise LabError("there is nothing to tokenize: the waveform is empty")
    parts = windows.plan(tokens, window, overlap)
    # Filled as far as the encoder sees beyond the last token; what lies further cannot change it.
    end = min(tokens + reach, parts[-1].start + window)
    padded = np.resize(waveform, hop * end)  # repeats from the start
    kept = []
    for part in parts:
        samples = padded[hop * part.start : hop * min(part.start + window, end)]
        kept.append(tokenize(torch.from_numpy(samples[None]))[0, part.kept()])
    return torch.cat(kept)
