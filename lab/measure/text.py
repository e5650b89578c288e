"""What a transcript is like: by its words alone, to a language model, and beside another text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lab.errors import LabError
from lab.judges.protocols import CausalLM, TextEncoder

SPAN = 100  # words, the paper's spans of SC-L: about 30 s


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


def log_perplexity(model: CausalLM, text: str) -> float:
    """ASR-PPL of a transcript: nats a token, as Park et al. 2025 give it. LabError for no word."""
    nats, tokens = model.log_likelihood(text)
    if not tokens:
        raise LabError("a text without a word has no perplexity; count how many there are")
    return -nats / tokens


def spans(text: str, size: int = SPAN) -> list[str]:
    """Each `size` words; a last span of fewer is left out, since the paper does not say."""
    words = text.split()
    return [" ".join(words[at : at + size]) for at in range(0, len(words) - size + 1, size)]


def similarity(encoder: TextEncoder, text: str, reference: str) -> float:
    """Cosine of what two texts are about: the paper's SBERT. Of longer ones, its Gecko, the means of their spans of 100
    words are taken, the last one shorter: most encoders read no more.
    """
    parts = [each.split() for each in (text, reference)]
    pieces = [[" ".join(words[at : at + SPAN]) for at in range(0, len(words) or 1, SPAN)] for words in parts]
    vectors = encoder.embed_text(pieces[0] + pieces[1])
    means = vectors[: len(pieces[0])].mean(0), vectors[len(pieces[0]) :].mean(0)
    return float(means[0] @ means[1] / (np.linalg.norm(means[0]) * np.linalg.norm(means[1])))


def span_likeness(encoder: TextEncoder, prompt: str, text: str, size: int = SPAN) -> list[float]:
    """SC-L (Park et al. 2025): the cosine of the prompt and each of the text's `spans`."""
    found = spans(text, size)
    if not found:
        return []
    first, *others = encoder.embed_text([prompt, *found])
    return [float(first @ other) for other in others]
