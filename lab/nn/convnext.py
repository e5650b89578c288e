"""ConvNeXt block in one dimension: what the tokenizer and the codec are built of."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lab.nn.norm import RMSNorm


class DepthwiseConv(nn.Module):
    """Depthwise convolution along the middle axis of (B, T, C), centred, same length; odd kernel.

    Runs as a 2-D convolution of height 1 on the channels-last layout that (B, T, C) already is: the 1-D convolution of
    torch takes several times as long on a CPU.
    """

    def __init__(self, width: int, kernel: int):
        super().__init__()
        bound = kernel**-0.5
        self.weight = nn.Parameter(torch.empty(width, 1, 1, kernel).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        width, _, _, kernel = self.weight.shape
        image = x[:, None].permute(0, 3, 1, 2)  # (B, C, 1, T), channels last
        mixed = F.conv2d(image, self.weight, self.bias, padding=(0, kernel // 2), groups=width)
        return mixed.permute(0, 2, 3, 1)[:, 0]


class ConvNeXtBlock(nn.Module):
    """x + scale * MLP(RMSNorm(depthwise convolution(x))), on (B, T, C) (Liu et al. 2022; Vocos uses it for audio).

    The receptive field grows by (kernel - 1) / 2 frames to each side. With a `condition` (B, condition) the norm's
    output is scaled and shifted by it, from the identity at first (FiLM, 1709.07871).
    """

    def __init__(self, width: int, kernel: int, condition: int = 0, expansion: int = 3, scale: float = 0.2):
        super().__init__()
        self.mix = DepthwiseConv(width, kernel)
        self.norm = RMSNorm(width)
        self.up = nn.Linear(width, expansion * width)
        self.down = nn.Linear(expansion * width, width)
        self.scale = nn.Parameter(torch.full((width,), scale))
        self.film = nn.Linear(condition, 2 * width) if condition else None
        if self.film is not None:
            nn.init.zeros_(self.film.weight)
            nn.init.zeros_(self.film.bias)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        normed = self.norm(self.mix(x))
        if self.film is not None:
            gain, shift = self.film(condition)[:, None].chunk(2, -1)
            normed = normed * (1 + gain) + shift
        return x + self.scale * self.down(F.gelu(self.up(normed)))


class ConvNeXt(nn.ModuleList):
    """Blocks one after the other, on (B, T, C), under one condition."""

    def __init__(self, count: int, width: int, kernel: int, condition: int = 0):
        super().__init__(ConvNeXtBlock(width, kernel, condition) for _ in range(count))

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        for block in self:
            x = block(x, condition)
        return x


def convnext_blocks(count: int, width: int, kernel: int, expansion: int = 3) -> nn.Sequential:
    """`count` blocks one after the other, on (B, T, C)."""
    return nn.Sequential(*(ConvNeXtBlock(width, kernel, expansion=expansion) for _ in range(count)))
