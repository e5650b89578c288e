"""What the codec's decoder filters: pulses at the pitch for voiced sounds, and white noise for the rest.

Source and filter (Fant 1960), as in neural source-filter vocoders (NSF, 1904.12088; HiFTNet, 2309.09493): a network
that has to make phases up agrees with itself from frame to frame when the pulses come from one running phase.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

BINS, LOWEST, HIGHEST = 160, 55.0, 520.0  # Hz; 24 cents a bin, of which a listener hears about 20
NEAR = 4  # bins to each side of the likeliest whose mean is the pitch


def frequencies(device: torch.device | None = None) -> Tensor:
    """Pitch of each bin in Hz (160,), in equal ratios."""
    return LOWEST * (HIGHEST / LOWEST) ** (torch.arange(BINS, device=device) / (BINS - 1))


def pitch(logits: Tensor) -> Tensor:
    """Logits of the bins (B, F, 160) -> Hz (B, F): the mean, in octaves, of the bins around the likeliest."""
    odds = logits.float().softmax(-1)
    distance = torch.arange(BINS, device=logits.device) - odds.argmax(-1, keepdim=True)
    odds = odds * (distance.abs() <= NEAR)
    return ((odds * frequencies(logits.device).log()).sum(-1) / odds.sum(-1)).exp()


def pulses(hertz: Tensor, hop: int, rate: int, highest: float = 0.975) -> Tensor:
    """Pitch (B, F) in Hz, one value each `hop` samples -> band-limited pulses of unit power (B, hop F).

    All harmonics below `highest` of half the rate, in phase (Dirichlet kernel).
    """
    frequency = F.interpolate(hertz[:, None].log(), size=hop * hertz.shape[1], mode="linear")[:, 0].exp()
    turns = (frequency.double() / rate).cumsum(1)  # in float32 an hour's phase would have no digits left
    half = math.pi * (turns - turns.round()).float()  # of the phase, in [-pi / 2, pi / 2]
    harmonics = torch.floor(highest * rate / 2 / frequency)
    kernel = torch.sin((2 * harmonics + 1) * half) / (2 * torch.sin(half))
    kernel = torch.where(half.abs() < 1e-5, harmonics + 0.5, kernel)
    return (kernel - 0.5) * (2 / harmonics).sqrt()
