"""What a model must offer to take the place of one of ours. Any object with these attributes will do."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np
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


@runtime_checkable
class Tokenizer(Protocol):
    """Waveform in, semantic tokens at 25 Hz out: what `lab.speech` needs of one."""

    @property
    def vocabulary(self) -> int:
        """V: tokens are 0 to V - 1."""

    @property
    def device(self) -> torch.device:
        """Where it computes."""

    def to(self, device: torch.device | str, /) -> Any:
        """Move there, in place, and return itself."""

    def encode(self, waveform: np.ndarray, /) -> Tensor:
        """Waveform (N,) float32 at 16 kHz, of any length -> tokens (ceil(N / 640),) int64."""

    def transcribe(self, tokens: Tensor, /) -> str:
        """Tokens (T,) -> the text that can be read off them."""

    def words(self, tokens: Tensor, /) -> list[tuple[float, float, str]]:
        """The words of `transcribe`, each with when it begins and ends, in seconds."""


@runtime_checkable
class Codec(Protocol):
    """Waveform at 16 kHz to codes at 25 Hz and back: what the voice and the shards need of one."""

    @property
    def levels(self) -> int:
        """Q, codes a frame."""

    @property
    def codes(self) -> int:
        """The size of each level's codebook: codes are 0 to this - 1."""

    @property
    def guessed(self) -> int | None:
        """How many levels a voice has to guess for `decode` to tell the rest from tokens; None: all that it speaks."""

    @property
    def receptive_field(self) -> int:
        """Samples of input, before and after, that a frame's codes depend on beside its own."""

    @property
    def device(self) -> torch.device:
        """Where waveforms and codes have to be."""

    def to(self, device: torch.device | str, /) -> Any:
        """Move there, in place, and return itself."""

    def encode(self, waveform: Tensor, /) -> Tensor:
        """(B, N) -> codes (B, ceil(N / 640), Q) int64, the coarsest level first."""

    def timbre(self, waveform: Tensor, /) -> Tensor:
        """Some seconds of a speaker (B, N) -> what `decode` has to know of who speaks (B, C); C may be 0."""

    def decode(self, codes: Tensor, timbre: Tensor, tokens: Tensor | None = None, /) -> Tensor:
        """Codes (B, F, q), the first q <= Q levels, and who speaks (B, C) -> (B, 640 F).

        Tokens (B, F), if given, say what is spoken where the codes are a voice's guess.
        """
