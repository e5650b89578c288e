"""What the machine can do at most, measured beside what is judged by it: bandwidths and a rate of flops."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from lab.bench.report import Row
from lab.bench.timing import Timer, rate, timer
from lab.language import Griffin
from lab.recurrence.compiled import SUMS, jit
from lab.recurrence.cpu import ZERO


class Limit(NamedTuple):
    """A way to keep the machine busy, and the bytes or flops of one go."""

    name: str
    timer: Timer
    work: float
    unit: str

    def found(self, seconds: list[float]) -> float:
        """Bytes or flops a second."""
        return rate(seconds, self.work).median

    def row(self, seconds: list[float]) -> Row:
        return Row(f"limit: {self.name}", self.unit, rate(seconds, self.work / 1e9))


def add(shape: tuple[int, ...]) -> Limit:
    """torch.add(a, b, out=c) in float32 on the CPU."""
    a, b, c = torch.randn(shape), torch.randn(shape), torch.empty(shape)
    return Limit("torch.add(a, b, out=c)", timer(lambda: torch.add(a, b, out=c)), 3 * c.nbytes, "GB/s")


def copy(like: Tensor) -> Limit:
    """b.copy_(a), bytes read and bytes written both counted."""
    other = torch.empty_like(like)
    return Limit("copy", timer(lambda: other.copy_(like), like.device.type), 2 * like.nbytes, "GB/s")


def matmul(size: int, dtype: torch.dtype = torch.float32, device: str = "cpu") -> Limit:
    """A square matrix product of random numbers."""
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    c = torch.empty_like(a)
    run = timer(lambda: torch.mm(a, b, out=c), device)
    return Limit(f"matrix product of {size}, {str(dtype).removeprefix('torch.')}", run, 2 * size**3, "GFLOP/s")


@jit(**SUMS)
def _pass(weights, x, y):
    """y (N,) = W x, W (N, K)."""
    for n in range(len(weights)):
        row, total = weights[n], ZERO
        for k in range(x.size):
            total += np.float32(row[k]) * x[k]
        y[n] = total


def matvec(weights: np.ndarray, width: int, steps: int = 10) -> Limit:
    """Read all weights of a step once, as products with a vector: float32 or int8, flat, taken as rows of `width`.

    By one thread, as a step has it.
    """
    matrix = weights.reshape(-1, width)
    x, y = np.random.default_rng(0).standard_normal(width, np.float32), np.zeros(len(matrix), np.float32)

    def run() -> None:
        for _ in range(steps):
            _pass(matrix, x, y)

    return Limit(f"matrix-vector, {weights.dtype}", timer(run, steps=steps), weights.nbytes, "GB/s")


def reading(bytes_: float, device: str = "cpu") -> Limit:
    """The bandwidth of what is mostly read: a copy on a GPU, products with a vector on the CPU, over so many bytes."""
    if device == "cuda":
        return copy(torch.randn(int(bytes_ // 8), device=device))
    return matvec(np.ones(int(bytes_ // 1024) * 256, np.float32), 256, steps=1)


def weight_bytes(model: nn.Module) -> int:
    return sum(parameter.nbytes for parameter in model.parameters())


def flops(model: nn.Module, tokens: int, keys: float) -> float:
    """Of matrix products in a forward of `tokens` tokens, a query seeing `keys` keys on average; logits included."""
    config: Any = model.config
    others = ("conv_weight", "bias")
    matrices = sum(p.numel() for name, p in model.named_parameters() if p.ndim > 1 and not name.endswith(others))
    attention = config.blocks.count("attention") if isinstance(model, Griffin) else config.layers
    return tokens * (2 * matrices + 4 * attention * config.heads * config.head_dim * keys)
