"""What a model must offer to take the place of one of ours. Any object with these attributes will do."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor


@runtime_checkable
class LanguageModel(Protocol):
    """Semantic tokens in, logits of the next token out: what `lab.language.generate` needs of a model."""

    @property
    def vocabulary(self) -> int:
        """V: tokens are 0 to V - 1."""

    @property
    def context(self) -> int | None:
        """Tokens that the model was trained to, where its state grows; None for a state of fixed size."""

    @property
    def device(self) -> torch.device:
        """Where tokens have to be."""

    def to(self, device: torch.device | str, /) -> Any:
        """Move there, in place, and return itself."""

    def __call__(
        self, tokens: Tensor, state: Any = None, reset: Tensor | None = None, last: bool = False
    ) -> tuple[Tensor, Any]:
        """Tokens (B, T) int64 and the state before them -> logits (B, T, V) and the next state.

        Any split into chunks gives the same logits. reset: (B, T) bool, True at a document's first token, before which
        nothing is seen. last: logits (B, 1, V) of the last token alone.
        """
