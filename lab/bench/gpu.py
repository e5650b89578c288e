"""The figures of a GPU in one go: the recurrence by each backend, decoding, throughput from one memory, training."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch

from lab import machine
from lab.bench import limits, scan, throughput
from lab.bench.report import Asked, Row
from lab.bench.timing import Spread, each, exactly, in_turn, rate, timer
from lab.language import Griffin, GriffinConfig
from lab.recurrence import backends, rg_lru

SECONDS = 60.0  # of training, at most: a GPU is lent for minutes, and a step has as many pieces as fit
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
    training="paper-2b",
    steps=50,
)
DRY: dict[str, Any] = dict(
    device="cpu",
    shapes=((2, 16, 32),),
    preset="tiny",
    lengths=(32,),
    budget=4e4,
    tokens=40,
    rounds=3,
    product=64,
    training="tiny",
    steps=3,
)


def parts(
    device: str,
    shapes: tuple[tuple[int, int, int], ...],
    preset: str,
    lengths: tuple[int, ...],
    budget: float,
    tokens: int,
    rounds: int,
    product: int,
    training: str,
    steps: int,
) -> Iterator[list[Row]]:
    """Part by part, so that what ends a bench early takes no figure along that was there.

    shapes: (B, T, L) of the recurrence. budget: of `throughput`; 16 GB is the memory of the paper's TPU v5e. tokens: of
    `latency`. product: the size of the matrix product. training: a preset of `lab train`, for so many steps at most.
    """
    for shape in shapes:
        yield _scans(device, shape, rounds)
    yield _decode(device, preset, rounds)
    yield throughput.latency(preset, tokens, device, torch.bfloat16)[:-1]  # the limit is that of decoding
    yield throughput.rows(preset, lengths, budget, 4, rounds, device, torch.bfloat16, product)
    yield _train(device, training, steps, product)


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


@torch.enable_grad()
def _train(device: str, preset: str, steps: int, product: int) -> list[Row]:
    """Steps of `lab train griffin` whose blocks are computed again, of the most pieces that fit, up to the preset's."""
    from lab.train import language
    from lab.train.compute import checkpointing
    from lab.train.loop import Compute, Trainable

    scale = language.scale_of(preset)
    with torch.device(device):
        model = Griffin(GriffinConfig.preset(scale.shapes)).train()
    length, most, _ = scale.of(None, None, None)
    stream = language.TokenStream.of([np.random.default_rng(0).integers(0, model.vocabulary, 20 * length)])
    with checkpointing(model):
        fabric = Compute(progress=False).fabric(mixed=True)
        player = Trainable(fabric, model, scale.schedule, language.loss_of)

        def step(size: int) -> None:
            player.step(0, [fabric.to_device(language.batches(stream, size, length, 0)(0))])

        size = largest(step, most)
        if not size:
            note = f"a step of one piece of {length} tokens does not fit"
            return [Row(f"training, {preset}", "tokens/s", None, note=note)]
        multiply = limits.matmul(product, torch.bfloat16, device)
        steps = min(steps, max(3, int(SECONDS / timer(partial(step, size), device)())))
        timers = {"step": timer(partial(step, size), device), "product": multiply.timer}
        seconds = in_turn(timers, steps, warmup=1)
    operations = 6 * sum(weights.numel() for weights in model.parameters())  # a token, as of the log of a run
    found, measured = rate(seconds["step"], size * length), multiply.found(seconds["product"])
    known = machine.peak() if device == "cuda" else None
    peak, whose = (known, "the maker's peak") if known else (measured, f"a {multiply.name}")
    used = Spread(*(100 * operations * value / peak for value in found))
    note = f"of {whose}, {peak / 1e12:.3g} TFLOP/s; what is computed again does not count"
    return [
        Row(f"training, {preset}", "tokens/s", found, predicted=measured / operations, note=f"{steps} steps"),
        Row(f"training, {preset}: MFU", "%", used, note=note),
        Row(f"training, {preset}: largest batch", f"pieces of {length} tokens", exactly(size), note=f"of 1 to {most}"),
    ]


def largest(step: Callable[[int], None], most: int) -> int:
    """The largest of 1, 2, 4, ... up to `most` for which `step` has memory; 0 where it has none for one."""
    found, size = 0, 1
    while size <= most:
        try:
            step(size)
        except torch.OutOfMemoryError:
            break
        found, size = size, 2 * size
    torch.cuda.empty_cache()
    return found
