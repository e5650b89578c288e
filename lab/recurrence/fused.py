"""RG-LRU as one Triton kernel each way: decay, input normalisation, scan, carry and reset in one pass. Experimental.

A program scans one sequence and BLOCK_L channels over time, tile by tile. In a tile each warp has ROWS tokens one after
the other and each of its threads 4 channels of all of them (128-bit loads), so that the scan stays within a thread; the
ends of the warps' rows are scanned after that. Bytes a float32 element:

    forward   16: read x, i, r, write y                     28 where time is split: the ends of the spans come first
    backward  28: read x, i, r, dy, write dx, di, dr        36 where time is split

and 4 / (ROWS * WARPS) for h before each tile, which is all that is kept: the backward computes a and h of a tile again.
Where sequences and channels cannot fill the GPU, time is split into spans: a first pass computes for each the product
of its a and its last h from h = 0, and the second starts from those of the spans before its own. A look-back within one
pass would save the 12 bytes, but its programs wait for each other. There are no atomics: the same input gives the same
bits.

TRITON_INTERPRET=1, set before triton is first imported, runs it on the CPU, for tests.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from lab.recurrence.reference import DECAY_POWER, MAX_SQRT_SLOPE

# 8 x 2560 channels are 160 programs for the 132 multiprocessors of an H200: two have to fit on one. Compiled for it
# they take 50 of the 227 KiB of shared memory, with two tiles in flight, and 111 registers; the backward takes 46 KiB
# and 255, and in float32 does not spill. Instructions an element: 44, and 101 in the backward.
ROWS, WARPS, BLOCK_L = 4, 4, 128
STAGES, STAGES_BACK = 3, 2
MAX_SPANS = 64  # each program joins the ends of all spans before its own

RATE = tl.constexpr(-DECAY_POWER)
MIN_NORM = tl.constexpr(0.5 / MAX_SQRT_SLOPE)


@triton.jit
def _gates(log_a):
    """a and sqrt(1 - a^2) for log a <= 0, by e = expm1(log a): a = 1 + e and 1 - a^2 = -e (2 + e)."""
    series = log_a * (1 + log_a * (1 / 2 + log_a * (1 / 6 + log_a * (1 / 24 + log_a * (1 / 120 + log_a / 720)))))
    e = tl.where(log_a > -0.25, series, tl.exp(log_a) - 1)  # the series is right to 5e-8 there; a NaN passes
    return 1 + e, tl.sqrt(-e * (2 + e))


@triton.jit
def _join(a, h, a_next, h_next):
    return a * a_next, a_next * h + h_next


@triton.jit
def _tokens(t, ROWS: tl.constexpr, WARPS: tl.constexpr):
    """(ROWS, WARPS, 1): a warp's tokens follow each other along the first axis."""
    return t + tl.arange(0, ROWS)[:, None, None] + ROWS * tl.arange(0, WARPS)[None, :, None]


@triton.jit
def _load(tensor, tokens, channels, T, L):
    """A tile of (T, L) in float32, 0 outside: with r = 0 there, tokens past the end have a = 1 and add nothing."""
    at = tokens.to(tl.int64) * L + channels[None, None, :]
    return tl.load(tensor + at, (tokens < T) & (channels < L)[None, None, :], 0.0).to(tl.float32)


@triton.jit
def _store(tensor, tile, tokens, channels, T, L):
    at = tokens.to(tl.int64) * L + channels[None, None, :]
    tl.store(tensor + at, tile, (tokens < T) & (channels < L)[None, None, :])


@triton.jit
def _load_gates(r, reset, rate, tokens, channels, T, L):
    """a, sqrt(1 - a^2), r and whether a document begins, for a tile."""
    begins = tl.load(reset + tokens, tokens < T, 0) != 0
    r_t = _load(r, tokens, channels, T, L)
    a, norm = _gates(r_t * rate[None, None, :])
    return tl.where(begins, 0.0, a), tl.where(begins, 1.0, norm), r_t, begins


