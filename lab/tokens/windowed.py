"""A tokenizer of windows on a waveform of any length (paper section 3.3, Fig. 4a)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from lab import audio, windows
from lab.errors import LabError


def in_windows(
    tokenize: Callable[[Tensor], Tensor], waveform: np.ndarray, hop: int, reach: int, window: int, overlap: int
) -> Tensor:
    """Waveform (N,) float32 at 16 kHz -> tokens (ceil(N / hop),) int64, in windows of `window` tokens.

    tokenize: windows (B, N), N a multiple of `hop` -> their tokens (B, N / hop), each of which sees `reach` tokens to
    each side. The last window is filled with the *start of the same waveform* and the tokens of the filling are
    dropped. Silence would tell the tokens before it that the end is near, and a language model would learn to end
    ("implicit EOS"). Raises LabError for what is no waveform, is empty or not finite.
    """
    return all_in_windows(tokenize, [waveform], hop, reach, window, overlap, 1)[0]


def all_in_windows(
    tokenize: Callable[[Tensor], Tensor],
    waveforms: Sequence[np.ndarray],
    hop: int,
    reach: int,
    window: int,
    overlap: int,
    together: int,
) -> list[Tensor]:
    """The same for several waveforms, with up to `together` windows of about one length at once."""
    checked = [audio.as_waveform(waveform) for waveform in waveforms]
    lengths = [-(-len(waveform) // hop) for waveform in checked]
    if 0 in lengths:
        raise LabError("there is nothing to tokenize: the waveform is empty")
    found: list[list[tuple[windows.Window, np.ndarray]]] = []
    for waveform, tokens in zip(checked, lengths, strict=True):
        parts = windows.plan(tokens, window, overlap)
        # Filled as far as the encoder sees beyond the last token; what lies further cannot change it.
        end = min(tokens + reach, parts[-1].start + window)
        padded = np.resize(waveform, hop * end)  # repeats from the start
        found.append([(part, padded[hop * part.start : hop * min(part.start + window, end)]) for part in parts])
    kept: list[list[Tensor]] = [[torch.empty(0)] * len(each) for each in found]
    places = [(number, at) for number, each in enumerate(found) for at in range(len(each))]
    places.sort(key=lambda place: len(found[place[0]][place[1]][1]))
    for start in range(0, len(places), together):
        batch = places[start : start + together]
        longest = len(found[batch[-1][0]][batch[-1][1]][1])
        samples = np.stack([np.resize(found[number][at][1], longest) for number, at in batch])
        for (number, at), tokens in zip(batch, tokenize(torch.from_numpy(samples)), strict=True):
            kept[number][at] = tokens[found[number][at][0].kept()]
    return [torch.cat(each) for each in kept]
