"""lab.language.threads: numba's threads meet, and nobody waits for one who does not come."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numba import get_num_threads, njit, prange

from lab.language.threads import SYNC, gather, meet


@njit(parallel=True)
def present(sync, workers, seen):
    for worker in prange(workers):
        seen[worker] = gather(sync, workers)


@njit(nogil=True)
def relay(worker, workers, sync, board, turns):
    """Writes its own place, meets the others, reads theirs; how often one did not see what was written."""
    missed, met = 0, 0
    for turn in range(turns):
        board[worker] = turn
        met = meet(sync, workers, met)
        for other in range(workers):
            missed += board[other] != turn
        met = meet(sync, workers, met)
    return missed


def test_all_come_or_one_does_the_work_of_all():
    workers = get_num_threads()
    for _ in range(50):
        seen = np.full(workers, -1)
        present(np.zeros(SYNC, np.int64), workers, seen)
        assert (seen == workers).all() or sorted(seen) == [0] * (workers - 1) + [1]


@pytest.mark.parametrize("workers", [2, 3])
def test_one_who_is_alone_does_not_wait_for_ever(workers: int):
    sync = np.zeros(SYNC, np.int64)
    assert [gather(sync, workers) for _ in range(workers)] == [1] + [0] * (workers - 1)


def test_one_worker_needs_nobody():
    sync = np.zeros(SYNC, np.int64)
    assert gather(sync, 1) == 1 and meet(sync, 1, 7) == 8
    assert not sync.any()


def test_who_met_sees_what_the_others_wrote():
    sync, board = np.zeros(SYNC, np.int64), np.zeros(2, np.int64)
    relay(0, 1, sync, board, 1)  # compiled
    with ThreadPoolExecutor(2) as pool:
        missed = list(pool.map(lambda worker: relay(worker, 2, sync, board, 500), range(2)))
    assert missed == [0, 0] and sync.max() == 2 * 2 * 500
