"""A corpus tokenized once: flat files that training maps into memory and reads where it needs them.

    shard.json       the source, the fingerprints of tokenizer and codec, and what there was at the end of the last run
    manifest.jsonl   of recordings: their documents, in order
    documents.jsonl  a line a part: length in tokens and narrator of each document, which are held out, what was skipped
    tokens.bin       (T,) uint16, little-endian: all documents end to end
    codes.bin        (T, Q) uint16, if codes are kept: a codec frame sounds a token
    parts/           parts that are done and not yet among those above; who is at work on others; why others failed

Any number of workers, on any machines, make the parts. One process appends them in order, the data first and then the
line that counts it; what was not counted is cut off when the work goes on. So a kill or a full disk costs the parts
in flight, seconds of work each, and a shard can be read at any time. A part with a recording that cannot be reached (a
lost network) or is not there (a disk that is not mounted, a file that was taken away) fails; those after it wait among
the parts until a later run has made it.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from lab import bundle
from lab.console import console
from lab.corpora import engines, manifest, worker
from lab.corpora.encoding import encode_all, models_of
from lab.corpora.shard_files import (
    CODES,
    HEADER,
    PARTS,
    TOKENS,
    agree,
    append,
    begin,
    mapped,
    numbered,
    read_header,
    read_parts,
    resume,
    sweep,
    tokens_of,
    write_header,
)  # fmt: skip
from lab.corpora.source import Source
from lab.corpora.utterance import digest_of
from lab.errors import LabError
from lab.files import locked, made
from lab.tokens import TOKEN_RATE, Tokenizer
from lab.voice import Codec, VoicePrompt

TOGETHER = 16  # windows of 30 s that a GPU gets at once; a core is as fast with one
READERS = 4  # of recordings, ahead of it, for each worker
SHARING = 2  # workers of this machine that share a GPU: one computes while the other begins a part or writes it
QUEUE = 3600.0  # seconds that a worker of hundreds waits for those before it, who each read the manifest
IN_A_ROW = 8  # parts that fail, after which the others would, too
NO_CODES = "holds no codes of a codec; make one with `lab shard --codes`"


# Reading


@dataclass(frozen=True)
class Shard:
    """Documents end to end, mapped into memory: nothing is read before it is used, nothing is copied."""

    tokens: np.ndarray  # (T,) uint16
    codes: np.ndarray | None  # (T, Q) uint16
    starts: np.ndarray  # where documents begin, ascending from 0; the state is reset there
    narrators: list[str]  # of each document
    skipped: list[str]  # what could not serve, and why
    dev: tuple[int, ...] = ()  # the numbers of documents that are held out
    recordings: Sequence[str] = ()  # names of what each document is a piece of

    @classmethod
    def open(cls, folder: Path, tokenizer: Tokenizer | None = None, codec: Codec | None = None) -> Shard:
        """What is in `folder`, finished or not; given a tokenizer or codec, only if that made it.

        Raises LabError for a folder without a shard, files that are damaged or truncated, or of another tokenizer
        or codec, and for a shard without a document, or without codes if a codec is given.
        """
        header = read_header(folder)
        if codec is not None and not header["levels"]:
            raise LabError(f"{folder} {NO_CODES}")
        for kind, model in (("tokenizer", tokenizer), ("codec", codec)):
            if model is not None:
                agree(folder, header, kind, bundle.fingerprint(model))
        parts = read_parts(folder, header)
        lengths = [length for part in parts for length in part["documents"]]
        skipped = header["skipped"] + [line for part in parts for line in part["skipped"]]
        if not lengths:
            reason = f"all {len(skipped)} files were skipped, such as: {skipped[0]}" if skipped else "none was finished"
            raise LabError(f"{folder} holds no document; {reason}")
        total, before = sum(lengths), np.cumsum([0, *(len(part["documents"]) for part in parts)]).tolist()
        return cls(
            mapped(folder / TOKENS, (total,)),
            mapped(folder / CODES, (total, header["levels"])) if header["levels"] else None,
            np.cumsum([0, *lengths[:-1]]),
            [name for part in parts for name in part["narrators"]],
            skipped,
            tuple(first + number for first, part in zip(before, parts, strict=False) for number in part.get("dev", ())),
            [
                name  # an older shard does not tell, and narrated speech has none
                for first, part in zip(before, parts, strict=False)
                for name in part.get("recordings") or map(str, range(first, first + len(part["documents"])))
            ],
        )

    @property
    def seconds(self) -> float:
        return len(self.tokens) / TOKEN_RATE

    def first(self, hours: float) -> Shard:
        """As many documents from the beginning as `hours` of speech take."""
        ends = np.append(self.starts[1:], len(self.tokens))
        count = int(np.searchsorted(ends, min(hours * 3600 * TOKEN_RATE, len(self.tokens)))) + 1
        end = int(ends[count - 1])
        codes = None if self.codes is None else self.codes[:end]
        dev = tuple(number for number in self.dev if number < count)
        of = self.narrators[:count], self.skipped, dev, self.recordings[:count]
        return Shard(self.tokens[:end], codes, self.starts[:count], *of)

    def documents(self) -> list[np.ndarray]:
        """Tokens of each document."""
        return np.split(self.tokens, self.starts[1:])

    def utterances(self) -> list[list[VoicePrompt]]:
        """For each narrator in turn the documents read in a row, with their codes, less those that are held out. Raises
        LabError without codes."""
        if self.codes is None:
            raise LabError(f"this shard {NO_CODES}")
        tokens = torch.from_numpy(self.tokens).split(np.diff(self.starts, append=len(self.tokens)).tolist())
        codes = torch.from_numpy(self.codes).split([len(part) for part in tokens])
        told, apart = enumerate(zip(self.narrators, tokens, codes, strict=True)), set(self.dev)
        learnt = (each for number, each in told if number not in apart)
        return [[VoicePrompt(*own) for _, *own in group] for _, group in groupby(learnt, key=lambda each: each[0])]


def digest(name: str) -> str:
    """12 hexadecimal digits of what a corpus, or a shard in that folder, holds."""
    if not (Path(name) / HEADER).exists():
        return Source.of(name).digest
    return digest_of(json.dumps(read_parts(Path(name), read_header(Path(name)))))


# Making

ENGINES = {"local": engines.local, "ray": engines.on_ray}


def make(
    folder: Path,
    source: Source,
    models: Path,
    *,
    codes: bool = False,
    hours: float | None = None,
    workers: int | None = None,
    engine: str = "local",
    device: str = "cpu",
    skip_unreachable: bool = False,
) -> Shard:
    """Tokenize `source` into `folder` with the tokenizer, and for `codes` the codec, of the bundle in `models`.

    `device` is where they compute: a GPU gets windows of several documents at once. Goes on where an earlier call or
    `share` stopped, to more `hours`, or to what a corpus has grown by; makes nothing that is there. Ends with a line on
    stderr that counts what there is and tells seconds of speech per second. Raises LabError on a full disk and, after
    all others, for parts with recordings that cannot be reached or are not there (`skip_unreachable` leaves those out
    for good), with what is finished kept; and for a folder that holds a shard of another source, tokenizer or codec.
    """
    began, had, count, failed = time.perf_counter(), 0, 0, list[str]()
    hours = source.hours if hours is None else hours
    wanted, workers, header = _asked(source, models, codes, hours, workers, device, engine)
    if engine == "ray" and source.hours is not None:
        raise LabError(f"{source.name.split()[0]} have no end, and Ray asks for it; give --engine local, or recordings")
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())

    def throughput() -> str:
        return f"{(count - had) / TOKEN_RATE / (time.perf_counter() - began):.0f} seconds of speech per second"

    with _room(folder):
        with locked(made(folder), wait=0, doing="sharding into"):
            begin(folder, header)
            source = source.grown(folder)
            parts = resume(folder, header, source)
            had = count = tokens_of(parts)
            work = _work(folder, source, models, codes, device, skip_unreachable)
            results = ENGINES[engine](work, _jobs(source, source.parts[len(parts) :]), workers, device != "cpu")
            for skipped in source.skipped:
                console.print("skipped:", skipped)
            with closing(results), Progress(*columns, console=console, disable=count >= wanted) as progress:
                bar = progress.add_task(folder.name, total=len(source.parts) if wanted == math.inf else wanted)
                lines, there = _made(results, failed), count
                while count < wanted and (not failed or there < wanted) and (line := next(lines, None)) is not None:
                    there += sum(line["documents"])  # those that wait for one that failed, too
                    while count < wanted and (part := append(folder, source, len(parts))) is not None:
                        parts.append(part)
                        count += sum(part["documents"])
                        for skipped in part["skipped"]:
                            console.print("skipped:", skipped)
                    done = len(parts) if wanted == math.inf else count
                    progress.update(bar, completed=done, description=f"{folder.name}: {throughput()}")
            write_header(folder, header | {"tokens": count, "skipped": source.skipped})
            sweep(folder, len(parts))
    _check(folder, failed)
    speed = throughput() if count > had else "all was there"
    shard = Shard.open(folder, *models_of(models, codes))
    console.print(
        f"{folder}: {len(shard.starts)} documents, {count} tokens, {shard.seconds / 3600:.2f} h of speech, "
        f"{len(shard.skipped)} skipped; {speed}"
    )
    return shard


def share(
    folder: Path,
    source: Source,
    models: Path,
    number: int,
    of: int,
    *,
    codes: bool = False,
    hours: float | None = None,
    workers: int | None = None,
    device: str = "cpu",
    skip_unreachable: bool = False,
) -> float:
    """Every part that is the turn of worker `number` of `of`, from 1 on; `make` puts the parts of all together.

    The seconds of speech that there are of them. Any number of these may run, on any machines that see `folder`. Raises
    LabError as `make` does.
    """
    if not 1 <= number <= of:
        raise LabError(f"cannot make part {number}/{of}; give 1/{of} to {of}/{of}")
    wanted, workers, header = _asked(source, models, codes, source.hours if hours is None else hours, workers, device)
    seconds, failed = 0.0, list[str]()
    with _room(folder):
        with locked(made(folder), wait=QUEUE, doing="sharding into"):
            begin(folder, header)
            source = source.grown(folder)
        there = len(read_parts(folder, read_header(folder)))
        turns = range(there + (number - 1 - there) % of, len(source.parts), of)
        work = _work(folder, source, models, codes, device, skip_unreachable)
        with closing(engines.local(work, _jobs(source, turns), workers, device != "cpu")) as results:
            for line in _made(results, failed):
                seconds += sum(line["documents"]) / TOKEN_RATE
                if seconds * TOKEN_RATE >= wanted / of:
                    break
    _check(folder, failed)
    return seconds


def status(folder: Path, source: Source) -> dict[str, Any]:
    """How far the work on a shard is: parts, hours, workers, and minutes left at the speed of those at work.

    Failed are parts whose worker died and those with recordings that could not be reached or were not there, which have
    `reasons`.
    """
    held = folder / "manifest.jsonl"
    source = source.with_items(manifest.read(held)) if held.exists() else source
    lines = read_parts(folder, read_header(folder))
    waiting = [path for number, path in numbered(folder) if number >= len(lines) and path.suffix == ".safetensors"]
    lines += [line for path in waiting if (line := worker.line(path))]
    found, failed = worker.notes(folder / PARTS), worker.failures(folder / PARTS)
    running = [note for note in found if not note.lost]
    done, speed = tokens_of(lines) / TOKEN_RATE, sum(each.speech / each.took for each in running if each.took)
    total = source.hours * 3600 if source.hours else sum(item.seconds for item in source.items)
    return {
        "parts": len(lines),
        "of": None if source.hours else len(source.parts),
        "hours": done / 3600,
        "hours_in_all": total / 3600,
        "running": len(running),
        "failed": len(found) - len(running) + len(failed),
        "reasons": failed,
        "speed": speed,
        "minutes_left": max(0.0, total - done) / speed / 60 if speed else None,
    }


@contextmanager
def _room(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise LabError(f"cannot write to {folder}: {reason}; make room there, and the same command goes on") from error


def _asked(
    source: Source,
    models: Path,
    codes: bool,
    hours: float | None,
    workers: int | None,
    device: str,
    engine: str = "local",
) -> tuple[float, int, dict[str, Any]]:
    """The tokens that are wanted, the number of workers, the header."""
    if workers is None:
        workers = os.cpu_count() or 1 if device == "cpu" else SHARING if engine == "local" else 1
    if hours is not None and not 0 < hours < float("inf"):
        raise LabError(f"cannot shard {hours:g} hours of speech; give a positive number")
    if workers < 1:
        raise LabError(f"cannot shard with {workers} workers; give 1 or more")
    models_of.cache_clear()  # the bundle may have been trained anew since
    tokenizer, codec = models_of(models, codes, device)
    header = {
        "source": source.name,
        "tokenizer": bundle.fingerprint(tokenizer),
        "codec": bundle.fingerprint(codec) if codec else None,
        "levels": codec.levels if codec else 0,
        "tokens": 0,
        "skipped": source.skipped,
    }
    return math.inf if hours is None else hours * 3600 * TOKEN_RATE, workers, header


def _made(results: Iterator[dict[str, Any]], failed: list[str]) -> Iterator[dict[str, Any]]:
    """The lines of parts that are made; into `failed` goes why others are not, until nothing can be reached."""
    row = 0
    while row < IN_A_ROW and (line := next(results, None)) is not None:
        if reason := line.get("failed"):
            row += 1
            failed.append(reason)
            console.print("failed:", reason)
        else:
            row = 0
            yield line


def _check(folder: Path, failed: list[str]) -> None:
    if failed:
        raise LabError(
            f"{len(failed)} part{'s' * (len(failed) > 1)} of {folder} failed, such as: {failed[0]}; "
            "the same command goes on with what is missing, and `lab shard --skip-unreachable` into it does without it"
        )


# The workers


def _jobs(source: Source, numbers: range) -> Iterator[worker.Job]:
    return ((number, *source.part(number)) for number in numbers)


def _work(
    folder: Path, source: Source, models: Path, codes: bool, device: str, skip_unreachable: bool
) -> Callable[[worker.Job], dict[str, Any]]:
    """What makes a part, to be sent to whoever does it."""
    made(folder / PARTS)
    together = 1 if device == "cpu" else TOGETHER
    encode = partial(_encoded, models, codes, device, together)
    readers = READERS if together > 1 and source.hours is None else 1  # espeak-ng has one global state a process
    make = partial(worker.make, folder / PARTS, source.read, encode, together=together, readers=readers)
    return partial(make, skip_unreachable=skip_unreachable)


def _encoded(
    models: Path, codes: bool, device: str, together: int, waveforms: Sequence[np.ndarray]
) -> list[dict[str, np.ndarray]]:
    made = encode_all(waveforms, *models_of(models, codes, device), together)
    return [{"tokens": tokens, "codes": frames} if codes else {"tokens": tokens} for tokens, frames in made]
