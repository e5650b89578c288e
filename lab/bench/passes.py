"""Whole sequences on the CPU, beside transformers with the same weights: reading a prompt, and a step of training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from lab.bench import limits, peers, scan
from lab.bench.report import Asked, Row
from lab.bench.timing import in_turn, rate, timer
from lab.language import Griffin, GriffinConfig

CONV = 2  # arrays of (B, T, L) that the causal convolution reads and writes


def prefill(preset: str = "lab", T: int = 2048, rounds: int = 5) -> list[Row]:
    """A prompt of T tokens up to the logits of the next, and no others, as both compute it for `generate`."""
    pair = peers.pair(GriffinConfig.preset(preset, rope=True))
    given = pair.tokens(1, T)

    @torch.inference_mode()
    def ours() -> None:
        pair.ours(given, last=True)

    @torch.inference_mode()
    def theirs() -> None:
        pair.theirs(given, use_cache=True, logits_to_keep=1)

    moved = scan.FORWARD + CONV
    return _beside(f"prefill of {T} tokens", pair, given, ours, theirs, 1, moved, rounds, Asked("at least", 2.5, 4))


def train(preset: str = "lab", B: int = 4, T: int = 2048, rounds: int = 3) -> list[Row]:
    """Forward, cross-entropy and backward of B sequences of T tokens; no optimizer on either side."""
    pair = peers.pair(GriffinConfig.preset(preset, rope=True))
    given = pair.tokens(B, T)

    @torch.enable_grad()
    def step(model: Any, forward: Callable[[], Tensor]) -> None:
        loss = F.cross_entropy(forward()[:, :-1].flatten(0, 1), given[:, 1:].flatten())
        model.zero_grad()
        loss.backward()

    return _beside(
        f"training step, {B} sequences of {T} tokens",
        pair,
        given,
        lambda: step(pair.ours, lambda: pair.ours(given)[0]),
        lambda: step(pair.theirs, lambda: pair.theirs(given, use_cache=False).logits),
        3,
        scan.FORWARD + scan.BACKWARD + 3 * CONV,
        rounds,
        Asked("at least", 3, 5),
    )


def floor(model: Griffin, B: int, T: int, products: int, moved: int, peak: float, bandwidth: float) -> float:
    """Seconds by the roofline: `products` times the flops of a forward, and `moved` arrays a recurrent block.

    What is done element by element elsewhere counts as nothing: a compiler could do it beside the products.
    """
    config = model.config
    seen = sum(min(t, config.window) + 1 for t in range(T)) / T
    arrays = moved * config.blocks.count("recurrent") * 4 * B * T * config.width
    return products * limits.flops(model, B * T, seen) / peak + arrays / bandwidth


def _beside(
    name: str,
    pair: peers.Pair,
    given: Tensor,
    ours: Callable[[], None],
    theirs: Callable[[], None],
    products: int,
    moved: int,
    rounds: int,
    asked: Asked,
) -> list[Row]:
    product, add = limits.matmul(1024), limits.add((1, 16384, 512))
    timers = {"ours": timer(ours), "product": product.timer, "add": add.timer}
    if pair.theirs is not None:
        timers["theirs"] = timer(theirs)
    seconds = in_turn(timers, rounds, warmup=1)
    peak, bandwidth = product.found(seconds["product"]), add.found(seconds["add"])
    count = given.numel()
    predicted = count / floor(pair.ours, len(given), given.shape[1], products, moved, peak, bandwidth)
    slow = rate(seconds["theirs"], count) if "theirs" in seconds else None
    fast = rate(seconds["ours"], count)
    found = Row(name, "tokens/s", fast, peers.RECURRENTGEMMA, slow, asked, predicted, pair.note)
    return [found, product.row(seconds["product"]), add.row(seconds["add"])]
