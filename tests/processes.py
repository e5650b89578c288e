"""What each process of tests/test_distributed.py runs: a few steps of a tiny Griffin, told on the command line."""

from __future__ import annotations

import argparse
import atexit
import os
import resource
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, distributed

from lab.train import language
from lab.train.loop import Compute, whole
from lab.train.plan import Plan

Batch = tuple[Tensor, ...]


def main(words: Sequence[str]) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--devices", type=int, default=int(os.environ.get("LOCAL_WORLD_SIZE", 1)))
    parser.add_argument("--strategy", default="ddp")
    parser.add_argument("--accumulate", type=int, default=1)
    parser.add_argument("--signal", type=int, help="The step at which the first process is told to end.")
    parser.add_argument("--full", type=int, help="The step from which on the first process finds the disk full.")
    parser.add_argument("--init", type=Path, help="A bundle whose griffin to begin with.")
    asked = parser.parse_args(words)
    torch.set_num_threads(1)
    # One document, so that each row has as many targets as another, and the mean of means is the mean.
    stream = language.TokenStream.of([np.random.default_rng(0).integers(0, 16, 4000)])
    whole_batches = language.batches
    language.batches = lambda *given: troubled(whole_batches(*given), asked.signal, asked.full)
    compute = Compute(devices=asked.devices, strategy=asked.strategy, accumulate=asked.accumulate, log_every=1)
    plan = Plan(bundle=asked.folder, speech=None, narration=None, init=asked.init and str(asked.init), compute=compute)
    begin = plan.begin("griffin")
    if asked.init:
        (asked.folder / f"begun-{os.environ.get('LOCAL_RANK', 0)}").write_text(begin.device.type)
    settings = {"learning_rate": 3e-3, "evaluate_every": 4, "precision": "float32", "keep": 1}
    try:
        network, _ = language.train(
            stream,
            [np.arange(16)],
            asked.folder,
            preset="tiny",
            vocabulary=16,
            steps=8,
            size=4,
            length=32,
            settings=settings | {"save_seconds": 60 if asked.full is None else 0},
            compute=compute,
            begin=begin,
        )
    finally:
        language.batches = whole_batches
    weights = whole(network.state_dict())
    if int(os.environ.get("LOCAL_RANK", 0)) == 0:
        torch.save(weights, asked.folder / "weights.pt")


def troubled(batches: Callable[[int], Batch], signalled: int | None, full: int | None) -> Callable[[int], Batch]:
    def batch(number: int) -> Batch:
        if int(os.environ.get("LOCAL_RANK", 0)) == 0:
            if number == signalled:
                os.kill(os.getpid(), signal.SIGTERM)
            if number == full:
                resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))
        return batches(number)

    return batch


def left() -> None:
    """Threads of a group that outlives Python abort the process now and then."""
    if distributed.is_initialized():
        os._exit(3)


if __name__ == "__main__":
    atexit.register(left)  # the last to be called
    main(sys.argv[1:])
