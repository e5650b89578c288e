"""SpeechTransformer, the baseline: Gemma's decoder on the interface of Griffin (paper section 9).

Its state, the keys and values of all tokens so far, grows, and each step reads all of it: Griffin is compared with
that. `lab.language.decode` appends to it in place.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lab.language.config import TransformerConfig
from lab.language.layers import GeGLU, MultiQueryAttention
from lab.language.model import CausalLM, ResidualBlock
from lab.nn.attention import attend

BLOCK = 512  # queries


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


class Part(NamedTuple):
    """Queries and all the keys that one of them may see, among the cache and the new tokens."""

    queries: slice
    keys: slice
    mask: Tensor | None  # (B or 1, 1, queries, keys) bool; None is plain causal, or all for one token


class Attention(MultiQueryAttention):
    """Attention to every token since the document began."""

    def __init__(self, config: TransformerConfig):
        super().__init__(config, config.head_dim if config.rope else 0, bias=False)

    def forward(
        self, x: Tensor, state: CacheState | None, position: Tensor, parts: list[Part]
    ) -> tuple[Tensor, CacheState]:
        """x (B, T, D), position (B, T); the queries of `parts` are all T, in order."""
        q, k, v = self.project(x, position)
        state = CacheState(k, v) if state is None else state.extended(k, v)
        if x.shape[1] == 1:  # the heads share the keys, so they are passed as the queries: each key is read once
            y = attend(q, state.keys[:, None], state.values[:, None], parts[0].mask)  # keys (B, 1, S + 1, head_dim)
        else:
            y = torch.cat([self._attend(q, state, part) for part in parts], 1)
        return self.out(y.flatten(-2)), state

    def _attend(self, q: Tensor, state: CacheState, part: Part) -> Tensor:
        """q (B, T, H, head_dim) -> that of the part's queries."""
        k, v = (kv[:, None, part.keys] for kv in state)
        return attend(q[:, part.queries].transpose(1, 2), k, v, part.mask, causal=part.mask is None).transpose(1, 2)


class SpeechTransformer(CausalLM):
    """The baseline language model; `forward` is that of `CausalLM`, and `config.context` is no limit of it."""

    config: TransformerConfig
    state_type = TransformerState

    @staticmethod
    def new_blocks(config: TransformerConfig) -> Iterator[nn.Module]:
        for _ in range(config.layers):
            yield ResidualBlock(
                config.width,
                Attention(config),
                GeGLU(config.width, config.mlp_width, config.layers, bias=False),  # Gemma has no biases
            )

    def run_blocks(
        self, x: Tensor, state: TransformerState | None, position: Tensor, length: Tensor, reset: Tensor | None
    ) -> tuple[Tensor, TransformerState]:
        packed = reset is not None or (state is not None and state.packed)
        parts = self._parts(position, 0 if state is None else state.size, packed)
        layers = []
        for i, block in enumerate(self.blocks):
            x, layer = block(x, None if state is None else state.layers[i], position, parts)
            layers.append(layer)
        return x, TransformerState(length, tuple(layers), packed)

    def _parts(self, position: Tensor, start: int, packed: bool) -> list[Part]:
        """All queries at once, or on a CPU, where masks are long, blocks of them.

        A fused kernel with a mask computes what the mask hides: of pieces of packed documents two thirds and more.
        """
        T = position.shape[1]
        if not packed and (T == 1 or start == 0):
            return [Part(slice(0, T), slice(0, start + T), None)]
        size = BLOCK if position.device.type == "cpu" else T
        parts = []
        for at in range(0, T, size):
            stop = min(at + size, T)
            first = int((start + at - position[:, at]).min().clamp(min=0)) if packed and size < T else 0
            keys = torch.arange(first, start + stop, device=position.device)
            distance = keys[start + at - first :, None] - keys
            mask = (distance >= 0)[None, None]
            if packed:
                mask = mask & (distance <= position[:, None, at:stop, None])
            parts.append(Part(slice(at, stop), slice(first, start + stop), mask))
        return parts
