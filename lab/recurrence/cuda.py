"""RG-LRU by mamba-ssm's selective scan and the causal convolution by causal-conv1d, CUDA kernels."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache, partial
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from lab.errors import LabError
from lab.recurrence.reference import DECAY_POWER, InputNorm, next_taps

START = 128.0  # exp(-128) is 0 in float32, and division by a power of 2 is exact
LEAST = 2.0**-34  # too little to change an `a` in float32; with it u is at most 1e5 i x, also where r or decay are 0


@cache
def _selective_scan() -> Callable[..., Any]:
    return import_module("mamba_ssm.ops.selective_scan_interface").selective_scan_fn


def _once(grad: Tensor) -> Tensor:
    """Raise LabError under create_graph: the kernels record no graph, and second derivatives would be wrong."""
    if torch.is_grad_enabled():
        raise LabError("a CUDA kernel's gradient cannot be differentiated again; use backend='reference'")
    return grad


def scan_inputs(
    x: Tensor, input_gate: Tensor, recurrence_gate: Tensor, decay: Tensor, state: Tensor, reset: Tensor
) -> tuple[Tensor, Tensor]:
    """u and delta, both (B, T, L), with which the selective scan is RG-LRU.

    The scan is h_t = exp(A delta_t) h_(t-1) + delta_t u_t from h = 0, here with A = -1: delta = -log a and
    u = b / delta, b being what enters. It has neither a first state nor a reset: the first token and those where
    a document begins get delta = START instead, which drops what was before, and a_0 state is added to the first u.
    Differentiable in everything but reset. A needs no gradient: the kernel sums that by atomics, in no fixed order.
    """
    dtype = torch.promote_types(x.dtype, torch.float32)
    rate = DECAY_POWER * recurrence_gate.to(dtype) * decay.to(dtype)  # (B, T, L), -log a
    b = torch.where(reset[..., None], 1.0, InputNorm.apply(-rate)) * input_gate.to(dtype) * x.to(dtype)
    b[:, 0] += (torch.exp(-rate[:, 0]) * state.to(dtype)).masked_fill(reset[:, :1], 0.0)
    start = reset.clone()
    start[:, 0] = True
    delta = torch.where(start[..., None], START, rate + LEAST)
    return b / delta, delta


def rg_lru(x: Tensor, *rest: Tensor, dtype: torch.dtype | None = None) -> tuple[Tensor, Tensor]:
    """u and delta in `dtype`, by default float32; the kernel's state is float32 whatever they are.

    The kernel's exp has a relative error of 2^-22, which accumulates over long memories.
    """
    u, delta = scan_inputs(x, *rest)
    ones, kept = u.new_ones(u.shape[2], 1), dtype or u.dtype
    y = _selective_scan()(*(t.to(kept).transpose(1, 2).contiguous() for t in (u, delta)), -ones, ones, ones)
    if y.requires_grad:
        y.register_hook(_once)
    y = y.transpose(1, 2)  # (B, T, L)
    # Not the last state that the kernel can return: that one has no gradient.
    return y.to(x.dtype).contiguous(), y[:, -1].to(u.dtype)


# Half the bytes; `a` itself is never bfloat16. Relative RMS error over 2048 tokens: 3e-3 of y and the last state (to
# round u and delta alone costs 1.7e-3), 3e-3 to 1e-2 of the gradients. The carried state is rounded once a call, so
# that streamed is not whole to 1e-5.
rg_lru_bf16 = partial(rg_lru, dtype=torch.bfloat16)


@cache
def _fused_conv() -> tuple[Callable[..., Tensor], Callable[..., Tensor]]:
    package = import_module("causal_conv1d")
    if tuple(map(int, re.findall(r"\d+", package.__version__)[:2])) < (1, 7):
        raise LabError(f"causal-conv1d {package.__version__} takes no state together with resets; 1.7.0 does")
    return package.causal_conv1d_fn, package.causal_conv1d_update


def _rows(x: Tensor) -> Tensor:
    """(B, T, L) as the kernel needs it: rows of L without gaps, from an address that is a multiple of 16 bytes.

    A tensor that torch calls contiguous may have any stride along an axis of length 1.
    """
    flat = x.contiguous().flatten()
    return (flat.clone() if flat.data_ptr() % 16 else flat).view(x.shape)


def causal_conv1d(x: Tensor, weight: Tensor, bias: Tensor, state: Tensor, reset: Tensor) -> tuple[Tensor, Tensor]:
    """One token without gradients goes through the kernel for decoding; weight and bias are used in float32.

    Takes widths 2 to 4 and channels in multiples of 8.
    """
    convolve, update = _fused_conv()
    weight, bias = weight.float(), bias.float().contiguous()
    carried = state.to(x.dtype).masked_fill(reset[:, :1, None], 0.0)  # always a copy
    needs_grad = torch.is_grad_enabled() and any(t.requires_grad for t in (x, weight, bias, state))
    if x.shape[1] == 1 and not needs_grad:
        y = update(x[:, 0], carried.transpose(1, 2), weight, bias)  # shifts x into carried
        return y[:, None], carried
    # A tap that belongs to another document, by number, counts as 0; the state belongs to the first token's.
    document = reset.cumsum(1, dtype=torch.int32)
    y = convolve(
        _rows(x).transpose(1, 2), weight, bias, seq_idx=document, initial_states=_rows(carried).transpose(1, 2)
    )
    if y.requires_grad:  # a gradient may have any layout; the kernel refuses an expanded one, as of a sum
        y.register_hook(lambda grad: _rows(_once(grad).transpose(1, 2)).transpose(1, 2))
    return y.transpose(1, 2), next_taps(x, state, reset)
