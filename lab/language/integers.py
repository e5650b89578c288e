"""Rows of int8 times a vector in integers, where the processor has an instruction for it (VNNI).

A conversion to float32 and a product for each weight takes longer than reading it. The instruction multiplies
32 bytes by 32 bytes and adds them up, one of both unsigned: so the vector is rounded to 16 bits, of which each half is
multiplied, and 128 is added to the weights, and subtracted from the sums.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import binding, ir
from numba import config, njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from lab.language.floats import fetch
from lab.recurrence.compiled import KERNEL

LANES = 32  # weights of a row that an instruction takes, four to a sum
ROWS = LANES // 4  # whose sums are added up together, until a vector holds that of each
SIDE = 4  # of them side by side, which share what is read of the vector
LARGEST = 127 * 256  # of 16 bits whose halves are signed
LIMIT = 2**31 // 127  # of a sum of as many whole numbers, times weights of up to 127, no more than int32 holds


def has_vnni() -> bool:
    """Whether numba compiles for a processor with the instruction, on vectors of 256 bits."""
    if getattr(config, "CPU_NAME", None) or getattr(config, "CPU_FEATURES", None):  # of another, by numba's variables
        return False
    features = binding.get_host_cpu_features()
    return bool(features.get("avxvnni") or (features.get("avx512vnni") and features.get("avx512vl")))


@intrinsic
def dots(typing: Any, weight: Any, n: Any, high: Any, low: Any, b: Any, first: Any, less: Any, sums: Any) -> Any:
    """To sums[n + r], r = 0 to 7: the sum over k of (weight[n + r, k] + 128) * (256 high[b, first + k] + low[b, first +
    k]), less `less`.

    Modulo 2^32, as int32. weight (N, block), high and low (B, K), all int8 and contiguous; LANES divides block. sums
    (N,) int32.
    """

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        matrix, n, *halves, b, first, less, out = (
            context.make_array(kind)(context, builder, value) if isinstance(kind, types.Array) else value
            for kind, value in zip(signature.args, arguments, strict=True)
        )
        words, number = ir.VectorType(ir.IntType(32), ROWS), ir.IntType(32)
        instruction = ir.FunctionType(words, [words] * 3)
        multiply_add = cgutils.get_or_insert_function(builder.module, instruction, "llvm.x86.avx512.vpdpbusd.256")
        sums = [[cgutils.alloca_once_value(builder, ir.Constant(words, [0] * 8)) for _ in halves] for _ in range(ROWS)]
        plus_128 = ir.Constant(words, [0x80808080 - (1 << 32)] * 8)

        def columns(array: Any) -> Any:
            return builder.extract_value(array.shape, 1)

        def load(data: Any, at: Any) -> Any:
            return builder.load(builder.bitcast(builder.gep(data, [at]), words.as_pointer()), align=1)

        def added(one: Any, other: Any, apart: int) -> Any:
            """The sums of lanes that lie so many apart, of two vectors in one."""
            lanes = [lane + half for half in (0, 8) for lane in range(8) if not lane & apart]
            order = sorted(lanes, key=lambda lane: (lane % 8 // (2 * apart), lane // 8, lane % apart))
            parts = (ir.Constant(words, [lane + more for lane in order]) for more in (0, apart))
            return builder.add(*(builder.shuffle_vector(one, other, each) for each in parts))

        block, start = columns(matrix), builder.add(builder.mul(b, columns(halves[0])), first)
        for side in range(0, ROWS, SIDE):
            rows = [builder.mul(block, builder.add(n, n.type(row))) for row in range(side, side + SIDE)]
            with cgutils.for_range_slice(builder, block.type(0), block, block.type(LANES), block.type) as (k, _):
                vectors = [load(half.data, builder.add(start, k)) for half in halves]
                for row, totals in zip(rows, sums[side : side + SIDE], strict=True):
                    at = builder.add(row, k)
                    fetch(builder, builder.gep(matrix.data, [at]))
                    unsigned = builder.xor(load(matrix.data, at), plus_128)
                    for vector, total in zip(vectors, totals, strict=True):
                        builder.store(builder.call(multiply_add, [builder.load(total), unsigned, vector]), total)
        found = []
        for totals in sums:
            upper, lower = (builder.load(total) for total in totals)
            found.append(builder.add(builder.shl(upper, ir.Constant(words, [8] * 8)), lower))
        for apart in (1, 2, 4):  # a row for each lane in the end, in their order
            found = [added(one, other, apart) for one, other in zip(found[::2], found[1::2], strict=True)]
        everywhere = builder.insert_element(ir.Constant(words, ir.Undefined), less, number(0))
        everywhere = builder.shuffle_vector(everywhere, everywhere, ir.Constant(words, [0] * ROWS))
        place = builder.bitcast(builder.gep(out.data, [n]), words.as_pointer())
        builder.store(builder.sub(found[0], everywhere), place, align=4)
        return context.get_dummy_value()

    index = types.intp
    return types.void(weight, index, high, low, index, index, types.int32, sums), emit


@njit(**KERNEL)
def halved(x, most, high, low):
    """x (K,) float32 in whole numbers of up to `most`, 256 high + low. Returns what 1 of them stands for.

    That is NaN where there is one in x.
    """
    bits, largest = x.view(np.int32), np.int32(0)
    for k in range(bits.size):  # without their signs numbers are ordered as their bits are, and NaN is above all
        largest = max(largest, bits[k] & np.int32(0x7FFFFFFF))
    unit = np.int32(largest).view(np.float32) / np.float32(most) + np.float32(1e-30)
    over = np.float32(1) / unit
    for k in range(x.size):
        number = np.int32(x[k] * over + np.float32(32768.5)) - np.int32(32768)  # rounds: truncation is towards 0
        upper = (number + np.int32(128)) >> np.int32(8)
        high[k], low[k] = np.int8(upper), np.int8(number - (upper << np.int32(8)))
    return unit


@njit(**KERNEL)
def added(high, low):
    """The sum of 256 high + low, (K,) int8 each."""
    total = np.int32(0)
    for k in range(high.size):
        total = np.int32(total + np.int32(256) * np.int32(high[k]) + np.int32(low[k]))
    return total


@njit(**KERNEL)
def product(weight, scale, bias, x, y, add):
    """As `lab.language.lean._product`, for weight (N, block) int8, N a multiple of ROWS and block of LANES."""
    (N, block), (B, K) = weight.shape, x.shape
    most = min(LARGEST, LIMIT // block)
    high, low, units = np.empty((B, K), np.int8), np.empty((B, K), np.int8), np.empty(B, np.float32)
    excess, sums = np.empty((B, K // block), np.int32), np.empty((B, N), np.int32)
    for b in range(B):
        units[b] = halved(x[b], most, high[b], low[b])
        for part in range(K // block):
            at = slice(part * block, (part + 1) * block)
            excess[b, part] = 128 * added(high[b, at], low[b, at])
    for n in range(0, N, ROWS):
        part = 0 if block == K else n % K // block
        for b in range(B):
            dots(weight, n, high, low, b, part * block, excess[b, part], sums[b])
    for b in range(B):
        found, unit, y_b = sums[b], units[b], y[b]
        for n in range(N):
            value = np.float32(found[n]) * (unit * scale[n]) + bias[n]
            y_b[n] = y_b[n] + value if add else value
