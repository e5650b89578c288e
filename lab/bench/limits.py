"""What the machine can do at most, measured beside what is judged by it: bandwidths and a rate of flops."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from lab.bench.report import Row
from lab.bench.timing import Timer, rate, timer
from lab.language import Griffin
from lab.recurrence.compiled import KERNEL, jit

EVICTED = 1 << 29  # bytes; the third level of a cache is of 8 to 400 MB


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


@jit(**KERNEL)
def _pass(words, found):
    """The exclusive or of all words (N,) uint64, to found (1,): it takes no time beside reading them."""
    total = np.uint64(0)
    for n in range(words.size):
        total ^= words[n]
    found[0] = total


def read(*arrays: np.ndarray, steps: int = 10) -> Limit:
    """All bytes of the arrays read once by one thread, as a step of decoding has it, and nothing done with them."""
    words, found = _words(arrays), np.zeros(1, np.uint64)

    def run() -> None:
        for _ in range(steps):
            _pass(words, found)

    return Limit(f"{words.nbytes / 1e6:.3g} MB read", timer(run, steps=steps), words.nbytes, "GB/s")


def cold(run: Timer, other: np.ndarray) -> Timer:
    """What is timed, from memory: other words are read before it, more than a cache holds."""
    found = np.zeros(1, np.uint64)

    def from_memory() -> float:
        _pass(other, found)
        return run()

    return from_memory


def reading(bytes_: float, device: str = "cpu") -> Limit:
    """The bandwidth of what is mostly read, over so many bytes: a copy on a GPU."""
    if device == "cuda":
        return copy(torch.randn(int(bytes_ // 8), device=device))
    return read(np.ones(int(bytes_ // 8), np.uint64), steps=1)


def _words(arrays: tuple[np.ndarray, ...]) -> np.ndarray:
    """A copy of all bytes, to whole words."""
    parts = b"".join(array.tobytes() for array in arrays)
    return np.frombuffer(parts[: len(parts) // 8 * 8], np.uint64).copy()


def weight_bytes(model: nn.Module) -> int:
    return sum(parameter.nbytes for parameter in model.parameters())


def flops(model: nn.Module, tokens: int, keys: float) -> float:
    """Of matrix products in a forward of `tokens` tokens, a query seeing `keys` keys on average; logits included."""
    config: Any = model.config
    others = ("conv_weight", "bias")
    matrices = sum(p.numel() for name, p in model.named_parameters() if p.ndim > 1 and not name.endswith(others))
    attention = config.blocks.count("attention") if isinstance(model, Griffin) else config.layers
    return tokens * (2 * matrices + 4 * attention * config.heads * config.head_dim * keys)
