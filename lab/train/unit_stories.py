"""The stories that GSLM, TWIST and Spirit LM learn from, as models of units hear them.

Each is told and heard once for a model of units, whichever of their language models asks first.
"""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Any, NamedTuple
from zipfile import BadZipFile

import numpy as np
import torch
from rich.progress import track
from torch import Tensor

from lab import bundle
from lab.console import console
from lab.corpora import Utterance, narration, narrators, shards, storyworld
from lab.corpora.utterance import int16
from lab.errors import LabError
from lab.files import made, replacing
from lab.others.spiritlm import Expression, Word, expression
from lab.windows import TOKEN_RATE

if TYPE_CHECKING:
    from lab.train.plan import Plan

SENTENCES, SECONDS = 96, 217.5  # of a story, and how long it lasts: 663 are 40 h


class Story(NamedTuple):
    """One story by one reader. `pitches` and `styles` are those of `spiritlm.expression`, of units at 25 Hz alone."""

    units: np.ndarray  # (T,) uint16, as long as they last
    begins: np.ndarray  # (W,) seconds at which a word begins
    ends: np.ndarray  # (W,)
    text: np.ndarray  # (letters,) uint8, words divided by line feeds
    pitches: np.ndarray  # (P,) uint8
    styles: np.ndarray  # (S,) uint8

    def words(self) -> list[Word]:
        texts = self.text.tobytes().decode().split("\n")
        return list(zip(self.begins.tolist(), self.ends.tolist(), texts, strict=True))

    def timed(self) -> Tensor:
        return torch.from_numpy(self.units.astype(np.int64))

    def expression(self) -> Expression:
        return self.pitches.astype(np.int64), self.styles.astype(np.int64)


def count(hours: float) -> int:
    """Stories of so many hours."""
    return math.ceil(hours * 3600 / SECONDS)


def worded_story(number: int) -> tuple[Utterance, list[Word]]:
    """`narration.training_story`, and its words with when they begin and end."""
    seed, narrator = narration.training_seed(number), narrators.CLEAR[number % len(narrators.CLEAR)]
    waveform, starts = narrator.read_words(narration.told(number, SENTENCES).text)
    ends = [time for time, _ in starts[1:]] + [len(waveform) / 16_000]
    words = [(start, end, storyworld.normalize(word)) for (start, word), end in zip(starts, ends, strict=True)]
    text = " ".join(word for _, _, word in words)
    return Utterance(int16(waveform), text, narrator.name, "narrated", seed), words


def heard(utterance: Utterance, words: list[Word], units: Any) -> Story:
    """A story with its words as `units` hear it."""
    samples = utterance.samples()
    begins, ends, texts = zip(*words, strict=True)
    pitches, styles = expression(samples) if units.rate == TOKEN_RATE else (np.zeros(0), np.zeros(0))
    return Story(
        units.encode(samples).numpy().astype(np.uint16),
        np.array(begins, np.float32),
        np.array(ends, np.float32),
        np.frombuffer("\n".join(texts).encode(), np.uint8),
        pitches.astype(np.uint8),
        styles.astype(np.uint8),
    )


def stories(plan: Plan, units: Any, hours: float) -> tuple[list[Story], float]:
    """So many hours as `units` hear them, and their seconds; made once for each model of units and each story world.

    Raises LabError for a file of them that is damaged.
    """
    total = count(hours)
    path = made(plan.work) / f"units-{total}-{shards.digest('stories')}-{bundle.fingerprint(units)}.npz"
    with plan.compute.fabric().rank_zero_first():  # the others find it made
        if not path.exists():
            told, seconds = [], 0.0
            read = narration.make(worded_story, range(total), os.cpu_count())
            for utterance, words in track(read, "narrating", total, console=console):
                told.append(heard(utterance, words, units))
                seconds += utterance.seconds
            saved: dict[str, Any] = {"seconds": seconds}
            for field, column in zip(Story._fields, zip(*told, strict=True), strict=True):
                saved[field] = np.concatenate(column)
                saved[f"{field}_lengths"] = np.array([len(each) for each in column])
            with replacing(path) as part, part.open("wb") as file:
                np.savez(file, **saved)
    try:
        with np.load(path) as held:
            columns = [np.split(held[each], held[f"{each}_lengths"].cumsum()[:-1]) for each in Story._fields]
            return [Story(*row) for row in zip(*columns, strict=True)], float(held["seconds"])
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        raise LabError(f"{path} is damaged ({error}); delete it, and the same command makes it again") from None
