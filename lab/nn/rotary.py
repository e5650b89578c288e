"""Rotary position embedding (RoPE, Su et al. 2104.09864), half-split as in Gemma and LLaMA."""

from __future__ import annotations

import torch
from torch import Tensor


def rotation_rates(half: int, device: torch.device | None = None) -> Tensor:
    """Radians a position (half,): wavelengths from 2 pi up to 2 pi 10,000."""
    return 10_000.0 ** (-torch.arange(half, device=device) / half)


def rotate(x: Tensor, position: Tensor, dims: int | None = None) -> Tensor:
    """x (B, T, H, head_dim) with its first `dims` (by default all) rotated by position (B, T).

    Dimension i is paired with i + dims / 2.
    """
    return rotate_by(x, *sin_cos(position, (x.shape[-1] if dims is None else dims) // 2))


def sin_cos(position: Tensor, half: int) -> tuple[Tensor, Tensor]:
    """What `rotate_by` needs of position (B, T), for all heads and layers: (B, T, 1, half) each."""
    angle = position[..., None, None] * rotation_rates(half, position.device)
    return angle.sin(), angle.cos()


def rotate_by(x: Tensor, sin: Tensor, cos: Tensor) -> Tensor:
    """`rotate` by angles that are known already."""
    half, sin, cos = sin.shape[-1], sin.to(x.dtype), cos.to(x.dtype)
    a, b, rest = x.split([half, half, x.shape[-1] - 2 * half], -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin, rest], -1)
