"""lab.measure.minutes: what the minutes of a story say, on texts made by hand and on true stories."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from lab.corpora import narration, storyworld
from lab.measure.coherence import PROMPT_SECONDS, StoryScores, curve, heroes
from lab.measure.minutes import Minute, by_minute, estimates, hero_kept

STORY = storyworld.story(narration.held_out_seed(6), 96)  # without gaps


def spoken(sentences: Sequence[str], seconds: float = 2.5, start: float = 0.0) -> list[tuple[float, float, str]]:
    """Words with times, as if each sentence took so many seconds: 24 a minute by default."""
    words = []
    for k, sentence in enumerate(sentences):
        said = storyworld.normalize(sentence).split()
        at = start + seconds * (k + np.arange(len(said) + 1) / len(said))
        words += [(float(a), float(b), word) for a, b, word in zip(at, at[1:], said, strict=False)]
    return words


def test_a_true_story_keeps_its_hero_and_all_its_words() -> None:
    words = spoken(STORY.sentences)
    minutes = by_minute(words, STORY.cast, 4, PROMPT_SECONDS)
    assert all(m.hero_right == m.hero_named > 5 for m in minutes[:3])
    assert all(m.words == m.existing == m.parsed for m in minutes)
    assert sum(m.words for m in minutes) == sum(start >= 10 for start, _, _ in words)
    assert minutes[-1].words < minutes[0].words  # 96 sentences end 10 s before the fourth minute does


def test_another_hero_is_counted_in_the_minute_that_names_it() -> None:
    other = "finn" if STORY.cast.hero != "finn" else "ivy"
    first, then = STORY.sentences[:28], STORY.sentences[28:]  # 28 sentences: the prompt and the first minute
    words = spoken([*first, *(sentence.replace(STORY.cast.hero, other) for sentence in then)])
    minutes = by_minute(words, STORY.cast, 4, PROMPT_SECONDS)
    assert minutes[0].hero_right == minutes[0].hero_named > 5
    assert minutes[1].hero_right == 0 and minutes[1].hero_named > 5
    named = heroes(words, STORY.cast)
    assert [right for _, right in named] == [second < 70 for second, _ in named]
    assert sum(second >= 10 for second, _ in named) == sum(m.hero_named for m in minutes)


def test_words_that_are_none_are_neither_existing_nor_parsed() -> None:
    words = spoken([*STORY.sentences[:10], "xqzjk vvvwq"], start=10)
    (minute,) = by_minute(words, STORY.cast, 1, PROMPT_SECONDS)
    assert minute.words - minute.existing == minute.words - minute.parsed == 2
    silent = by_minute(words, STORY.cast, 3, PROMPT_SECONDS)[2]
    assert silent == Minute(0, 0, 0, 0, 0, 0.0, 0.0)


def minutes(*counts: tuple[int, int, int, int]) -> list[Minute]:
    """Of right and named heroes, words and words that parse."""
    return [Minute(right, named, words, words, parsed, 0.0, 0.0) for right, named, words, parsed in counts]


def test_a_minute_that_makes_no_sense_counts_nothing_and_stays() -> None:
    told = minutes((9, 9, 150, 150), (9, 9, 150, 74), (9, 9, 150, 75), (0, 0, 0, 0), (3, 4, 150, 150))
    assert hero_kept(told) == [1, 0, 1, 0, 0.75]
    collapsed = minutes(*[(9, 9, 150, 150)] * 4, *[(0, 0, 150, 0)] * 12)
    assert sum(hero_kept(collapsed)) == 4
    told = [StoryScores(0, "leo", tuple(each), ()) for each in (collapsed, minutes(*[(9, 9, 150, 150)] * 16))]
    assert curve(told, "hero").value[-1] == 0.5


def test_a_minute_in_a_gap_counts_as_the_last_name_before_it_but_not_for_ever() -> None:
    unnamed = (0, 0, 150, 140)
    assert hero_kept(minutes((1, 2, 150, 150), *[unnamed] * 5)) == [0.5] * 4 + [0, 0]
    assert hero_kept(minutes(*[unnamed] * 4, (5, 5, 150, 150))) == [1, 1, 1, 0, 1]  # the prompt names it


def test_no_true_story_goes_without_a_name_for_longer() -> None:
    for number in range(200, 240):
        story = storyworld.story(narration.held_out_seed(number), 300)
        if any(r.fact == "hero" and r.ago > 60 for r in story.recalls):
            kept = hero_kept(by_minute(spoken(story.sentences), story.cast, 12, PROMPT_SECONDS))
            assert kept == [1] * 12


def test_what_the_minutes_tell_is_counted_over_all_stories() -> None:
    one = minutes((1, 2, 150, 120), (0, 0, 39, 0))
    other = minutes((2, 2, 50, 30), (0, 0, 0, 0))
    found = {name: each.value for name, each in estimates([one, other]).items()}
    assert found == pytest.approx(
        {
            "words, minute 1": 100,
            "minutes of fewer than 40 words, share, minute 1": 0,
            "words that exist, share, minute 1": 1,
            "words in sentences that parse, share, minute 1": 0.75,
            "mentions of a hero that are right, share, minute 1": 0.75,
            "words, minute 2": 19.5,
            "minutes of fewer than 40 words, share, minute 2": 1,
            "words that exist, share, minute 2": 1,
            "words in sentences that parse, share, minute 2": 0,
        }
    )
    assert {name[-1] for name in estimates([one * 8])} == {"1", "2", "4", "8", "6"}
