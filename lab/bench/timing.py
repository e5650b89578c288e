"""Times that can be compared: contenders take turns in one process, after warm-up; medians, and their quartiles."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch

Timer = Callable[[], float]  # does its work once and returns the seconds that it took


class Spread(NamedTuple):
    """A median and the quartiles around it."""

    median: float
    low: float
    high: float


def spread(values: Any) -> Spread:
    low, median, high = np.quantile(np.asarray(values, float), (0.25, 0.5, 0.75))
    return Spread(float(median), float(low), float(high))


def exactly(value: float) -> Spread:
    """Of what is measured once, or counted."""
    return Spread(value, value, value)


def each(seconds: list[float], scale: float = 1e3) -> Spread:
    """Milliseconds, or with another scale another unit."""
    return spread(scale * np.array(seconds))


def rate(seconds: list[float], work: float) -> Spread:
    """What is done in a second, where each time was taken by `work`."""
    return spread(work / np.array(seconds))


def timer(function: Callable[[], Any], device: str = "cpu", steps: int = 1) -> Timer:
    """Seconds a step of a function that does `steps` of them; on a GPU between two events around it."""

    def on_cpu() -> float:
        began = time.perf_counter()
        function()
        return (time.perf_counter() - began) / steps

    def on_gpu() -> float:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        function()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / 1e3 / steps

    return on_gpu if device == "cuda" else on_cpu


def in_turn(timers: dict[str, Timer], rounds: int, warmup: int = 2) -> dict[str, list[float]]:
    """Seconds of every contender, one after the other in each round: a machine that is slow for a while is so for all.

    The order is drawn anew each round, as who comes before leaves the caches in its own way.
    """
    names, order = list(timers), random.Random(0)
    seconds = {name: list[float]() for name in names}
    for number in range(warmup + rounds):
        order.shuffle(names)
        for name in names:
            took = timers[name]()
            if number >= warmup:
                seconds[name].append(took)
    return seconds
