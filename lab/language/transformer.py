"""SpeechTransformer, the baseline: Gemma's decoder on the interface of Griffin (paper section 9).

Its state, the keys and values of all tokens so far, grows, and each step reads all of it: Griffin is compared with
that. They are appended in place to a buffer that doubles when it is full.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from lab.errors import LabError
from lab.language.config import TransformerConfig
from lab.language.layers import GeGLU, MultiQueryAttention
from lab.language.model import CausalLM, ResidualBlock
from lab.nn.attention import attend


class CacheState(NamedTuple):
    """Keys and values of all tokens so far, (B, S, head_dim) each."""

    keys: Tensor
    values: Tensor


class KVBuffer:
    """Allocated memory for the keys and values of all layers; states that continue each other share it.

    A state is a view of its first tokens. The first continuation of a state may write behind that view in place, which
    `filled` records; any other copies its tokens to a buffer of its own. What a state views is never written again.
    """

    def __init__(self, tensor: Tensor):
        self.tensor = tensor  # (layers, 2, B, capacity, head_dim)
        self.filled = 0  # tokens

    def claim(self, keys: Tensor, more: int) -> bool:
        """Whether `more` tokens may be written behind `keys`, (B, S, head_dim) of the first layer; once only."""
        B, S, _ = keys.shape
        # A state may have been rearranged since: rows picked or repeated.
        ours = B == self.tensor.shape[2] and (S == 0 or keys.data_ptr() == self.tensor.data_ptr())
        # Outside of inference mode torch refuses to write to what was made inside.
        writable = torch.is_inference_mode_enabled() or not self.tensor.is_inference()
        free = ours and writable and self.filled == S and S + more <= self.tensor.shape[3]
        if free:
            self.filled = S + more
        return free


class TransformerState(NamedTuple):
    """Tokens since the document began, (B,) int64, and the keys and values of each layer.

    packed: whether documents may begin inside of them. buffer: what they are views of, None where autograd needs each
    call's own.
    """

    length: Tensor
    layers: tuple[CacheState, ...]
    packed: bool = False
    buffer: KVBuffer | None = None

    @property
    def size(self) -> int:
        """S, the tokens in the cache, known without waiting for a GPU."""
        return self.layers[0].keys.shape[1]


class Attention(MultiQueryAttention):
    """Attention to every token since the document began."""

    def __init__(self, config: TransformerConfig):
        super().__init__(config, config.head_dim if config.rope else 0, bias=False)

    def forward(
        self, x: Tensor, state: CacheState | None, position: Tensor, mask: Tensor | None, buffer: Tensor | None
    ) -> tuple[Tensor, CacheState]:
        """x (B, T, D), position (B, T), mask (B or 1, T, S + T) bool; None is plain causal, or all for one token.

        buffer: (2, B, capacity, head_dim), `state` being its first tokens; None to concatenate.
        """
        T = x.shape[1]
        q, k, v = self.project(x, position)
        start = 0 if state is None else state.keys.shape[1]
        if buffer is not None:
            buffer[0, :, start : start + T], buffer[1, :, start : start + T] = k, v
            k, v = buffer[:, :, : start + T]
        elif state is not None:
            k, v = torch.cat([state.keys, k], 1), torch.cat([state.values, v], 1)  # (B, S + T, head_dim)
        visible = None if mask is None else mask[:, None]
        if T == 1:  # the heads share the keys, so they are passed as the queries: each key is read once
            y = attend(q, k[:, None], v[:, None], visible)
        else:
            wide_k, wide_v = (kv[:, None].expand(-1, self.heads, -1, -1) for kv in (k, v))
            y = attend(q.transpose(1, 2), wide_k, wide_v, visible, causal=mask is None).transpose(1, 2)
        return self.out(y.flatten(-2)), CacheState(k, v)


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
        B, T = position.shape
        start = 0 if state is None else state.size
        packed = reset is not None or (state is not None and state.packed)
        mask, buffer = self._mask(position, start, packed), self._buffer(state, B, start, T)
        layers = []
        for i, block in enumerate(self.blocks):
            before, place = None if state is None else state.layers[i], None if buffer is None else buffer.tensor[i]
            x, layer = block(x, before, position, mask, place)
            layers.append(layer)
        return x, TransformerState(length, tuple(layers), packed, buffer)

    def empty_state(self, batch: int, capacity: int) -> TransformerState:
        """The state before any token, `capacity` of them allocated for `batch` sequences; more is no error.

        Raises LabError unless both are 1 or more.
        """
        if batch < 1 or capacity < 1:
            raise LabError(f"batch and capacity must be 1 or more, not {batch} and {capacity}")
        buffer = self._allocate(batch, capacity)
        layers = tuple(CacheState(*layer[:, :, :0]) for layer in buffer.tensor)
        return TransformerState(self.embedding.new_zeros(batch, dtype=torch.int64), layers, buffer=buffer)

    def _mask(self, position: Tensor, start: int, packed: bool) -> Tensor | None:
        """(B or 1, T, start + T) bool; None where it would be plain causal, or True."""
        T = position.shape[1]
        if not packed and (T == 1 or start == 0):
            return None
        at = torch.arange(start + T, device=position.device)
        distance = at[start:, None] - at  # (T, start + T)
        causal = distance >= 0
        return causal & (distance <= position[..., None]) if packed else causal[None]

    def _buffer(self, state: TransformerState | None, batch: int, start: int, more: int) -> KVBuffer | None:
        """Where `more` tokens behind `start` may be written: the state's buffer, or a larger copy of it.

        None while autograd records, which needs the keys of each call as they were.
        """
        if torch.is_grad_enabled() and any(parameter.requires_grad for parameter in self.parameters()):
            return None
        if state is not None and state.buffer is not None and state.buffer.claim(state.layers[0].keys, more):
            return state.buffer
        # doubled, so that a token is copied less than twice on average
        buffer = self._allocate(batch, max(start + more, 2 * start))
        buffer.filled = start + more
        if state is not None:
            for place, layer in zip(buffer.tensor, state.layers, strict=True):
                place[0, :, :start], place[1, :, :start] = layer
        return buffer

    def _allocate(self, batch: int, capacity: int) -> KVBuffer:
        return KVBuffer(self.embedding.new_empty(self.config.layers, 2, batch, capacity, self.config.head_dim))
