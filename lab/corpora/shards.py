"""A corpus tokenized once: flat files that training maps into memory and reads where it needs them.

    shard.json       the source, the fingerprints of tokenizer and codec, and what there was at the end of the last run
    documents.jsonl  a line a part: length in tokens and narrator of each document, and what was skipped
    tokens.bin       (T,) uint16, little-endian: all documents end to end
    codes.bin        (2 T, Q) uint16, if codes are kept: codec frames 2 t and 2 t + 1 sound token t

Workers make numbered parts, some 200 s of speech each. One process appends them in order, the data first and then the
line that counts it; what was not counted is cut off when the work goes on. So a kill or a full disk costs the parts
in flight, seconds of work each, and a shard can be read at any time.
"""

from __future__ import annotations

import hashlib
import json
import math
import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass
from functools import cache, partial
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from lab import bundle, protocols, windows
from lab.console import console
from lab.corpora import folder as folders
from lab.corpora import librispeech, librispeech_long, narration
from lab.corpora.utterance import Recording, Utterance
from lab.errors import LabError
from lab.files import locked, made, replacing
from lab.tokens import TOKEN_HOP, TOKEN_RATE, Tokenizer
from lab.voice import Codec, VoicePrompt
from lab.voice.soundstorm import FRAMES

HEADER, DOCUMENTS, TOKENS, CODES = "shard.json", "documents.jsonl", "tokens.bin", "codes.bin"
UNIT = np.dtype("<u2")


# Where the speech comes from


@dataclass(frozen=True)
class Source:
    """Numbered items, and the utterances of each. `read` goes to other processes, so it is a function of a module."""

    name: str
    read: Callable[[Any], Iterable[Utterance]]
    items: Sequence[Any]
    part: int  # items that are made, written and lost together
    hours: float | None = None  # if no other number is asked for; None: all there is
    skipped: tuple[str, ...] = ()  # known before anything was read

    @classmethod
    def of(cls, name: str) -> Source:
        """`stories`, `voices`, or a folder: a document a file, of LibriSpeech documents of up to 4 minutes.

        The chapter of LibriSpeech that figures are measured on is left out.
        """
        if name == "stories":
            return cls._narrated(name, _story, 1, 60.0)
        if name == "voices":
            return cls._narrated(name, narration.voice_samples, 16, 7.0)
        root = Path(name)
        if not root.is_dir():
            raise LabError(f"there is no corpus {name!r} and no folder of that name; give stories, voices or a folder")
        if next(root.rglob("*.trans.txt"), None):
            return cls._recorded(root, librispeech_long.build(root, held_out=(librispeech.HELD_OUT_CHAPTER,)), 1)
        return cls._recorded(root, folders.corpus(root), 4)

    @classmethod
    def _narrated(cls, name: str, read: Callable[[int], Iterable[Utterance]], part: int, hours: float) -> Source:
        first = next(iter(read(0)))  # another grammar or another cast is another corpus
        return cls(f"{name} {_digest(f'{first.narrator}: {first.text}'.encode())}", read, range(10**6), part, hours)

    @classmethod
    def _recorded(cls, root: Path, corpus: folders.Corpus, part: int) -> Source:
        names = "\n".join(str(path.relative_to(root)) for r in corpus.recordings for path in r.paths)
        name = f"{root.resolve()} {_digest(names.encode())}"
        return cls(name, _recording, corpus.recordings, part, skipped=tuple(corpus.skipped))


def _story(number: int) -> tuple[Utterance]:
    return (narration.training_story(number),)


def _recording(recording: Recording) -> tuple[Utterance]:
    return (recording.read(),)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:12]


# Reading


