"""SpeechTransformer, the baseline: Gemma's decoder on the interface of Griffin (paper section 9).

Its state is every key and value so far: it grows, and each step reads all of it. That is what Griffin is
compared with. Tokens are written behind those before, into a room that doubles when it is full.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lab.errors import LabError
from lab.language.config import TransformerConfig
from lab.language.layers import GeGLU, linear
from lab.language.tokens import check_tokens, positions
from lab.nn.attention import attend
from lab.nn.norm import RMSNorm
from lab.nn.rotary import rotate


class CacheState(NamedTuple):
    """Keys and values of all tokens so far, (B, S, head_dim) each."""

    keys: Tensor
    values: Tensor


class Room:
    """Memory for the keys and values of all layers, shared by states as an array is by the slices of Go.

    Each state sees a front of it. The first to write behind its own front may do so in place, and `filled` tells
    the others that they came too late: they copy theirs into a room of their own. What a state sees is never
    written again. The oldest state keeps the whole room alive.
    """

    def __init__(self, buffer: Tensor):
        self.buffer = buffer  # (layers, 2, B, capacity, head_dim)
        self.filled = 0  # tokens

    def claim(self, keys: Tensor, more: int) -> bool:
        """Whether `more` tokens may be written behind `keys`, (B, S, head_dim) of the first layer; once only."""
        B, S, _ = keys.shape
        # A state may have been rearranged since: rows picked or repeated.
        ours = B == self.buffer.shape[2] and (S == 0 or keys.data_ptr() == self.buffer.data_ptr())
        # Outside of inference mode torch refuses to write to what was made inside.
        writable = torch.is_inference_mode_enabled() or not self.buffer.is_inference()
        free = ours and writable and self.filled == S and S + more <= self.buffer.shape[3]
        if free:
            self.filled = S + more
        return free


class TransformerState(NamedTuple):
    """Tokens since the document began, (B,) int64, and the cache of each layer.

    packed: whether documents may begin inside of the cache. room: where the caches lie, None where autograd keeps
    them.
    """

    length: Tensor
    layers: tuple[CacheState, ...]
    packed: bool = False
    room: Room | None = None

    @property
    def size(self) -> int:
        """S, the tokens in the cache, known without waiting for a GPU."""
        return self.layers[0].keys.shape[1]


class Attention(nn.Module):
    """Multi-query attention to everything since the document began."""

    def __init__(self, config: TransformerConfig):
        super().__init__()
        self.heads, self.head_dim, self.rope = config.heads, config.head_dim, config.rope
        inner = config.heads * config.head_dim
        self.qkv = linear(config.width, inner + 2 * config.head_dim, bias=False)
        self.out = linear(inner, config.width, bias=False, gain=2 / config.layers)

    def forward(
        self, x: Tensor, state: CacheState | None, position: Tensor, mask: Tensor | None, buffer: Tensor | None
    ) -> tuple[Tensor, CacheState]:
        """x (B, T, D), position (B, T), mask (B or 1, T, S + T) bool; None is plain causal, or all for one token.

        buffer: (2, B, capacity, head_dim), with `state` at its front and room behind; None to concatenate.
        """
        T = x.shape[1]
        q, k, v = self.qkv(x).split([self.heads * self.head_dim, self.head_dim, self.head_dim], -1)
        q = q.unflatten(-1, (self.heads, self.head_dim))  # (B, T, H, head_dim)
        if self.rope:
            q = rotate(q, position, self.head_dim)
            k = rotate(k[:, :, None], position, self.head_dim)[:, :, 0]
        start = 0 if state is None else state.keys.shape[1]
        if buffer is not None:
            buffer[0, :, start : start + T], buffer[1, :, start : start + T] = k, v
            k, v = buffer[:, :, : start + T]
        elif state is not None:
            k, v = torch.cat([state.keys, k], 1), torch.cat([state.values, v], 1)  # (B, S + T, head_dim)
        visible = None if mask is None else mask[:, None]
        if T == 1:  # the heads share the keys: they stand in for queries, and each key is read once
            y = attend(q, k[:, None], v[:, None], visible)
        else:
            wide_k, wide_v = (kv[:, None].expand(-1, self.heads, -1, -1) for kv in (k, v))
            y = attend(q.transpose(1, 2), wide_k, wide_v, visible, causal=mask is None).transpose(1, 2)
        return self.out(y.flatten(-2)), CacheState(k, v)


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)); Gemma has no biases."""

    def __init__(self, config: TransformerConfig):
        super().__init__()
        self.mix_norm = RMSNorm(config.width)
        self.mix = Attention(config)
        self.mlp_norm = RMSNorm(config.width)
        self.mlp = GeGLU(config.width, config.mlp_width, config.layers, bias=False)

    def forward(
        self, x: Tensor, state: CacheState | None, position: Tensor, mask: Tensor | None, buffer: Tensor | None
    ) -> tuple[Tensor, CacheState]:
        mixed, state = self.mix(self.mix_norm(x), state, position, mask, buffer)
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
        self,
        tokens: Tensor,
        state: TransformerState | None = None,
        reset: Tensor | None = None,
        last: bool = False,
    ) -> tuple[Tensor, TransformerState]:
        """Any number of tokens, as `Griffin.forward`, but the state grows; `config.context` is no limit.

        tokens: (B, T) int64. reset: (B, T) bool, True at the first token of a document. last: compute the logits of
        the last token alone. Returns logits (B, T, V), or (B, 1, V), and the next state. Raises LabError for tokens of
        another shape or, on a CPU, outside the vocabulary.
        """
        check_tokens(tokens, reset, None if state is None else len(state.length), self.config.vocabulary)
        position, length = positions(tokens, None if state is None else state.length, reset)
        start = 0 if state is None else state.size
        packed = reset is not None or (state is not None and state.packed)
        mask = self._mask(position, start, packed)
        room = self._room(state, len(tokens), start, tokens.shape[1])
        x = F.embedding(tokens, self.embedding) * math.sqrt(self.config.width)  # (B, T, D)
        layers = []
        for i, block in enumerate(self.blocks):
            before, buffer = None if state is None else state.layers[i], None if room is None else room.buffer[i]
            x, layer = block(x, before, position, mask, buffer)
            layers.append(layer)
        return F.linear(self.norm(x[:, -1:] if last else x), self.embedding), TransformerState(
            length, tuple(layers), packed, room
        )

    def empty_state(self, batch: int, capacity: int) -> TransformerState:
        """The state before any token, with room for `capacity` of them in `batch` sequences; more is no error.

        Raises LabError unless both are 1 or more.
        """
        if batch < 1 or capacity < 1:
            raise LabError(f"batch and capacity must be 1 or more, not {batch} and {capacity}")
        room = Room(self._buffer(batch, capacity))
        layers = tuple(CacheState(*buffer[:, :, :0]) for buffer in room.buffer)
        return TransformerState(self.embedding.new_zeros(batch, dtype=torch.int64), layers, room=room)

    def _mask(self, position: Tensor, start: int, packed: bool) -> Tensor | None:
        """(B or 1, T, start + T) bool, None where the order of the tokens says it all."""
        T = position.shape[1]
        if not packed and (T == 1 or start == 0):
            return None
        at = torch.arange(start + T, device=position.device)
        distance = at[start:, None] - at  # (T, start + T)
        causal = distance >= 0
        return causal & (distance <= position[..., None]) if packed else causal[None]

    def _room(self, state: TransformerState | None, batch: int, start: int, more: int) -> Room | None:
        """Where `more` tokens behind `start` may be written: the room of the state, or a larger copy of it.

        None while autograd is watching, which needs the keys of each call as they were.
        """
        if torch.is_grad_enabled() and any(parameter.requires_grad for parameter in self.parameters()):
            return None
        if state is not None and state.room is not None and state.room.claim(state.layers[0].keys, more):
            return state.room
        # doubled, so that a token is copied less than twice on average
        room = Room(self._buffer(batch, max(start + more, 2 * start)))
        room.filled = start + more
        if state is not None:
            for buffer, layer in zip(room.buffer, state.layers, strict=True):
                buffer[0, :, :start], buffer[1, :, :start] = layer
        return room

    def _buffer(self, batch: int, capacity: int) -> Tensor:
        return self.embedding.new_empty(self.config.layers, 2, batch, capacity, self.config.head_dim)
