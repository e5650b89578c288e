"""Transcripts checked: sentences found in a text without punctuation, and what they say against what was said before.

Tolerance: a word that exists is taken at its word; one that does not stands for the nearest words of the world, at most
1 wrong character away (2 where it has 6 or more). A sentence with any other word in it is a gap, word by word.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import NamedTuple

from rapidfuzz import process
from rapidfuzz.distance import Levenshtein

from lab.corpora.storyworld.generator import Cast, Facts
from lab.corpora.storyworld.grammar import CAST, FORMS, VOCABULARY, Parse, State, sentences_from
from lab.corpora.storyworld.world import HEROES
from lab.corpora.utterance import normalize

FORGETTING = 3  # words of a gap after which places, weather, ... may have changed
_USUAL = sum(len(form.words) for form in FORMS) / len(FORMS)  # words a sentence
_WORDS = sorted(VOCABULARY)


class Span(NamedTuple):
    """A sentence of a transcript, or (parse is None) words that are none."""

    start: int  # words
    stop: int
    parse: Parse | None
    kept: tuple[str, ...]  # facts that it says, as they were
    broken: tuple[str, ...]  # facts that it says otherwise
    facts: Facts  # that hold after it


@dataclass(frozen=True)
class Check:
    """What a transcript keeps and breaks. Positions are in words."""

    words: int
    existing: int
    spans: tuple[Span, ...]

    @property
    def words_that_exist(self) -> float:
        """Share of words that are spelt as in the world."""
        return self.existing / self.words if self.words else 0.0

    @property
    def sentences_that_parse(self) -> float:
        """Share of sentences; words between them count as sentences of usual length."""
        parsed = sum(span.parse is not None for span in self.spans)
        lost = sum(math.ceil((span.stop - span.start) / _USUAL) for span in self.spans if not span.parse)
        return parsed / (parsed + lost) if self.words else 0.0

    def kept(self, start: int = 0, stop: int | None = None) -> Counter[str]:
        """Fact -> how often it was kept by the sentences that begin at words start to stop."""
        return Counter(fact for span in self._between(start, stop) for fact in span.kept)

    def broken(self, start: int = 0, stop: int | None = None) -> Counter[str]:
        """Fact -> how often it was broken by the sentences that begin at words start to stop."""
        return Counter(fact for span in self._between(start, stop) for fact in span.broken)

    def right(self, fact: str, start: int = 0, stop: int | None = None) -> float:
        """Share of times that the fact was kept, such as the hero in the words of one minute; nan if it never came."""
        kept, broken = self.kept(start, stop)[fact], self.broken(start, stop)[fact]
        return kept / (kept + broken) if kept + broken else math.nan

    def _between(self, start: int, stop: int | None) -> Iterator[Span]:
        return (span for span in self.spans if start <= span.start < (self.words if stop is None else stop))


def check(transcript: str, cast: Cast | None = None) -> Check:
    """Read the facts back from a transcript, with or without punctuation, in time linear in its length.

    Each sentence is held against what the sentences before it said, and against the cast where it is given (for a
    transcript that starts in the middle). Where one breaks a fact of the cast, what was said first stays true; of the
    others, what was said last. Facts are the variables of the headers in forms/ and slots (hero, pronoun, companion,
    company, place, keepsake, promise, vow, ...), `road`: the places are neighbours, `lives`: so did this helper before.
    """
    words = normalize(transcript).split()
    state: State = asdict(cast) if cast else {}
    spans: list[Span] = []
    missed = False  # something may have happened that was not understood
    for start, stop, parse in _segments([_stands_for(word) for word in words]):
        kept: tuple[str, ...] = ()
        broken: tuple[str, ...] = ()
        if parse:
            kept, broken = _follow(parse, state)
            missed |= not spans and parse.form.beat != "once"
        elif not spans or stop - start >= FORGETTING:  # a transcript may begin within a sentence
            missed = True
            state = {key: value for key, value in state.items() if key in CAST or key[:4] in ("live", "met ")}
        if missed and state.get("met") == "no":
            del state["met"]
        spans.append(Span(start, stop, parse, kept, broken, Facts.of(state)))
    return Check(len(words), sum(word in VOCABULARY for word in words), tuple(spans))


def _follow(parse: Parse, state: State) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Facts kept and broken, once each; the state follows what is said."""
    form, bindings = parse
    claims = list(form.claims(bindings, state))
    for claim in claims:
        if claim.said is not None and (claim.held is None or not claim.held and claim.fact not in CAST):
            state[claim.fact] = claim.said
    if "hero" in state:
        state.setdefault("pronoun", HEROES[state["hero"]])
    form.happen(bindings, state)
    broken = dict.fromkeys(claim.fact for claim in claims if claim.held is False)
    kept = dict.fromkeys(claim.fact for claim in claims if claim.held and claim.fact not in broken)
    return tuple(kept), tuple(broken)


@lru_cache(100_000)
def _stands_for(word: str) -> tuple[str, ...]:
    if word in VOCABULARY:
        return (word,)
    near = process.extract(
        word, _WORDS, scorer=Levenshtein.distance, score_cutoff=1 if len(word) < 6 else 2, limit=None
    )
    return tuple(found for found, distance, _ in near if distance == near[0][1])


def _segments(words: Sequence[Sequence[str]]) -> Iterator[tuple[int, int, Parse | None]]:
    """The words in sentences and gaps: as few words in gaps as can be, then as few sentences."""
    cost = [0.0] + [math.inf] * len(words)
    back: list[tuple[int, Parse | None]] = [(0, None)] * (len(words) + 1)
    for start in range(len(words)):
        steps = [(start + 1, 1.0, None), *((stop, 1e-4, parse) for stop, parse in sentences_from(words, start))]
        for stop, price, parse in steps:
            if cost[start] + price < cost[stop]:
                cost[stop], back[stop] = cost[start] + price, (start, parse)
    found: list[tuple[int, int, Parse | None]] = []
    stop = len(words)
    while stop:
        start, parse = back[stop]
        if found and parse is None and found[-1][2] is None:  # words of one gap
            found[-1] = (start, found[-1][1], None)
        else:
            found.append((start, stop, parse))
        stop = start
    return reversed(found)
