"""All samples of a set by one system, one after the other: spoken, judged and written before the next one begins."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from lab import audio
from lab.audio import SAMPLE_RATE
from lab.console import console
from lab.corpora.storage import reason
from lab.errors import LabError
from lab.evaluate import examples as files
from lab.evaluate.ears import Ears
from lab.evaluate.examples import Example, Examples, Sound
from lab.evaluate.results import Results, Row
from lab.evaluate.scoring import score
from lab.evaluate.systems import TRUTH, System

LASTING = 0.75  # of the length asked for: readings of LibriSpeech-Long last 3.5 to 4 minutes
_COLUMNS = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[pace]}"), TimeElapsedColumn())


def run(
    results: Results, ears: Ears, samples: Examples, asked: Row, system: System | None = None, keep: Path | None = None
) -> Row:
    """The row of `asked`, with all samples that can be scored, and beside it that of the ground truth.

    system: who goes on from the prompts to `asked.seconds`; None where the continuations are there. keep: a folder for
    what is heard. Samples that are there already stay. Raises LabError where the file holds others under the same name,
    and where it cannot be written; a sample that cannot be scored is named in `skipped`.
    """
    none = replace(asked, temperature=None, weights={}, likelihood={}, trained=None)  # of no model
    truth = results.row(replace(none, system=TRUTH, samples=[], skipped=[]))
    row = results.row(asked)
    _check_prompts(results, samples, truth, row)
    truth.skipped = row.skipped = list(samples.skipped)
    for line in samples.skipped:
        console.print(f"left out: {line}")
    spoken, began = 0.0, time.perf_counter()
    with Progress(*_COLUMNS, console=console) as progress:
        bar = progress.add_task(row.system, total=len(samples), pace="")
        for number, example in enumerate(samples):
            progress.update(bar, completed=number, description=f"{row.system}: {example.name}")
            if row.sample(example.name) is None:
                try:
                    spoken += _sample(results, ears, example, truth, row, system, keep)
                except Unscored as error:
                    row.skipped = [*row.skipped, str(error)]
                    console.print(f"left out: {error}")
                pace = f"{spoken / (time.perf_counter() - began):.2f} x real time"
                progress.update(bar, completed=number + 1, pace=pace if spoken else "")
        progress.update(bar, completed=len(samples))
    if not truth.samples:
        results.rows.remove(truth)
    if spoken:
        row.command, row.machine, row.date = asked.command, asked.machine, asked.date
    if not row.samples:
        raise LabError(f"no sample of {row.set} could be scored: {row.skipped[0]}")
    return row


def _check_prompts(results: Results, samples: Examples, *rows: Row) -> None:
    """Raises LabError where the first sample that is there goes on from another prompt than the one of its name now:
    folders of other speech may have the same names. Rows of before tell of no prompt."""
    for example in samples:
        known = [sample for row in rows if (sample := row.sample(example.name)) and "prompt" in sample]
        if not known:
            continue
        try:
            heard = files.fingerprint(example.sound().prompt)
        except LabError:  # the next one tells as well
            continue
        if any(sample["prompt"] != heard for sample in known):
            raise LabError(f"{results.path} has a {example.name} with another prompt; give another file with -o")
        return


class Unscored(Exception):
    """Why a sample has no values."""


@contextmanager
def _of(example: Example) -> Iterator[None]:
    """Around all that can go wrong with one sample: the others go on."""
    try:
        yield
    except LabError as error:
        raise Unscored(f"{example.name}: {reason(error)}") from error


def _lasts(sound: Sound, seconds: float | None) -> bool:
    """Whether the reference is as long as what is asked for, nearly: a reading of 4 minutes is no truth of 16."""
    assert sound.reference is not None
    return seconds is None or len(sound.prompt) + len(sound.reference) >= LASTING * seconds * SAMPLE_RATE


def _sample(
    results: Results, ears: Ears, example: Example, truth: Row, row: Row, system: System | None, keep: Path | None
) -> float:
    """Adds a sample to the row, and its reference to the truth; how many seconds were judged. Raises Unscored."""
    judged = 0.0
    with _of(example):
        sound = example.sound()
    if sound.reference is not None and truth.sample(example.name) is None and _lasts(sound, row.seconds):
        with _of(example):
            truth.samples.append(score(ears, example, sound, sound.reference, None, respoken=True))
        judged += truth.samples[-1]["seconds"]
        results.save()
    began = time.perf_counter()
    with _of(example):
        if system is not None and row.seconds is not None:
            new = row.seconds - len(sound.prompt) / SAMPLE_RATE
            sound = sound._replace(continuation=audio.set_level(system.go_on(example, sound, new)))
        assert sound.continuation is not None
        spoken = time.perf_counter()
        respoken = system is not None and system.temperature is None  # a stage of the voice
        found = score(ears, example, sound, sound.continuation, truth.sample(example.name), respoken=respoken)
        found["took"] = {"speaking": spoken - began, "judging": time.perf_counter() - spoken}
    if keep is not None:
        files.keep(keep, example, sound)
    row.samples.append(found)
    results.save()
    return judged + found["seconds"]
