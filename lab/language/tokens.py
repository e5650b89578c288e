"""What all models do before any layer: check the tokens and count each from its document's start."""

from __future__ import annotations

import torch
from torch import Tensor

from lab.errors import LabError


def check_tokens(
    tokens: Tensor, reset: Tensor | None, rows: int | None, vocabulary: int, device: torch.device | None = None
) -> None:
    """Raise LabError unless tokens are (B, T) int64 in [0, V) on `device` and go with `reset` and `rows` sequences.

    Values are checked on a CPU only, and not while torch compiles: a GPU would have to be waited for.
    """
    for name, tensor in (("tokens", tokens), ("reset", reset)):
        if not isinstance(tensor, Tensor) and (name == "tokens" or tensor is not None):
            raise LabError(f"{name} must be a tensor, not {type(tensor).__name__}; torch.as_tensor makes one")
    if tokens.ndim != 2 or 0 in tokens.shape:
        raise LabError(f"tokens must be (B, T) with neither 0, not {tuple(tokens.shape)}")
    if tokens.dtype != torch.int64:
        raise LabError(f"tokens must be int64, not {tokens.dtype}")
    if device is not None and tokens.device != device:
        raise LabError(f"tokens are on {tokens.device} and the model on {device}; move them together")
    if rows is not None and rows != len(tokens):
        raise LabError(f"the state is of {rows} sequences and tokens of {len(tokens)}")
    if reset is not None and (reset.shape != tokens.shape or reset.dtype != torch.bool):
        raise LabError(f"reset must be {tuple(tokens.shape)} bool, as tokens, not {tuple(reset.shape)} {reset.dtype}")
    if tokens.device.type == "cpu" and not torch.compiler.is_compiling():
        check_range(tokens, vocabulary)


def check_range(tokens: Tensor, vocabulary: int) -> None:
    """Raise LabError for a token outside the vocabulary, 0 to V - 1."""
    low, high = (int(bound) for bound in tokens.aminmax())
    if low < 0 or high >= vocabulary:
        raise LabError(f"token {low if low < 0 else high} is not in the vocabulary, 0 to {vocabulary - 1}")


def positions(tokens: Tensor, length: Tensor | None, reset: Tensor | None) -> tuple[Tensor, Tensor]:
    """Position of each of (B, T) tokens in its document, (B, T), and that of the next token, (B,).

    length: the position of the first of these tokens, (B,), None at a beginning.
    """
    at = torch.arange(tokens.shape[1], device=tokens.device).expand_as(tokens)
    start = tokens.new_zeros(len(tokens)) if length is None else -length  # (B,), the document's first token
    if reset is None:
        position = at - start[:, None]
    else:
        position = at - torch.where(reset, at, start[:, None]).cummax(1).values
    return position, position[:, -1] + 1


def state_bytes(state: object) -> int:
    """Bytes of all tensors of a state, a tensor or a nested tuple or list of them.

    Of a buffer of keys and values only those of the tokens so far count.
    """
    if isinstance(state, Tensor):
        return state.numel() * state.element_size()
    return sum(state_bytes(part) for part in state) if isinstance(state, (tuple, list)) else 0
