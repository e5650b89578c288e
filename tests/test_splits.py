"""lab.corpora.splits: what models learn from, what is chosen on and what figures are of never meet."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import combinations
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lab.corpora import Utterance, narration, narrators, prompts, splits, storyworld
from lab.measure import coherence, minimal_pairs, of_tokens, of_voice, state


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[int]]:
    """The seeds of the stories that are told; their sound is noise, of another kind for each text."""
    seeds: set[int] = set()

    def story(seed: int, *args: Any, tell: Callable = storyworld.story, **options: Any) -> storyworld.Story:
        seeds.add(seed)
        return tell(seed, *args, **options)

    def read(narrator: Any, text: str) -> np.ndarray:
        return np.random.default_rng(len(text)).normal(0, 0.1, 200 * len(text)).astype(np.float32)

    monkeypatch.setattr(storyworld, "story", story)
    monkeypatch.setattr(narrators.Narrator, "read", read)
    coherence.openings.cache_clear()
    yield seeds
    coherence.openings.cache_clear()


def numbers(seeds: set[int]) -> set[int]:
    """Of held-out stories."""
    assert all(seed % 2 for seed in seeds)
    return {seed // 2 for seed in seeds}


def test_no_number_is_for_two_things() -> None:
    for one, other in combinations([*splits.FIGURES, splits.DEVELOPMENT], 2):
        assert one and other and not range(max(one.start, other.start), min(one.stop, other.stop))
    named = {name for name, value in vars(splits).items() if isinstance(value, range)}
    assert len(named) == len(splits.FIGURES) + 1 and "DEVELOPMENT" in named


@pytest.mark.parametrize("maker", [narration.training_story, narration.pair, narration.voice_samples])
def test_training_is_told_no_story_that_is_held_out(told: set[int], maker: Callable[[int], Any]) -> None:
    for number in (*range(30), *splits.DEVELOPMENT[:5], *splits.CONTEXTS[:5]):
        maker(number)
    assert told and not any(seed % 2 for seed in told)


def test_training_is_watched_on_the_development_stories(told: set[int]) -> None:
    for number in range(20):
        narration.development_story(number)
    assert numbers(told) == set(splits.DEVELOPMENT[:20])


def test_each_figure_is_of_its_own_stories(told: set[int], monkeypatch: pytest.MonkeyPatch) -> None:
    def of(*ranges: range) -> bool:
        found = numbers(told)
        told.clear()
        return bool(found) and all(any(number in each for each in ranges) for number in found)

    state.held_out_stories(2, 5)
    assert of(splits.PROBED)
    coherence.openings()
    assert of(splits.OPENINGS)
    coherence.narrated(3, 0)
    coherence.cast_of(4)
    assert of(splits.STORIES)
    minimal_pairs.sentences(2)
    assert of(splits.SENTENCES)
    minimal_pairs.endings(3)
    assert of(splits.CONTEXTS)
    assert {prompt.story // 2 for prompt in prompts.prompts()} <= set(splits.PROMPTS)

    ssm: Any = SimpleNamespace(
        tokenizer=SimpleNamespace(encode=lambda waveform: None, transcribe=lambda tokens: ""),
        voice=SimpleNamespace(
            prompt=lambda waveform, tokens: waveform,
            speak=lambda tokens, voice, seed: voice,
            through_codec=lambda waveform: waveform,
        ),
    )
    monkeypatch.setattr(
        of_tokens.token_measures, "narrator_identified", lambda tokenizer, readings: {"x": len([*readings])}
    )
    of_tokens.of_narrator(ssm, None, 2)
    assert of(splits.NARRATORS)
    of_voice.of_voice(ssm, None, 2)
    assert of(splits.STORIES, splits.SPEAKERS)
    enrolled: list[np.ndarray] = []
    monkeypatch.setattr(of_voice.speaker_measures, "enrol", lambda waveforms, names: enrolled.append(numbers(told)))
    monkeypatch.setattr(of_voice.speaker_measures, "known", lambda gallery, waveforms, names: [True, False])
    of_voice.of_speaker(ssm, None, 2)
    assert enrolled == [set(splits.ENROLLED[:8])]  # before anything else is told
    assert of(splits.ENROLLED, splits.NATURAL, splits.SPEAKERS, splits.STORIES)


def test_no_text_is_for_two_things() -> None:
    """Sentences come again, stories do not: the first dozen, and any dozen from the middle of one, are of it alone."""
    seeds = [narration.training_seed(number) for number in range(150)]
    seeds += [narration.held_out_seed(n) for each in (*splits.FIGURES, splits.DEVELOPMENT) for n in each[:10]]
    texts = [storyworld.story(seed, 60).sentences for seed in seeds]
    runs = [sentences[k : k + 12] for sentences in texts for k in range(0, 48)]
    assert len(set(runs)) == len(runs)


def test_an_utterance_says_which_story_it_is_of() -> None:
    utterance = narration.held_out_story(splits.NATURAL[0], sentences=1)
    assert isinstance(utterance, Utterance) and utterance.story == narration.held_out_seed(splits.NATURAL[0])


def test_the_voice_is_held_against_the_text_and_not_its_tokens_spelling(monkeypatch: pytest.MonkeyPatch) -> None:
    """A voice that says its tokens' words, of a tokenizer that has them wrong, has them wrong, too."""
    story = narration.held_out_story
    monkeypatch.setattr(narration, "held_out_story", lambda number, *_, **__: story(number, sentences=2))
    ssm: Any = SimpleNamespace(
        tokenizer=SimpleNamespace(encode=lambda waveform: waveform, transcribe=lambda tokens: "mumble mumble"),
        voice=SimpleNamespace(prompt=lambda waveform, tokens: waveform, speak=lambda tokens, prompt, seed: tokens),
    )
    found = [figure.value for figure in of_voice.of_voice(ssm, None, 2)]
    assert all(value > 0.7 for value in found) and len(found) == 2
