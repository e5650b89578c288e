"""Speech for the tests of shards. Worker processes import it, so it imports little."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np

from lab.corpora.utterance import Utterance, int16
from lab.errors import LabError


def spoken(number: int) -> tuple[Utterance, ...]:
    """Item `number`: 2 to 3 s of noise, of another loudness each token; every fourth item is two takes of that."""
    rng = np.random.default_rng(number)
    told = []
    for _ in range(1 + (number % 4 == 3)):
        loudness = 10 ** rng.uniform(-4, -1, int(rng.integers(50, 75)))
        waveform = rng.standard_normal((len(loudness), 640)) * loudness[:, None]
        told.append(Utterance(int16(waveform.ravel()[1:]), "owl", f"reader {number % 3}", "recorded"))
    return tuple(told)


def gated(number: int) -> tuple[Utterance, ...]:
    """The same, but from item 9 on one waits for a file that never comes."""
    while number >= 9:
        time.sleep(0.05)
    return spoken(number)


def deadly(number: int) -> tuple[Utterance, ...]:
    os._exit(1)


def killed_once(note: Path, number: int, item: int) -> tuple[Utterance, ...]:
    """The same, but the first process that comes to item `number` leaves its id in a note and is killed."""
    if item == number and not note.exists():
        note.write_text(f"{os.getpid()}")
        os.kill(os.getpid(), signal.SIGKILL)
    return spoken(item)


def refusing(job: Any) -> None:
    raise LabError(f"{job} is refused; mend it")


def voiced(seconds: float, level: float = 0.1) -> np.ndarray:
    """(N,) float32 at 16 kHz, something like speech: a gliding buzz that comes and goes three times a second."""
    times = np.arange(round(seconds * 16_000)) / 16_000
    phase = 2 * np.pi * np.cumsum(120 + 30 * np.sin(2 * np.pi * 0.7 * times)) / 16_000
    buzz = sum(np.sin(k * phase) / k for k in range(1, 15))
    return (level * buzz * (0.55 + 0.45 * np.sin(2 * np.pi * 3 * times))).astype(np.float32)


def niceness(job: Any) -> int:
    """Of the process that does it."""
    return os.nice(0)
