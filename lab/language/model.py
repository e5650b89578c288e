"""What Griffin and SpeechTransformer share: embedding, residual blocks, the output layer and the checks."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lab.errors import LabError
from lab.language.config import GriffinConfig, TransformerConfig
from lab.language.layers import GeGLU
from lab.language.tokens import check_tokens, positions
from lab.nn.norm import RMSNorm


class ResidualBlock(nn.Module):
    """x + mix(norm(x)), then x + mlp(norm(x)), on (B, T, D); `mix` has a state."""

    def __init__(self, width: int, mix: nn.Module, mlp: GeGLU):
        super().__init__()
        self.mix_norm = RMSNorm(width)
        self.mix = mix
        self.mlp_norm = RMSNorm(width)
        self.mlp = mlp

    def forward(self, x: Tensor, state: Any, *context: Any) -> tuple[Tensor, Any]:
        """x (B, T, D); state and context as `mix` takes them. Returns x and the next state."""
        mixed, state = self.mix(self.mix_norm(x), state, *context)
        x = x + mixed
        return x + self.mlp(self.mlp_norm(x)), state


def _embedding(config: GriffinConfig | TransformerConfig) -> Tensor:
    """(V, D)"""
    return torch.randn(config.vocabulary, config.width) / math.sqrt(config.width)


class CausalLM(nn.Module):
    """A decoder-only language model: semantic tokens in, logits of the next token out. Embedding and output are tied.

    A subclass gives the blocks, the type of its state and `run_blocks`.
    """

    state_type: type[tuple[Any, ...]]
    config: Any

    def __init__(self, config: GriffinConfig | TransformerConfig):
        super().__init__()
        self.config = config
        self.embedding = nn.Parameter(_embedding(config))
        self.blocks = nn.ModuleList(self.new_blocks(config))
        self.norm = RMSNorm(config.width)

    @staticmethod
    def new_blocks(config: Any) -> Iterator[nn.Module]:
        """The blocks of a new model, each made when it is asked for."""
        raise NotImplementedError

    def initial(self) -> Iterator[tuple[str, Tensor]]:
        """Names and weights of a new model of this config, drawn as its constructor draws them, with one block at a
        time in memory: for a model on the meta device, which has none."""
        yield "embedding", _embedding(self.config)
        for number, block in enumerate(self.new_blocks(self.config)):
            yield from ((f"blocks.{number}.{name}", value) for name, value in block.state_dict().items())
        yield from ((f"norm.{name}", value) for name, value in RMSNorm(self.config.width).state_dict().items())

    @property
    def vocabulary(self) -> int:
        """V: tokens are 0 to V - 1."""
        return self.config.vocabulary

    @property
    def context(self) -> int | None:
        """Tokens that the model was trained to, where its state grows; None for a state of fixed size."""
        return getattr(self.config, "context", None)

    @property
    def device(self) -> torch.device:
        return self.embedding.device

    def forward(
        self, tokens: Tensor, state: Any = None, reset: Tensor | None = None, last: bool = False
    ) -> tuple[Tensor, Any]:
        """Any number of tokens: a training sequence, a chunk of a prompt, one step.

        tokens: (B, T) int64. state: after the tokens before, None at a beginning. reset: (B, T) bool, True at the first
        token of a document, before which nothing is seen. last: compute the logits of the last token alone. Returns
        logits (B, T, V), or (B, 1, V), and the next state: Griffin's has a size that depends on B alone,
        SpeechTransformer's grows with each token. Raises LabError for arguments of another type, shape or device and,
        on a CPU, tokens outside the vocabulary.
        """
        check_tokens(tokens, reset, None, self.vocabulary, self.device)
        if state is not None:
            self._check_state(state, len(tokens))
        position, length = positions(tokens, None if state is None else state.length, reset)
        x = F.embedding(tokens, self.embedding) * math.sqrt(self.config.width)  # (B, T, D)
        x, state = self.run_blocks(x, state, position, length, reset)
        logits = F.linear(self.norm(x[:, -1:] if last else x), self.embedding)  # (B, T, V)
        cap = self.config.soft_cap
        return (logits if cap is None else cap * torch.tanh(logits / cap)), state

    def run_blocks(
        self, x: Tensor, state: Any, position: Tensor, length: Tensor, reset: Tensor | None
    ) -> tuple[Tensor, Any]:
        """x (B, T, D), position (B, T), length (B,) of the next state -> x (B, T, D) and the next state."""
        raise NotImplementedError

    def _check_state(self, state: Any, rows: int) -> None:
        name = type(self).__name__
        if not isinstance(state, self.state_type):
            raise LabError(f"the state of {name} must be a {self.state_type.__name__}, not {type(state).__name__}")
        if len(state.layers) != len(self.blocks):  # type: ignore[attr-defined]
            raise LabError(f"the state has {len(state.layers)} layers and {name} {len(self.blocks)}")  # type: ignore[attr-defined]
        length: Tensor = state.length  # type: ignore[attr-defined]
        if len(length) != rows:
            raise LabError(f"the state is of {len(length)} sequences and tokens of {rows}")
        if length.device != self.device:
            raise LabError(f"the state is on {length.device} and {name} on {self.device}; move them together")
