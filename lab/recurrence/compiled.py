"""numba as the lab uses it: compiled once and kept on disk, its kernels run on plain threads.

numba's own threads share OpenMP with torch: its first call changes how many torch has, and a forked process that enters
it is ended. A kernel releases Python's lock instead, so that any threads do.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from numba import njit
from numba.core.compiler_lock import global_compiler_lock

from lab.console import console

# "reassoc" is left out: it would undo the two-part ln 2 of `decay_and_norm`. No NaN or infinity flags: a NaN has to
# come through.
FAST = {"contract", "nsz", "arcp"}
KERNEL: dict[str, Any] = {"fastmath": FAST, "nogil": True, "error_model": "numpy"}
SUMS: dict[str, Any] = KERNEL | {"fastmath": FAST | {"reassoc"}}  # a sum in lanes is another order
PATIENCE = 2.0  # seconds of compiling until something is said

_kept = True  # whether numba found a place for what it compiles
# numba asks of a kept function whether its own file is older, not those of the kernels that it calls.
_SOURCES = [*Path(__file__).parent.glob("*.py"), *Path(__file__).parents[1].glob("language/*.py")]
_STAMP = tuple(sorted((path.name, path.stat().st_mtime, path.stat().st_size) for path in _SOURCES))


def jit(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """`numba.njit`, with what was compiled kept on disk where numba finds a place it can write to."""

    def decorate(function: Callable[..., Any]) -> Any:
        global _kept
        try:
            compiled = njit(cache=True, **options)(function)
        except RuntimeError:  # beside the source, in the home, or where NUMBA_CACHE_DIR says
            _kept = False
            return njit(**options)(function)
        compiled._cache._cache_file._source_stamp = _STAMP
        return compiled

    return decorate


@contextmanager
def compiling(what: str, kernel: Any = None) -> Iterator[None]:
    """Says what takes so long, where it takes long: numba compiles a function when it is first called. Where `kernel`
    has been, nothing is watched: a thread for each call would cost more than most calls."""
    if kernel is not None and kernel.overloads:
        yield
        return
    where = "once" if _kept else "in each process: numba cannot write its cache, set NUMBA_CACHE_DIR to a folder it can"
    timer = threading.Timer(PATIENCE, console.print, [f"compiling {what}, {where}"])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def in_threads(kernel: Callable[..., None], workers: int, *arguments: Any) -> None:
    """kernel(worker, workers, *arguments) for each worker, at once."""
    others = [threading.Thread(target=kernel, args=(each, workers, *arguments)) for each in range(1, workers)]
    for thread in others:
        thread.start()
    kernel(0, workers, *arguments)
    for thread in others:
        thread.join()


def _alone() -> None:
    """Of all threads a child has the one that forked. Torch would wait for OpenMP's, and what compiles for one that was
    compiling: so a fork waits until nothing is."""
    global_compiler_lock.release()
    torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=global_compiler_lock.acquire, after_in_parent=global_compiler_lock.release, after_in_child=_alone
    )
