"""What generated stories say, minute by minute."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from lab.tokens import RATE, Tokenizer


def by_minute(tokenizer: Tokenizer, tokens: Tensor, score: Callable[[str], float]) -> list[float]:
    """`score` of what each whole minute of the tokens (T,) spells, such as the share of its words that exist.

    A minute may begin and end within a word: two of about 150.
    """
    minutes = tokens[: len(tokens) // (60 * RATE) * 60 * RATE].view(-1, 60 * RATE)
    return [score(tokenizer.transcribe(minute)) for minute in minutes]
