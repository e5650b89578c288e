"""Threads that go through one piece of work side by side and wait for each other by spinning, inside numba.

To start numba's threads on a loop and to call them back takes some 5 us, to meet on a shared counter a tenth of one.
"""

from __future__ import annotations

import sys
from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

SYNC = 16  # int64: the two counters, a cache line each
_MET, _HERE = 0, 8
_GONE = 1 << 32  # in the place of _HERE: somebody went alone
_PATIENCE = 5000  # looks at the counter, some 20 us; whoever is not there by then may have no core to be on


def _place(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    return builder.gep(context.make_array(signature.args[0])(context, builder, args[0]).data, [args[1]])


@intrinsic
def _add(typingctx, array, at, value):
    """Add to array[at] as one operation; what was there before."""

    def generate(context, builder, signature, args):
        return builder.atomic_rmw("add", _place(context, builder, signature, args), args[2], "seq_cst")

    return types.int64(array, types.intp, types.int64), generate


@intrinsic
def _look(typingctx, array, at):
    """array[at] as it is now."""

    def generate(context, builder, signature, args):
        return builder.load_atomic(_place(context, builder, signature, args), "seq_cst", 8)

    return types.int64(array, types.intp), generate


@intrinsic
def _exchange(typingctx, array, at, old, new):
    """Put `new` into array[at] if `old` is there; whether it was."""

    def generate(context, builder, signature, args):
        place = _place(context, builder, signature, args)
        return builder.extract_value(builder.cmpxchg(place, args[2], args[3], "seq_cst", "seq_cst"), 1)

    return types.boolean(array, types.intp, types.int64, types.int64), generate


@intrinsic
def _yield(typingctx):
    """Let another thread have the core, where there is one to run."""

    def generate(context, builder, signature, args):
        if sys.platform != "win32":
            function = ir.FunctionType(ir.IntType(32), [])
            builder.call(cgutils.get_or_insert_function(builder.module, function, "sched_yield"), [])
        return context.get_dummy_value()

    return types.none(), generate


@njit(cache=True)
def gather(sync, workers):
    """How many do the work: all workers, 1 where the others did not come in time, 0 for one who came too late.

    sync (SYNC,) int64, zero. Nobody waits for ever: a loop run by fewer threads than it has turns is done too.
    """
    if workers == 1:
        return 1
    if _add(sync, _HERE, 1) >= _GONE:
        return 0
    looks = 0
    while True:
        here = _look(sync, _HERE)
        if here == workers:
            return workers
        if here >= _GONE:
            return 0
        looks += 1
        if looks > _PATIENCE and _exchange(sync, _HERE, here, _GONE):
            return 1


@njit(cache=True)
def meet(sync, workers, turn):
    """Wait until all workers are here. turn: how often they have met before; what to give the next time."""
    turn += 1
    if workers > 1:
        _add(sync, _MET, 1)
        looks = 0
        while _look(sync, _MET) < turn * workers:
            looks += 1
            if looks > _PATIENCE:
                _yield()
    return turn
