"""Whether time a token and memory stay what they were, up to a million tokens and on (the CPU)."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable
from typing import Any

import psutil
import torch
from torch.utils._pytree import tree_leaves

from lab.bench import limits, throughput
from lab.bench.report import Asked, Row
from lab.bench.timing import each, exactly, in_turn, timer
from lab.language import generate
from lab.language.lean import Stepper
from lab.language.packed import pack

FLAT, GROWTH = Asked("at most", 1.05, 1.0), Asked("at most", 5, 0)
MOST_CACHE = 1e9  # bytes of a SpeechTransformer's cache that are still measured


@torch.inference_mode()
def rows(
    preset: str = "lab", tokens: int = 1_000_000, window: int = 64, rounds: int = 9, every: int = 10_000
) -> list[Row]:
    """One story of `tokens` tokens by `generate`; memory is looked at after each `every`.

    A state is a value: those at token 1,000, 10,000 ... are kept, and in the end the story goes on from each of them
    in turn, `window` tokens at a time, so that a machine which changes over hours changes nothing. tokens:
    20 or more.
    """
    model, transformer = throughput.models(preset)
    marks = [1000 * 10**n for n in range(10) if 1000 * 10**n < tokens] or [tokens // 10]
    marks.append(tokens)
    story = generate(model, torch.zeros(1, dtype=torch.int64), generator=torch.Generator().manual_seed(0))
    kept, memory, before = {}, [], 0.0
    for position in range(1, tokens + 1):
        next(story)
        if position == marks[0]:
            kept = {mark: story.state for mark in marks}  # room for all that comes, before memory is looked at
            gc.collect()
            memory, before = [resident()], time.perf_counter()
            continue
        if position in kept:
            for held, new in zip(tree_leaves(kept[position]), tree_leaves(story.state), strict=True):
                held.copy_(new)
        if memory and (position % every == 0 or position == tokens):
            memory.append(resident())
    took = (time.perf_counter() - before) / (tokens - marks[0])

    packed = pack(model)
    read = limits.read(packed.weights)
    works: dict[Any, dict[int, Callable[[], None]]] = {
        model: {mark: throughput.drawing(Stepper(packed, kept[mark]), 1, window) for mark in marks},
        transformer: {
            mark: throughput.sampling(transformer, 1, mark, window)
            for mark in marks
            if throughput.bytes_of_state(transformer, mark) <= MOST_CACHE
        },
    }
    found = []
    for one, at in works.items():  # each by itself, as a large cache throws the weights out of the processor's
        timers = {str(mark): timer(work, steps=window) for mark, work in at.items()}
        seconds = in_turn(timers | {"read": read.timer}, rounds)
        first = each(seconds[str(marks[0])])
        for mark in at:
            predicted = 1e3 * throughput.floor(one, 1, mark, read.found(seconds["read"]), math.inf)
            asked = FLAT if one is model and mark > marks[0] else None
            name, ours = f"{type(one).__name__}, token {mark}", each(seconds[str(mark)])
            found.append(Row(name, "ms", ours, f"token {marks[0]}", first, asked, predicted))
    growth, speed = (max(memory) - memory[0]) / 1e6, 1 / took
    grown = f"resident memory, most above that at token {marks[0]} on the way to {tokens}"
    return [
        *found,
        Row(grown, "MB", exactly(growth), asked=GROWTH, note=f"of {memory[0] / 1e6:.0f} MB in all"),
        Row(f"tokens a second, {marks[0]} to {tokens}", "tokens/s", exactly(speed)),
        read.row(seconds["read"]),
    ]


def resident() -> int:
    """Bytes of this process that are in memory."""
    return psutil.Process().memory_info().rss
