"""The two ops as the models call them: arguments checked, defaults filled in, a backend picked.

Checks read types, shapes and devices alone, no values, so that a GPU is never waited for. With LAB_CHECK=1 in the
environment values are checked as well: a NaN, a gate outside [0, 1], a negative decay; not while torch compiles.
"""

from __future__ import annotations

import os

import torch
from torch import Tensor

from lab.errors import LabError
from lab.recurrence.probe import pick

CHECK = os.environ.get("LAB_CHECK") == "1"


# B, T and L are those of x, W the width of the convolution and P = W - 1 the inputs that it carries
SHAPES = {
    "rg_lru": {"x": "BTL", "input_gate": "BTL", "recurrence_gate": "BTL", "decay": "L", "state": "BL", "reset": "BT"},
    "causal_conv1d": {"x": "BTL", "weight": "LW", "bias": "L", "state": "BPL", "reset": "BT"},
}


def _call(op: str, backend: str, width: int, x: Tensor, *rest: Tensor | None) -> tuple[Tensor, Tensor]:
    """The op by that backend, all arguments checked; the last two, state and reset, may be None."""
    if not isinstance(x, Tensor) or x.ndim != 3 or 0 in x.shape:
        found = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
        raise LabError(f"{op}: x must be (B, T, L) with none of them 0, not {found}")
    sizes = dict(zip("BTLWP", (*x.shape, width, width - 1), strict=True))
    arguments = dict(zip(SHAPES[op], (x, *rest), strict=True))
    shapes = {name: tuple(sizes[axis] for axis in axes) for name, axes in SHAPES[op].items()}
    if arguments["state"] is None:
        dtype = torch.promote_types(x.dtype, torch.float32) if op == "rg_lru" else x.dtype
        arguments["state"] = x.new_zeros(shapes["state"], dtype=dtype)
    if arguments["reset"] is None:
        arguments["reset"] = x.new_zeros(shapes["reset"], dtype=torch.bool)
    for name, tensor in arguments.items():
        if not isinstance(tensor, Tensor):
            raise LabError(f"{op}: {name} must be a tensor, not {type(tensor).__name__}")
        if tensor.shape != shapes[name]:
            raise LabError(f"{op}: {name} must have shape {shapes[name]} to go with x, not {tuple(tensor.shape)}")
        if not (tensor.dtype == torch.bool if name == "reset" else tensor.is_floating_point()):
            wanted = "bool" if name == "reset" else "floating point"
            raise LabError(f"{op}: {name} must be {wanted}, not {tensor.dtype}")
        if tensor.device != x.device:
            raise LabError(f"{op}: {name} is on {tensor.device} and x on {x.device}; move them together")
        if CHECK and not tensor.is_meta and not torch.compiler.is_compiling():
            _check_values(op, name, tensor.detach())
    return pick(op, backend, x, width)(*arguments.values())


def _check_values(op: str, name: str, tensor: Tensor) -> None:
    wrong, what = tensor.isnan(), "NaN"
    if name.endswith("_gate"):
        wrong, what = wrong | (tensor < 0) | (tensor > 1), "NaN or outside [0, 1]"
    elif name == "decay":
        wrong, what = wrong | (tensor < 0), "NaN or negative"
    if wrong.any():
        first = tuple(wrong.nonzero()[0].tolist())
        raise LabError(f"{op}: {name} has {int(wrong.sum())} of {wrong.numel()} values {what}, the first at {first}")


def rg_lru(
    x: Tensor,
    input_gate: Tensor,
    recurrence_gate: Tensor,
    decay: Tensor,
    state: Tensor | None = None,
    reset: Tensor | None = None,
    backend: str = "auto",
) -> tuple[Tensor, Tensor]:
    """The Real-Gated Linear Recurrent Unit (Griffin, arXiv 2402.19427, section 2.4) over any length.

        log a_t = -8 r_t decay        h_t = a_t h_(t-1) + sqrt(1 - a_t^2) (i_t x_t)        y_t = h_t

    x, input_gate i and recurrence_gate r: (B, T, L), the gates in (0, 1), sigmoid applied. decay: (L,),
    positive, softplus(Lambda). state: (B, L), h before the first token, 0 if None. reset: (B, T) bool, True
    where a document begins: the state is dropped (a = 0) and the input enters whole, as in RecurrentGemma.

    Returns y (B, T, L) in the dtype of x, and the last h (B, L), float32 (float64 for float64): all of it is
    computed so. Differentiable in everything but reset. Raises LabError where an argument does not fit.
    """
    return _call("rg_lru", backend, 4, x, input_gate, recurrence_gate, decay, state, reset)


def causal_conv1d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    state: Tensor | None = None,
    reset: Tensor | None = None,
    backend: str = "auto",
) -> tuple[Tensor, Tensor]:
    """Depthwise causal convolution over any number of tokens (RecurrentGemma's Conv1D; its width is 4).

    x: (B, T, L). weight: (L, W), the last column for the newest token. bias: (L,). state: (B, W - 1, L), the
    inputs before the first token, 0 if None. reset: (B, T) bool, True where a document begins: no tap looks
    across.

    Returns y (B, T, L) and the next state, both in the dtype of x; of that state, inputs before the last
    reset are 0. Differentiable in everything but reset. Raises LabError where an argument does not fit.
    """
    if not isinstance(weight, Tensor) or weight.ndim != 2 or weight.shape[1] < 2:
        found = tuple(weight.shape) if isinstance(weight, Tensor) else type(weight).__name__
        raise LabError(f"causal_conv1d: weight must be (L, W) with W of 2 or more, not {found}")
    return _call("causal_conv1d", backend, weight.shape[1], x, weight, bias, state, reset)
