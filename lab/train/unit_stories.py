"""The stories that GSLM, TWIST and Spirit LM learn from, and what people read aloud, as models of units hear them.

Each is told and heard once for a model of units, whichever of their language models asks first.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from rich.progress import Progress, track
from torch import Tensor

from lab import bundle
from lab.console import console
from lab.corpora import Utterance, alignments, librispeech, narration, narrators, shards, storyworld
from lab.corpora.narrated_folder import Document
from lab.corpora.source import digest_of
from lab.corpora.storage import reason
from lab.corpora.utterance import int16
from lab.errors import LabError
from lab.files import made
from lab.others.spiritlm import Expression, Word, expression
from lab.train import data, selection
from lab.windows import TOKEN_HOP, TOKEN_RATE

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


def heard(read: tuple[Utterance, Sequence[Word]], units: Any) -> tuple[Story, float]:
    """What is read, with its words, as `units` hear it, and its seconds."""
    utterance, words = read
    samples = utterance.samples()
    rows = _rows(samples, units, -(-len(samples) // TOKEN_HOP))
    timed = [(begin * TOKEN_RATE, end * TOKEN_RATE, word) for begin, end, word in words]
    return _story(rows, timed, units)[0], utterance.seconds


def stories(plan: Plan, units: Any, hours: float) -> tuple[list[Story], dict[str, float]]:
    """So many hours as `units` hear them, and the seconds of each source, made once for each model of units and each
    story world: by espeak-ng; where `plan.narration` has stories read aloud, half of them put together from the words
    of those (`lab.train.selection`), which come on top as they were read.

    Raises LabError for a file of them that is damaged.
    """
    aloud = any(document.seed is not None for document in plan.documents())
    total = count(hours / 2 if aloud else hours)
    read = narration.make(worded_story, range(total), os.cpu_count())
    found = (heard(each, units) for each in track(read, "narrating", total, console=console))
    kept, seconds = _kept(plan, units, f"{total}-{shards.digest('stories')}", found)
    sources = {"narrated": seconds}
    if aloud:
        name, documents = selection.digest(plan, SENTENCES), selection.read_aloud(plan)
        rest = _kept(plan, units, f"{total}-{name}", _told(plan, units, documents, hours * 3600 / 2))[0]
        lasts = [len(story.units) / units.rate for story in rest]
        sources |= {"read": sum(lasts[: len(documents)]), "told": sum(lasts[len(documents) :])}
        kept += rest
    return kept, sources


def _told(plan: Plan, units: Any, documents: Sequence[Document], seconds: float) -> Iterator[tuple[Story, float]]:
    """Each document, then so many seconds put together from their words."""
    tokenizer, rows, read = plan.load("tokenizer"), [], []
    for document in track(documents, "hearing", console=console):
        utterance = document.read()
        read.append(selection.heard(tokenizer, utterance, document))
        tokens, words, edges = read[-1]
        rows.append(_rows(utterance.samples(), units, len(tokens)))
        yield _story(rows[-1], selection.spans(edges.tolist(), words), units)
    readings, all_rows = selection.Readings(read), np.concatenate(rows)
    with Progress(console=console) as progress:
        task, number = progress.add_task("telling", total=seconds), 0
        while not progress.finished:
            told = selection.tellings(readings, number, SENTENCES)
            story, lasts = _story(all_rows[told.places], told.words, units)
            yield story, lasts
            progress.advance(task, lasts)
            number += 1


def _rows(samples: np.ndarray, units: Any, count: int) -> np.ndarray:
    """What is heard at each of `count` tokens of 25 Hz (count, n): its units and, where `Story` has them, its pitch and
    style."""
    stack = units.rate // TOKEN_RATE
    found = units.encode(samples).numpy()
    columns = [np.pad(found, (0, stack * count - len(found)), "edge").reshape(count, stack)]
    if units.rate == TOKEN_RATE:
        for classes, lasts in zip(expression(samples), (2, TOKEN_RATE), strict=True):
            columns.append(classes[np.minimum(np.arange(count) // lasts, len(classes) - 1), None])
    return np.concatenate(columns, 1)


def _story(rows: np.ndarray, words: Sequence[tuple[float, float, str]], units: Any) -> tuple[Story, float]:
    """`_rows`, and words with the tokens that they begin and end with -> the story, and its seconds."""
    begins, ends, texts = zip(*words, strict=True)
    stack = units.rate // TOKEN_RATE
    pitches, styles = (rows[::2, 1], rows[::TOKEN_RATE, 2]) if units.rate == TOKEN_RATE else (np.zeros(0), np.zeros(0))
    return Story(
        rows[:, :stack].flatten().astype(np.uint16),
        np.array(begins, np.float32) / TOKEN_RATE,
        np.array(ends, np.float32) / TOKEN_RATE,
        np.frombuffer("\n".join(texts).encode(), np.uint8),
        pitches.astype(np.uint8),
        styles.astype(np.uint8),
    ), len(rows) / TOKEN_RATE


def readings(plan: Plan, units: Any) -> tuple[list[Story], float]:
    """What people read below `plan.speech` where it is known when each word is said, as `stories`; less the chapter
    that figures are measured on. Nothing where there is no such folder, or, and it is said, no such times.
    """
    if plan.speech is None:
        return [], 0.0
    found = alignments.readings(plan.speech, (librispeech.HELD_OUT_CHAPTER,))
    for line in found.skipped:
        console.print("skipped:", line)
    if not found.readings:
        console.print(
            f"{plan.speech} does not tell when words are said (*.alignment.csv in its chapters): Spirit LM learns from "
            "narrated stories alone"
        )
        return [], 0.0
    total, without = len(found.readings), f"{found.without} utterances without times of words left out"
    console.print(f"{total} aligned readings of {plan.speech}, {without}")
    said = digest_of("\n".join(f"{each.name} {words}" for one in found.readings for each, words in one.parts))
    read = track(_read(found.readings), "hearing", total, console=console)

    def mended(left_out: Iterable[int]) -> bool:
        return any(each is not None for each in _read([found.readings[number] for number in left_out]))

    stories = (each and heard(each, units) for each in read)
    return _kept(plan, units, f"{total}-{said}", stories, mended)


def _read(found: Iterable[alignments.Reading]) -> Iterator[tuple[Utterance, Sequence[Word]] | None]:
    for each in found:
        try:
            yield each.read()
        except LabError as error:
            console.print("skipped:", reason(error))
            yield None


def _kept(
    plan: Plan,
    units: Any,
    name: str,
    found: Iterable[tuple[Story, float] | None],
    mended: Callable[[Iterable[int]], bool] = lambda left_out: False,
) -> tuple[list[Story], float]:
    """The stories that are found, and the seconds of all, from the file of that name, which is made where it is not.

    What is None is left out; where something is `mended` of it, given its numbers, the file is made anew.
    """
    path = made(plan.work) / f"heard-{name}-{bundle.fingerprint(units)}.npz"
    with plan.compute.fabric().rank_zero_first():  # the others find it made
        if not path.exists() or mended(data.load_ragged(path, ["left_out"])[0][0].tolist()):
            told, seconds, left_out = [], 0.0, []
            for number, each in enumerate(found):
                if each is None:
                    left_out.append(number)
                else:
                    told.append(each[0])
                    seconds += each[1]
            if not told:
                raise LabError(f"none of what {plan.speech} has is audio that can be read; leave out --speech")
            columns: dict[str, Any] = dict(zip(Story._fields, zip(*told, strict=True), strict=True))
            columns |= {"seconds": [np.array([seconds])], "left_out": [np.array(left_out, int)]}
            data.save_ragged(path, columns)
    *rows, (total,) = data.load_ragged(path, [*Story._fields, "seconds"])
    return [Story(*row) for row in zip(*rows, strict=True)], float(total[0])
