"""Decoding on the CPU, one token after another: against transformers, and against reading the weights once."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._pytree import tree_leaves

from lab.bench import limits, peers, throughput
from lab.bench.report import Asked, Row
from lab.bench.timing import Timer, each, exactly, in_turn, rate, timer
from lab.language import Griffin, GriffinConfig, generate
from lab.language.decode import MAX_ROWS, Forward
from lab.language.lean import Stepper
from lab.language.packed import Weights, pack

KINDS: tuple[Weights, ...] = ("float32", "int8")
BESIDE_PEER = {"float32": Asked("at least", 7, 10), "int8": Asked("at least", 15, 25)}
OF_READING = {"float32": Asked("at most", 1.33, 1.11), "int8": Asked("at most", 2.0, 1.43)}  # 0.75, 0.9; 0.5, 0.7 of it


def rows(
    preset: str = "lab",
    larger: str = "medium",
    tokens: int = 128,
    rounds: int = 7,
    batches: tuple[int, ...] = (1, 4, 8, 16),
    stories: int = 4,
    most: int = 1000,
    evicted: int = limits.EVICTED,
) -> list[Row]:
    """larger: a preset that no cache holds. tokens: a round. batches: of stories side by side. stories, most: held-out
    ones for the loss, tokens of each. evicted: bytes that are read to empty the caches."""
    pair, large = (peers.pair(GriffinConfig.preset(name, rope=True)) for name in (preset, larger))
    return [
        *_alone(pair, tokens, rounds, evicted, ""),
        *_alone(large, max(1, tokens // 8), rounds, evicted, f", {larger}"),
        *_batches(pair, batches, tokens, rounds),
        *_loss(stories, most),
    ]


@torch.inference_mode()
def _alone(pair: peers.Pair, tokens: int, rounds: int, evicted: int, which: str) -> list[Row]:
    """One story, its window full from the first token on; `which` ends the names of the rows."""
    model = pair.ours
    config = model.config
    prompt, given = pair.tokens(config.window), pair.tokens(tokens, 1)
    state = model(prompt[None])[1]
    packed = {kind: pack(model, kind) for kind in KINDS}
    other = np.ones(evicted // 8, np.uint64)
    held = [leaf.numpy() for leaf in tree_leaves(state.layers)]  # windows and states
    once = {kind: f"weights, window and state read once, {kind}" for kind in KINDS}
    reads = {kind: limits.read(packed[kind].weights, *held)._replace(name=once[kind] + which) for kind in KINDS}
    timers: dict[str, Timer] = {}
    for kind in KINDS:
        timers[kind] = partial(_sampling, model, prompt, tokens, kind)
        timers[f"{kind} step"] = timer(_steps(Stepper(packed[kind], state), given), steps=tokens)
        timers[f"{kind} read"] = reads[kind].timer
        one = timer(_steps(Stepper(packed[kind], state), given[:1]))
        timers[f"{kind} step, cold"] = limits.cold(one, other)
        timers[f"{kind} read, cold"] = limits.cold(limits.read(packed[kind].weights, *held, steps=1).timer, other)
    if pair.theirs is not None:
        timers["theirs"] = partial(peers.seconds_a_token, pair.theirs, prompt[None], tokens)
    seconds = in_turn(timers, rounds, warmup=1)

    theirs = rate(seconds["theirs"], 1) if "theirs" in seconds else None
    rows, peer = [], f"{peers.RECURRENTGEMMA}.generate, float32"
    for kind in KINDS:
        read, from_memory = each(seconds[f"{kind} read"]), each(seconds[f"{kind} read, cold"])
        whole, step, first = (each(seconds[name]) for name in (kind, f"{kind} step", f"{kind} step, cold"))
        name, speed, predicted = f"decode, batch 1, {kind}", rate(seconds[kind], 1), 1e3 / read.median
        cold = f"step alone, nothing in the cache, {kind}{which}"
        rows += [
            Row(name + which, "tokens/s", speed, peer, theirs, BESIDE_PEER[kind], predicted, pair.note),
            Row(f"time per token, {kind}{which}", "ms", whole, once[kind], read, OF_READING[kind], read.median),
            Row(f"step alone, {kind}{which}", "ms", step, once[kind], read, None, read.median),
            Row(cold, "ms", first, once[kind], from_memory, None, from_memory.median),
            reads[kind].row(seconds[f"{kind} read"]),
        ]
    return rows


def _sampling(model: Griffin, prompt: Tensor, tokens: int, weights: Weights) -> float:
    """Seconds a token as `generate` is called, from the first new one on: as `peers.seconds_a_token`."""
    story = generate(model, prompt, generator=torch.Generator().manual_seed(0), weights=weights)
    next(story)
    began = time.perf_counter()
    for _ in range(tokens):
        next(story)
    return (time.perf_counter() - began) / tokens


def _steps(decoder: Stepper | Forward, tokens: Tensor) -> Callable[[], None]:
    """A step for each row of tokens (steps, B)."""

    def run() -> None:
        for row in tokens:
            decoder.step(row)

    return run


@torch.inference_mode()
def _batches(pair: peers.Pair, batches: tuple[int, ...], tokens: int, rounds: int) -> list[Row]:
    """Where one matrix product for all stories begins to beat a walk over the weights for each: MAX_ROWS."""
    model, packed, window = pair.ours, pack(pair.ours), pair.ours.config.window
    read, product = limits.read(packed.weights), limits.matmul(1024)
    timers, steps = {"read": read.timer, "product": product.timer}, max(1, tokens // 4)
    for B in batches:
        state, given = throughput.filled(model, B, window), pair.tokens(steps, B)
        timers[f"step {B}"] = timer(_steps(Stepper(packed, state), given), steps=steps)
        timers[f"forward {B}"] = timer(_steps(Forward(model, state), given), steps=steps)
    seconds = in_turn(timers, rounds, warmup=1)
    bandwidth, peak = read.found(seconds["read"]), product.found(seconds["product"])
    rows = []
    for B in batches:
        predicted = B / throughput.floor(model, B, window, bandwidth, peak)
        name, note = f"step of a batch of {B}", f"up to {MAX_ROWS} rows the lean step is chosen"
        ours, theirs = rate(seconds[f"step {B}"], B), rate(seconds[f"forward {B}"], B)
        rows.append(Row(name, "tokens/s", ours, "Griffin.forward", theirs, None, predicted, note))
    return [*rows, product.row(seconds["product"])]


@torch.inference_mode()
def _loss(stories: int, most: int) -> list[Row]:
    """What rounding to int8 costs the bundle's Griffin on held-out stories."""
    from lab import bundle  # here, as nothing else of the room needs audio: a bare GPU machine may lack that
    from lab.corpora import narration
    from lab.tokens import Tokenizer

    griffin, tokenizer = (bundle.load(bundle.folder(), name) for name in ("griffin", "tokenizer"))
    assert isinstance(griffin, Griffin) and isinstance(tokenizer, Tokenizer)
    held_out = [tokenizer.encode(narration.held_out_story(number).samples())[:most] for number in range(stories)]
    whole, rounded = (exactly(cross_entropy(griffin, kind, held_out)) for kind in KINDS)
    count = sum(map(len, held_out)) - 2 * stories
    note = f"the bundle's Griffin on {count:,} tokens of {stories} held-out stories"
    return [Row("cross-entropy with int8 weights", "nats a token", rounded, "float32", whole, note=note)]


def cross_entropy(model: Griffin, weights: Weights, stories: list[Tensor]) -> float:
    """Nats a token of stories, (T,) each, by single steps: the mean over all but their first two tokens."""
    packed, total = pack(model, weights), 0.0
    for story in stories:
        stepper = Stepper(packed, model(story[None, :1])[1])
        logits = torch.cat([stepper.step(token[None]) for token in story[1:-1]])  # (T - 2, V)
        total += float(F.cross_entropy(logits, story[2:], reduction="sum"))
    return total / sum(len(story) - 2 for story in stories)
