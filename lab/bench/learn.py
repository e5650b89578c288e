"""`lab train griffin` as it runs: steps of the optimiser beside transformers', flat memory, and how soon it goes on."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from lab.bench import peers
from lab.bench.report import Asked, Row
from lab.bench.timing import exactly, in_turn, rate, spread, timer
from lab.language import Griffin, GriffinConfig

FASTER, FLAT, RESUMED = Asked("at least", 3, 5), Asked("at most", 5, 0), Asked("at most", 5, 1)
_WARM = 0.25  # share of the steps after which memory is to stay


def rows(
    preset: str = "laptop", lengths: tuple[int, ...] = (2048, 6000), rounds: int = 3, steps: int = 200, piece: int = 512
) -> list[Row]:
    """Tokens a second of whole steps at the preset's tokens a step, in pieces of each length; resident memory over
    `steps` of them, each of one `piece` of so many tokens, as those of a whole step would take minutes; and the
    seconds from the call of a run that goes on to its first step."""
    from lab.train.language import PRESETS

    scale = PRESETS[preset]
    pair = peers.pair(GriffinConfig.preset(scale.shapes, rope=True))
    found = [_speed(pair, length, scale.of(length, None, None)[1], rounds) for length in lengths]
    with TemporaryDirectory() as folder:
        return found + _run(preset, min(piece, lengths[0]), steps, Path(folder))


def _speed(pair: peers.Pair, length: int, size: int, rounds: int) -> Row:
    """Batch, forward, loss, backward, clipping and AdamW of `size` pieces, as both would train."""
    from lab.train import language
    from lab.train.loop import Compute, Trainable

    batches, schedule = _batches(pair.ours.config.vocabulary, length, size), language.PRESETS["laptop"].schedule
    player = Trainable(Compute(progress=False).fabric(mixed=False), pair.ours.train(), schedule, language.loss_of)
    work = {"ours": timer(lambda: player.step(0, [batches(0)]))}
    if pair.theirs is not None:
        step = partial(_their_step, pair.theirs.train(), torch.optim.AdamW(pair.theirs.parameters()), batches)
        work["theirs"] = timer(step)
    with torch.enable_grad():
        seconds = in_turn(work, rounds, warmup=1)
    theirs = rate(seconds["theirs"], size * length) if "theirs" in seconds else None
    name = f"steps of `lab train griffin`, {size} pieces of {length} tokens"
    ours = rate(seconds["ours"], size * length)
    return Row(name, "tokens/s", ours, peers.RECURRENTGEMMA, theirs, FASTER, note=f"float32; {pair.note}")


def _batches(vocabulary: int, length: int, size: int) -> Any:
    from lab.train import language

    stream = language.TokenStream.of([np.random.default_rng(0).integers(0, vocabulary, 20 * length)])
    return language.batches(stream, size, length, 0)


def _their_step(model: nn.Module, optimiser: torch.optim.Optimizer, batches: Any) -> None:
    tokens, targets, _ = batches(0)
    logits = model(tokens, use_cache=False).logits
    optimiser.zero_grad()
    F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), ignore_index=-100).backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimiser.step()


def _run(preset: str, length: int, steps: int, folder: Path) -> list[Row]:
    """A run of `fit`, and one more step of it."""
    from lab.train import language
    from lab.train.loop import Compute, fit

    scale = language.PRESETS[preset]
    batches = _batches(GriffinConfig.preset(scale.shapes).vocabulary, length, 1)
    asked: list[float] = []

    def batch(step: int) -> Any:
        asked.append(time.perf_counter())
        return batches(step)

    def trained(steps: int) -> None:
        compute = Compute(progress=False, log_every=1)
        network = Griffin(GriffinConfig.preset(scale.shapes))
        fit(network, language.loss_of, batch, schedule=scale.schedule.lasting(steps), folder=folder, compute=compute)

    with torch.enable_grad():
        trained(steps)
        began = time.perf_counter()
        asked.clear()
        trained(steps + 1)
    lines = [line.split(",") for line in (folder / "log.csv").read_text().splitlines()]
    memory = [1e3 * float(value) for step, _, name, value in lines if name == "memory_gb" and int(step) <= steps]
    after = memory[int(_WARM * steps) :]
    note = f"from {after[0]:.0f} MB at step {int(_WARM * steps) + 1}, in pieces of {length} tokens"
    return [
        Row(f"resident memory, most above that over {steps} steps", "MB", _above(after), asked=FLAT, note=note),
        Row("a run that goes on, to its first step", "s", exactly(asked[0] - began), asked=RESUMED),
    ]


def _above(memory: list[float]) -> Any:
    return exactly(max(0.0, spread(memory[-len(memory) // 4 :]).median - memory[0]))
