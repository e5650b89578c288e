"""What generated stories say, minute by minute."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from lab.protocols import Tokenizer
from lab.tokens import TOKEN_RATE


def by_minute(tokenizer: Tokenizer, tokens: Tensor, score: Callable[[str], float]) -> list[float]:
    """`score` of what each whole minute of the tokens (T,) spells, such as the share of its words that exist.

    A minute may begin and end within a word: two of about 150.
    """
    minutes = tokens[: len(tokens) // (60 * TOKEN_RATE) * 60 * TOKEN_RATE].view(-1, 60 * TOKEN_RATE)
    return [score(tokenizer.transcribe(minute)) for minute in minutes]
