"""RG-LRU as one Triton kernel each way: decay, input normalisation, scan, carry and reset in one pass.

A program scans one sequence and BLOCK_L channels over time, ROWS tokens at a time by an associative scan. There are no
atomics: the same input gives the same bits. Bytes a float32 element: forward 16 (read x, i, r, write h), backward 32
(read x, i, r, h, dh, write dx, di, dr).

TRITON_INTERPRET=1, set before triton is first imported, runs it on the CPU, for tests.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from lab.recurrence.autograd import KERNELS, scan
from lab.recurrence.reference import DECAY_POWER, MAX_SQRT_SLOPE

# 8 x 2560 channels are 160 programs for the 132 multiprocessors of an H200: two have to fit on one.
ROWS, WARPS, BLOCK_L = 16, 4, 128
STAGES, STAGES_BACK = 3, 2

RATE = tl.constexpr(-DECAY_POWER)
MIN_NORM = tl.constexpr(0.5 / MAX_SQRT_SLOPE)


@triton.jit
def _gates(r, reset, rate, at, here, tokens, T):
    """r, a and sqrt(1 - a^2) of a tile, by e = expm1(log a): a = 1 + e and 1 - a^2 = -e (2 + e).

    Past the end r is 0: a = 1, and nothing is added.
    """
    r_t = tl.load(r + at, here, 0.0).to(tl.float32)
    log_a = r_t * rate[None, :]
    series = log_a * (1 + log_a * (1 / 2 + log_a * (1 / 6 + log_a * (1 / 24 + log_a * (1 / 120 + log_a / 720)))))
    e = tl.where(log_a > -0.25, series, tl.exp(log_a) - 1)  # the series is right to 5e-8 there; a NaN passes
    begins = (tl.load(reset + tokens, tokens < T, 0) != 0)[:, None]
    return r_t, tl.where(begins, 0.0, 1 + e), tl.where(begins, 1.0, tl.sqrt(-e * (2 + e)))


@triton.jit
def _join(a, h, a_next, h_next):
    return a * a_next, a_next * h + h_next


@triton.jit
def _scan(
    x, i, r, decay, state, reset, h, T, L,
    ROWS: tl.constexpr, BLOCK_L: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    b, channels = tl.program_id(0).to(tl.int64), tl.program_id(1) * BLOCK_L + tl.arange(0, BLOCK_L)
    inside, row = channels < L, tl.arange(0, ROWS)
    x, i, r, reset, h = x + b * T * L, i + b * T * L, r + b * T * L, reset + b * T, h + b * T * L
    rate = tl.load(decay + channels, inside, 0.0) * RATE
    carry = tl.load(state + b * L + channels, inside, 0.0)
    for t in tl.range(0, T, ROWS, num_stages=STAGES):
        tokens = t + row
        at, here = tokens.to(tl.int64)[:, None] * L + channels[None, :], (tokens < T)[:, None] & inside[None, :]
        _, a, norm = _gates(r, reset, rate, at, here, tokens, T)
        b_t = norm * tl.load(i + at, here, 0.0).to(tl.float32) * tl.load(x + at, here, 0.0).to(tl.float32)
        a, b_t = tl.associative_scan((a, b_t), 0, _join)
        h_t = b_t + a * carry[None, :]
        tl.store(h + at, h_t, here)
        carry = tl.sum(tl.where(row[:, None] == ROWS - 1, h_t, 0.0), 0)


@triton.jit
def _scan_back(
    x, i, r, decay, state, reset, h, dh, dx, di, dr, ddecay, carry, T, L,
    ROWS: tl.constexpr, BLOCK_L: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """g_t = dh_t + a_(t+1) g_(t+1), the gradient of h_t, in reverse."""
    b, channels = tl.program_id(0).to(tl.int64), tl.program_id(1) * BLOCK_L + tl.arange(0, BLOCK_L)
    inside, row = channels < L, tl.arange(0, ROWS)
    x, i, r, reset, h = x + b * T * L, i + b * T * L, r + b * T * L, reset + b * T, h + b * T * L
    dh, dx, di, dr, each = dh + b * T * L, dx + b * T * L, di + b * T * L, dr + b * T * L, b * L + channels
    rate = tl.load(decay + channels, inside, 0.0) * RATE
    first = tl.load(state + each, inside, 0.0)
    g = tl.load(carry + each, inside, 0.0)
    g_rate = tl.zeros((BLOCK_L,), tl.float32)
    tiles = tl.cdiv(T, ROWS)
    for back in tl.range(0, tiles, num_stages=STAGES):
        tokens = (tiles - 1 - back) * ROWS + row
        at, here = tokens.to(tl.int64)[:, None] * L + channels[None, :], (tokens < T)[:, None] & inside[None, :]
        follows = (tokens + 1 < T)[:, None] & inside[None, :]
        _, a_next, _ = _gates(r, reset, rate, at + L, follows, tokens + 1, T)
        a_next, g_t = tl.associative_scan((a_next, tl.load(dh + at, here, 0.0)), 0, _join, reverse=True)
        g_t += a_next * g[None, :]
        g = tl.sum(tl.where(row[:, None] == 0, g_t, 0.0), 0)
        r_t, a, norm = _gates(r, reset, rate, at, here, tokens, T)
        x_t, i_t = tl.load(x + at, here, 0.0).to(tl.float32), tl.load(i + at, here, 0.0).to(tl.float32)
        before = tl.load(h + at - L, here & (tokens > 0)[:, None], 0.0)
        before = tl.where((tokens == 0)[:, None], first[None, :], before)
        # a is 0 where a document begins, and so is the gradient of log a
        d_log = g_t * a * (before - a / tl.maximum(norm, MIN_NORM) * i_t * x_t)
        g_rate += tl.sum(d_log * r_t, 0)
        tl.store(dx + at, g_t * norm * i_t, here)
        tl.store(di + at, g_t * norm * x_t, here)
        tl.store(dr + at, d_log * rate[None, :], here)
    tl.store(ddecay + each, g_rate * RATE, inside)
    start = tl.zeros((1,), tl.int32)
    _, a, _ = _gates(r, reset, rate, channels[None, :], inside[None, :], start, T)
    tl.store(carry + each, tl.sum(a, 0) * g, inside)


def _run(kernel: Any, stages: int, *tensors: Tensor) -> None:
    B, T, L = tensors[0].shape
    block = min(BLOCK_L, triton.next_power_of_2(L))
    grid = B, triton.cdiv(L, block)
    with torch.cuda.device_of(tensors[0]):
        kernel[grid](*tensors, T, L, ROWS=ROWS, BLOCK_L=block, STAGES=stages, num_warps=WARPS)


KERNELS["triton"] = partial(_run, _scan, STAGES), partial(_run, _scan_back, STAGES_BACK)


def rg_lru(
    x: Tensor, input_gate: Tensor, recurrence_gate: Tensor, decay: Tensor, state: Tensor, reset: Tensor
) -> tuple[Tensor, Tensor]:
    """x and the gates may be float32, bfloat16 or float16, each on its own; all of it is computed in float32."""
    tensors = (x, input_gate, recurrence_gate, decay.float(), state.float(), reset.view(torch.uint8))
    h, last = scan("triton", *(tensor.contiguous() for tensor in tensors))
    return h.to(x.dtype), last
