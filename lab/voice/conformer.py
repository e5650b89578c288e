"""A bidirectional Conformer block (Gulati et al., 2005.08100); its attention may be local beside a prompt."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lab.nn import RMSNorm, attend
from lab.nn.convnext import DepthwiseConv
from lab.nn.rotary import rotate


class ConformerBlock(nn.Module):
    """Half a feed-forward, attention, convolution, half a feed-forward, each with a residual; then RMSNorm.

    width D; kernel of the convolution, in frames, odd; expansion of the feed-forwards; span as in `Attention`.
    """

    def __init__(self, width: int, heads: int, kernel: int, expansion: int, span: int | None):
        super().__init__()
        self.feed_forward1 = FeedForward(width, expansion)
        self.attention = Attention(width, heads, span)
        self.convolution = Convolution(width, kernel)
        self.feed_forward2 = FeedForward(width, expansion)
        self.norm = RMSNorm(width)

    def forward(self, x: Tensor, positions: Tensor, prompt: int) -> Tensor:
        """x (B, F, D), the first `prompt` frames the speaker's; positions (B or 1, F) -> (B, F, D)."""
        x = x + 0.5 * self.feed_forward1(x)
        x = x + self.attention(x, positions, prompt)
        x = x + self.convolution(x)
        return self.norm(x + 0.5 * self.feed_forward2(x))


class FeedForward(nn.Sequential):
    """RMSNorm, a layer of expansion * D with SiLU, and one back: (B, F, D) -> (B, F, D)."""

    def __init__(self, width: int, expansion: int):
        wide = expansion * width
        super().__init__(RMSNorm(width), nn.Linear(width, wide), nn.SiLU(), nn.Linear(wide, width))


class Convolution(nn.Module):
    """Pointwise with GLU, depthwise, SiLU, pointwise: (B, F, D) -> (B, F, D). RMSNorm in place of batch norm."""

    def __init__(self, width: int, kernel: int):
        super().__init__()
        self.norm, self.glu = RMSNorm(width), nn.Linear(width, 2 * width)
        self.depthwise, self.depthwise_norm = DepthwiseConv(width, kernel), RMSNorm(width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(F.silu(self.depthwise_norm(self.depthwise(F.glu(self.glu(self.norm(x)), -1)))))


class Attention(nn.Module):
    """Multi-head attention with rotary positions, to all frames, or to +-span frames and the prompt."""

    def __init__(self, width: int, heads: int, span: int | None):
        super().__init__()
        self.heads, self.span = heads, span
        self.norm = RMSNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, positions: Tensor, prompt: int) -> Tensor:
        query, key, value = self.qkv(self.norm(x)).unflatten(-1, (3, self.heads, -1)).unbind(2)  # (B, F, H, D / H)
        query, key, value = (
            y.transpose(1, 2) for y in (rotate(query, positions), rotate(key, positions), value)
        )  # (B, H, F, D / H)
        if self.span is None:
            y = attend(query, key, value)
        else:
            y = attend_locally(query, key, value, self.span, prompt)
        return self.out(y.transpose(1, 2).flatten(2))


def attend_locally(query: Tensor, key: Tensor, value: Tensor, span: int, prompt: int) -> Tensor:
    """Attention of each frame to the prompt and to frames at most `span` away; the prompt attends to itself alone.

    All (B, H, F, d). Blocks of `span` queries attend to their own block, both neighbours and the prompt, so
    cost grows with F and not with its square, and a frame has as many keys in a window of 27 s as in a
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
    at = torch.arange(blocks * span, device=query.device).view(blocks, span, 1)
    to = at[:, :1] - span + torch.arange(3 * span, device=query.device)  # (blocks, 1, 3 span)
    mask = ((to - at).abs() <= span) & (to >= 0) & (to < length)  # (blocks, span, 3 span)
    mask = F.pad(mask, (prompt, 0), value=True)[:, None].repeat(batch, 1, 1, 1)  # for B * blocks, and all heads
    local = attend(queries, context(key), context(value), mask)
    local = local.unflatten(0, (batch, blocks)).transpose(1, 2).reshape(batch, heads, -1, size)[:, :, :length]
    first = attend(query[:, :, :prompt], key[:, :, :prompt], value[:, :, :prompt])
    return torch.cat([first, local], 2)
