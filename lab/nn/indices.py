"""Tokens and codes from outside: integers that index an embedding or a codebook."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from lab.errors import LabError


def as_indices(values: Any, size: int, name: str) -> Tensor:
    """A tensor, array or (nested) list of integers -> int64, on its device; `name` is what a message calls one of them.

    Raises LabError for another type, and for a number that is not in [0, size): -1 would be read as the last one.
    """
    try:
        found = torch.as_tensor(np.asarray(values) if not isinstance(values, Tensor) else values)
    except (TypeError, ValueError, RuntimeError):
        raise LabError(f"{name}s must be integers in a tensor, an array or a list, not {values!r:.60}") from None
    if not found.numel():
        return found.long()
    if found.dtype == torch.bool or found.is_floating_point() or found.is_complex():
        raise LabError(f"{name}s must be integers, not {str(found.dtype).removeprefix('torch.')}")
    low, high = (int(bound) for bound in found.long().aminmax())
    if low < 0 or high >= size:
        raise LabError(f"{name} {low if low < 0 else high} is not one of the {size}, 0 to {size - 1}")
    return found.long()
