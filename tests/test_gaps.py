"""lab.corpora.storyworld.gaps: what stories leave unsaid for minutes, and what they say again."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import islice, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.corpora import storyworld
from lab.corpora.prompts import prompts
from lab.corpora.storyworld import world
from lab.corpora.storyworld.gaps import FACTS, RECALLED, Recall, recalls
from lab.corpora.storyworld.generator import _begin
from tests.test_storyworld import SEEDS, few


def with_cast(seed: int, sentences: int, **cast: str) -> list[storyworld.Sentence]:
    """The story of this seed, without an ending, as it would be of another cast."""
    generator = _begin(seed)
    generator.cast = replace(generator.cast, **cast)
    return list(islice(filter(None, generator.body()), sentences))


OTHERS = {
    "companion": world.COMPANIONS,
    "colour": world.COLOURS,
    "thing": world.THINGS,
    "promise": tuple(world.PROMISES),
    "house": world.HOUSES,
}


@few
@given(SEEDS, st.data())
def test_the_minute_before_a_recall_does_not_tell_what_is_recalled(seed: int, data: st.DataObject) -> None:
    """Told of another hero of that pronoun, or with another companion, ..., it is word for word the same."""
    body = with_cast(seed, 300)
    cast = storyworld.story(seed, 3).cast
    heroes = tuple(name for name, pronoun in world.HEROES.items() if pronoun == cast.pronoun)
    for fact, values in {"hero": heroes, **OTHERS}.items():
        other = data.draw(st.sampled_from([value for value in values if value != getattr(cast, fact)]))
        here, there = ([t.form.fill(t.bindings) for t in b] for b in (body, with_cast(seed, 300, **{fact: other})))
        for recall in recalls(body):
            if recall.fact == fact:
                before = slice(recall.sentence - recall.ago + 1, recall.sentence)
                assert here[before] == there[before] and here[recall.sentence] != there[recall.sentence]


def test_two_in_three_stories_have_gaps_and_ask_for_every_fact() -> None:
    stories = [storyworld.story(seed, 200) for seed in range(200)]
    gaps = [[r for r in story.recalls if r.fact == "hero" and r.ago > 3] for story in stories]
    assert np.mean([bool(found) for found in gaps]) == pytest.approx(2 / 3, abs=0.07)
    for found, story in zip(gaps, stories, strict=True):
        assert found or not any(told.form.beat.startswith("ask_") for told in story.parsed)
    for fact in RECALLED:
        asked = [[r.ago for r in story.recalls if r.fact == fact and r.asked] for story in stories]
        assert 0.4 < np.mean([bool(found) for found in asked]) < 0.7, fact
        ago = np.concatenate(asked)
        assert (ago <= 24).sum() > 10 and (ago > 24).mean() > 0.6 and (ago > 60).sum() > 20, fact


def test_dense_gaps_ask_for_each_fact_more_often_after_any_time() -> None:
    told, dense = ([storyworld.story(seed, 96, dense) for seed in range(40)] for dense in (False, True))
    for fact in ("hero", "companion", "promise", "house"):
        some, more = ([r for s in each for r in s.recalls if r.fact == fact and r.ago > 8] for each in (told, dense))
        assert len(more) > 1.15 * len(some), fact
    ago = np.array([r.ago for s in dense for r in s.recalls if r.fact == "hero" and r.asked])
    assert len(ago) > 100 and (ago <= 8).mean() > 0.15 and (ago > 24).mean() > 0.2
    for story in dense:  # each is told as any other is: read back whole
        heard = storyworld.check(storyworld.normalize(story.text))
        assert heard.sentences_that_parse == 1 and not heard.broken()


@few
@given(SEEDS)
def test_a_question_is_answered_at_once_with_what_was_unsaid(seed: int) -> None:
    story = storyworld.story(seed, 200)
    asked = {recall.sentence: recall for recall in story.recalls if recall.asked}
    for k, (question, answer) in enumerate(pairwise(story.parsed), 1):
        fact = question.form.beat.removeprefix("ask_")
        assert (question.form.beat == f"ask_{fact}") == (answer.form.beat == f"tell_{fact}") == (k in asked)
        if k in asked:
            assert asked[k].fact in FACTS[fact] and asked[k].fact in answer.form.slots
            assert not set(FACTS[fact]) & question.form.variables


def test_recalls_by_hand() -> None:
    said = (
        "tom fell down and lost the red key",
        "it was a day of wind and tom held on to his hat",
        "he told the dog about the red key",
        "it was the dog",
        "it was tom",
    )
    nothing = storyworld.Facts(None, None, None, (), ())
    found = recalls([storyworld.Sentence(*parse, nothing) for parse in map(storyworld.parse, said) if parse])
    assert list(found) == [
        Recall(1, "hero", 1, False),
        Recall(2, "colour", 2, False),
        Recall(2, "thing", 2, False),
        Recall(3, "companion", 1, True),
        Recall(4, "hero", 3, True),
    ]


def test_a_form_without_its_name_is_grammatical_and_otherwise_the_same() -> None:
    twins = [form for form in storyworld.FORMS if form.unnamed]
    assert len(twins) > 300
    for form in twins:
        assert not form.names and not re.search(r"\b(to|of|for|with|from|at|told|gave|was|is|a) \{he\}", form.text)
        assert not re.search(r"^\{him\}|\{him\} (was|said|went|saw)", form.text), form.text
    texts = {form.text for form in twins}
    assert {
        '"what a sunny day," {he} said.',
        "in the morning the {companion} woke {him} with a song.",
        '"goodbye," said the {helper}.',
        "the first snow fell on {his} nose.",
        "soon the {nature} {kind} was asleep.",
    } <= texts


def test_the_prompts_that_ship_are_still_of_their_stories() -> None:
    for prompt in prompts():
        assert storyworld.story(prompt.story, 20).text.startswith(prompt.text)
        heard = storyworld.check(storyworld.normalize(prompt.text))
        assert heard.sentences_that_parse == 1 and heard.kept()["hero"] >= 1 and not heard.broken()
