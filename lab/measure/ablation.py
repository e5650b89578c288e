"""What a language model remembers by: Griffin with h, with the windows of its attention, or with both taken away."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lab.errors import LabError
from lab.language import Griffin, GriffinState
from lab.language.layers import AttentionState, RecurrentState


def forget_windows(state: GriffinState) -> GriffinState:
    """`state` whose attention sees no more than the newest token; h stays. For models without rope, whose layers learn
    of positions only how far they may look back."""

    def newest(kv: Tensor) -> Tensor:  # as if it were the first of its document, in slot 0
        return kv.take_along_dim((state.length - 1)[:, None, None] % kv.shape[1], 1).expand_as(kv)

    layers = (
        AttentionState(newest(layer.keys), newest(layer.values)) if isinstance(layer, AttentionState) else layer
        for layer in state.layers
    )
    return GriffinState(torch.ones_like(state.length), tuple(layers))


def _zero_h(state: GriffinState) -> GriffinState:
    layers = (
        layer._replace(hidden=torch.zeros_like(layer.hidden)) if isinstance(layer, RecurrentState) else layer
        for layer in state.layers
    )
    return state._replace(layers=tuple(layers))


INTACT, NO_H, NO_WINDOWS, NEITHER = "intact", "h zeroed", "windows forgotten", "both"
ABLATIONS: dict[str, Callable[[GriffinState], GriffinState]] = {
    INTACT: lambda state: state,
    NO_H: _zero_h,
    NO_WINDOWS: forget_windows,
    NEITHER: lambda state: _zero_h(forget_windows(state)),
}


def ablate(state: Any, ablation: str) -> GriffinState:
    """`state` with h of all RG-LRUs 0 ("h zeroed"), with attention that sees the newest token alone ("windows
    forgotten"), or "both"; "intact" as it is. The taps of the convolutions, 3 tokens, stay.

    Of the module and of the compiled step alike: go on from what comes back. Raises LabError for a state that is not
    Griffin's, and for an ablation of another name.
    """
    if not isinstance(state, GriffinState):
        raise LabError(f"only a state of Griffin can be ablated, not {type(state).__name__}")
    if ablation not in ABLATIONS:
        raise LabError(f"there is no ablation {ablation!r}; there are {', '.join(ABLATIONS)}")
    return ABLATIONS[ablation](state)


class _Ablated(NamedTuple):
    tokens: int  # read since the last ablation
    state: Any


class Ablated:
    """A Griffin ablated all the time, in the place of a language model: before every `every`-th token.

    With 1, a token's layers have nothing but what the ablation leaves of the tokens before. Keys and values within the
    windows are what layers made of h, so "h zeroed" from time to time leaves what they took from it.
    """

    def __init__(self, model: Griffin, ablation: str, every: int = 1):
        if not isinstance(model, Griffin):
            raise LabError(f"only a Griffin can be ablated, not {type(model).__name__}")
        if ablation not in ABLATIONS or every < 1:
            raise LabError(f"cannot ablate {ablation!r} before every {every} tokens; there are {', '.join(ABLATIONS)}")
        self.model, self.ablation, self.every = model, ablation, every
        self.vocabulary, self.context = model.vocabulary, model.context

    @property
    def device(self) -> torch.device:
        return self.model.device

    def to(self, device: torch.device | str, /) -> Ablated:
        self.model.to(device)
        return self

    def __call__(
        self, tokens: Tensor, state: Any = None, reset: Tensor | None = None, last: bool = False
    ) -> tuple[Tensor, Any]:
        """As a `LanguageModel`. Raises LabError for reset: documents that begin elsewhere are ablated elsewhere."""
        if reset is not None:
            raise LabError("an ablated model reads one document from its beginning; leave reset out")
        read, inner = state or (0, None)
        found, start = [], 0
        while start < tokens.shape[1]:
            if read == self.every:
                inner, read = ablate(inner, self.ablation), 0
            chunk = tokens[:, start : start + self.every - read]
            logits, inner = self.model(chunk, inner, last=last)
            found.append(logits)
            start, read = start + chunk.shape[1], read + chunk.shape[1]
        return found[-1] if last else torch.cat(found, 1), _Ablated(read, inner)