@triton.jit
def _scan_tile(a, b, h, REVERSE: tl.constexpr, ROWS: tl.constexpr, WARPS: tl.constexpr):
    """h_t = a_t h_(t-1) + b_t over a tile, or h_t = a_t h_(t+1) + b_t.

    h and the next h are (WARPS, BLOCK_L), valid in the row of the first warp. Returns h_t, the next h, and the product
    of all a, likewise.
    """
    first: tl.constexpr = WARPS - 1 if REVERSE else 0
    end: tl.constexpr = 0 if REVERSE else ROWS - 1
    a, b = tl.associative_scan((a, b), 0, _join, reverse=REVERSE)
    is_end = tl.arange(0, ROWS)[:, None, None] == end
    product, state = tl.sum(tl.where(is_end, a, 0.0), 0), tl.sum(tl.where(is_end, b, 0.0), 0)  # (WARPS, BLOCK_L)
    warp = tl.arange(0, WARPS)[:, None]
    state += tl.where(warp == first, product * h, 0.0)
    product, state = tl.associative_scan((product, state), 0, _join, reverse=REVERSE)
    before = (warp + (1 if REVERSE else WARPS - 1)) % WARPS + tl.zeros(h.shape, tl.int32)
    state = tl.gather(state, before, 0)
    entering = tl.where(warp == first, h, state)
    return b + a * entering[None, :, :], state, tl.gather(product, before, 0)


