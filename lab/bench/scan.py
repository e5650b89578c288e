"""The recurrence on the CPU against the bandwidth of memory, and against the loop of transformers."""

from __future__ import annotations

import torch
from torch import Tensor

from lab.bench import limits, peers
from lab.bench.report import Asked, Row
from lab.bench.timing import in_turn, rate, timer
from lab.recurrence import rg_lru

FORWARD = 4  # arrays of (B, T, L): read x and both gates, write y
BACKWARD = 8  # read x, both gates, y and its gradient, write the gradients of x and of both gates
OF_ADD = Asked("at least", 0.75, 0.9)


def inputs(B: int, T: int, L: int, device: str = "cpu") -> peers.Given:
    """x, the gates and the decay of an RG-LRU, at random; a between 0.92 and 1."""
    generator = torch.Generator(device).manual_seed(0)
    x = torch.randn(B, T, L, device=device, generator=generator)
    i, r = (torch.rand(B, T, L, device=device, generator=generator) for _ in range(2))
    return x, i, r, torch.linspace(1e-4, 1e-2, L, device=device)


def rows(T: int = 16384, widths: tuple[int, ...] = (512, 2560), rounds: int = 15, slow: int = 3) -> list[Row]:
    """slow: rounds beside the peer, which takes seconds."""
    return [row for L in widths for row in _bandwidth(T, L, rounds) + _peer(T, L, slow)]


@torch.enable_grad()
def _bandwidth(T: int, L: int, rounds: int) -> list[Row]:
    given = inputs(1, T, L)
    add, grad = limits.add(given[0].shape), torch.randn_like(given[0])
    x, i, r, decay = leaves = [tensor.clone().requires_grad_() for tensor in given]

    def both() -> tuple[Tensor, ...]:
        return torch.autograd.grad(rg_lru(x, i, r, decay)[0], leaves, grad)

    timers = {"forward": timer(lambda: rg_lru(*given)), "forward and backward": timer(both)}
    seconds = in_turn(timers | {"add": add.timer}, rounds, warmup=5)
    peak, rows = rate(seconds["add"], add.work / 1e9), []
    for part, arrays in (("forward", FORWARD), ("forward and backward", FORWARD + BACKWARD)):
        ours = rate(seconds[part], arrays * x.nbytes / 1e9)
        rows.append(Row(f"scan {part}, T={T}, L={L}", "GB/s", ours, add.name, peak, OF_ADD, predicted=peak.median))
    return rows


@torch.inference_mode()
def _peer(T: int, L: int, rounds: int) -> list[Row]:
    """All of the RG-LRU against a scan that is handed a and b, to the peer's advantage."""
    given = inputs(1, T, L)
    add, (theirs, note) = limits.add(given[0].shape), peers.rnn_scan(given, rg_lru(*given)[0])
    timers = {"add": add.timer, "ours": timer(lambda: rg_lru(*given))}
    if theirs is not None:
        timers["theirs"] = timer(theirs)
    seconds = in_turn(timers, rounds, warmup=1)
    predicted = T / (FORWARD * given[0].nbytes) * add.found(seconds["add"])
    slow = rate(seconds["theirs"], T) if theirs is not None else None
    title, peer = f"scan forward beside {peers.RNN_SCAN}, T={T}, L={L}", f"{peers.RNN_SCAN}, a and b given"
    return [Row(title, "tokens/s", rate(seconds["ours"], T), peer, slow, Asked("at least", 50, 80), predicted, note)]
