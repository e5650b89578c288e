"""Tones, and stories of them that are told chunk by chunk."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from lab.speech import Chunk


def tone(seconds: float, level: float = 0.3, hertz: float = 440) -> np.ndarray:
    return (level * np.sin(2 * np.pi * hertz * np.arange(int(seconds * 16_000)) / 16_000)).astype(np.float32)


def chunks(count: int, work: Callable[[int], Any] = lambda k: None, size: float = 0.5) -> Iterator[Chunk]:
    whole = tone(count * size)
    for k in range(count):
        work(k)
        samples = whole[int(k * size * 16_000) : int((k + 1) * size * 16_000)]
        yield Chunk(samples, (k + 1) * size, int(25 * size * (k + 1)), 590_000)
