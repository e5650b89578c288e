"""Griffin and SpeechTransformer: tokens a second from a fixed memory (paper Fig. 6 and 8), and latency (Fig. 7)."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from lab.bench import limits
from lab.bench.report import Asked, Row
from lab.bench.timing import exactly, in_turn, rate, timer
from lab.language import (
    Griffin,
    GriffinConfig,
    GriffinState,
    SpeechTransformer,
    TransformerConfig,
    TransformerState,
    generate,
    sample,
    state_bytes,
)
from lab.language.decode import Cache, Decoder, Forward, decoder

Model = Griffin | SpeechTransformer
LENGTHS = (128, 256, 512, 1024, 2048, 4096, 8192, 16384)
PAPER = dict(zip(LENGTHS, (2.7, 4.5, 8.0, 12.8, 15.6, 31, 62, 125), strict=True))  # Fig. 8, 2B, on a TPU v5e
FASTER, LONGEST = Asked("at least", 1, 1), Asked("at least", 1, 125)  # the paper's Griffin is faster at every length
SOONER = Asked("at most", 1, 1)


def models(preset: str, device: str = "cpu", dtype: torch.dtype = torch.float32) -> tuple[Griffin, SpeechTransformer]:
    """Both of that preset at random weights; Griffin's Lambda stays float32."""
    with torch.device(device):
        pair = Griffin(GriffinConfig.preset(preset)), SpeechTransformer(TransformerConfig.preset(preset))
    for model in pair:
        for name, parameter in model.eval().requires_grad_(False).named_parameters():
            parameter.data = parameter.data.to(torch.float32 if name.endswith("lambda_") else dtype)
    return pair


def filled(model: Model, batch: int, position: int) -> Any:
    """A state as after `position` tokens, with random numbers in it: time does not depend on them."""
    length, layers, *_ = model(torch.zeros(1, 1, dtype=torch.int64, device=model.device))[1]
    grown = {1: position} if isinstance(model, SpeechTransformer) else {}  # the axis of the cache's tokens

    def noise(part: Tensor) -> Tensor:
        return part.new_empty(batch, *(grown.get(axis, size) for axis, size in enumerate(part.shape[1:], 1))).normal_()

    kind = TransformerState if isinstance(model, SpeechTransformer) else GriffinState
    return kind(length.new_full((batch,), position), tuple(type(layer)(*map(noise, layer)) for layer in layers))


def sampling(model: Model, batch: int, position: int, steps: int) -> Callable[[], None]:
    """`steps` tokens of each story, drawn and fed back, from `position` on; a cache begins there each time."""
    device = model.embedding.device
    going = decoder(model, filled(model, batch, position))
    draw = drawing(going, batch, steps, device)

    def run() -> None:
        for layer in going._state.layers if isinstance(going, Forward) else ():
            if isinstance(layer, Cache):
                layer.keys, layer.values = layer.keys[:, :position], layer.values[:, :position]
        draw()

    return run


def drawing(decoder: Decoder, batch: int, steps: int, device: Any = "cpu") -> Callable[[], None]:
    """The next `steps` tokens of each story, drawn and fed back."""
    generator = torch.Generator(device).manual_seed(0)

    @torch.inference_mode()
    def run() -> None:
        tokens = torch.zeros(batch, dtype=torch.int64, device=device)
        for _ in range(steps):
            tokens = sample(decoder.step(tokens), 1.0, generator)

    return run


