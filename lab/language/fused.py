"""gelu(gate) * value, the middle of an MLP and of a recurrent block: in one pass over memory where nothing learns."""

from __future__ import annotations

import numpy as np
import torch
from numba import njit
from torch import Tensor
from torch.nn import functional as F

from lab.recurrence.compiled import KERNEL, compiling, in_threads, jit
from lab.recurrence.cpu import FEW, ONE, SMALL, ZERO, decay_and_norm

GELU, CUBE = np.float32(2 * 0.7978845608), np.float32(0.044715)  # gelu_tanh(v) = v sigmoid(GELU (v + CUBE v^3))


@njit(inline="always")
def sigmoid(v):
    e, _ = decay_and_norm(-abs(v))
    return (ONE if v >= ZERO else e) / (ONE + e)


@njit(inline="always")
def gelu(v):
    return v * sigmoid(GELU * (v + CUBE * v * v * v))


@jit(**KERNEL)
def _gated(worker, workers, strides, gate, value, y):
    """Flat gate and value, rows of which begin at multiples of their strides, to y (N, W)."""
    N, W = y.shape
    for n in range(worker, N, workers):
        out, first, second = y[n], np.uintp(n * strides[0]), np.uintp(n * strides[1])
        for c in range(W):
            out[c] = gelu(gate[first + np.uintp(c)]) * value[second + np.uintp(c)]


def gated(gate: Tensor, value: Tensor) -> Tensor:
    """gelu_tanh(gate) * value, all of one shape (..., W)."""
    by_torch = torch.is_grad_enabled() or torch.compiler.is_compiling() or gate.numel() < FEW
    if by_torch or any(part.device.type != "cpu" or part.dtype != torch.float32 for part in (gate, value)):
        return F.gelu(gate, approximate="tanh") * value
    y, W = torch.empty(gate.shape), gate.shape[-1]
    rows = [part.reshape(-1, W) for part in (gate, value)]
    flat = [part.as_strided(((len(part) - 1) * part.stride(0) + W,), (1,)) for part in rows]
    arrays = np.array([part.stride(0) for part in rows]), *(part.numpy() for part in flat), y.view(-1, W).numpy()
    with compiling("an MLP's gate", _gated):
        in_threads(_gated, torch.get_num_threads() if y.numel() >= SMALL else 1, *arrays)
    return y
