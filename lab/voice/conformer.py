"""A bidirectional Conformer block (Gulati et al., 2005.08100); its attention may be local beside a prompt."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lab.nn import RMSNorm, attend
from lab.nn.convnext import DepthwiseConv


class ConformerBlock(nn.Module):
    """Half a feed-forward, attention, convolution, half a feed-forward, each added on; then a norm."""

    def __init__(self, width: int, heads: int, kernel: int, expansion: int, span: int | None):
        super().__init__()
        self.before = FeedForward(width, expansion)
        self.attention = Attention(width, heads, span)
        self.convolution = Convolution(width, kernel)
        self.after = FeedForward(width, expansion)
        self.norm = RMSNorm(width)

    def forward(self, x: Tensor, rotation: Tensor, prompt: int) -> Tensor:
        """x (B, F, D), the first `prompt` frames the speaker's; rotation as `rotary` gives it."""
        x = x + 0.5 * self.before(x)
        x = x + self.attention(x, rotation, prompt)
        x = x + self.convolution(x)
        return self.norm(x + 0.5 * self.after(x))


class FeedForward(nn.Sequential):
    def __init__(self, width: int, expansion: int):
        wide = expansion * width
        super().__init__(RMSNorm(width), nn.Linear(width, wide), nn.SiLU(), nn.Linear(wide, width))


class Convolution(nn.Module):
    """Pointwise with a gate, depthwise, pointwise; RMSNorm in place of the published batch norm."""

    def __init__(self, width: int, kernel: int):
        super().__init__()
        self.norm, self.gated = RMSNorm(width), nn.Linear(width, 2 * width)
        self.mix, self.mixed = DepthwiseConv(width, kernel), RMSNorm(width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(F.silu(self.mixed(self.mix(F.glu(self.gated(self.norm(x)), -1)))))


class Attention(nn.Module):
    """Multi-head attention with rotary positions, over all frames, or over +-span frames and the prompt."""

    def __init__(self, width: int, heads: int, span: int | None):
        super().__init__()
        self.heads, self.span = heads, span
        self.norm = RMSNorm(width)
        self.ask = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, rotation: Tensor, prompt: int) -> Tensor:
        asked = self.ask(self.norm(x)).unflatten(-1, (3, self.heads, -1))  # (B, F, 3, H, D / H)
        query, key, value = asked.permute(2, 0, 3, 1, 4)  # (B, H, F, D / H) each
        query, key = rotate(query, rotation), rotate(key, rotation)
        if self.span is None:
            y = attend(query, key, value)
        else:
            y = attend_near(query, key, value, self.span, prompt)
        return self.out(y.transpose(1, 2).flatten(2))


def attend_near(query: Tensor, key: Tensor, value: Tensor, span: int, prompt: int) -> Tensor:
    """Attention of each frame to the prompt and to frames at most `span` away; the prompt sees all of itself.

    All (B, H, F, d). Blocks of `span` queries look at their own block, both neighbours and the prompt, so
    cost grows with F and not with its square, and a frame meets as many keys in a window of 27 s as in a
    training crop of a few.
    """
    batch, heads, _, size = query.shape
    length = query.shape[2] - prompt
    blocks = -(-length // span)
    fill = blocks * span - length

    def near(x: Tensor) -> Tensor:  # (B, H, F, d) -> (B * blocks, H, prompt + 3 span, d)
        around = F.pad(x[:, :, prompt:], (0, 0, span, span + fill)).unfold(2, 3 * span, span)
        first = x[:, :, None, :prompt].expand(-1, -1, blocks, -1, -1)
        return torch.cat([first, around.transpose(-1, -2)], 3).transpose(1, 2).flatten(0, 1)

    asked = F.pad(query[:, :, prompt:], (0, 0, 0, fill)).unflatten(2, (blocks, span)).transpose(1, 2).flatten(0, 1)
    at = torch.arange(blocks * span, device=query.device).view(blocks, span, 1)
    to = at[:, :1] - span + torch.arange(3 * span, device=query.device)  # (blocks, 1, 3 span)
    seen = ((to - at).abs() <= span) & (to >= 0) & (to < length)  # (blocks, span, 3 span)
    seen = F.pad(seen, (prompt, 0), value=True)[:, None].repeat(batch, 1, 1, 1)  # for B * blocks, and all heads
    spoken = attend(asked, near(key), near(value), seen)
    spoken = spoken.unflatten(0, (batch, blocks)).transpose(1, 2).reshape(batch, heads, -1, size)[:, :, :length]
    heard = attend(query[:, :, :prompt], key[:, :, :prompt], value[:, :, :prompt])
    return torch.cat([heard, spoken], 2)


def rotary(positions: Tensor, size: int) -> Tensor:
    """Positions (B, F) -> (B, 1, F, size / 2) complex: unit vectors of wavelengths 2 pi to 20,000 pi."""
    speed = 10000.0 ** (-torch.arange(0, size, 2, device=positions.device) / size)
    angle = positions[:, None, :, None] * speed
    return torch.polar(torch.ones_like(angle), angle)


def rotate(x: Tensor, rotation: Tensor) -> Tensor:
    """(B, H, F, d) turned by (B, 1, F, d / 2)."""
    pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)).contiguous())
    return torch.view_as_real(pairs * rotation).flatten(-2).to(x.dtype)
