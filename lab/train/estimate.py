"""What a corpus and a model of some size will take: hours, bytes and money, before anything is bought.

Speeds of tokenization are measured here, or given; those of GPUs are their makers' peaks times the share that is used.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch

from lab.corpora import encoding
from lab.language import Griffin, GriffinConfig
from lab.machine import GPUS
from lab.train import language
from lab.train.batches import positive
from lab.train.language import PRESETS
from lab.train.loop import Compute, Trainable

WEIGHTS = 16  # bytes a parameter: itself, its gradient and Adam's two averages, in float32
GATHERED, CAST = 4, 2  # bytes a parameter that FSDP makes whole, in float32, and of autocast's copy in bfloat16
LOGITS = 10  # bytes a logit: bfloat16, float32, and its gradient


@dataclass(frozen=True)
class Memory:
    """Bytes on each GPU, where FSDP shares the weights and blocks are computed again in the backward pass."""

    gpus: int
    weights: float  # this GPU's share of weights, gradients and optimiser
    whole: float  # the block in use and what stands beside the blocks, whole, with what autocast makes of them
    activations: float  # of one piece

    @property
    def total(self) -> float:
        return self.weights + self.whole + self.activations


def tokenization(models: Path, codes: bool, seconds: float = 60.0) -> tuple[float, float]:
    """Measured on noise: seconds of speech per second that one worker of this machine tokenizes, which has one thread,
    and bytes of a shard a second of speech."""
    waveform = 0.1 * np.random.default_rng(0).standard_normal(round(seconds * 16_000)).astype(np.float32)
    tokenizer, codec = encoding.models_of(models, codes)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        encoding.encode(waveform[:16_000], tokenizer, codec)
        began = time.perf_counter()
        made = encoding.encode(waveform, tokenizer, codec)
        return seconds / (time.perf_counter() - began), sum(array.nbytes for array in made) / seconds
    finally:
        torch.set_num_threads(threads)


def training(preset: str) -> tuple[float, float]:
    """Measured on noise: tokens a second of a step of one piece on this machine, and days of a preset's steps so."""
    scale = PRESETS[preset]
    config = GriffinConfig.preset(scale.shapes)
    noise = np.random.default_rng(0).integers(0, config.vocabulary, 2 * scale.length)
    batch = language.batches(language.TokenStream.of([noise]), 1, scale.length, 0)
    fabric = Compute(progress=False).fabric(mixed=True)
    player = Trainable(fabric, Griffin(config).train(), scale.schedule, language.loss_of)
    seconds = []
    for step in range(3):  # the first compiles
        began = time.perf_counter()
        player.step(step, [batch(step)])
        seconds.append(time.perf_counter() - began)
    rate = scale.length / min(seconds)
    return rate, scale.schedule.steps * scale.tokens / rate / 86_400


@cache
def parameters(preset: str) -> tuple[int, int]:
    """Of Griffin in a preset of training, and of its largest block. Nothing of it is in memory."""
    shapes = language.scale_of(preset).shapes
    with torch.device("meta"):
        model = Griffin(GriffinConfig.preset(shapes))
    sizes = [sum(weights.numel() for weights in block.parameters()) for block in model.blocks]
    return sum(weights.numel() for weights in model.parameters()), max(sizes)


def memory(preset: str, gpus: int) -> Memory:
    """What each of `gpus` holds when one piece of the preset's length is on it."""
    positive(gpus=gpus)
    count, block = parameters(preset)
    config, length = GriffinConfig.preset(PRESETS[preset].shapes), PRESETS[preset].length
    whole = CAST * count if gpus == 1 else (GATHERED + CAST) * (block + config.vocabulary * config.width)
    stream = 4 * length * config.width  # of one layer, in float32
    within = stream * (4 + 3 * config.mlp_expansion)  # of the block that is computed again
    return Memory(
        gpus, WEIGHTS * count / gpus, whole, stream * config.layers + within + LOGITS * length * config.vocabulary
    )


def days(preset: str, gpus: int, gpu: str, share: float) -> float:
    """Of training with the preset's tokens, 6 operations a parameter and token, at a `share` of the peak (MFU: what is
    computed again does not count)."""
    positive(gpus=gpus, share=share)
    count, _ = parameters(preset)
    tokens = PRESETS[preset].schedule.steps * PRESETS[preset].tokens
    return 6 * count * tokens / (gpus * share * GPUS[gpu][0]) / 86_400
