"""Griffin: two recurrent blocks to one of local attention, and a state that never grows (paper section 5)."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lab.language.config import GriffinConfig
from lab.language.layers import AttentionState, GeGLU, LocalAttention, RecurrentBlock, RecurrentState
from lab.language.tokens import check_tokens, positions
from lab.nn.norm import RMSNorm


class GriffinState(NamedTuple):
    """Tokens since the document began, (B,) int64, and the state of each layer."""

    length: Tensor
    layers: tuple[AttentionState | RecurrentState, ...]


class ResidualBlock(nn.Module):
    """x + mix(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, config: GriffinConfig, kind: str):
        super().__init__()
        self.mix_norm = RMSNorm(config.width)
        self.mix = RecurrentBlock(config) if kind == "recurrent" else LocalAttention(config)
        self.mlp_norm = RMSNorm(config.width)
        self.mlp = GeGLU(config.width, config.mlp_expansion * config.width, config.layers, bias=True)

    def forward(self, x: Tensor, state: NamedTuple | None, position: Tensor) -> tuple[Tensor, NamedTuple]:
        mixed, state = self.mix(self.mix_norm(x), state, position)
        x = x + mixed
        return x + self.mlp(self.mlp_norm(x)), state


class Griffin(nn.Module):
    """SpeechSSM's language model: semantic tokens in, logits of the next one out."""

    def __init__(self, config: GriffinConfig):
        super().__init__()
        self.config = config
        self.embedding = nn.Parameter(torch.randn(config.vocabulary, config.width) / math.sqrt(config.width))  # (V, D)
        self.blocks = nn.ModuleList(ResidualBlock(config, kind) for kind in config.blocks)
        self.norm = RMSNorm(config.width)

    def forward(
        self,
        tokens: Tensor,
        state: GriffinState | None = None,
        reset: Tensor | None = None,
        last: bool = False,
    ) -> tuple[Tensor, GriffinState]:
        """Any number of tokens: a training sequence, a piece of a prompt, one step.

        tokens: (B, T) int64. state: of the tokens before, None at a beginning. reset: (B, T) bool, True at
        the first token of a document, which then sees nothing before itself. last: compute the logits of the last
        token alone. Returns logits (B, T, V), or (B, 1, V), and the next state, of a size that depends on B alone.
        Raises LabError for tokens of another shape or, on a CPU, outside the vocabulary.
        """
        check_tokens(tokens, reset, None if state is None else len(state.length), self.config.vocabulary)
        position, length = positions(tokens, None if state is None else state.length, reset)
        x = nn.functional.embedding(tokens, self.embedding) * math.sqrt(self.config.width)  # (B, T, D)
        layers = []
        for i, block in enumerate(self.blocks):
            x, layer = block(x, None if state is None else state.layers[i], position)
            layers.append(layer)
        logits = nn.functional.linear(self.norm(x[:, -1:] if last else x), self.embedding)  # (B, T, V), tied
        cap = self.config.soft_cap
        return cap * torch.tanh(logits / cap), GriffinState(length, tuple(layers))
