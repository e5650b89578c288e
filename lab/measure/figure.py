"""A figure of a model's card, and what the measures of several modules take."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lab.corpora import Utterance, librispeech, narration
from lab.corpora.librispeech import HELD_OUT_CHAPTER
from lab.measure import coherence
from lab.measure.coherence import PROMPT_SECONDS
from lab.measure.statistics import Estimate


@dataclass(frozen=True)
class Figure:
    model: str  # whose card it belongs to
    name: str
    value: float
    report: coherence.Report | None = None  # the series it was read from, kept in data/measured
    low: float | None = None  # the ends of its 95 % interval
    high: float | None = None
    n: int | None = None  # stories, or what else it is a mean of
    of: int | None = None  # things counted in those stories, where it is a share of them
    temperature: float | None = None  # that what it judges was sampled at
    seed: int | None = None  # and with which seed the first of them
    command: str = ""
    uses: tuple[str, ...] = ()  # models that decide it, beside the one whose card it belongs to
    kept: bool = True  # in that card; else it is only told


def estimated(model: str, name: str, found: Estimate, **told: Any) -> Figure:
    low, high = (None if math.isnan(end) else end for end in (found.low, found.high))
    return Figure(model, name, found.value, low=low, high=high, n=found.n, **told)


def prompt(number: int) -> np.ndarray:
    """The first 10 s of held-out story `number` by a held-out narrator."""
    return beginning(narration.held_out_story(number))


def beginning(read: Utterance) -> np.ndarray:
    """Its first 10 s."""
    return read.samples()[: int(PROMPT_SECONDS * 16_000)]


def unseen_chapter(speech: Path | None) -> list[narration.Utterance]:
    if speech is None:
        return []
    return [
        u
        for folder in librispeech.chapters(speech)
        if folder.name == HELD_OUT_CHAPTER
        for u in librispeech.read(folder)
    ]
