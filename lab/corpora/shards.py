"""A corpus tokenized once: flat files that training maps into memory and reads where it needs them.

    shard.json       the source, the fingerprints of tokenizer and codec, and what there was at the end of the last run
    manifest.jsonl   of recordings: their documents, in order
    documents.jsonl  a line a part: length in tokens and narrator of each document, and what was skipped
    tokens.bin       (T,) uint16, little-endian: all documents end to end
    codes.bin        (T, Q) uint16, if codes are kept: a codec frame sounds a token
    parts/           parts that are done and not yet among those above; who is at work on others

Any number of workers, on any machines, make the parts. One process appends them in order, the data first and then the
line that counts it; what was not counted is cut off when the work goes on. So a kill or a full disk costs the parts
in flight, seconds of work each, and a shard can be read at any time.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
import torch
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from lab import bundle
from lab.console import console
from lab.corpora import engines, manifest, worker
from lab.corpora.encoding import UNIT, encode_all, models_of
from lab.corpora.source import Source, digest_of
from lab.errors import LabError
from lab.files import locked, made, replacing
from lab.tokens import TOKEN_RATE, Tokenizer
from lab.voice import Codec, VoicePrompt

HEADER, DOCUMENTS, TOKENS, CODES, PARTS = "shard.json", "documents.jsonl", "tokens.bin", "codes.bin", "parts"
TOGETHER = 16  # windows of 30 s that a GPU gets at once; a core is as fast with one
READERS = 4  # of recordings, ahead of it


# Reading


@dataclass(frozen=True)
class Shard:
    """Documents end to end, mapped into memory: nothing is read before it is used, nothing is copied."""

    tokens: np.ndarray  # (T,) uint16
    codes: np.ndarray | None  # (T, Q) uint16
    starts: np.ndarray  # where documents begin, ascending from 0; the state is reset there
    narrators: list[str]  # of each document
    skipped: list[str]  # what could not serve, and why

    @classmethod
    def open(cls, folder: Path, tokenizer: Tokenizer | None = None, codec: Codec | None = None) -> Shard:
        """What is in `folder`, finished or not; given a tokenizer or codec, only if that made it.

        Raises LabError for a folder without a shard, files that are damaged or truncated, or of another tokenizer
        or codec, and for a shard without a document.
        """
        header = _header(folder)
        for kind, model in (("tokenizer", tokenizer), ("codec", codec)):
            if model is not None:
                _agree(folder, header, kind, bundle.fingerprint(model))
        parts = _parts(folder, header)
        lengths = [length for part in parts for length in part["documents"]]
        skipped = header["skipped"] + [line for part in parts for line in part["skipped"]]
        if not lengths:
            reason = f"all {len(skipped)} files were skipped, such as: {skipped[0]}" if skipped else "none was finished"
            raise LabError(f"{folder} holds no document; {reason}")
        total = sum(lengths)
        return cls(
            _mapped(folder / TOKENS, (total,)),
            _mapped(folder / CODES, (total, header["levels"])) if header["levels"] else None,
            np.cumsum([0, *lengths[:-1]]),
            [name for part in parts for name in part["narrators"]],
            skipped,
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
        return Shard(self.tokens[:end], codes, self.starts[:count], self.narrators[:count], self.skipped)

    def documents(self) -> list[np.ndarray]:
        """Tokens of each document."""
        return np.split(self.tokens, self.starts[1:])

    def utterances(self) -> list[list[VoicePrompt]]:
        """For each narrator in turn the documents read in a row, with their codes. Raises LabError without codes."""
        if self.codes is None:
            raise LabError("this shard holds no codes of a codec; make one with `lab shard --codes`")
        tokens = torch.from_numpy(self.tokens).split(np.diff(self.starts, append=len(self.tokens)).tolist())
        codes = torch.from_numpy(self.codes).split([len(part) for part in tokens])
        both = iter(zip(tokens, codes, strict=True))
        return [[VoicePrompt(*next(both)) for _ in group] for _, group in groupby(self.narrators)]


def _header(folder: Path) -> dict[str, Any]:
    try:
        header = json.loads((folder / HEADER).read_text())
        return {key: header[key] for key in ("source", "tokenizer", "codec", "levels", "tokens", "skipped")}
    except (FileNotFoundError, NotADirectoryError):
        raise LabError(f"there is no shard in {folder}; make one with `lab shard`") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LabError(f"{folder / HEADER} is damaged ({error}); restore it or shard into another folder") from None


def _parts(folder: Path, header: dict[str, Any]) -> list[dict[str, Any]]:
    """The lines of documents.jsonl; the last may have been cut, and counts for nothing then."""
    path = folder / DOCUMENTS
    try:
        lines = path.read_bytes().split(b"\n") if path.exists() else [b""]
        parts = [json.loads(line) for line in lines[:-1]]
    except (OSError, ValueError) as error:
        raise LabError(f"{path} is damaged ({error}); restore it or shard into another folder") from None
    if (counted := _tokens(parts)) < header["tokens"]:
        found = f"{counted} tokens counted, {header['tokens']} expected"
        raise LabError(f"{path} is truncated: {found}; restore it or shard anew")
    return parts


def _tokens(parts: Sequence[dict[str, Any]]) -> int:
    return sum(length for part in parts for length in part["documents"])


def _agree(folder: Path, header: dict[str, Any], key: str, ours: object) -> None:
    if header[key] != ours:
        theirs, ours = header[key] or "none", ours or "none"
        raise LabError(f"{folder} was made with {key} {theirs}, and this is {key} {ours}; shard into another folder")


def _mapped(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    _check_size(path, UNIT.itemsize * math.prod(shape))
    return np.memmap(path, UNIT, "c", shape=shape)  # "c": torch takes no array that it could not write to


def _check_size(path: Path, expected: int) -> None:
    found = path.stat().st_size if path.exists() else 0
    if found < expected:
        raise LabError(f"{path} is truncated: {found} bytes found, {expected} expected; restore it or shard anew")


def digest(name: str) -> str:
    """12 hexadecimal digits of what a corpus, or a shard in that folder, holds."""
    if not (Path(name) / HEADER).exists():
        return Source.of(name).digest
    return digest_of(json.dumps(_parts(Path(name), _header(Path(name)))))


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
) -> Shard:
    """Tokenize `source` into `folder` with the tokenizer, and for `codes` the codec, of the bundle in `models`.

    `device` is where they compute: a GPU gets windows of several documents at once. Goes on where an earlier call or
    `share` stopped, to more `hours`, or to what a corpus has grown by; makes nothing that is there. Ends with a line on
    stderr that counts what there is and tells seconds of speech per second. Raises LabError on a full disk, with what
    is finished kept, and for a folder that holds a shard of another source, tokenizer or codec.
    """
    began, had, count = time.perf_counter(), 0, 0
    wanted, workers, header = _asked(source, models, codes, source.hours if hours is None else hours, workers, device)
    if engine == "ray" and source.hours is not None:
        raise LabError(f"{source.name.split()[0]} have no end, and Ray asks for it; give --engine local, or recordings")
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())

    def throughput() -> str:
        return f"{(count - had) / TOKEN_RATE / (time.perf_counter() - began):.0f} seconds of speech per second"

    with _room(folder):
        with locked(made(folder), wait=0, doing="sharding into"):
            _begin(folder, header)
            source = source.grown(folder)
            parts = _resume(folder, header, source)
            had = count = _tokens(parts)
            results = _results(folder, source, models, codes, workers, engine, device, source.parts[len(parts) :])
            for line in source.skipped:
                console.print("skipped:", line)
            with closing(results), Progress(*columns, console=console, disable=count >= wanted) as progress:
                bar = progress.add_task(folder.name, total=len(source.parts) if wanted == math.inf else wanted)
                while count < wanted and next(results, None) is not None:
                    while count < wanted and (part := _join(folder, source, len(parts))) is not None:
                        parts.append(part)
                        count += sum(part["documents"])
                        for line in part["skipped"]:
                            console.print("skipped:", line)
                    done = len(parts) if wanted == math.inf else count
                    progress.update(bar, completed=done, description=f"{folder.name}: {throughput()}")
            _write_header(folder, header | {"tokens": count, "skipped": source.skipped})
            _sweep(folder, len(parts))
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
) -> float:
    """Every part that is the turn of worker `number` of `of`, from 1 on; `make` puts the parts of all together.

    The seconds of speech that there are of them. Any number of these may run, on any machines that see `folder`.
    """
    if not 1 <= number <= of:
        raise LabError(f"cannot make part {number}/{of}; give 1/{of} to {of}/{of}")
    wanted, workers, header = _asked(source, models, codes, source.hours if hours is None else hours, workers, device)
    seconds = 0.0
    with _room(folder):
        with locked(made(folder), doing="sharding into"):
            _begin(folder, header)
            source = source.grown(folder)
        there = len(_parts(folder, _header(folder)))
        turns = range(there + (number - 1 - there) % of, len(source.parts), of)
        with closing(_results(folder, source, models, codes, workers, "local", device, turns)) as results:
            for line in results:
                seconds += sum(line["documents"]) / TOKEN_RATE
                if seconds * TOKEN_RATE >= wanted / of:
                    break
    return seconds


def status(folder: Path, source: Source) -> dict[str, Any]:
    """How far the work on a shard is: parts, hours, workers, and minutes left at the speed of those at work."""
    held = folder / "manifest.jsonl"
    source = source.with_items(manifest.read(held)) if held.exists() else source
    lines = _parts(folder, _header(folder))
    lines += [line for path in sorted((folder / PARTS).glob("*.safetensors")) if (line := worker.line(path))]
    found = worker.notes(folder / PARTS)
    running = [note for note in found if not note.lost]
    done, speed = _tokens(lines) / TOKEN_RATE, sum(each.speech / each.took for each in running if each.took)
    total = source.hours * 3600 if source.hours else sum(item.seconds for item in source.items)
    return {
        "parts": len(lines),
        "of": None if source.hours else len(source.parts),
        "hours": done / 3600,
        "hours_in_all": total / 3600,
        "running": len(running),
        "failed": len(found) - len(running),
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
    source: Source, models: Path, codes: bool, hours: float | None, workers: int | None, device: str
) -> tuple[float, int, dict[str, Any]]:
    """The tokens that are wanted, the number of workers, the header."""
    workers = (os.cpu_count() or 1 if device == "cpu" else 1) if workers is None else workers
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


def _results(
    folder: Path, source: Source, models: Path, codes: bool, workers: int, engine: str, device: str, numbers: range
) -> Generator[dict[str, Any], None, None]:
    made(folder / PARTS)
    together = 1 if device == "cpu" else TOGETHER
    encode = partial(_encoded, models, codes, device, together)
    readers = READERS if together > 1 and source.hours is None else 1  # espeak-ng has one global state a process
    work = partial(worker.make, folder / PARTS, source.read, encode, together=together, readers=readers)
    jobs = ((number, *source.part(number)) for number in numbers)
    return ENGINES[engine](work, jobs, workers, device != "cpu")


def _begin(folder: Path, header: dict[str, Any]) -> None:
    """A shard to add to: a new one, or one of the same source and models."""
    if not (folder / HEADER).exists():
        if any((folder / name).exists() for name in (DOCUMENTS, TOKENS, CODES)):
            raise LabError(f"{folder} has lost its {HEADER}; restore it or shard into another folder")
        _write_header(folder, header)
    theirs = _header(folder)
    for key in ("source", "tokenizer", "codec"):
        _agree(folder, theirs, key, header[key])


def _resume(folder: Path, header: dict[str, Any], source: Source) -> list[dict[str, Any]]:
    """The parts that are there, after cutting off what was written and not counted, and a last part that grew."""
    parts = _unchanged(folder, source)
    size = UNIT.itemsize * _tokens(parts)
    _cut(folder / TOKENS, size)
    _cut(folder / CODES, header["levels"] * size)
    if (folder / DOCUMENTS).exists():
        _cut(folder / DOCUMENTS, sum(map(len, (folder / DOCUMENTS).read_bytes().splitlines(True)[: len(parts)])))
    return parts


def _unchanged(folder: Path, source: Source) -> list[dict[str, Any]]:
    """The parts that are there and are those of the source: the last one may have had fewer documents."""
    header = _header(folder)
    parts = _parts(folder, header)
    for number, part in enumerate(parts):
        if number not in source.parts or part.get("part", key := source.part(number)[0]) != key:
            if number + 1 < len(parts):
                raise LabError(f"{folder} was made from other documents than {source.name} has; shard into another")
            _write_header(folder, header | {"tokens": _tokens(parts[:-1])})
            return parts[:-1]
    return parts


def _cut(path: Path, size: int) -> None:
    _check_size(path, size)
    if path.exists():
        os.truncate(path, size)


def _join(folder: Path, source: Source, number: int) -> dict[str, Any] | None:
    """Appends a part, if it is done: its line."""
    if number not in source.parts:
        return None
    path = worker.place(folder / PARTS, number, source.part(number)[0])
    if (line := worker.line(path)) is None:
        return None
    for name, array in safetensors.numpy.load_file(path).items():
        _write(folder / f"{name}.bin", array.tobytes())
    _write(folder / DOCUMENTS, json.dumps(line).encode() + b"\n")
    return line


def _sweep(folder: Path, count: int) -> None:
    """Takes away what is left of parts that were appended, and the folder of the parts if no other is there."""
    for path in (folder / PARTS).iterdir():
        if int(path.name.lstrip(".").partition("-")[0]) < count:  # with a point: half written when its worker died
            path.unlink(missing_ok=True)
    with suppress(OSError):
        (folder / PARTS).rmdir()


def _write(path: Path, data: bytes) -> None:
    """At the end of the file, and on the disk before anything else is."""
    if data:
        with path.open("ab") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())


def _write_header(folder: Path, header: dict[str, Any]) -> None:
    with replacing(folder / HEADER) as part:
        part.write_text(json.dumps(header, indent=1) + "\n")


# The workers


def _encoded(
    models: Path, codes: bool, device: str, together: int, waveforms: Sequence[np.ndarray]
) -> list[dict[str, np.ndarray]]:
    made = encode_all(waveforms, *models_of(models, codes, device), together)
    return [{"tokens": tokens, "codes": frames} if codes else {"tokens": tokens} for tokens, frames in made]
