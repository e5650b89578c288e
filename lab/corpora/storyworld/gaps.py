"""Gaps: stretches in which a story leaves a fact of its cast unsaid, to ask for it or name it again afterwards."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lab.corpora.storyworld.grammar import Form

if TYPE_CHECKING:
    from lab.corpora.storyworld.generator import Sentence

SENTENCES_A_MINUTE = 24
SHARE = 2 / 3  # of stories that have gaps; those leave the hero unsaid at times,
OTHERS = 3 / 4  # and this share of them each other fact
PAUSE = (10, 33)  # sentences between two gaps of a fact, and before the first, from and below
LONG = (SENTENCES_A_MINUTE, 3 * SENTENCES_A_MINUTE + 1)  # sentences of a gap, from and below; of one in four
SHORT = (2, 13)
ASKED = 3 / 4  # of gaps end with a question and its answer; the others with the next sentence that says the fact
DENSE_PAUSE, DENSE_ASKED = (1, 7), 0.95  # of a story with dense gaps, whose lengths are log-uniform from SHORT to LONG

FACTS = {  # what is left unsaid together: the variables of the cast
    "hero": ("hero",),
    "companion": ("companion",),
    "keepsake": ("colour", "thing"),
    "promise": ("promise",),
    "home": ("house", "near"),
}
# What is recalled, and how many values it could have had. `near` is none of it: where the hero walks tells of it.
RECALLED = ("hero", "companion", "colour", "thing", "promise", "house")


class Gap(NamedTuple):
    """In sentences since the story began; it lasts on to the end of the scene in which `stop` lies."""

    start: int
    stop: int
    asked: bool


class Recall(NamedTuple):
    """A sentence that says a fact of the cast again."""

    sentence: int
    fact: str  # one of RECALLED
    ago: int  # sentences since it was last said: 1 if by the sentence before
    asked: bool  # the sentence before asks for it


class Gaps:
    """The gaps of one story as it is told, drawn apart from what it says; none by default.

    `dense`: each fact is in a gap nearly always, so that it is asked for more often.
    """

    def __init__(self, rng: np.random.Generator, facts: Iterable[str] = (), dense: bool = False) -> None:
        self._rng, self._dense = rng, dense
        self._gaps = {fact: self._next(0) for fact in facts}

    @classmethod
    def of(cls, seed: int, dense: bool = False) -> Gaps:
        rng = np.random.default_rng((0x57083, seed))
        if dense:
            return cls(rng, FACTS, dense)
        has, *drawn = rng.random(1 + len(FACTS))
        facts = (fact for fact, share in zip(FACTS, drawn, strict=True) if fact == "hero" or share < OTHERS)
        return cls(rng, facts if has < SHARE else ())

    def _next(self, after: int) -> Gap:
        if self._dense:
            start = max(PAUSE[0], after + int(self._rng.integers(*DENSE_PAUSE)))  # an opening says the whole cast
            length = round(math.exp(self._rng.uniform(math.log(SHORT[0]), math.log(LONG[1]))))
            return Gap(start, start + length, self._rng.random() < DENSE_ASKED)
        start = after + int(self._rng.integers(*PAUSE))
        length = int(self._rng.integers(*(SHORT if self._rng.random() < 1 / 4 else LONG)))
        return Gap(start, start + length, self._rng.random() < ASKED)

    def unsaid(self, sentence: int) -> frozenset[str]:
        """The variables of the cast that sentence number `sentence` must not say."""
        return frozenset(v for fact, gap in self._gaps.items() if gap.start <= sentence for v in FACTS[fact])

    def over(self, sentence: int) -> list[tuple[str, Gap]]:
        """Facts whose gaps may end before sentence number `sentence`."""
        return [(fact, gap) for fact, gap in self._gaps.items() if gap.stop <= sentence]

    def end(self, fact: str, sentence: int) -> None:
        self._gaps[fact] = self._next(sentence)


def says(form: Form) -> Iterator[str]:
    """The facts of RECALLED that a form says."""
    said = form.variables
    return (fact for fact in RECALLED if fact in said)


def recalls(parsed: Sequence[Sentence]) -> Iterator[Recall]:
    last: dict[str, int] = {}
    for k, sentence in enumerate(parsed):
        asked = FACTS.get(sentence.form.beat.removeprefix("tell_"), ())
        for fact in says(sentence.form):
            if fact in last:
                yield Recall(k, fact, k - last[fact], fact in asked)
            last[fact] = k
