"""Stories read aloud: the corpus that needs no download.

Training stories have even seeds from 0 up, held-out stories odd ones, so that no length of training reaches them.
`lab.corpora.splits` says which of those are for what.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import TypeVar

import numpy as np

from lab.corpora import narrators, splits, storyworld
from lab.corpora.narrators import Narrator
from lab.corpora.utterance import Utterance, int16

Item = TypeVar("Item")
Made = TypeVar("Made")


def training_seed(number: int) -> int:
    return 2 * number


def held_out_seed(number: int) -> int:
    return 2 * number + 1


def utterance(text: str, narrator: Narrator, story: int = -1) -> Utterance:
    return Utterance(int16(narrator.read(text)), storyworld.normalize(text), narrator.name, "narrated", story)


def story(seed: int, narrator: Narrator, sentences: int = 96) -> Utterance:
    """A whole story by one narrator; 96 sentences last about 4 minutes."""
    return utterance(storyworld.story(seed, sentences).text, narrator, seed)


def passage(seed: int, rng: np.random.Generator, nonsense: float = 0.0) -> str:
    """One to four sentences out of the middle of a story, 2 to 10 s of speech.

    `nonsense` is the chance of as many words in no order.
    """
    if rng.random() < nonsense:
        return storyworld.nonsense(rng, int(rng.integers(6, 18)))
    sentences = storyworld.story(seed, 40).sentences
    start = int(rng.integers(len(sentences) - 4))
    return " ".join(sentences[start : start + int(rng.integers(1, 5))])


def pair(number: int, nonsense: float = 0.0) -> tuple[Utterance, Utterance]:
    """One passage by two narrators at the same rate. Same number, same pair."""
    rng = np.random.default_rng((0x9A1F, number))
    text, narrator = passage(training_seed(number), rng, nonsense), narrators.random_narrator(rng)
    other = narrators.at_same_rate(narrator, rng)
    return utterance(text, narrator), utterance(text, other)


def beside(numbered: tuple[int, Utterance]) -> tuple[Utterance, Utterance]:
    """An utterance, and its text read by espeak-ng at about its tempo, by a random narrator. Same number, same one."""
    number, utterance = numbered
    words = len(utterance.text.split())
    rate = int(np.clip(60 * words / max(utterance.seconds - 0.3, 0.5), 110, 300))
    narrator = replace(narrators.random_narrator(np.random.default_rng((0xBE51DE, number))), rate=rate)
    read = Utterance(int16(narrator.read(utterance.text)), utterance.text, narrator.name, "narrated", utterance.story)
    return utterance, read


def voice_samples(number: int) -> tuple[Utterance, Utterance]:
    """Two different passages by one narrator: what the voice learns from. Every other narrator is a named one."""
    rng = np.random.default_rng((0x70CE, number))
    narrator = narrators.NAMED[number // 2 % len(narrators.NAMED)] if number % 2 else narrators.random_narrator(rng)
    first, second = (passage(training_seed(number + k), rng) for k in (0, 1))
    return utterance(first, narrator), utterance(second, narrator)


def told(number: int, sentences: int = 96) -> storyworld.Story:
    """Training story `number` as language models learn it: each narrator tells every other one with dense gaps."""
    return storyworld.story(training_seed(number), sentences, dense=number // len(narrators.CLEAR) % 2 == 0)


def training_story(number: int, sentences: int = 96) -> Utterance:
    """Story `number` by one of the clear narrators, each in turn: a language model is to learn what is said."""
    return utterance(told(number, sentences).text, _clear(number), training_seed(number))


def training_text(number: int, sentences: int = 96) -> str:
    """Who reads it and what, as a line, without its being read."""
    return f"{_clear(number).name}: {storyworld.normalize(told(number, sentences).text)}"


def _clear(number: int) -> Narrator:
    return narrators.CLEAR[number % len(narrators.CLEAR)]


def held_out_story(number: int, narrator: Narrator | None = None, sentences: int = 12) -> Utterance:
    """Held-out story `number` by a held-out narrator, each in turn."""
    return story(held_out_seed(number), narrator or narrators.HELD_OUT[number % len(narrators.HELD_OUT)], sentences)


def development_story(number: int, sentences: int = 12) -> Utterance:
    """A held-out story that training is watched on, and no figure measured on."""
    return held_out_story(splits.DEVELOPMENT[number], sentences=sentences)


def make(maker: Callable[[Item], Made], items: Iterable[Item], workers: int | None = None) -> Iterator[Made]:
    """`maker` of every item, in order, made by processes in parallel (espeak-ng has one global state a process)."""
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        yield from pool.imap(maker, items, chunksize=16)