@dataclass(frozen=True)
class Shard:
    """Documents end to end, mapped into memory: nothing is read before it is used, nothing is copied."""

    tokens: np.ndarray  # (T,) uint16
    codes: np.ndarray | None  # (2 T, Q) uint16
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
            _mapped(folder / CODES, (FRAMES * total, header["levels"])) if header["levels"] else None,
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
        codes = None if self.codes is None else self.codes[: FRAMES * end]
        return Shard(self.tokens[:end], codes, self.starts[:count], self.narrators[:count], self.skipped)

    def documents(self) -> list[np.ndarray]:
        """Tokens of each document."""
        return np.split(self.tokens, self.starts[1:])

    def utterances(self) -> list[list[VoicePrompt]]:
        """For each narrator in turn the documents read in a row, with their codes. Raises LabError without codes."""
        if self.codes is None:
            raise LabError("this shard holds no codes of a codec; make one with `lab shard --codes`")
        tokens = torch.from_numpy(self.tokens).split(np.diff(self.starts, append=len(self.tokens)).tolist())
        codes = torch.from_numpy(self.codes).split([FRAMES * len(part) for part in tokens])
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


# Making


class Part(NamedTuple):
    """What a worker gives back. Codes are (2 T, 0) where none are kept."""

    tokens: list[np.ndarray]
    codes: list[np.ndarray]
    narrators: list[str]
    skipped: list[str]


def make(
    folder: Path,
    source: Source,
    models: Path,
    *,
    codes: bool = False,
    hours: float | None = None,
    workers: int | None = None,
) -> Shard:
    """Tokenize `source` into `folder` with the tokenizer, and for `codes` the codec, of the bundle in `models`.

    Goes on where an earlier call stopped, or to more `hours`; makes nothing that is there. Ends with a line on stderr
    that counts what there is and tells seconds of speech per second. Raises LabError on a full disk, with what is
    finished kept, and for a folder that holds a shard of another source, tokenizer or codec.
    """
    hours = source.hours if hours is None else hours
    workers = os.cpu_count() or 1 if workers is None else workers
    if hours is not None and not 0 < hours < float("inf"):
        raise LabError(f"cannot shard {hours:g} hours of speech; give a positive number")
    if workers < 1:
        raise LabError(f"cannot shard with {workers} workers; give 1 or more")
    began, had, count = time.perf_counter(), 0, 0
    _models.cache_clear()  # the bundle may have been trained anew since
    tokenizer, codec = _models(models, codes)
    header = {
        "source": source.name,
        "tokenizer": bundle.fingerprint(tokenizer),
        "codec": bundle.fingerprint(codec) if codec else None,
        "levels": codec.levels if codec else 0,
        "tokens": 0,
        "skipped": source.skipped,
    }
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())

    def throughput() -> str:
        return f"{(count - had) / TOKEN_RATE / (time.perf_counter() - began):.0f} seconds of speech per second"

    try:
        with locked(made(folder), wait=0, doing="sharding into"):
            parts = _resume(folder, header)
            had = count = _tokens(parts)
            wanted = math.inf if hours is None else hours * 3600 * TOKEN_RATE
            starts = range(len(parts) * source.part, len(source.items), source.part)
            jobs = (source.items[start : start + source.part] for start in starts)
            results = _in_order(partial(_make_part, source.read, models, codes), jobs, workers)
            for line in source.skipped:
                console.print("skipped:", line)
            with closing(results), Progress(*columns, console=console, disable=count >= wanted) as progress:
                bar = progress.add_task(folder.name, total=len(source.items) if hours is None else wanted)
                while count < wanted and (part := next(results, None)) is not None:
                    parts.append(_append(folder, part))
                    count += sum(map(len, part.tokens))
                    for line in part.skipped:
                        console.print("skipped:", line)
                    done = len(parts) * source.part if hours is None else count
                    progress.update(bar, completed=done, description=f"{folder.name}: {throughput()}")
            _write_header(folder, header | {"tokens": count})
    except OSError as error:
        reason = error.strerror or error
        raise LabError(f"cannot write to {folder}: {reason}; make room there, and the same command goes on") from error
    speed = throughput() if count > had else "all was there"
    shard = Shard.open(folder, tokenizer, codec)
    console.print(
        f"{folder}: {len(shard.starts)} documents, {count} tokens, {shard.seconds / 3600:.2f} h of speech, "
        f"{len(shard.skipped)} skipped; {speed}"
    )
    return shard


