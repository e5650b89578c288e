"""A part of a shard: some minutes of speech that a worker tokenizes, in a file that is whole or not there.

Beside it lies a note while somebody is at work on it, touched as a sign of life, and one that says why if it failed.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors.numpy

from lab.corpora.storage import Absent, Unreachable, reason, tried
from lab.corpora.utterance import Utterance, digest_of
from lab.errors import LabError
from lab.files import replacing
from lab.tokens import TOKEN_RATE

WINDOW = 26.0  # seconds from one window of the tokenizer to the next
FOR_GOOD = ", and is left out for good; to have it, shard into another folder"
BEAT, LOST = 20.0, 180.0  # seconds from one sign of life to the next, and without any after which nobody is at work
Job = tuple[int, str, Sequence[Any]]  # the number of a part, its key and its items
Encode = Callable[[list[np.ndarray]], Iterable[dict[str, np.ndarray]]]


def place(folder: Path, number: int, key: str) -> Path:
    return folder / f"{number:06}-{key}.safetensors"


def line(path: Path) -> dict[str, Any] | None:
    """What a part says of itself: `part`, its key; `documents`, their lengths in tokens; `narrators`; `skipped`; and if
    there are any `recordings`, a digest of the path that each document is of, and `dev`, the numbers of that split.

    None where it is not done, or damaged.
    """
    try:
        with safetensors.safe_open(path, "np") as file:
            return dict(json.loads(file.metadata()["line"]))
    except (FileNotFoundError, safetensors.SafetensorError, TypeError, KeyError, ValueError):
        return None


def make(
    folder: Path,
    read: Callable[[Any], Iterable[Utterance]],
    encode: Encode,
    job: Job,
    *,
    together: int = 1,
    readers: int = 1,
    skip_unreachable: bool = False,
) -> dict[str, Any]:
    """Makes a part, unless it is there: its line.

    A recording that cannot be reached is tried again, later and later. If that does not help, or where one is not
    there, the part fails, and its line has no documents and says why in `failed`; or, to skip what is unreachable, the
    recording is left out for good.

    `encode` gives `tokens` (T,) of each waveform (N,), and what else is kept of it; it gets utterances as they come, or
    with `together` above 1 as many as make so many windows of 30 s. Meanwhile `readers` threads read the next ones.
    """
    number, key, items = job
    path = place(folder, number, key)
    if there := line(path):
        return there
    said: dict[str, Any] = {"part": key, "documents": [], "narrators": [], "skipped": []}
    arrays: dict[str, list[np.ndarray]] = {}
    pool = ThreadPoolExecutor(readers)
    waiting: list[Utterance] = []
    ended = threading.Event()

    def failed(why: str) -> dict[str, Any]:
        with replacing(path.with_suffix(".failed")) as beside:
            beside.write_text(why)
        return {"part": key, "documents": [], "failed": why}

    def flush() -> None:
        for utterance, found in zip(waiting, _each(encode, [each.samples() for each in waiting]), strict=True):
            if isinstance(found, LabError):
                said["skipped"].append(reason(found))
                continue
            for name, array in found.items():
                arrays.setdefault(name, []).append(array)
            if utterance.split == "dev":
                said.setdefault("dev", []).append(len(said["documents"]))
            if utterance.recording:
                said.setdefault("recordings", []).append(digest_of(utterance.recording))
            said["documents"].append(len(found["tokens"]))
            said["narrators"].append(utterance.narrator)
        waiting.clear()

    try:
        with at_work(path) as made:
            for coming in [pool.submit(_read, read, item, ended) for item in items]:
                try:
                    waiting += coming.result()
                except LabError as error:
                    away = isinstance(error, Unreachable | Absent)
                    if away and not skip_unreachable:
                        return failed(reason(error))
                    said["skipped"].append(reason(error) + FOR_GOOD * away)
                if together == 1 or sum(each.seconds for each in waiting) > together * WINDOW:
                    flush()
            flush()
            made(sum(said["documents"]) / TOKEN_RATE)
            whole = {name: np.concatenate(each) for name, each in arrays.items()}
            with replacing(path) as beside, beside.open("wb") as file:
                file.write(safetensors.numpy.save(whole, {"line": json.dumps(said)}))
                file.flush()
                os.fsync(file.fileno())
    finally:
        ended.set()
        pool.shutdown(cancel_futures=True)
    return said


def _read(read: Callable[[Any], Iterable[Utterance]], item: Any, ended: threading.Event) -> list[Utterance]:
    return tried(lambda: list(read(item)), ended.wait)


def _each(encode: Encode, waveforms: list[np.ndarray]) -> list[dict[str, np.ndarray] | LabError]:
    """What `encode` gives, and what is wrong with those that it refuses."""
    try:
        return list(encode(waveforms))
    except LabError as error:
        if len(waveforms) == 1:
            return [error]
        return [found for waveform in waveforms for found in _each(encode, [waveform])]


# Who is at work


class Note(NamedTuple):
    host: str
    process: int
    alive: float  # its last sign of life, in seconds since 1970
    speech: float  # seconds of speech that it made before
    took: float  # and the seconds that this took

    @property
    def lost(self) -> bool:
        """Whether it ended without a word; of another machine that is known some minutes later."""
        if time.time() - self.alive > LOST:
            return True
        if self.host != socket.gethostname():
            return False
        try:
            os.kill(self.process, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            pass
        return False


_made = [0.0, 0.0]  # seconds of speech and of work of this process


@contextmanager
def at_work(path: Path) -> Iterator[Callable[[float], None]]:
    """A note while the part at `path` is made, which counts the seconds of speech that it is told of."""
    began, note, ended = time.time(), path.with_suffix(".running"), threading.Event()
    path.with_suffix(".failed").unlink(missing_ok=True)
    note.write_text(json.dumps([socket.gethostname(), os.getpid(), *_made]))

    def made(speech: float) -> None:
        _made[0] += speech
        _made[1] += time.time() - began

    def beat() -> None:
        while not ended.wait(BEAT):
            with suppress(OSError):  # it has just ended, or its disk is away for a while
                os.utime(note)

    threading.Thread(target=beat, daemon=True).start()
    try:
        yield made
    finally:
        ended.set()
        note.unlink(missing_ok=True)


def notes(folder: Path) -> list[Note]:
    """Of those at work in `folder`, and of those who were when they ended."""
    found = []
    for path in sorted(folder.glob("*.running")):
        with suppress(OSError, ValueError, TypeError):  # it has just ended
            host, process, *before = json.loads(path.read_text())
            found.append(Note(host, process, path.stat().st_mtime, *before))
    return found


def failures(folder: Path) -> list[str]:
    """Why parts in `folder` failed that nobody has begun again."""
    found = []
    for path in sorted(folder.glob("[!.]*.failed")):  # with a point before it one is half written
        with suppress(OSError):  # it has just been begun again
            found.append(path.read_text())
    return found
