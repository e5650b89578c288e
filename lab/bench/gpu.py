"""The figures of a GPU in one go: the recurrence by each backend, decoding, and throughput from one memory."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch

from lab.bench import limits, scan, throughput
from lab.bench.report import Asked, Row
from lab.bench.timing import each, in_turn, rate, timer
from lab.recurrence import backends, rg_lru

OF_COPY, OF_READING = Asked("at least", 0.5, 0.8), Asked("at most", 1.6, 1.2)
FULL: dict[str, Any] = dict(
    device="cuda",
    shapes=((8, 2048, 2560), (1, 16384, 2560)),
    preset="2b",
    lengths=(2048, 16384),
    budget=16e9,
    tokens=4096,
    rounds=9,
    product=8192,
)
DRY: dict[str, Any] = dict(
    device="cpu", shapes=((2, 16, 32),), preset="tiny", lengths=(32,), budget=4e4, tokens=40, rounds=3, product=64
)


def rows(
    device: str,
    shapes: tuple[tuple[int, int, int], ...],
    preset: str,
    lengths: tuple[int, ...],
    budget: float,
    tokens: int,
    rounds: int,
    product: int,
) -> list[Row]:
    """shapes: (B, T, L) of the recurrence. budget: of `throughput`; 16 GB is the memory of the paper's TPU v5e.

    tokens: of `latency`. product: the size of the matrix product.
    """
    return [
        *(row for shape in shapes for row in _scans(device, shape, rounds)),
        *_decode(device, preset, rounds),
        *throughput.latency(preset, tokens, device, torch.bfloat16)[:-1],  # the limit is that of decoding
        *throughput.rows(preset, lengths, budget, 4, rounds, device, torch.bfloat16, product),
    ]


@torch.enable_grad()
def _scans(device: str, shape: tuple[int, int, int], rounds: int) -> list[Row]:
    """Each backend forward, and forward and backward, all in float32."""
    given = scan.inputs(*shape, device)
    copy, grad = limits.copy(given[0]), torch.randn_like(given[0])
    leaves = [tensor.clone().requires_grad_() for tensor in given]
    reasons, usable = {"auto": ""}, ["auto"]
    for backend in backends(given[0]):
        if backend.op == "rg_lru" and backend.name != "reference":  # that one is a Python loop over T
            reasons[backend.name] = backend.reason
            usable += [backend.name] * backend.usable

    def both(name: str) -> None:
        x, i, r, decay = leaves
        torch.autograd.grad(rg_lru(x, i, r, decay, backend=name)[0], leaves, grad)

    timers = {"copy": copy.timer}
    for name in usable:
        timers[f"forward {name}"] = timer(partial(rg_lru, *given, backend=name), device)
        timers[f"forward and backward {name}"] = timer(partial(both, name), device)
    seconds = in_turn(timers, rounds)

    peak, rows = rate(seconds["copy"], copy.work / 1e9), []
    for part, arrays in (("forward", scan.FORWARD), ("forward and backward", scan.FORWARD + scan.BACKWARD)):
        for name, reason in reasons.items():
            which, moved = f"{part} {name}", arrays * given[0].nbytes / 1e9
            found = rate(seconds[which], moved) if which in seconds else None
            title = f"rg_lru {part} {shape} float32, {name}"
            rows.append(Row(title, "GB/s", found, "copy", peak, OF_COPY, predicted=peak.median, note=reason))
    return rows


@torch.inference_mode()
def _decode(device: str, preset: str, rounds: int, steps: int = 8) -> list[Row]:
    """One story in bfloat16, its window full, against reading all weights once at the bandwidth of a copy."""
    model = throughput.models(preset, device, torch.bfloat16)[0]
    work = throughput.sampling(model, 1, model.config.window, steps)
    read = limits.reading(limits.weight_bytes(model), device)
    seconds = in_turn({"token": timer(work, device, steps), "read": read.timer}, rounds)
    predicted = throughput.floor(model, 1, model.config.window, read.found(seconds["read"]), math.inf)
    ours, once = each(seconds["token"]), each(seconds["read"])
    name = f"decode, {preset} in bfloat16, batch 1: time per token"
    row = Row(name, "ms", ours, "its weights read once", once, OF_READING, 1e3 * predicted)
    return [row, read.row(seconds["read"])]
