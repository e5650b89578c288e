"""The recurrence on the CPU against the bandwidth of memory, and against the loops and scans of others."""

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
    """slow: rounds beside the peers, which take seconds."""
    return [row for L in widths for row in _bandwidth(T, L, rounds) + _others(T, L, slow)]


@torch.enable_grad()
def _bandwidth(T: int, L: int, rounds: int) -> list[Row]:
    given = inputs(1, T, L)
    x, size = given[0], f"T={T}, L={L}"
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
    kernel = rate(seconds["kernel"], forward / 1e9)

    def row(name: str, ours: Any, asked: Asked | None) -> Row:
        return Row(f"{name}, {size}", "GB/s", ours, add.name, peak, asked, predicted=peak.median)

    asked = Asked("at least", 0.75, 0.9)
    return [
        row("scan forward", rate(seconds["forward"], forward / 1e9), asked).explained(
            lambda: f"into a given output the kernel moves {kernel.median:.3g} GB/s; the rest is y's memory and checks"
        ),
        row("scan forward, the kernel into a given output", kernel, None).explained(),
        row(
            "scan forward and backward",
            rate(seconds["both"], (forward + backward) / 1e9),
            Asked("at least", 0.5, 0.75),
        ).explained(lambda: limits.shares(both)),
    ]


@torch.inference_mode()
def _others(T: int, L: int, rounds: int) -> list[Row]:
    """All of the RG-LRU against scans that are handed a and b, to the peers' advantage."""
    given = inputs(1, T, L)
    add, works, notes = limits.add(given[0].shape), *peers.scans(given, rg_lru(*given)[0])
    timers = {"add": add.timer, "ours": timer(lambda: rg_lru(*given))}
    timers |= {name: timer(work) for name, work in works.items() if name.endswith(peers.GIVEN)}
    seconds = in_turn(timers, rounds, warmup=1)
    predicted = T / (FORWARD * given[0].nbytes) * add.found(seconds["add"])
    fast, rows = rate(seconds["ours"], T), []
    for name, note in notes.items():
        peer = name + peers.GIVEN
        slow = rate(seconds[peer], T) if peer in seconds else None
        asked = Asked("at least", 50, 80) if name.endswith("_rnn_scan") else None
        title = f"scan forward beside {name}, T={T}, L={L}"
        rows.append(Row(title, "tokens/s", fast, peer, slow, asked, predicted, note=note).explained())
    return rows
