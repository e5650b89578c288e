"""Which backends there are, which of them work here and, where one does not, why.

A backend is tried once, when first asked for, by a tiny real call; whatever goes wrong is kept as the
reason. Nothing is imported before that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import NamedTuple

import torch
from torch import Tensor

from lab.errors import LabError

Op = Callable[..., tuple[Tensor, Tensor]]
HALF_TO_SINGLE = (torch.float32, torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Backend:
    """A module with a function for each op, and the tensors that it takes."""

    name: str
    module: str
    device: str  # the type of the device it runs on, "any" for all
    dtypes: tuple[torch.dtype, ...]

    def takes(self, x: Tensor) -> bool:
        return self.device in ("any", x.device.type) and x.dtype in self.dtypes


# the best first
BACKENDS = (
    Backend("numba", "lab.recurrence.cpu", "cpu", HALF_TO_SINGLE),
    Backend("reference", "lab.recurrence.reference", "any", (*HALF_TO_SINGLE, torch.float64)),
)
OPS = ("rg_lru", "causal_conv1d")


class Row(NamedTuple):
    """What `lab doctor` prints of one backend of one op."""

    op: str
    name: str
    usable: bool
    reason: str


def _try(op: str, function: Op, device: str) -> None:
    """One forward and backward over 2 tokens of 8 channels."""
    x = torch.full((1, 2, 8), 0.5, device="cpu" if device == "any" else device, requires_grad=True)
    reset = torch.zeros(1, 2, dtype=torch.bool, device=x.device)
    vector = x.detach()[0, 0]
    if op == "rg_lru":
        y, _ = function(x, x, x, vector, vector[None], reset)
    else:
        y, _ = function(x, vector[:, None].expand(8, 4), vector, vector.expand(1, 3, 8), reset)
    y.sum().backward()
    if not (torch.isfinite(y).all() and x.grad is not None and torch.isfinite(x.grad).all()):
        raise ArithmeticError("the trial call gave numbers that are not finite")


@cache
def _load(op: str, backend: Backend) -> tuple[Op | None, str]:
    try:
        function = getattr(import_module(backend.module), op)
        with torch.inference_mode(False), torch.enable_grad():
            _try(op, function, backend.device)
    except Exception as error:  # an import, a compiler, a driver: any of them may fail, in any way
        return None, f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return function, "works"


def backends() -> list[Row]:
    """Every backend of every op, tried here and now."""
    tried = ((op, backend, *_load(op, backend)) for op in OPS for backend in BACKENDS)
    return [Row(op, backend.name, function is not None, reason) for op, backend, function, reason in tried]


def pick(op: str, name: str, x: Tensor) -> Op:
    """The backend called `name`, or with "auto" the first that takes x and works.

    Raises LabError for an unknown name, and for one that does not take x or does not work here, with the
    reason.
    """
    for backend in BACKENDS:
        if name == backend.name and not backend.takes(x):
            raise LabError(f"{op}: backend {name!r} does not take {x.dtype} on {x.device.type}; use backend='auto'")
        if name == backend.name or (name == "auto" and backend.takes(x)):
            function, reason = _load(op, backend)
            if function is not None:
                return function
            if name != "auto":
                raise LabError(f"{op}: backend {name!r} is not usable here ({reason}); use backend='auto'")
    names = ", ".join(backend.name for backend in BACKENDS)
    raise LabError(f"{op}: no backend {name!r} takes {x.dtype} on {x.device.type}; there are: auto, {names}")
