"""SpeechTransformer, the baseline: Gemma's decoder on the interface of Griffin (paper section 9).

Its state is every key and value so far: it grows, and each step reads all of it. That is what Griffin is
compared with.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lab.language.config import TransformerConfig
from lab.language.layers import GeGLU, linear, rotate
from lab.language.tokens import check_tokens, positions
from lab.nn.norm import RMSNorm


class CacheState(NamedTuple):
    """Keys and values of all tokens so far, (B, S, head_dim) each."""

    keys: Tensor
    values: Tensor


class TransformerState(NamedTuple):
    """Tokens since the document began, (B,) int64, and the cache of each layer."""

    length: Tensor
    layers: tuple[CacheState, ...]


class Attention(nn.Module):
    """Multi-query attention to everything since the document began."""

    def __init__(self, config: TransformerConfig):
        super().__init__()
        self.heads, self.head_dim, self.rope = config.heads, config.head_dim, config.rope
        inner = config.heads * config.head_dim
        self.qkv = linear(config.width, inner + 2 * config.head_dim, bias=False)
        self.out = linear(inner, config.width, bias=False, gain=2 / config.layers)

    def forward(
        self, x: Tensor, state: CacheState | None, position: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, CacheState]:
        """x (B, T, D), position (B, T), mask (B, T, S + T) bool; None is plain causal, without a state."""
        q, k, v = self.qkv(x).split([self.heads * self.head_dim, self.head_dim, self.head_dim], -1)
        q = q.unflatten(-1, (self.heads, self.head_dim))  # (B, T, H, head_dim)
        if self.rope:
            q = rotate(q, position, self.head_dim)
            k = rotate(k[:, :, None], position, self.head_dim)[:, :, 0]
        if state is not None:
            k, v = torch.cat([state.keys, k], 1), torch.cat([state.values, v], 1)  # (B, S + T, head_dim)
        wide_k, wide_v = (kv[:, None].expand(-1, self.heads, -1, -1) for kv in (k, v))
        visible = None if mask is None else mask[:, None]
        y = F.scaled_dot_product_attention(q.transpose(1, 2), wide_k, wide_v, attn_mask=visible, is_causal=mask is None)
        return self.out(y.transpose(1, 2).flatten(-2)), CacheState(k, v)


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)); Gemma has no biases."""

    def __init__(self, config: TransformerConfig):
        super().__init__()
        self.mix_norm = RMSNorm(config.width)
        self.mix = Attention(config)
        self.mlp_norm = RMSNorm(config.width)
        self.mlp = GeGLU(config.width, config.mlp_width, config.layers, bias=False)

    def forward(
        self, x: Tensor, state: CacheState | None, position: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, CacheState]:
        mixed, state = self.mix(self.mix_norm(x), state, position, mask)
        x = x + mixed
        return x + self.mlp(self.mlp_norm(x)), state


class SpeechTransformer(nn.Module):
    """The baseline language model: semantic tokens in, logits of the next one out."""

    def __init__(self, config: TransformerConfig):
        super().__init__()
        self.config = config
        self.embedding = nn.Parameter(torch.randn(config.vocabulary, config.width) / math.sqrt(config.width))  # (V, D)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = RMSNorm(config.width)

    def forward(
        self, tokens: Tensor, state: TransformerState | None = None, reset: Tensor | None = None
    ) -> tuple[Tensor, TransformerState]:
        """Any number of tokens, as `Griffin.forward`, but the state grows; `config.context` is no limit.

        tokens: (B, T) int64. reset: (B, T) bool, True at the first token of a document. Returns logits (B,
        T, V) and the next state. Raises LabError for tokens of another shape or, on a CPU, outside the
        vocabulary.
        """
        check_tokens(tokens, reset, None if state is None else len(state.length), self.config.vocabulary)
        position, length = positions(tokens, None if state is None else state.length, reset)
        mask = None
        if state is not None or reset is not None:
            T = tokens.shape[1]
            total = T if state is None else T + state.layers[0].keys.shape[1]
            at = torch.arange(total, device=tokens.device)
            distance = at[total - T :, None] - at  # (T, S + T)
            mask = (distance >= 0) & (distance <= position[..., None])
        x = F.embedding(tokens, self.embedding) * math.sqrt(self.config.width)  # (B, T, D)
        layers = []
        for i, block in enumerate(self.blocks):
            x, layer = block(x, None if state is None else state.layers[i], position, mask)
            layers.append(layer)
        return F.linear(self.norm(x), self.embedding), TransformerState(length, tuple(layers))
