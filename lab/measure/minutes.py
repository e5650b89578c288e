"""What each minute of a story says, in counts: words that exist, sentences that parse, heroes named, what repeats."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

import numpy as np

from lab.corpora import storyworld
from lab.errors import LabError
from lab.measure import statistics
from lab.measure.statistics import Estimate
from lab.measure.text import auto_bleu, repetition

SENSE = 0.5  # share of a minute's words in sentences, below which it makes none; of the ground truth 0.77 or more do
UNNAMED = 3  # minutes in a row without a hero's name, the most that gaps of the story world leave
SILENT = 40  # words, below which a minute is silent: narrators read 120 to 180
TOLD = (1, 2, 4, 8, 16)  # minutes

Words = Sequence[tuple[float, float, str]]  # of `Tokenizer.words`: seconds, seconds, word


class Minute(NamedTuple):
    """A minute of one story, in counts, so that stories can be taken together."""

    hero_right: int  # sentences that name the hero of the prompt
    hero_named: int  # sentences that name any hero
    words: int
    existing: int  # words of the story world
    parsed: int  # words in sentences of the story world
    repetition: float
    auto_bleu: float


def named(words: Words, check: storyworld.Check) -> list[tuple[float, bool]]:
    """When a sentence names a hero, in seconds, and whether it is the cast's, of the check of these words."""
    found = [heard for heard in check.spans if "hero" in heard.kept or "hero" in heard.broken]
    return [(words[heard.start][0], "hero" in heard.kept) for heard in found]


def by_minute(words: Words, cast: storyworld.Cast, minutes: int, prompt_seconds: float) -> tuple[Minute, ...]:
    """What the minutes after the prompt say, words by when they begin and sentences by their first word."""
    check = storyworld.check(text(words), cast)
    parsed = np.zeros(len(words), bool)
    for heard in check.spans:
        parsed[heard.start : heard.stop] = heard.parse is not None
    minute = np.floor([(start - prompt_seconds) / 60 for start, _, _ in words])
    heroes = [(int((second - prompt_seconds) // 60), right) for second, right in named(words, check)]
    rows = []
    for number in range(minutes):
        within = np.flatnonzero(minute == number)
        said = [words[at][2] for at in within.tolist()]
        mentions = [right for at, right in heroes if at == number]
        existing = sum(word in storyworld.VOCABULARY for word in said)
        counts = sum(mentions), len(mentions), len(said), existing, int(parsed[within].sum())
        rows.append(Minute(*counts, repetition(said), auto_bleu(said)))
    return tuple(rows)


def hero_kept(minutes: Sequence[Minute]) -> list[float]:
    """How far the hero is still that of the prompt in each minute: the share of its mentions that are right.

    A minute that makes no sense counts 0, whatever names it drops; one without a name counts as the last that had one,
    and 0 after UNNAMED of them. So no story drops out, and none gains by naming nobody.
    """
    kept, last, unnamed = [], 1.0, 0
    for minute in minutes:
        unnamed += 1
        if minute.hero_named:
            last, unnamed = minute.hero_right / minute.hero_named, 0
        makes_sense = minute.words > 0 and minute.parsed >= SENSE * minute.words
        kept.append(last if makes_sense and unnamed <= UNNAMED else 0.0)
    return kept


def estimates(stories: Sequence[Sequence[Minute]]) -> dict[str, Estimate]:
    """How much is said in the minutes TOLD, and how much of it makes sense; what nobody says has no share."""
    found = {}
    for number in (number for number in TOLD if number <= len(stories[0])):
        minutes = [story[number - 1] for story in stories]
        found[f"words, minute {number}"] = statistics.mean([each.words for each in minutes])
        shares: dict[str, list[tuple[int, int]]] = {
            f"minutes of fewer than {SILENT} words": [(each.words < SILENT, 1) for each in minutes],
            "words that exist": [(each.existing, each.words) for each in minutes],
            "words in sentences that parse": [(each.parsed, each.words) for each in minutes],
            "mentions of a hero that are right": [(each.hero_right, each.hero_named) for each in minutes],
        }
        for name, pairs in shares.items():
            with suppress(LabError):  # nothing to take a share of
                found[f"{name}, share, minute {number}"] = statistics.share(
                    [hits for hits, _ in pairs], [of for _, of in pairs]
                )
    return found


def text(words: Words) -> str:
    return " ".join(word for _, _, word in words)
