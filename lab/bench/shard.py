"""Seconds of speech that become tokens in a second: by one process, by several, and by Ray where it is installed."""

from __future__ import annotations

import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from lab import audio, bundle, extras
from lab.bench.report import Asked, Row
from lab.bench.timing import Spread, exactly
from lab.console import console

SCALING, BY_RAY = Asked("at least", 1.6, 1.9), Asked("at least", 0.9, 1.0)
RAY = "not installed: pip install speechssm-lab[cluster]"


def rows(minutes: float = 720.0, workers: tuple[int, ...] = (1, 2), ray: bool = True) -> list[Row]:
    """`lab shard` of recordings of a minute each, in parts of ten, with the tokenizer of the bundle in use, from the
    call to the end: starting the workers is a part of it, seconds whatever the corpus. A process has one thread."""
    from lab.corpora.shards import Source

    with TemporaryDirectory() as folder:
        tapes = Path(folder, "tapes")
        tapes.mkdir()
        random = np.random.default_rng(0)
        for number in range(max(1, round(minutes))):
            loudness = 0.02 + 0.1 * random.random(round(25 * 60 * min(1.0, minutes)))
            noise = random.standard_normal((len(loudness), 640)) * loudness[:, None]
            audio.save(tapes / f"{number:03}.wav", noise.ravel().astype(np.float32))
        source = Source.of(str(tapes))
        made = {count: _speed(source, Path(folder, f"{count}"), count, "local") for count in workers}
        first = made[workers[0]]
        found = [Row("`lab shard`, 1 process", "s of speech a second", first, note=f"{minutes:g} minutes of noise")]
        for count in workers[1:]:
            name = f"`lab shard`, {count} processes"
            found.append(Row(name, "s of speech a second", made[count], "1 process", first, SCALING))
        if not ray:
            return found
        name, peer = f"`lab shard --engine ray`, {workers[-1]} workers", f"{workers[-1]} processes"
        if extras.missing("cluster"):
            return [*found, Row(name, "s of speech a second", None, peer, note=RAY)]
        one = source.with_items(source.items[:1])
        _speed(one, Path(folder, "started"), workers[-1], "ray")  # Ray itself is started once
        by_ray = _speed(source, Path(folder, "ray"), workers[-1], "ray")
        return [*found, Row(name, "s of speech a second", by_ray, peer, made[workers[-1]], BY_RAY)]


def _speed(source: Any, folder: Path, workers: int, engine: str) -> Spread:
    from lab.corpora import shards

    quiet, console.quiet = console.quiet, True
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)  # as workers have
        began = time.perf_counter()
        made = shards.make(folder, source, bundle.folder(), workers=workers, engine=engine)
        return exactly(made.seconds / (time.perf_counter() - began))
    finally:
        torch.set_num_threads(threads)
        console.quiet = quiet
