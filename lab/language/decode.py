"""Decoding, one token of each sequence at a time, by the fastest way there is for the model on its device.

Griffin on a CPU is stepped by `lab.language.lean`, on a GPU by a CUDA graph (one launch in place of some hundreds), any
other model by its own forward.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from lab.errors import LabError
from lab.language.griffin import Griffin, GriffinState
from lab.language.lean import Stepper
from lab.language.packed import Weights, pack
from lab.protocols import LanguageModel

MAX_ROWS = 8  # with more, a matrix product of torch is faster
MAX_BYTES = 1e9  # of weights: larger ones are not copied unless int8 is asked for


class Decoder(Protocol):
    """A batch of sequences, each at its newest token."""

    @property
    def state(self) -> Any:
        """Of the model, after all tokens stepped so far."""

    def step(self, tokens: Tensor) -> Tensor:
        """The newest tokens (B,) int64 -> logits of the next (B, V)."""


class Forward:
    """Steps by the model's own forward, on any device."""

    def __init__(self, model: LanguageModel, state: Any):
        self.model, self.state = model, state

    def step(self, tokens: Tensor) -> Tensor:
        logits, self.state = self.model(tokens[:, None], self.state)
        return logits[:, -1]


class Graph:
    """Steps by a CUDA graph, recorded once on tensors that are updated in place."""

    def __init__(self, model: Griffin, state: GriffinState):
        self._tokens = torch.zeros(len(state.length), 1, dtype=torch.int64, device=state.length.device)
        self._state = _copy(state)
        warm = torch.cuda.Stream()
        warm.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(warm):  # kernels are compiled and chosen outside of the recording
            for _ in range(3):
                model(self._tokens, self._state)
        torch.cuda.current_stream().wait_stream(warm)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._logits, after = model(self._tokens, self._state)
            for old, new in zip(_tensors(self._state), _tensors(after), strict=True):
                old.copy_(new)

    @property
    def state(self) -> GriffinState:
        return _copy(self._state)

    def step(self, tokens: Tensor) -> Tensor:
        self._tokens.copy_(tokens[:, None])
        self._graph.replay()
        return self._logits[:, -1].clone()


def decoder(model: LanguageModel, state: Any, weights: Weights = "float32") -> Decoder:
    """The fastest decoder from `state`, no tensor of which is written to.

    weights: "int8" rounds the matrices of a Griffin on a CPU, one scale a row. Raises LabError for another model.
    """
    if isinstance(model, Griffin):
        device, rows = model.embedding.device.type, len(state.length)
        bytes_ = 4 * sum(parameter.numel() for parameter in model.parameters())
        small = rows <= MAX_ROWS and bytes_ <= MAX_BYTES and model.embedding.dtype == torch.float32
        if weights == "int8" or (device == "cpu" and small):
            return Stepper(pack(model, weights), state)
        if device == "cuda":
            return Graph(model, state)
    if weights != "float32":
        raise LabError(f"only Griffin steps with {weights} weights, not {type(model).__name__}; leave weights out")
    return Forward(model, state)


def _tensors(state: Any) -> list[Tensor]:
    return [state] if isinstance(state, Tensor) else [tensor for part in state for tensor in _tensors(part)]


def _copy(state: GriffinState) -> GriffinState:
    layers = tuple(type(layer)(*(tensor.clone() for tensor in layer)) for layer in state.layers)
    return GriffinState(state.length.clone(), layers)
