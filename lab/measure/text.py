"""What a transcript is like, by its words alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def repetition(words: Sequence[str], n: int = 4) -> float:
    """Share of n-grams that are copies, 1 - different / all (seq-rep-n, Welleck et al. 2019); 0 without any."""
    grams = _grams(words, n)
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def auto_bleu(words: Sequence[str], order: int = 2) -> float:
    """Geometric mean, over n from 1 to `order`, of the share of n-grams that occur elsewhere too, not overlapping.

    auto-BLEU-2 of Lakhotia et al. 2021 (GSLM), as in fairseq; 0 for fewer words than make an n-gram or two.
    """
    if len(words) < max(order, 2):
        return 0.0
    shares = []
    for n in range(1, order + 1):
        grams = _grams(words, n)
        last = {gram: at for at, gram in enumerate(grams)}
        first = {gram: at for at, gram in reversed(list(enumerate(grams)))}
        shares.append(np.mean([first[gram] <= at - n or last[gram] >= at + n for at, gram in enumerate(grams)]))
    return float(np.prod(shares) ** (1 / order))


def _grams(words: Sequence[str], n: int) -> list[tuple[str, ...]]:
    return [tuple(words[at : at + n]) for at in range(len(words) - n + 1)]
