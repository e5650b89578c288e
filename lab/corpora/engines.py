"""Who makes the parts of a shard: processes of this machine, or an actor pool of Ray Data, on one machine or many.

A part is a file of its own, written beside and renamed: that it is there says that it is done. So workers need to know
nothing of each other, and what one that dies had begun is made by another.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import pickle
import re
import signal
import socket
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import torch

from lab import machine
from lab.errors import LabError
from lab.extras import require

Work = Callable[[Any], Any]


def local(work: Work, jobs: Iterable[Any], workers: int, gpu: bool = False) -> Generator[Any, None, None]:
    """`work` of each job in order, by processes in parallel (espeak-ng has one global state a process); one needs no
    other. With a `gpu` they share that."""
    if workers == 1:
        yield from map(work, jobs)
        return
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _begin_worker)
    waiting: deque[Future[Any]] = deque()
    try:
        for job in jobs:
            waiting.append(pool.submit(work, job))
            if len(waiting) == 2 * workers:
                yield waiting[0].result()
                waiting.popleft()
        while waiting:
            yield waiting[0].result()
            waiting.popleft()
    except BrokenProcessPool:
        raise LabError("a worker died, of too little memory perhaps; the same command with fewer goes on") from None
    finally:
        pool.shutdown(wait=bool(waiting), cancel_futures=True)  # idle processes take their time to end


def on_ray(work: Work, jobs: Iterable[Any], workers: int, gpu: bool = False) -> Generator[Any, None, None]:
    """`work` of each job, as it is done, by actors of Ray Data: of the cluster at RAY_ADDRESS, or of this machine.

    Each holds the models while it lives, and with `gpu` has one for itself; the jobs of one that dies are done by
    another. Raises LabError where Ray is not installed or there is no such cluster.
    """
    require("cluster")
    import ray

    rows = [{"job": pickle.dumps(job)} for job in jobs]
    if not rows:
        return
    try:
        if not ray.is_initialized():
            _answers(address := os.environ.get("RAY_ADDRESS"))
            ray.init(log_to_driver=False, logging_level=logging.ERROR, **({} if address else _here(workers)))
    except Exception as error:  # of an address, of a network, of a machine that is too slow: Ray has one for each
        said = " ".join(str(error).split())[:200]
        if (address := os.environ.get("RAY_ADDRESS")) is None:
            raise LabError(f"Ray does not start ({said}); give --engine local") from error
        raise LabError(f"there is no Ray cluster at {address} ({said}); start one, or unset RAY_ADDRESS") from error
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    table = ray.data.from_items(rows, override_num_blocks=len(rows))  # a part is lost and made again by itself
    pool = ray.data.ActorPoolStrategy(min_size=1, max_size=workers, initial_size=min(workers, len(rows)))
    done = table.map(_Actor, fn_constructor_args=(work,), compute=pool, num_cpus=1, num_gpus=int(gpu))
    try:
        for row in done.iter_rows():
            yield json.loads(row["made"])
    except ray.exceptions.RayError as error:  # it carries the traceback of the worker
        causes = re.findall(r"Error: (.+)", str(error)) or [type(error).__name__]
        raise LabError(f"Ray gave up ({causes[0]}); when that is mended, the same command goes on") from error


def _here(workers: int) -> dict[str, Any]:
    """What Ray on this machine is started with. Its workers are as important as ours: it would have them yield to
    everything else (nice 15)."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to anybody
    return {"num_cpus": workers, "include_dashboard": False, "_system_config": {"worker_niceness": 0}}


def _answers(address: str | None, seconds: float = 10.0) -> None:
    """Raises OSError where nobody listens at HOST:PORT: Ray would ask for minutes and end the process."""
    host, _, port = (address or "").rpartition(":")
    if port.isdigit() and "/" not in host:
        socket.create_connection((host.strip("[]"), int(port)), seconds).close()


class _Actor:
    def __init__(self, work: Work):
        torch.set_num_threads(1)
        machine.keep_freed_memory()
        self.work = work

    def __call__(self, row: dict[str, Any]) -> dict[str, str]:
        return {"made": json.dumps(self.work(pickle.loads(row["job"])))}


def _begin_worker() -> None:
    """One thread; signals are for the first process to see, and without it no worker stays."""
    torch.set_num_threads(1)
    machine.keep_freed_memory()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
