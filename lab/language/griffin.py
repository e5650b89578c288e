"""Griffin: two recurrent blocks to one of local attention, and a state of fixed size (paper section 5)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from torch import Tensor, nn

from lab.language.config import GriffinConfig
from lab.language.layers import AttentionState, GeGLU, LocalAttention, RecurrentBlock, RecurrentState
from lab.language.model import CausalLM, ResidualBlock


class GriffinState(NamedTuple):
    """Tokens since the document began, (B,) int64, and the state of each layer."""

    length: Tensor
    layers: tuple[AttentionState | RecurrentState, ...]


class Griffin(CausalLM):
    """SpeechSSM's language model; `forward` is that of `CausalLM`."""

    config: GriffinConfig
    state_type = GriffinState

    @staticmethod
    def new_blocks(config: GriffinConfig) -> Iterator[nn.Module]:
        for kind in config.blocks:
            yield ResidualBlock(
                config.width,
                RecurrentBlock(config) if kind == "recurrent" else LocalAttention(config),
                GeGLU(config.width, config.mlp_expansion * config.width, config.layers, bias=True),
            )

    def run_blocks(
        self, x: Tensor, state: GriffinState | None, position: Tensor, length: Tensor, reset: Tensor | None
    ) -> tuple[Tensor, GriffinState]:
        layers = []
        for i, block in enumerate(self.blocks):
            x, layer = block(x, None if state is None else state.layers[i], position)
            layers.append(layer)
        return x, GriffinState(length, tuple(layers))
