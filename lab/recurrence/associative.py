"""RG-LRU in plain torch without a loop over time, for devices that have no kernel of it: MPS, a GPU without Triton.

h_t = a_t h_(t-1) + b_t of two tokens is one such step: (a, b) and then (a', b') is (a a', a' b + b'). Neighbours are
joined, the half as many are scanned by themselves, and the tokens between follow: 2 log2 T operations on whole tensors,
O(T) elements in all (Blelloch 1990).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lab.recurrence import reference
from lab.recurrence.autograd import complete, custom_op


@custom_op("linear_scan")
def linear_scan(a: Tensor, b: Tensor) -> Tensor:
    """All h_t = a_t h_(t-1) + b_t from h = 0; all are (B, T, L). Differentiable any number of times."""
    return _scan(a, b)


def _scan(a: Tensor, b: Tensor) -> Tensor:
    h, T = b.clone(), b.shape[1]
    if T > 1:
        first, second = slice(0, T - 1, 2), slice(1, T, 2)
        h[:, second] = _scan(a[:, first] * a[:, second], torch.addcmul(b[:, second], a[:, second], b[:, first]))
        h[:, 2::2] += a[:, 2::2] * h[:, 1:-1:2]
    return h


def _backward(ctx: Any, dh: Tensor) -> tuple[Tensor, Tensor]:
    """g_t = dh_t + a_(t+1) g_(t+1), the gradient of h_t, is a scan in reverse."""
    a, h = ctx.saved_tensors
    nothing = torch.zeros_like(a[:, :1])
    g = linear_scan(torch.cat([a[:, 1:], nothing], 1).flip(1), dh.flip(1)).flip(1)
    return g * torch.cat([nothing, h[:, :-1]], 1), g


complete(
    "linear_scan",
    lambda a, b: torch.empty_like(b),
    _backward,
    lambda ctx, inputs, output: ctx.save_for_backward(inputs[0], output),
)


def rg_lru(
    x: Tensor, input_gate: Tensor, recurrence_gate: Tensor, decay: Tensor, state: Tensor, reset: Tensor
) -> tuple[Tensor, Tensor]:
    if x.shape[1] == 1:
        return reference.rg_lru(x, input_gate, recurrence_gate, decay, state, reset)
    a, b = reference.coefficients(x, input_gate, recurrence_gate, decay, reset)
    entering = torch.addcmul(b[:, :1], a[:, :1], state.to(a.dtype)[:, None])
    h = linear_scan(a, torch.cat([entering, b[:, 1:]], 1))
    return h.to(x.dtype), h[:, -1].clone()
