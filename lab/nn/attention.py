"""Scaled dot-product attention, by the quickest of torch's ways."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, causal: bool = False) -> Tensor:
    """(B, H, T, d), (B, H or 1, S, d), same -> (B, H, T, d); mask bool, (B or 1, H or 1, T, S), True where it may look.

    One head of keys is shared by all of the queries. In bfloat16 on a CPU torch's fused kernel is slower, above all
    backward, than the products that it fuses; there time goes into memory, so keys are not copied for each head, and
    the mask is added in place.
    """
    B, H, T, d = query.shape
    if query.device.type != "cpu" or query.dtype != torch.bfloat16:
        key, value = (kv.expand(B, H, -1, -1) for kv in (key, value))
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=causal)
    if causal:
        mask = torch.ones(T, key.shape[-2], dtype=torch.bool).tril()
    folded = (B, 1, H * T, d) if key.shape[1] == 1 else query.shape
    scores = (query / math.sqrt(d)).reshape(folded) @ key.mT
    scores = scores.view(B, H, T, -1)
    if mask is not None:
        scores += scores.new_zeros(mask.shape).masked_fill_(~mask, torch.finfo(scores.dtype).min)  # -inf: NaN if all
    return (scores.softmax(-1).view(*folded[:-1], -1) @ value).view(B, H, T, d)
