"""Drawing from logits, by generators that are passed in."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from lab.errors import LabError

GREEDY = 1e-6  # temperatures below are greedy: logits / temperature would overflow


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


def check_count(name: str, value: int, least: int) -> None:
    """Raise LabError unless a number of things is an integer of `least` or more."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise LabError(f"{name} must be {least} or more, an integer, not {value!r}")


def check_truncation(top_k: int | None, top_p: float | None) -> None:
    """Raise LabError unless top_k is an integer of 1 or more and 0 < top_p <= 1, or None."""
    if top_k is not None:
        check_count("top_k", top_k, 1)
    if top_p is not None and not (isinstance(top_p, (int, float, np.number)) and 0 < top_p <= 1):
        raise LabError(f"top_p must be above 0 and at most 1, not {top_p!r}")


def sample(
    logits: Tensor,
    temperature: float,
    generator: torch.Generator | Sequence[torch.Generator],
    top_k: int | None = None,
    top_p: float | None = None,
) -> Tensor:
    """Indices (...,) drawn from softmax(logits / temperature), logits (..., V); at temperature 0 the likeliest.

    top_k: draw from the k likeliest only. top_p: only from the fewest whose probabilities add up to p, after top_k
    (nucleus sampling, Holtzman et al. 1904.09751). generator: one, or one for each row of logits (B, ..., V), each row
    then being drawn as it is alone; it may live on another device than the logits.
    """
    if temperature < GREEDY:
        return logits.argmax(-1)
    logits = logits.float() / temperature
    if top_k is not None and top_k < logits.shape[-1]:
        logits = logits.masked_fill(logits < logits.topk(top_k).values[..., -1:], -math.inf)
    if top_p is not None and top_p < 1:
        ordered, order = logits.softmax(-1).sort(-1, descending=True)
        excluded = ordered.cumsum(-1) - ordered >= top_p  # those before it are enough; never the first
        logits = logits.masked_fill(excluded.scatter(-1, order, excluded), -math.inf)
    # The inverse of the cumulative distribution: one random number for each index, and nobody waits for a GPU, as
    # torch.multinomial does. Kept below the sum, so that what has no probability is never drawn.
    cumulative = logits.softmax(-1).cumsum(-1)
    total = cumulative[..., -1:]
    at = torch.minimum(_uniform(total, generator) * total, total.nextafter(torch.zeros_like(total)))
    return torch.searchsorted(cumulative, at, right=True)[..., 0]


def _uniform(like: Tensor, generator: torch.Generator | Sequence[torch.Generator]) -> Tensor:
    """Random numbers in [0, 1), as `exponential` draws its noise."""
    if not isinstance(generator, torch.Generator):
        return torch.stack([_uniform(row, each) for row, each in zip(like, generator, strict=True)])
    return torch.rand(like.shape, generator=generator, device=generator.device).to(like.device)


def exponential(like: Tensor, generator: torch.Generator | Sequence[torch.Generator]) -> Tensor:
    """Exponential noise of a tensor's shape, on its device; its -log is Gumbel noise. Drawn where the generator lives.

    generator: one for all, or one for each row of the tensor.
    """
    if not isinstance(generator, torch.Generator):
        return torch.stack([exponential(row, each) for row, each in zip(like, generator, strict=True)])
    noise = torch.empty(like.shape, device=generator.device).exponential_(generator=generator)
    return noise.clamp_(min=1e-20).to(like.device)
