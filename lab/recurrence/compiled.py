"""numba as the lab uses it: compiled once and kept, threads that leave torch's alone, and no threads after a fork."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from numba import config, njit, set_num_threads

from lab.console import console

# "reassoc" is left out: it would undo the two-part ln 2 of `decay_and_norm`. No NaN or infinity flags: a NaN has to
# come through.
FAST = {"contract", "nsz", "arcp"}
KERNEL: dict[str, Any] = {"fastmath": FAST, "nogil": True, "error_model": "numpy"}
SUMS: dict[str, Any] = KERNEL | {"fastmath": FAST | {"reassoc"}}  # a sum in lanes is another order
PATIENCE = 2.0  # seconds of compiling until something is said

_kept = True  # whether numba found a place for what it compiles
_forked = False
_one_at_a_time = threading.Lock()  # numba's pool may not be entered by two Python threads: it would end the process


def jit(**options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """`numba.njit`, with what was compiled kept on disk where numba finds a place it can write to."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        global _kept
        try:
            return njit(cache=True, **options)(function)
        except RuntimeError:  # beside the source, in the home, or where NUMBA_CACHE_DIR says
            _kept = False
            return njit(**options)(function)

    return decorate


@contextmanager
def compiling(what: str) -> Iterator[None]:
    """Says what takes so long, where it takes long: numba compiles a function when it is first called."""
    where = "once" if _kept else "in each process: numba cannot write its cache, set NUMBA_CACHE_DIR to a folder it can"
    timer = threading.Timer(PATIENCE, console.print, [f"compiling {what}, {where}"])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def threads() -> int:
    """How many threads a kernel may use: torch's, as far as numba has them; 1 in a forked process, as OpenMP's threads
    stay with the parent."""
    return 1 if _forked else min(torch.get_num_threads(), config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]


def in_parallel(function: Callable[..., None], workers: int, *arguments: Any) -> None:
    """function(workers, *arguments), which goes over its workers by `prange`, on as many threads."""
    with _one_at_a_time:
        before = torch.get_num_threads()
        set_num_threads(workers)
        function(workers, *arguments)
        if torch.get_num_threads() != before:  # the two share OpenMP, and numba sets its number
            torch.set_num_threads(before)


def _after_fork() -> None:
    """OpenMP's threads are not there in the child; numba would end the process and torch wait for them for ever."""
    global _forked, _one_at_a_time
    _forked, _one_at_a_time = True, threading.Lock()
    torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
