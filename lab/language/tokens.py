"""What both models do before any layer: check the tokens, count each from its document's start."""

from __future__ import annotations

import torch
from torch import Tensor

from lab.errors import LabError


def check_tokens(tokens: Tensor, reset: Tensor | None, rows: int | None, vocabulary: int) -> None:
    """Raise LabError unless tokens are (B, T) int64 in [0, V) and go with `reset` and a state of `rows` rows.

    Values are looked at on a CPU only: on a GPU that would wait for it at each step.
    """
    if tokens.ndim != 2 or 0 in tokens.shape:
        raise LabError(f"tokens must be (B, T) with neither 0, not {tuple(tokens.shape)}")
    if tokens.dtype != torch.int64:
        raise LabError(f"tokens must be int64, not {tokens.dtype}")
    if rows is not None and rows != len(tokens):
        raise LabError(f"the state is of {rows} sequences and tokens of {len(tokens)}")
    if reset is not None and (reset.shape != tokens.shape or reset.dtype != torch.bool):
        raise LabError(f"reset must be {tuple(tokens.shape)} bool, as tokens, not {tuple(reset.shape)} {reset.dtype}")
    if tokens.device.type == "cpu":
        low, high = (int(bound) for bound in tokens.aminmax())
        if low < 0 or high >= vocabulary:
            raise LabError(f"token {low if low < 0 else high} is not in the vocabulary, 0 to {vocabulary - 1}")


def positions(tokens: Tensor, length: Tensor | None, reset: Tensor | None) -> tuple[Tensor, Tensor]:
    """Tokens since the document's start, (B, T), and what that will be for the next token, (B,).

    `length` is what it was to be for the first of these tokens, None at a beginning.
    """
    at = torch.arange(tokens.shape[1], device=tokens.device).expand_as(tokens)
    start = tokens.new_zeros(len(tokens)) if length is None else -length  # (B,), where the document began
    if reset is None:
        position = at - start[:, None]
    else:
        position = at - torch.where(reset, at, start[:, None]).cummax(1).values
    return position, position[:, -1] + 1


def state_bytes(state: object) -> int:
    """Bytes of all tensors of a state, a tensor or a nested tuple or list of them.

    Of a cache that is what its tokens take, without the room kept free behind them.
    """
    if isinstance(state, Tensor):
        return state.numel() * state.element_size()
    return sum(state_bytes(part) for part in state) if isinstance(state, (tuple, list)) else 0
