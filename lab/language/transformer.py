"""SpeechTransformer, the baseline: Gemma's decoder on the interface of Griffin (paper section 9).

Its state, the keys and values of all tokens so far, grows, and each step reads all of it: Griffin is compared with
that. `lab.language.decode` appends to it in place.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from lab.language.config import TransformerConfig
from lab.language.layers import GeGLU, MultiQueryAttention
from lab.language.model import CausalLM, ResidualBlock
from lab.nn.attention import attend


class CacheState(NamedTuple):
    """Keys and values of all tokens so far, (B, S, head_dim) each."""

    keys: Tensor
    values: Tensor

    def extended(self, keys: Tensor, values: Tensor) -> CacheState:
        """With those of T more, (B, T, head_dim)."""
        return CacheState(torch.cat([self.keys, keys], 1), torch.cat([self.values, values], 1))


class TransformerState(NamedTuple):
    """Tokens since the document began, (B,) int64, and the keys and values of each layer.

    packed: whether documents may begin inside of them.
    """

    length: Tensor
    layers: tuple[CacheState, ...]
    packed: bool = False

    @property
    def size(self) -> int:
        """S, the tokens in the cache, known without waiting for a GPU."""
        return self.layers[0].keys.shape[1]


class Attention(MultiQueryAttention):
    """Attention to every token since the document began."""

    def __init__(self, config: TransformerConfig):
        super().__init__(config, config.head_dim if config.rope else 0, bias=False)

    def forward(
        self, x: Tensor, state: CacheState | None, position: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, CacheState]:
        """x (B, T, D), position (B, T), mask (B or 1, T, S + T) bool; None is plain causal, or all for one token."""
        q, k, v = self.project(x, position)
        state = CacheState(k, v) if state is None else state.extended(k, v)
        k, v = state.keys, state.values  # (B, S + T, head_dim)
        visible = None if mask is None else mask[:, None]
        if x.shape[1] == 1:  # the heads share the keys, so they are passed as the queries: each key is read once
            y = attend(q, k[:, None], v[:, None], visible)
        else:
            wide_k, wide_v = (kv[:, None].expand(-1, self.heads, -1, -1) for kv in (k, v))
            y = attend(q.transpose(1, 2), wide_k, wide_v, visible, causal=mask is None).transpose(1, 2)
        return self.out(y.flatten(-2)), state


class SpeechTransformer(CausalLM):
    """The baseline language model; `forward` is that of `CausalLM`, and `config.context` is no limit of it."""

    config: TransformerConfig
    state_type = TransformerState

    def __init__(self, config: TransformerConfig):
        super().__init__(
            config,
            (
                ResidualBlock(
                    config.width,
                    Attention(config),
                    GeGLU(config.width, config.mlp_width, config.layers, bias=False),  # Gemma has no biases
                )
                for _ in range(config.layers)
            ),
        )

    def run_blocks(
        self, x: Tensor, state: TransformerState | None, position: Tensor, length: Tensor, reset: Tensor | None
    ) -> tuple[Tensor, TransformerState]:
        packed = reset is not None or (state is not None and state.packed)
        mask = self._mask(position, 0 if state is None else state.size, packed)
        layers = []
        for i, block in enumerate(self.blocks):
            x, layer = block(x, None if state is None else state.layers[i], position, mask)
            layers.append(layer)
        return x, TransformerState(length, tuple(layers), packed)

    def _mask(self, position: Tensor, start: int, packed: bool) -> Tensor | None:
        """(B or 1, T, start + T) bool; None where it would be plain causal, or True."""
        T = position.shape[1]
        if not packed and (T == 1 or start == 0):
            return None
        at = torch.arange(start + T, device=position.device)
        distance = at[start:, None] - at  # (T, start + T)
        causal = distance >= 0
        return causal & (distance <= position[..., None]) if packed else causal[None]
