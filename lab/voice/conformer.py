"""A bidirectional Conformer block (Gulati et al., 2005.08100); its attention may be local beside a prompt."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lab.nn import RMSNorm, attend
from lab.nn.convnext import DepthwiseConv
from lab.nn.linear import Linear
from lab.nn.rotary import rotate_by, sin_cos


class Layout(NamedTuple):
    """What all layers make the same use of: where the frames are, and whom each attends to."""

    prompt: int  # frames, the first, of the speaker
    span: int | None  # of `attend_locally`; None: each frame attends to all
    sin: Tensor  # of the rotary embedding, (B or 1, F, 1, D / H / 2) each
    cos: Tensor
    mask: Tensor | None  # of `attend_locally`

    @classmethod
    def of(cls, x: Tensor, positions: Tensor, prompt: int, span: int | None, head_dim: int) -> Layout:
        """For frames x (B, F, D) at positions (B or 1, F)."""
        mask = None if span is None else local_mask(len(x), x.shape[1] - prompt, span, prompt, x.device)
        return cls(prompt, span, *sin_cos(positions, head_dim // 2), mask)


class ConformerBlock(nn.Module):
    """Half a feed-forward, attention, convolution, half a feed-forward, each with a residual; then RMSNorm.

    width D; kernel of the convolution, in frames, odd; expansion of the feed-forwards.
    """

    def __init__(self, width: int, heads: int, kernel: int, expansion: int):
        super().__init__()
        self.feed_forward1 = FeedForward(width, expansion)
        self.attention = Attention(width, heads)
        self.convolution = Convolution(width, kernel)
        self.feed_forward2 = FeedForward(width, expansion)
        self.norm = RMSNorm(width)

    def forward(self, x: Tensor, layout: Layout) -> Tensor:
        """x (B, F, D) -> (B, F, D)."""
        x = x + 0.5 * self.feed_forward1(x)
        x = x + self.attention(x, layout)
        x = x + self.convolution(x)
        return self.norm(x + 0.5 * self.feed_forward2(x))


class FeedForward(nn.Sequential):
    """RMSNorm, a layer of expansion * D with SiLU, and one back: (B, F, D) -> (B, F, D)."""

    def __init__(self, width: int, expansion: int):
        wide = expansion * width
        super().__init__(RMSNorm(width), Linear(width, wide), nn.SiLU(), Linear(wide, width))


class Convolution(nn.Module):
    """Pointwise with GLU, depthwise, SiLU, pointwise: (B, F, D) -> (B, F, D). RMSNorm in place of batch norm."""

    def __init__(self, width: int, kernel: int):
        super().__init__()
        self.norm, self.glu = RMSNorm(width), Linear(width, 2 * width)
        self.depthwise, self.depthwise_norm = DepthwiseConv(width, kernel), RMSNorm(width)
        self.out = Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(F.silu(self.depthwise_norm(self.depthwise(F.glu(self.glu(self.norm(x)), -1)))))


class Attention(nn.Module):
    """Multi-head attention with rotary positions, to all frames, or to +-span frames and the prompt."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm = RMSNorm(width)
        self.qkv = Linear(width, 3 * width)
        self.out = Linear(width, width)

    def forward(self, x: Tensor, layout: Layout) -> Tensor:
        query, key, value = self.qkv(self.norm(x)).unflatten(-1, (3, self.heads, -1)).unbind(2)  # (B, F, H, D / H)
        query, key, value = (
            y.transpose(1, 2) for y in (*(rotate_by(y, layout.sin, layout.cos) for y in (query, key)), value)
        )  # (B, H, F, D / H)
        if layout.span is None or layout.mask is None:
            y = attend(query, key, value)
        else:
            y = attend_locally(query, key, value, layout.span, layout.prompt, layout.mask)
        return self.out(y.transpose(1, 2).flatten(2))


def local_mask(batch: int, length: int, span: int, prompt: int, device: torch.device) -> Tensor:
    """Which keys a query of `attend_locally` sees: (B * blocks, 1, span, prompt + 3 span) bool, for all heads."""
    blocks = -(-length // span)
    at = torch.arange(blocks * span, device=device).view(blocks, span, 1)
    to = at[:, :1] - span + torch.arange(3 * span, device=device)  # (blocks, 1, 3 span)
    mask = ((to - at).abs() <= span) & (to >= 0) & (to < length)  # (blocks, span, 3 span)
    return F.pad(mask, (prompt, 0), value=True)[:, None].repeat(batch, 1, 1, 1)


def attend_locally(query: Tensor, key: Tensor, value: Tensor, span: int, prompt: int, mask: Tensor) -> Tensor:
    """Attention of each frame to the prompt and to frames at most `span` away; the prompt attends to itself alone.

    All (B, H, F, d), mask by `local_mask`. Blocks of `span` queries attend to their own block, both neighbours and the
    prompt, so cost grows with F and not with its square, and a frame has as many keys in a window of 27 s as in a
    training crop of a few.
    """
    batch, heads, _, size = query.shape
    length = query.shape[2] - prompt
    blocks = -(-length // span)
    padding = blocks * span - length

    def context(x: Tensor) -> Tensor:  # (B, H, F, d) -> (B * blocks, H, prompt + 3 span, d)
        around = F.pad(x[:, :, prompt:], (0, 0, span, span + padding)).unfold(2, 3 * span, span)
        first = x[:, :, None, :prompt].expand(-1, -1, blocks, -1, -1)
        return torch.cat([first, around.transpose(-1, -2)], 3).transpose(1, 2).flatten(0, 1)

    queries = F.pad(query[:, :, prompt:], (0, 0, 0, padding)).unflatten(2, (blocks, span)).transpose(1, 2).flatten(0, 1)
    local = attend(queries, context(key), context(value), mask)
    local = local.unflatten(0, (batch, blocks)).transpose(1, 2).reshape(batch, heads, -1, size)[:, :, :length]
    first = attend(query[:, :, :prompt], key[:, :, :prompt], value[:, :, :prompt])
    return torch.cat([first, local], 2)
