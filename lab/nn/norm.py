"""RMSNorm as in RecurrentGemma."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class RMSNorm(nn.Module):
    """y = x / rms(x) * (1 + scale), over the last axis; scale starts at 0, statistics in float32."""

    def __init__(self, width: int, eps: float = 1e-6):
        super().__init__()
        self.scale = nn.Parameter(torch.zeros(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type == "cpu" and x.dtype == torch.float32 and not torch.is_grad_enabled():
            # in half the passes over memory
            over = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_().div_(x.shape[-1]).add_(self.eps).rsqrt_()
            return (x * over).mul_(1 + self.scale)
        normed = nn.functional.rms_norm(x.float(), x.shape[-1:], 1 + self.scale.float(), self.eps)
        return normed.to(x.dtype)
