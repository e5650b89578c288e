"""Stories that the text-to-semantic model writes as tokens, and what it learns to from: readings with their texts."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from jiwer import cer
from rich.progress import track
from torch import nn

from lab import bundle
from lab.audio import SAMPLE_RATE
from lab.console import console
from lab.corpora import narration, shards, splits, storyworld
from lab.corpora.source import digest_of
from lab.errors import LabError
from lab.files import made
from lab.nn.sampling import generator_of
from lab.tokens import Tokenizer
from lab.train import data, language, reading
from lab.train.augment import in_voices
from lab.train.unit_stories import SENTENCES

if TYPE_CHECKING:
    from lab.train.plan import Plan

HOURS = 10.0  # of espeak-ng's readings, beside people's, where the plan has none
SHARE = 0.5  # of a preset's steps
TOGETHER = 32  # stories written at once
SECONDS = 300.0  # that a story of so many SENTENCES lasts at the pace of human-like narrators
FIRST = 500_000  # the number of the first story written: espeak-ng reads others
SPOKEN = 3  # sentences of a person that a story's tokens follow
AFTER = 12  # sentences after which they follow those anew: on and on, the model reads slower and slower, and less right
TEMPERATURE = 0.7  # at 1 it misreads more, at 0.4 no less, and reads slower


class Job(NamedTuple):
    """Some stories to write: their numbers, and what each follows."""

    bundle: Path
    numbers: range
    begins: list[np.ndarray]


def train(plan: Plan, name: str) -> tuple[nn.Module, dict[str, float], dict[str, float]]:
    """The model, its last figures, and the seconds of each source. Raises LabError without narration."""
    check(plan)
    tokenizer = plan.load("tokenizer")
    shard = data.shard(plan, "stories", hours=plan.hours or HOURS)
    count, seconds = len(shard.starts), {"narrated": shard.seconds}
    documents = []
    for number, tokens in track(enumerate(shard.documents()), "aligning", count, console=console):
        sentences = narration.told(number, SENTENCES).sentences
        documents.append(reading.document(tokenizer, tokens, sentences, _order(number % 2 == 1, number)))
    for found, source, length in _people(plan, tokenizer):
        documents += found
        seconds[source] = seconds.get(source, 0.0) + length
    steps = round(SHARE * language.PRESETS[plan.preset].schedule.steps)
    model, figures = language.train(
        language.TokenStream.of(documents),
        [],
        plan.work / name,
        preset=plan.preset,
        vocabulary=reading.FIRST + tokenizer.vocabulary,
        given=reading.END,
        narrow=False,
        begin=plan.begin(name),
        evaluate=_misread(tokenizer, list(_begins(plan, tokenizer))),
        **{"steps": steps} | plan.options(name),
    )
    return model, figures, seconds


def check(plan: Plan) -> None:
    """Raises LabError without narration, before hours go into other data."""
    if not plan.documents():
        raise LabError(f"{data.WRITER} learns from readings with sentence times; give --narration FOLDER")


def digest(plan: Plan) -> str:
    """12 hexadecimal digits of all that the stories depend on, but for the model."""
    begins = [(each.voice, each.path.name, each.sentences[:SPOKEN]) for each in plan.documents()]
    tokenizer = bundle.fingerprint(plan.load("tokenizer"))
    settings = (TEMPERATURE, SPOKEN, AFTER, SENTENCES, FIRST, TOGETHER, shards.digest("stories"), tokenizer)
    return digest_of(repr((settings, begins)))


def stories(plan: Plan, hours: float) -> list[np.ndarray]:
    """Tokens of as many stories as take so many hours; made once, and gone on with.

    Raises LabError as `check` does, without the model, and for a file of them that is damaged.
    """
    check(plan)
    model, count = plan.load(data.WRITER), math.ceil(hours * 3600 / SECONDS)
    folder = made(plan.work / f"written-{digest(plan)}-{bundle.fingerprint(model)}")
    parts = [range(start, min(start + TOGETHER, count)) for start in range(0, count, TOGETHER)]
    with plan.compute.fabric().rank_zero_first():  # the others find them made
        if missing := [part for part in parts if not _place(folder, part).exists()]:
            begins = list(_begins(plan, plan.load("tokenizer")))
            jobs = (Job(plan.bundle, part, [begins[number % len(begins)] for number in part]) for part in missing)
            read = narration.make(_write, jobs, os.cpu_count(), together=1)
            for part, found in zip(missing, track(read, "writing", len(missing), console=console), strict=True):
                data.save_ragged(_place(folder, part), {"tokens": found})
    return list(chain.from_iterable(data.load_ragged(_place(folder, part), ["tokens"])[0] for part in parts))


def _place(folder: Path, part: range) -> Path:
    return folder / f"{part.start:06}-{len(part)}.npz"


def _write(job: Job) -> list[np.ndarray]:
    """Stories (T,) uint16 each; the same numbers, the same stories."""
    torch.set_num_threads(1)  # one process a core
    texts = (narration.told(FIRST + number, SENTENCES).sentences for number in job.numbers)
    parts = [told[start : start + AFTER] for told in texts for start in range(0, SENTENCES, AFTER)]
    count = len(parts) // len(job.numbers)  # of a story
    begins = [begin for begin in job.begins for _ in range(count)]
    model: Any = bundle.load(job.bundle, data.WRITER)
    found = reading.read(model, parts, begins, generator_of(0x7E87, job.numbers.start), TEMPERATURE)
    return [np.concatenate(found[at : at + count]).astype(np.uint16) for at in range(0, len(found), count)]


def _order(shuffled: bool, number: int) -> np.random.Generator | None:
    """Half of what it learns from has its words in any order: of a story, one that knows stories guesses the next word
    before it learns to read it."""
    return np.random.default_rng((0x0DE7, number)) if shuffled else None


def _people(plan: Plan, tokenizer: Tokenizer) -> Iterator[tuple[list[np.ndarray], str, float]]:
    """Each document of `plan.narration`, in order and in all VOICES with its words in any: ids; who reads; seconds."""
    for number, document in enumerate(track(plan.documents(), "listening", console=console)):
        utterance, texts = document.read(), [sentence.text for sentence in document.sentences]
        found: list[np.ndarray] = []
        for voice in in_voices([utterance]):
            tokens = tokenizer.encode(voice.samples()).numpy()
            found += [] if found else [reading.document(tokenizer, tokens, texts)]
            found.append(reading.document(tokenizer, tokens, texts, _order(True, number)))
        yield found, utterance.source, utterance.seconds


def _begins(plan: Plan, tokenizer: Tokenizer) -> Iterator[np.ndarray]:
    """The first sentences of each document, as it is read."""
    for document in plan.documents():
        first, then = document.sentences[:SPOKEN], document.sentences[SPOKEN : SPOKEN + 1]
        end = then[0].start if then else first[-1].end  # with the pause
        tokens = tokenizer.encode(document.read().samples()[: round(end * SAMPLE_RATE)]).numpy()
        yield reading.document(tokenizer, tokens, [sentence.text for sentence in first])


def _misread(tokenizer: Tokenizer, begins: Sequence[np.ndarray]) -> Callable[[Any], dict[str, float]]:
    """The character error rate at which the tokenizer's CTC head reads what the model writes of development stories."""
    told = [storyworld.story(narration.held_out_seed(splits.DEVELOPMENT[number]), 4).sentences for number in range(16)]
    chosen = [begins[number * len(begins) // len(told)] for number in range(len(told))]

    def misread(model: Any) -> dict[str, float]:
        found = reading.read(model, told, chosen, generator_of(0), TEMPERATURE)
        heard = [tokenizer.transcribe(torch.from_numpy(each)) for each in found]
        truth = [storyworld.normalize(" ".join(sentences)) for sentences in told]
        return {"cer": float(cer(truth, heard))}

    return misread
