"""RG-LRU and the causal convolution on the CPU: numba kernels that pass over memory once, both ways.

A time step is a row of L contiguous channels. Sequences and ranges of channels are divided among threads, each of
which goes through the whole of T: a recurrence costs what reading its inputs costs. `a` and sqrt(1 - a^2) are computed
on the way, and again in the backward: two (B, T, L) arrays less to store.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import gcd, sqrt

import numpy as np
import torch
from numba import njit
from torch import Tensor

from lab.recurrence import reference
from lab.recurrence.autograd import KERNELS, complete, custom_op, fresh, refuse, scan
from lab.recurrence.compiled import FAST, KERNEL, in_threads, jit
from lab.recurrence.reference import DECAY_POWER, MAX_SQRT_SLOPE, next_taps

SMALL = 1 << 16  # elements: below, starting a second thread (50 us) costs more than it saves
FEW = 1 << 14  # elements: below, the way to a kernel and back costs more than torch's passes over them
MIN_CHANNELS = 1024  # a page: with 64 `lab bench scan` tells 25 GB/s of 512 channels, with a page and one thread 32

ZERO, ONE, TWO, HALF = np.float32(0), np.float32(1), np.float32(2), np.float32(0.5)
POWER, MIN_NORM = np.float32(DECAY_POWER), np.float32(0.5 / MAX_SQRT_SLOPE)
LOG2E, LN2_HIGH, LN2_LOW = np.float32(1.44269504), np.float32(0.693145752), np.float32(1.42860677e-6)
LOWEST = np.float32(-87)  # exp(-87) = 1.6e-38, the smallest normal float32
# (expm1(r) - r) / r^2 on |r| <= ln(2) / 2 by least squares on Chebyshev nodes: as near as Taylor with one term more
C2, C3, C4, C5, C6 = (np.float32(c) for c in (0.5, 0.1666657, 0.041666448, 0.008364383, 0.0013935454))


@njit(fastmath=FAST, inline="always")
def decay_and_norm(log_a):
    """exp(v) and sqrt(1 - exp(2 v)) for v <= 0, in arithmetic that LLVM can vectorise.

    e = expm1(v) gives both: a = 1 + e and 1 - a^2 = -e (2 + e). It is a polynomial, as calls of libm are not
    vectorised and take several times as long as the memory traffic.
    """
    v = LOWEST if log_a < LOWEST else log_a  # a NaN passes
    n = np.int32(v * LOG2E - HALF)  # rounds: truncation is towards 0, and v <= 0
    r = v - np.float32(n) * LN2_HIGH - np.float32(n) * LN2_LOW  # |r| <= ln(2) / 2
    p = r + r * r * (C2 + r * (C3 + r * (C4 + r * (C5 + r * C6))))  # expm1(r) to 3e-8 of itself
    s = np.int32((n + np.int32(127)) << np.int32(23)).view(np.float32)  # 2^n
    e = s * p + (s - ONE)
    return s * p + s, sqrt(-e * (TWO + e))


# A kernel does every `workers`-th of B * parts tasks, a task being one sequence and one part of its
# channels. Indices are unsigned or counted from 0: one that numba thinks may be negative is not vectorised (5x).


@jit(**KERNEL)
def _scan(worker, workers, parts, x, i, r, decay, h0, reset, y):
    B, T, L = x.shape
    # Flat arrays: on a few hundred channels, to slice five rows at each token is no small part of the work.
    flat_x, flat_i, flat_r, flat_y = x.reshape(-1), i.reshape(-1), r.reshape(-1), y.reshape(-1)
    for task in range(worker, B * parts, workers):
        b, first, last = task // parts, L * (task % parts) // parts, L * (task % parts + 1) // parts
        channels, rate, h = np.uintp(last - first), -POWER * decay[first:last], h0[b, first:last].copy()
        for t in range(T):
            row = np.uintp((b * T + t) * L + first)
            if reset[b, t]:
                for c in range(channels):
                    at = row + np.uintp(c)
                    h[c] = flat_i[at] * flat_x[at]
                    flat_y[at] = h[c]
            else:
                for c in range(channels):
                    at = row + np.uintp(c)
                    a, norm = decay_and_norm(flat_r[at] * rate[c])
                    now = a * h[c] + norm * (flat_i[at] * flat_x[at])
                    h[c] = now
                    flat_y[at] = now


@jit(**KERNEL)
def _scan_back(worker, workers, parts, x, i, r, decay, h0, reset, y, gy, dx, di, dr, ddecay, carry):
    """In reverse, within a row too: the hardware prefetches along one direction, and with rows forward, on 512
    channels, the pass took 1.3 times as long."""
    B, T, L = x.shape
    for task in range(worker, B * parts, workers):
        b, at = task // parts, slice(L * (task % parts) // parts, L * (task % parts + 1) // parts)
        rate, g_h, g_rate = -POWER * decay[at], carry[b, at], ddecay[b, at]
        last = np.uintp(rate.size - 1)
        for t in range(T - 1, -1, -1):
            x_t, i_t, r_t, gy_t = x[b, t, at], i[b, t, at], r[b, t, at], gy[b, t, at]
            dx_t, di_t, dr_t = dx[b, t, at], di[b, t, at], dr[b, t, at]
            if reset[b, t]:
                for c in range(rate.size):
                    g = gy_t[c] + g_h[c]
                    dx_t[c], di_t[c], dr_t[c], g_h[c] = g * i_t[c], g * x_t[c], ZERO, ZERO
            else:
                before = h0[b, at] if t == 0 else y[b, t - 1, at]
                for back in range(rate.size):
                    c = last - np.uintp(back)
                    a, norm = decay_and_norm(r_t[c] * rate[c])
                    g = gy_t[c] + g_h[c]
                    slope = a / (norm if norm > MIN_NORM else MIN_NORM)  # d norm / d log a = -a^2 / norm
                    entered, g_norm = i_t[c] * x_t[c], g * norm
                    g_log = g * a * (before[c] - slope * entered)
                    dx_t[c], di_t[c], dr_t[c] = g_norm * i_t[c], g_norm * x_t[c], g_log * rate[c]
                    g_h[c] = g * a
                    g_rate[c] += g_log * r_t[c]
        for c in range(rate.size):
            g_rate[c] *= -POWER


@jit(**KERNEL)
def _conv(worker, workers, parts, x, weight, bias, carried, reset, y):
    """weight (W, L). `reach` counts the tokens since the reset: the number of taps that may look back."""
    (B, T, L), last = x.shape, weight.shape[0] - 1
    for task in range(worker, B * parts, workers):
        b, at = task // parts, slice(L * (task % parts) // parts, L * (task % parts + 1) // parts)
        shift, newest, reach = bias[at], weight[last, at], last
        for t in range(T):
            reach = 0 if reset[b, t] else min(reach + 1, last)
            x_t, y_t = x[b, t, at], y[b, t, at]
            for c in range(shift.size):
                y_t[c] = shift[c] + newest[c] * x_t[c]
            for back in range(1, reach + 1):
                w = weight[last - back, at]
                tap = x[b, t - back, at] if back <= t else carried[b, last + t - back, at]
                for c in range(shift.size):
                    y_t[c] += w[c] * tap[c]


@jit(**KERNEL)
def _conv_back(worker, workers, parts, x, weight, carried, reset, gy, dx, dcarried, dweight, dbias):
    """Each output hands its gradient to the taps it saw. All that starts with d comes in as 0."""
    (B, T, L), last = x.shape, weight.shape[0] - 1
    for task in range(worker, B * parts, workers):
        b, at = task // parts, slice(L * (task % parts) // parts, L * (task % parts + 1) // parts)
        g_bias, reach = dbias[b, at], last
        for t in range(T):
            reach = 0 if reset[b, t] else min(reach + 1, last)
            g_t = gy[b, t, at]
            for c in range(g_bias.size):
                g_bias[c] += g_t[c]
            for back in range(reach + 1):
                w, g_w = weight[last - back, at], dweight[b, last - back, at]
                if back <= t:
                    tap, g_tap = x[b, t - back, at], dx[b, t - back, at]
                else:
                    tap, g_tap = carried[b, last + t - back, at], dcarried[b, last + t - back, at]
                for c in range(g_bias.size):
                    g_w[c] += g_t[c] * tap[c]
                    g_tap[c] += g_t[c] * w[c]


def _run(kernel: Callable[..., None], *tensors: Tensor) -> None:
    """The kernel on as many threads as torch would use; the first tensor is (B, T, L)."""
    B, _, L = tensors[0].shape
    most = torch.get_num_threads() if tensors[0].numel() >= SMALL else 1
    parts = min(most // gcd(B, most), -(-L // MIN_CHANNELS))  # the tasks divide by the threads where they can
    in_threads(kernel, min(most, B * parts), parts, *(tensor.detach().numpy() for tensor in tensors))


def _flat(*tensors: Tensor) -> list[Tensor]:
    """Contiguous, and float32 unless bool."""
    return [t.to(t.dtype if t.dtype == torch.bool else torch.float32).contiguous() for t in tensors]


KERNELS["numba"] = partial(_run, _scan), partial(_run, _scan_back)


@custom_op("causal_conv1d")
def _convolve(x: Tensor, weight: Tensor, bias: Tensor, state: Tensor, reset: Tensor) -> Tensor:
    """x (B, T, L), weight (W, L), bias (L,), state (B, W - 1, L), reset (B, T)."""
    y = fresh(x)
    _run(_conv, x, weight, bias, state, reset, y)
    return y


@custom_op("causal_conv1d_backward")
def _convolve_back(
    x: Tensor, weight: Tensor, bias: Tensor, state: Tensor, reset: Tensor, dy: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    dx, dstate = torch.zeros_like(x), torch.zeros_like(state)
    dweight, dbias = x.new_zeros(len(x), *weight.shape), x.new_zeros(len(x), *bias.shape)
    _run(_conv_back, x, weight, state, reset, dy.contiguous(), dx, dstate, dweight, dbias)
    return dx, dweight.sum(0), dbias.sum(0), dstate


complete(
    "causal_conv1d",
    lambda x, *rest: torch.empty_like(x),
    lambda ctx, dy: (*_convolve_back(*ctx.saved_tensors, dy), None),
    lambda ctx, inputs, output: ctx.save_for_backward(*inputs),
)
complete("causal_conv1d_backward", lambda *tensors: tuple(map(torch.empty_like, tensors[:4])), refuse)


def rg_lru(x: Tensor, *rest: Tensor) -> tuple[Tensor, Tensor]:
    """input_gate, recurrence_gate (B, T, L), decay (L,), state (B, L), reset (B, T)."""
    if x.shape[1] == 1 and x.numel() < FEW:
        return reference.rg_lru(x, *rest)
    y, last = scan("numba", *_flat(x, *rest))
    return y.to(x.dtype), last


def causal_conv1d(x: Tensor, weight: Tensor, bias: Tensor, state: Tensor, reset: Tensor) -> tuple[Tensor, Tensor]:
    if x.shape[1] == 1 and x.numel() < FEW:
        taps = torch.cat([state.to(x.dtype).masked_fill(reset[..., None], 0), x], 1)  # (B, W, L)
        return (taps * weight.t()).sum(1, keepdim=True).add(bias).to(x.dtype), taps[:, 1:]
    # Copies: numpy's view of a parameter would pin memory that FSDP frees after each pass.
    y = _convolve(*_flat(x, weight.t().clone(), bias.clone(), state, reset))
    return y.to(x.dtype), next_taps(x, state, reset)