def _resume(folder: Path, header: dict[str, Any]) -> list[dict[str, Any]]:
    """The parts that are there, after cutting off what was written and not counted."""
    if not (folder / HEADER).exists():
        if any((folder / name).exists() for name in (DOCUMENTS, TOKENS, CODES)):
            raise LabError(f"{folder} has lost its {HEADER}; restore it or shard into another folder")
        _write_header(folder, header)
    theirs = _header(folder)
    for key in ("source", "tokenizer", "codec"):
        _agree(folder, theirs, key, header[key])
    parts = _parts(folder, theirs)
    size = UNIT.itemsize * _tokens(parts)
    _cut(folder / TOKENS, size)
    _cut(folder / CODES, FRAMES * header["levels"] * size)
    if (folder / DOCUMENTS).exists():
        _cut(folder / DOCUMENTS, (folder / DOCUMENTS).read_bytes().rfind(b"\n") + 1)
    return parts


def _cut(path: Path, size: int) -> None:
    _check_size(path, size)
    if path.exists():
        os.truncate(path, size)


def _append(folder: Path, part: Part) -> dict[str, Any]:
    lengths = [len(tokens) for tokens in part.tokens]
    line = {"documents": lengths, "narrators": part.narrators, "skipped": part.skipped}
    _write(folder / TOKENS, b"".join(tokens.tobytes() for tokens in part.tokens))
    _write(folder / CODES, b"".join(codes.tobytes() for codes in part.codes))
    _write(folder / DOCUMENTS, json.dumps(line).encode() + b"\n")
    return line


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


def _in_order(work: Callable[[Any], Part], jobs: Iterable[Any], workers: int) -> Generator[Part, None, None]:
    """`work` of each job, by processes in parallel (espeak-ng has one global state a process); one needs no other."""
    if workers == 1:
        yield from map(work, jobs)
        return
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _begin_worker) as pool:
        waiting: deque[Future[Part]] = deque()
        try:
            for job in jobs:
                waiting.append(pool.submit(work, job))
                if len(waiting) == 2 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool:
            raise LabError("a worker died, of too little memory perhaps; the same command with fewer goes on") from None
        finally:
            pool.shutdown(cancel_futures=True)


def _begin_worker() -> None:
    """One thread; signals are for the first process to see, and without it no worker stays."""
    torch.set_num_threads(1)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _make_part(read: Callable[[Any], Iterable[Utterance]], models: Path, codes: bool, items: Iterable[Any]) -> Part:
    tokenizer, codec = _models(models, codes)
    part = Part([], [], [], [])
    for item in items:
        try:
            for utterance in read(item):
                tokens, frames = encode(utterance.samples(), tokenizer, codec)
                part.tokens.append(tokens)
                part.codes.append(frames)
                part.narrators.append(utterance.narrator)
        except LabError as error:
            part.skipped.append(folders.reason(error))
    return part


@cache
def _models(root: Path, codes: bool) -> tuple[Tokenizer, Codec | None]:
    tokenizer, codec = bundle.load(root, "tokenizer"), bundle.load(root, "codec") if codes else None
    assert isinstance(tokenizer, Tokenizer) and isinstance(codec, Codec | None)
    sizes = [tokenizer.vocabulary] + ([codec.codes] if codec else [])
    if max(sizes) > 2**16:
        raise LabError(f"a shard holds numbers below 65536, and there are {max(sizes)} codes")
    return tokenizer, codec


def encode(
    waveform: np.ndarray, tokenizer: protocols.Tokenizer, codec: protocols.Codec | None
) -> tuple[np.ndarray, np.ndarray]:
    """Waveform (N,) -> its tokens (T,) and codes (2 T, Q), uint16, Q = 0 without a codec.

    The codec sees windows too, so that its memory is that of 30 s; it looks no further than their overlaps.
    """
    tokens = tokenizer.encode(waveform).numpy().astype(UNIT)
    if codec is None:
        return tokens, np.zeros((FRAMES * len(tokens), 0), UNIT)
    padded = torch.from_numpy(np.pad(waveform, (0, -len(waveform) % TOKEN_HOP)).astype(np.float32))
    kept = []
    for part in windows.plan(len(tokens), *windows.TOKENIZATION):
        codes = codec.encode(padded[None, TOKEN_HOP * part.start : TOKEN_HOP * part.stop])[0]
        kept.append(codes[part.scaled(FRAMES).kept()])
    return tokens, torch.cat(kept).numpy().astype(UNIT)