@triton.jit
def _place(T, L, spans, span, BLOCK_L: tl.constexpr):
    """Of this program: sequence (int64, as offsets follow from it), span, its tokens, channels."""
    blocks = tl.cdiv(L, BLOCK_L)
    program = tl.program_id(0)
    number = program // blocks
    part = number % spans
    channels = (program % blocks) * BLOCK_L + tl.arange(0, BLOCK_L)
    return (number // spans).to(tl.int64), part, part * span, min((part + 1) * span, T), channels


@triton.jit
def _scan(
    x, i, r, decay, state, reset, y, last, starts, products, ends, T, L, tiles, spans, span,
    ROWS: tl.constexpr, WARPS: tl.constexpr, BLOCK_L: tl.constexpr, STAGES: tl.constexpr,
    ENDS: tl.constexpr, SAVE: tl.constexpr,
):  # fmt: skip
    """ENDS: the first of two passes, which writes products and ends (B, spans, L). SAVE: starts (B, tiles, L), h."""
    b, part, start, stop, channels = _place(T, L, spans, span, BLOCK_L)
    each = channels[None, :] + tl.zeros((WARPS, BLOCK_L), tl.int32)
    inside, first = each < L, (each < L) & (tl.arange(0, WARPS)[:, None] == 0)
    x, i, r, reset = x + b * T * L, i + b * T * L, r + b * T * L, reset + b * T
    rate = tl.load(decay + channels, channels < L, 0.0) * RATE
    h = tl.zeros((WARPS, BLOCK_L), tl.float32)
    product = h + 1.0
    if not ENDS:
        y += b * T * L
        h = tl.load(state + b * L + each, inside, 0.0)
        for before in range(part):
            at = (b * spans + before) * L + each
            h = h * tl.load(products + at, inside, 0.0) + tl.load(ends + at, inside, 0.0)
    for t in tl.range(start, stop, ROWS * WARPS, num_stages=STAGES):
        tokens = _tokens(t, ROWS, WARPS)
        a, norm, _, _ = _load_gates(r, reset, rate, tokens, channels, T, L)
        b_t = norm * _load(i, tokens, channels, T, L) * _load(x, tokens, channels, T, L)
        if SAVE:
            tl.store(starts + (b * tiles + t // (ROWS * WARPS)) * L + each, h, first)
        h_t, h, p = _scan_tile(a, b_t, h, False, ROWS, WARPS)
        if ENDS:
            product *= p
        else:
            _store(y, h_t, tokens, channels, T, L)
    if ENDS:
        at = (b * spans + part) * L + each
        tl.store(products + at, product, first)
        tl.store(ends + at, h, first)
    elif part == spans - 1:
        tl.store(last + b * L + each, h, first)


@triton.jit
def _scan_back(
    x, i, r, decay, reset, starts, dy, dlast, dx, di, dr, ddecay, dstate, products, ends, T, L, tiles, spans, span,
    ROWS: tl.constexpr, WARPS: tl.constexpr, BLOCK_L: tl.constexpr, STAGES: tl.constexpr, ENDS: tl.constexpr,
):  # fmt: skip
    """g_t = dy_t + a_(t+1) g_(t+1), the gradient of h_t, in reverse. ddecay: (B, spans, L), to be added up."""
    b, part, start, stop, channels = _place(T, L, spans, span, BLOCK_L)
    each = channels[None, :] + tl.zeros((WARPS, BLOCK_L), tl.int32)
    inside, first = each < L, (each < L) & (tl.arange(0, WARPS)[:, None] == WARPS - 1)
    r, reset, dy = r + b * T * L, reset + b * T, dy + b * T * L
    rate = tl.load(decay + channels, channels < L, 0.0) * RATE
    g = tl.zeros((WARPS, BLOCK_L), tl.float32)
    product, g_rate = g + 1.0, g
    if not ENDS:
        x, i, dx, di, dr = x + b * T * L, i + b * T * L, dx + b * T * L, di + b * T * L, dr + b * T * L
        g = tl.load(dlast + b * L + each, inside, 0.0)
        for back in range(spans - 1 - part):
            at = (b * spans + spans - 1 - back) * L + each
            g = g * tl.load(products + at, inside, 0.0) + tl.load(ends + at, inside, 0.0)
    count = tl.cdiv(stop - start, ROWS * WARPS)
    for back in tl.range(0, count, num_stages=STAGES):
        t = start + (count - 1 - back) * (ROWS * WARPS)
        tokens = _tokens(t, ROWS, WARPS)
        a_next, _, _, _ = _load_gates(r, reset, rate, tokens + 1, channels, T, L)  # 1 after the last token
        g_t, g, p = _scan_tile(a_next, _load(dy, tokens, channels, T, L), g, True, ROWS, WARPS)
        if ENDS:
            product *= p
        else:
            a, norm, r_t, begins = _load_gates(r, reset, rate, tokens, channels, T, L)
            x_t, i_t = _load(x, tokens, channels, T, L), _load(i, tokens, channels, T, L)
            h = tl.load(starts + (b * tiles + t // (ROWS * WARPS)) * L + each, inside, 0.0)
            h_t, _, _ = _scan_tile(a, norm * i_t * x_t, h, False, ROWS, WARPS)
            # h_t - b_t is a h_(t-1), and a^2 / norm minus the slope of norm in log a
            d_log = g_t * (h_t - norm * i_t * x_t - a * a / tl.maximum(norm, MIN_NORM) * i_t * x_t)
            d_log = tl.where(begins, 0.0, d_log)  # fused multiply-adds leave h_t - b_t a rounding error there
            g_rate += tl.sum(d_log * r_t, 0)
            _store(dx, g_t * norm * i_t, tokens, channels, T, L)
            _store(di, g_t * norm * x_t, tokens, channels, T, L)
            _store(dr, d_log * rate[None, None, :], tokens, channels, T, L)
    at = (b * spans + part) * L
    if ENDS:
        tl.store(products + at + each, product, first)
        tl.store(ends + at + each, g, first)
    else:
        tl.store(ddecay + at + channels, tl.sum(g_rate, 0) * RATE, channels < L)
        if part == 0:
            a, _ = _gates(tl.load(r + channels, channels < L, 0.0).to(tl.float32) * rate)
            tl.store(dstate + b * L + each, tl.where(tl.load(reset) != 0, 0.0, a[None, :] * g), first)


def _spans(programs: int, device: torch.device) -> int:
    """How many spans to split time into: 1 where every second multiprocessor has a program, else 2 programs for each.

    Splitting moves nearly twice the bytes, so that a GPU half full is as fast without.
    """
    if device.type != "cuda":
        return 1
    chip = torch.cuda.get_device_properties(device).multi_processor_count
    return 1 if 2 * programs >= chip else min(triton.cdiv(2 * chip, programs), MAX_SPANS)


class _Plan(NamedTuple):
    grid: tuple[int]
    sizes: dict[str, int]  # of the kernels

    @classmethod
    def of(cls, x: Tensor) -> _Plan:
        B, T, L = x.shape
        block = min(BLOCK_L, triton.next_power_of_2(L))
        tiles = triton.cdiv(T, ROWS * WARPS)
        programs = B * triton.cdiv(L, block)
        in_span = triton.cdiv(tiles, min(_spans(programs, x.device), tiles))
        spans = triton.cdiv(tiles, in_span)
        sizes = {"T": T, "L": L, "tiles": tiles, "spans": spans, "span": in_span * ROWS * WARPS}
        return cls((programs * spans,), {**sizes, "ROWS": ROWS, "WARPS": WARPS, "BLOCK_L": block, "num_warps": WARPS})


def _forward(inputs: tuple[Tensor, ...], save: bool) -> tuple[Tensor, Tensor, Tensor | None]:
    x, state = inputs[0], inputs[4]
    grid, sizes = _Plan.of(x)
    y, last = torch.empty_like(x), torch.empty_like(state)
    starts = state.new_empty(x.shape[0], sizes["tiles"], x.shape[2]) if save else None
    ends = state.new_empty(2, x.shape[0], sizes["spans"], x.shape[2])
    with torch.cuda.device_of(x):
        if sizes["spans"] > 1:
            _scan[grid](*inputs, None, None, None, *ends, **sizes, STAGES=STAGES, ENDS=True, SAVE=False)
        _scan[grid](*inputs, y, last, starts, *ends, **sizes, STAGES=STAGES, ENDS=False, SAVE=save)
    return y, last, starts


class _RGLRU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        y, last, starts = _forward(inputs, save=True)
        x, i, r, decay, _, reset = inputs
        ctx.save_for_backward(x, i, r, decay, reset, starts)
        return y, last

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, i, r, decay, reset, starts = ctx.saved_tensors
        grid, sizes = _Plan.of(x)
        dy, dlast = (grad.contiguous() for grad in grads)
        dx, di, dr, dstate = (torch.empty_like(tensor) for tensor in (x, i, r, dlast))
        ddecay, *ends = decay.new_empty(3, x.shape[0], sizes["spans"], x.shape[2])
        read = (x, i, r, decay, reset, starts, dy, dlast)
        with torch.cuda.device_of(x):
            if sizes["spans"] > 1:
                _scan_back[grid](*read, *5 * [None], *ends, **sizes, STAGES=STAGES_BACK, ENDS=True)
            _scan_back[grid](*read, dx, di, dr, ddecay, dstate, *ends, **sizes, STAGES=STAGES_BACK, ENDS=False)
        return dx, di, dr, ddecay.sum((0, 1)), dstate, None


def rg_lru(
    x: Tensor, input_gate: Tensor, recurrence_gate: Tensor, decay: Tensor, state: Tensor, reset: Tensor
) -> tuple[Tensor, Tensor]:
    """x and the gates may be float32, bfloat16 or float16, each on its own; all of it is computed in float32."""
    tensors = (x, input_gate, recurrence_gate, decay.float(), state.float(), reset.view(torch.uint8))
    inputs = tuple(tensor.contiguous() for tensor in tensors)
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in inputs):
        return _RGLRU.apply(*inputs)
    return _forward(inputs, save=False)[:2]
