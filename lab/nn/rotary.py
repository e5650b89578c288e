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
    dims = x.shape[-1] if dims is None else dims
    half = dims // 2
    angle = position[..., None, None] * rotation_rates(half, x.device)  # (B, T, 1, half)
    sin, cos = angle.sin().to(x.dtype), angle.cos().to(x.dtype)
    a, b, rest = x.split([half, half, x.shape[-1] - dims], -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin, rest], -1)
