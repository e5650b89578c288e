"""Decoding, one token of each sequence at a time, by the fastest way there is for the model on its device.

Griffin on a CPU is stepped by `lab.language.lean` as soon as that is compiled, on a GPU by a CUDA graph (one launch in
place of some hundreds), any other model by its own forward.
"""

from __future__ import annotations

from threading import Thread
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from lab.errors import LabError
from lab.language.griffin import Griffin, GriffinState
from lab.language.layers import AttentionState, RecurrentState
from lab.language.lean import Stepper
from lab.language.packed import Packed, Weights, pack
from lab.language.transformer import CacheState, TransformerState
from lab.protocols import LanguageModel

MAX_ROWS = 8  # with more, a matrix product of torch is faster
MAX_BYTES = 1e9  # of weights: larger ones are not copied unless int8 is asked for
PATIENCE = 2.0  # seconds: the lean step is loaded from disk in less; to compile it takes 20
SPARE = 256  # tokens of a cache: to copy it whenever they are used up costs less than 1 % of reading it at each


class Decoder(Protocol):
    """A batch of sequences, each at its newest token."""

    @property
    def state(self) -> Any:
        """Of the model, after all tokens stepped so far."""

    def step(self, tokens: Tensor) -> Tensor:
        """The newest tokens (B,) int64 -> logits of the next (B, V)."""


class Ring(AttentionState):
    """A ring buffer that is written in place."""

    def put(self, slot: Tensor, keys: Tensor, values: Tensor) -> AttentionState:
        for kept, new in ((self.keys, keys), (self.values, values)):
            kept.scatter_(1, slot[..., None].expand_as(new), new)
        return self


class Cache:
    """A `CacheState` that is extended in place, in memory for SPARE tokens more."""

    def __init__(self, keys: Tensor, values: Tensor):
        self._memory = F.pad(torch.stack([keys, values]), (0, 0, 0, SPARE))  # (2, B, capacity, head_dim)
        self.keys, self.values = keys, values

    def extended(self, keys: Tensor, values: Tensor) -> Cache:
        start, end = self.keys.shape[1], self.keys.shape[1] + keys.shape[1]
        if end > self._memory.shape[2]:
            self._memory = F.pad(self._memory, (0, 0, 0, SPARE))
        self._memory[0, :, start:end], self._memory[1, :, start:end] = keys, values
        self.keys, self.values = self._memory[:, :, :end]
        return self


class Forward:
    """Steps by the model's own forward, on any device; what a Griffin or SpeechTransformer attends to is not copied."""

    def __init__(self, model: LanguageModel, state: Any):
        self.model, self._state = model, _owned(state)

    @property
    def state(self) -> Any:
        return _value(self._state)

    def step(self, tokens: Tensor) -> Tensor:
        logits, self._state = self.model(tokens[:, None], self._state)
        return logits[:, -1]


class Early:
    """Steps by the model's forward until the lean step is compiled, and by that from then on."""

    def __init__(self, model: Griffin, state: GriffinState, packed: Packed, compiler: Thread):
        self._packed, self._compiler = packed, compiler
        self._decoder: Forward | Stepper = Forward(model, state)

    @property
    def state(self) -> GriffinState:
        return self._decoder.state

    def step(self, tokens: Tensor) -> Tensor:
        if isinstance(self._decoder, Forward) and not self._compiler.is_alive():
            self._decoder = Stepper(self._packed, self._decoder.state)
        return self._decoder.step(tokens)


class Graph:
    """Steps by a CUDA graph, recorded once on tensors that are updated in place."""

    def __init__(self, model: Griffin, state: GriffinState):
        self._tokens = torch.zeros(len(state.length), 1, dtype=torch.int64, device=state.length.device)
        self._state, rehearsed = _owned(state), _owned(state)
        warm = torch.cuda.Stream()
        warm.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(warm):  # kernels are compiled and chosen outside of the recording
            for _ in range(3):
                model(self._tokens, rehearsed)
        torch.cuda.current_stream().wait_stream(warm)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._logits, after = model(self._tokens, self._state)
            for old, new in zip(_tensors(self._state), _tensors(after), strict=True):
                if new is not old:  # as in a Ring
                    old.copy_(new)

    @property
    def state(self) -> GriffinState:
        return _value(self._state)

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
            stepper = Stepper(pack(model, weights), state)
            if weights == "float32":  # a forward with int8 weights there is none
                compiler = stepper.compiler()
                compiler.join(PATIENCE)
                if compiler.is_alive():
                    return Early(model, state, stepper.packed, compiler)
            return stepper
        if device == "cuda":
            return Graph(model, state)
    if weights != "float32":
        raise LabError(f"only Griffin steps with {weights} weights, not {type(model).__name__}; leave weights out")
    return Forward(model, state)


def _tensors(state: Any) -> list[Tensor]:
    return [state] if isinstance(state, Tensor) else [tensor for part in state for tensor in _tensors(part)]


def _owned(state: Any) -> Any:
    """A copy of a state of Griffin or SpeechTransformer whose keys and values its next forward writes in place."""
    if isinstance(state, TransformerState):
        caches: tuple[Any, ...] = tuple(Cache(*layer) for layer in state.layers)
        return state._replace(layers=caches)
    return _copied(state, Ring) if isinstance(state, GriffinState) else state


def _value(state: Any) -> Any:
    """What `_owned` made as a state that is never written to: a cache is only appended to."""
    if isinstance(state, TransformerState):
        return state._replace(layers=tuple(CacheState(layer.keys, layer.values) for layer in state.layers))
    return _copied(state, AttentionState) if isinstance(state, GriffinState) else state


def _copied(state: GriffinState, ring: type[AttentionState]) -> GriffinState:
    kinds = (ring if isinstance(layer, AttentionState) else RecurrentState for layer in state.layers)
    layers = (kind(*(tensor.clone() for tensor in layer)) for kind, layer in zip(kinds, state.layers, strict=True))
    return GriffinState(state.length.clone(), tuple(layers))
