"""Batches made ahead of training, by processes of their own.

A batch is a function of the step, so there is no state to save: a run that goes on asks for the steps that are left.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Generator
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from lab.errors import LabError


def batches(make: Callable[[int], Any], steps: range, workers: int) -> Generator[Any, None, None]:
    """`make` of each step, in order; with `workers` each of so many processes makes two ahead.

    They are forked, as `make` may hold a corpus, mapped or not: nothing is copied. Close it to end them. Raises what
    `make` raises.
    """
    if not workers:
        yield from map(make, steps)
        return
    if workers < 0:
        raise LabError(f"cannot make batches with {workers} workers; give 0 or more")
    loader = DataLoader(
        _Steps(make),
        batch_size=None,
        sampler=steps,
        num_workers=workers,
        collate_fn=_as_it_is,
        worker_init_fn=_begin_worker,
        multiprocessing_context="fork",
        generator=torch.Generator(),  # else it would draw from that of dropout and masks
    )
    coming = iter(loader)
    try:
        for batch in coming:
            if isinstance(batch, LabError):
                raise batch
            yield batch
    finally:
        del coming  # ends the workers now, and not when somebody lets go of a traceback


class _Steps(Dataset[Any]):
    def __init__(self, make: Callable[[int], Any]):
        self.make = make

    def __getitem__(self, step: int) -> Any:
        try:
            return self.make(step)
        except LabError as error:  # which would come as a traceback
            return error


def _as_it_is(batch: Any) -> Any:
    return batch


def _begin_worker(number: int) -> None:
    """Signals that end a run are for its first process, which finishes the step that is on its way."""
    for asked in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(asked, signal.SIG_IGN)
