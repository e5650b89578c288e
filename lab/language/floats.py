"""Rows of float32 times a vector at the speed at which the rows are read.

In a loop over a row, as numba compiles it, a processor waits for the sum of each row, and for the words that it asks
for too late. Here four sums of eight lanes run side by side, and the words of later rows are asked for meanwhile.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

LANES, SUMS = 8, 4
BLOCK = LANES * SUMS  # weights of a row that are taken at once
AHEAD = 8192  # bytes between what is multiplied and what is asked for: nearer words would still come too late


def fetch(builder: Any, pointer: Any) -> None:
    """Asks for the words `AHEAD` of a pointer; nothing happens where there are none."""
    byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
    asking = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
    ask = cgutils.get_or_insert_function(builder.module, asking, "llvm.prefetch.p0i8")
    later = builder.gep(builder.bitcast(pointer, byte), [number(AHEAD)])
    builder.call(ask, [later, number(0), number(3), number(1)])  # to read, into all caches, data


@intrinsic
def dot(typing: Any, matrix: Any, n: Any, vectors: Any, b: Any, first: Any) -> Any:
    """The sum over k of matrix[n, k] vectors[b, first + k]; both float32 and contiguous, BLOCK divides the row."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        rows, n, columns, b, first = (
            context.make_array(kind)(context, builder, value) if isinstance(kind, types.Array) else value
            for kind, value in zip(signature.args, arguments, strict=True)
        )
        number = ir.FloatType()
        lanes = ir.VectorType(number, LANES)
        adding = ir.FunctionType(number, [number, lanes])
        add_up = cgutils.get_or_insert_function(builder.module, adding, f"llvm.vector.reduce.fadd.v{LANES}f32")
        multiplying = ir.FunctionType(lanes, [lanes] * 3)
        multiply_add = cgutils.get_or_insert_function(builder.module, multiplying, f"llvm.fmuladd.v{LANES}f32")
        sums = [cgutils.alloca_once_value(builder, ir.Constant(lanes, [0.0] * LANES)) for _ in range(SUMS)]

        def load(data: Any, at: Any) -> Any:
            return builder.load(builder.bitcast(builder.gep(data, [at]), lanes.as_pointer()), align=4)

        size = builder.extract_value(rows.shape, 1)
        row = builder.mul(size, n)
        start = builder.add(builder.mul(b, builder.extract_value(columns.shape, 1)), first)
        with cgutils.for_range_slice(builder, size.type(0), size, size.type(BLOCK), size.type) as (k, _):
            for lane, total in enumerate(sums):
                here = builder.add(k, k.type(lane * LANES))
                at = builder.add(row, here)
                fetch(builder, builder.gep(rows.data, [at]))
                found = [load(rows.data, at), load(columns.data, builder.add(start, here)), builder.load(total)]
                builder.store(builder.call(multiply_add, found), total)
        one, two, three, four = (builder.load(total) for total in sums)
        whole = builder.fadd(builder.fadd(one, two), builder.fadd(three, four))
        return builder.call(add_up, [number(0.0), whole])

    index = types.intp
    return types.float32(matrix, index, vectors, index, index), emit
