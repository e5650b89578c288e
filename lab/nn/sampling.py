"""Drawing from logits, by generators that are passed in."""

from __future__ import annotations

import math
import operator

import numpy as np
import torch
from torch import Tensor

from lab.errors import LabError

GREEDY = 1e-6  # temperatures under it: logits would overflow, and the likeliest is all that can be drawn


def generator_of(seed: int, *stream: int, device: torch.device | str = "cpu") -> torch.Generator:
    """The generator of a seed, any int (modulo 2**64); with `stream` numbers, one of its independent streams."""
    try:
        seed = operator.index(seed) % 2**64
    except TypeError:
        raise LabError(f"the seed must be an integer, not {seed!r}") from None
    if stream:
        seed = int(np.random.SeedSequence((seed, *stream)).generate_state(1, np.uint64)[0] >> np.uint64(1))
    return torch.Generator(device).manual_seed(seed)


def check_scale(name: str, value: float) -> None:
    """Raise LabError unless a temperature, or the scale of a noise, is a finite number of 0 or more."""
    if not isinstance(value, (int, float, np.number)) or not (math.isfinite(value) and value >= 0):
        raise LabError(f"{name} must be 0 or more, not {value}")


def sample(logits: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
    """Indices (...,) drawn from softmax(logits / temperature), logits (..., V); at temperature 0 the likeliest.

    The generator may live on another device than the logits: noise is drawn where it lives.
    """
    if temperature < GREEDY:
        return logits.argmax(-1)
    probabilities = (logits.float() / temperature).softmax(-1)
    # What torch.multinomial does, without its look at the probabilities, for which a GPU would be waited.
    return (probabilities / exponential(probabilities, generator)).argmax(-1)


def exponential(like: Tensor, generator: torch.Generator) -> Tensor:
    """Exponential noise of a tensor's shape, on its device, drawn where the generator lives; its -log is Gumbel's."""
    noise = torch.empty(like.shape, device=generator.device).exponential_(generator=generator)
    return noise.clamp_(min=1e-20).to(like.device)
