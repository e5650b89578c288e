"""The words of a story that is still being told, and where it names its hero, read in its tokens piece by piece.

The tokenizer's CTC head sees 1.7 s to each side, and a sentence is one when it has ended. So what was read of the
newest seconds is read anew when more is known, and what lies before stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from lab.corpora.storyworld import Cast
from lab.measure.coherence import heroes
from lab.protocols import Tokenizer
from lab.tokens import TOKEN_RATE

UNSETTLED = 20 * TOKEN_RATE  # tokens: longer than the longest sentence of the story world, and what the CTC head sees
BEFORE = 20 * TOKEN_RATE  # tokens before those, so that the text that is read does not begin where it counts


class Reading(NamedTuple):
    """What takes the place of all that was read from `start` on, in seconds."""

    start: float
    words: list[tuple[float, float, str]]  # when each begins and ends, and the word
    right: list[float]  # when a sentence names the hero of the cast
    wrong: list[float]  # and when another one


class Captions:
    """Reads tokens as they come, in constant memory. Without a cast there is no hero to be right about."""

    def __init__(self, tokenizer: Tokenizer, cast: Cast | None = None):
        self.tokenizer, self.cast = tokenizer, cast
        self._held: list[int] = []  # the newest tokens
        self._first = 0  # the number of the first of them in the story

    def add(self, tokens: Sequence[int]) -> Reading:
        """The next tokens of the story -> what is now read. Raises LabError for tokens that the tokenizer has not."""
        start = max(0, self._first + len(self._held) - UNSETTLED)
        dropped = max(0, start - BEFORE - self._first)
        self._held, self._first = [*self._held[dropped:], *tokens], self._first + dropped
        if not self._held:
            return Reading(0.0, [], [], [])
        offset = self._first / TOKEN_RATE
        read = self.tokenizer.words(torch.tensor(self._held))
        words = [(round(begin + offset, 2), round(end + offset, 2), word) for begin, end, word in read]
        named = heroes(words, self.cast) if self.cast else []
        since = start / TOKEN_RATE
        right, wrong = ([at for at, kept in named if kept is wanted and at >= since] for wanted in (True, False))
        return Reading(since, [word for word in words if word[0] >= since], right, wrong)


class Transcript:
    """All that was read of a story so far."""

    def __init__(self) -> None:
        self.words: list[tuple[float, float, str]] = []
        self.right: list[float] = []
        self.wrong: list[float] = []

    def take(self, reading: Reading) -> None:
        """What was read anew takes the place of what was read before."""
        self.words = [word for word in self.words if word[0] < reading.start] + reading.words
        self.right = [at for at in self.right if at < reading.start] + reading.right
        self.wrong = [at for at in self.wrong if at < reading.start] + reading.wrong

    @property
    def reading(self) -> Reading:
        return Reading(0.0, self.words, self.right, self.wrong)
