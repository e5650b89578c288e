"""The recurrence on the CPU against the bandwidth of memory, and against the loop of transformers."""

from __future__ import annotations

from typing import Any

import torch

from lab.bench import limits, peers
from lab.bench.report import Asked, Row
from lab.bench.timing import in_turn, rate, timer
from lab.recurrence import cpu, rg_lru

FORWARD = 4  # arrays of (B, T, L): read x and both gates, write y
BACKWARD = 8  # read x, both gates, y and its gradient, write the gradients of x and of both gates


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
    x = given[0]
    forward, backward = FORWARD * x.nbytes, BACKWARD * x.nbytes
    y, state, reset = torch.empty_like(x), torch.zeros(1, L), torch.zeros(1, T, dtype=torch.bool)
    grad, leaves = torch.randn_like(x), [tensor.clone().requires_grad_() for tensor in given]
    add = limits.add(x.shape)

    def both() -> Any:
        y, _ = rg_lru(leaves[0], leaves[1], leaves[2], leaves[3])
        return torch.autograd.grad(y, leaves, grad)

    seconds = in_turn(
        {
            "add": add.timer,
            "forward": timer(lambda: rg_lru(*given)),
            "kernel": timer(lambda: cpu._run(cpu._scan, *given, state, reset, y)),
            "both": timer(both),
        },
        rounds,
        warmup=5,
    )
    peak = rate(seconds["add"], add.work / 1e9)

    def row(name: str, part: str, moved: float, asked: Asked | None) -> Row:
        ours = rate(seconds[part], moved / 1e9)
        return Row(f"{name}, T={T}, L={L}", "GB/s", ours, add.name, peak, asked, predicted=peak.median)

    return [
        row("scan forward", "forward", forward, Asked("at least", 0.75, 0.9)),
        row("scan forward, the kernel into a given output", "kernel", forward, None),
        row("scan forward and backward", "both", forward + backward, Asked("at least", 0.5, 0.75)),
    ]


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
