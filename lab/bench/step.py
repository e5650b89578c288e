"""Decoding on the CPU, one token after another: against transformers, and against reading the weights once."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from lab.bench import limits, peers, throughput
from lab.bench.report import Asked, Row
from lab.bench.timing import Timer, each, exactly, in_turn, rate, timer
from lab.language import Griffin, GriffinConfig, generate, state_bytes
from lab.language.decode import MAX_ROWS, Forward
from lab.language.lean import Stepper
from lab.language.packed import Weights, pack

KINDS: tuple[Weights, ...] = ("float32", "int8")
BESIDE_PEER = Asked("at least", 6, 15)  # the goal allows int8
OF_READING = {"float32": Asked("at most", 2.0, 1.3)}


def rows(
    preset: str = "lab",
    tokens: int = 128,
    rounds: int = 7,
    batches: tuple[int, ...] = (1, 4, 8, 16),
    stories: int = 4,
    most: int = 1000,
) -> list[Row]:
    """tokens: a round. batches: of stories side by side. stories, most: held-out ones for the loss, tokens of each."""
    pair = peers.pair(GriffinConfig.preset(preset, rope=True))
    return [*_alone(pair, tokens, rounds), *_batches(pair, batches, tokens, rounds), *_loss(stories, most)]


@torch.inference_mode()
def _alone(pair: peers.Pair, tokens: int, rounds: int) -> list[Row]:
    """One story, its window full from the first token on."""
    model = pair.ours
    config = model.config
    prompt, given = pair.tokens(config.window), pair.tokens(tokens, 1)
    state = model(prompt[None])[1]
    packed = {kind: pack(model, kind) for kind in KINDS}
    reads = {kind: limits.matvec(packed[kind].weights, config.width) for kind in KINDS}
    timers: dict[str, Timer] = {}
    for kind in KINDS:
        timers[kind] = partial(_sampling, model, prompt, tokens, kind)
        timers[f"{kind} step"] = timer(_steps(Stepper(packed[kind], state), given), steps=tokens)
        timers[f"{kind} read"] = reads[kind].timer
    if pair.theirs is not None:
        timers["theirs"] = partial(peers.seconds_a_token, pair.theirs, prompt[None], tokens)
    seconds = in_turn(timers, rounds, warmup=1)

    theirs = rate(seconds["theirs"], 1) if "theirs" in seconds else None
    rows, peer = [], f"{peers.RECURRENTGEMMA}.generate, float32"
    for kind in KINDS:
        read = each(seconds[f"{kind} read"])
        bytes_ = packed[kind].weights.nbytes + state_bytes(state)
        predicted = bytes_ / reads[kind].found(seconds[f"{kind} read"])
        whole, step = each(seconds[kind]), each(seconds[f"{kind} step"])
        name, speed, once = f"decode, batch 1, {kind}", rate(seconds[kind], 1), f"its weights read once, {kind}"
        rows += [
            Row(name, "tokens/s", speed, peer, theirs, BESIDE_PEER, 1 / predicted, pair.note),
            Row(f"time per token, {kind}", "ms", whole, once, read, OF_READING.get(kind), 1e3 * predicted),
            Row(f"step alone, {kind}", "ms", step, once, read, None, 1e3 * predicted),
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
    read, product = limits.matvec(packed.weights, model.config.width), limits.matmul(1024)
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