def best_batch(model: Model, length: int, position: int, budget: float, steps: int) -> int:
    """Of what fits and its halves the batch with most tokens a second; 0 where not one story fits."""
    batch, best, fastest = int(budget // bytes_of_state(model, length)), 0, 0.0
    while batch:
        speed = _speed(model, batch, position, steps)
        if speed > fastest:
            best, fastest = batch, speed
        if speed < fastest / 2:  # and falling
            break
        batch //= 2
    return best


def _speed(model: Model, batch: int, position: int, steps: int) -> float:
    """Tokens a second, 0 where memory does not suffice after all."""
    try:
        run = timer(sampling(model, batch, position, steps), model.embedding.device.type, steps)
        return batch / min(run() for _ in range(3))
    except torch.OutOfMemoryError:
        return 0.0


def bytes_of_state(model: Model, tokens: int) -> int:
    """Of one story after `tokens` tokens."""
    if isinstance(model, Griffin):
        return state_bytes(model(torch.zeros(1, 1, dtype=torch.int64, device=model.embedding.device))[1])
    config = model.config
    return 2 * config.layers * tokens * config.head_dim * model.embedding.element_size()


def floor(model: Model, batch: int, position: int, bandwidth: float, peak: float) -> float:
    """Seconds of a step of `batch` stories by the roofline: weights and states read once, or the flops."""
    keys = min(position, model.config.window) if isinstance(model, Griffin) else position
    moved = limits.weight_bytes(model) + batch * bytes_of_state(model, position)
    return max(moved / bandwidth, limits.flops(model, batch, keys + 1) / peak)


@torch.inference_mode()
def rows(
    preset: str = "lab",
    lengths: tuple[int, ...] = LENGTHS,
    budget: float = 512e6,
    steps: int = 4,
    rounds: int = 5,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    product: int = 1024,
) -> list[Row]:
    """Tokens a second while stories of `length` tokens are sampled, as many at once as is best for each model.

    budget: bytes for the states of all stories, of full length; the weights, and what a step makes and throws away,
    come on top. Measured in the middle of the stories: a step takes a time that is linear in the position, so that is
    the mean. The last rows are at the end.
    """
    pair = models(preset, device, dtype)
    places = [(length, length // 2) for length in lengths] + [(lengths[-1], lengths[-1])]
    return [row for length, at in places for row in _at(pair, length, at, budget, steps, rounds, product)]


def _at(
    pair: tuple[Model, Model],
    length: int,
    position: int,
    budget: float,
    steps: int,
    rounds: int,
    product: int,
) -> list[Row]:
    device, dtype = pair[0].embedding.device.type, pair[0].embedding.dtype
    where = f"{length} tokens" if position < length else f"at token {length}"
    name, peer = f"throughput, {where}", "SpeechTransformer"
    batches = [best_batch(model, length, position, budget, steps) for model in pair]
    if not all(batches):
        note = f"the state of one story does not fit in {budget / 1e6:g} MB"
        return [Row(name, "tokens/s", None, peer, note=note)]
    work = [sampling(model, batch, position, steps) for model, batch in zip(pair, batches, strict=True)]
    read, multiply = limits.reading(budget / 2, device), limits.matmul(product, dtype, device)
    timers = {"ours": timer(work[0], device, steps), "theirs": timer(work[1], device, steps)}
    seconds = in_turn(timers | {"read": read.timer, "product": multiply.timer}, rounds, warmup=1)
    bandwidth, peak = read.found(seconds["read"]), multiply.found(seconds["product"])
    ours, theirs = (rate(seconds[who], batch) for who, batch in zip(timers, batches, strict=True))
    best = [batch / floor(model, batch, position, bandwidth, peak) for model, batch in zip(pair, batches, strict=True)]
    note = f"{batches[0]} stories against {batches[1]}, {budget / 1e6:g} MB each; the roofline's ratio is "
    note += f"{best[0] / best[1]:.3g}, from {bandwidth / 1e9:.3g} GB/s and {peak / 1e9:.3g} GFLOP/s"
    if length in PAPER and position < length:
        note += f", the paper's (2B, TPU v5e) {PAPER[length]:g}"
    asked = None if position == length else LONGEST if length == LENGTHS[-1] else FASTER
    return [
        Row(name, "tokens/s", ours, peer, theirs, asked, best[0], note),
        Row(f"{peer}, {where}", "tokens/s", theirs, predicted=best[1]),
    ]


class ByTorch(nn.Module):
    """A model that `generate` steps by its own forward, as any but Griffin: the same means for both."""

    def __init__(self, model: Model):
        super().__init__()
        self.model, self.vocabulary, self.context, self.device = model, model.vocabulary, model.context, model.device

    def forward(self, *arguments: Any, **options: Any) -> tuple[Tensor, Any]:
        return self.model(*arguments, **options)


@torch.inference_mode()
def latency(
    preset: str = "lab", tokens: int = LENGTHS[-1], device: str = "cpu", dtype: torch.dtype = torch.float32
) -> list[Row]:
    """Seconds to the end of one sample, by `generate`, at every power of two from 128; once, as it takes minutes.

    Griffin twice: as it is stepped, by numba or a CUDA graph, and by torch, as SpeechTransformer is.
    """
    pair: tuple[Model, Model] = models(preset, device, dtype)
    contenders = *pair, ByTorch(pair[0])
    start = torch.zeros(1, dtype=torch.int64, device=device)
    stories = [generate(model, start, generator=torch.Generator().manual_seed(0)) for model in contenders]
    for model in contenders:  # compiles
        list(generate(model, start, generator=torch.Generator().manual_seed(0), max_tokens=3))
    ends = [length for length in LENGTHS if length < tokens] + [tokens]
    elapsed, found = [0.0] * len(stories), []
    for before, end in pairwise([0, *ends]):
        for who, story in enumerate(stories):
            began = time.perf_counter()
            for _ in range(end - before):
                next(story)
            elapsed[who] += time.perf_counter() - began
        found.append(tuple(elapsed))
    read = limits.reading(limits.weight_bytes(pair[0]), device)
    seconds = in_turn({"read": read.timer}, 5)["read"]
    rows = []
    for end, (ours, theirs, torchs) in zip(ends, found, strict=True):
        # the mean of a cache that grows is a cache half as long
        at = [
            end * floor(model, 1, position, read.found(seconds), math.inf)
            for model, position in zip(pair, (end, end // 2), strict=True)
        ]
        name, peer = f"latency, {end} tokens", "SpeechTransformer"
        rows += [
            Row(name, "s", exactly(ours), peer, exactly(theirs), predicted=at[0]),
            Row(f"{name}, both by torch", "s", exactly(torchs), peer, exactly(theirs), SOONER, predicted=at[0]),
            Row(f"latency of {peer}, {end} tokens", "s", exactly(theirs), predicted=at[1]),
        ]
    return [*rows, read.row(seconds)]
