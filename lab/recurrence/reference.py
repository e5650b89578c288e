"""RG-LRU and the causal convolution in plain torch: the definition, against which other backends are tested."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

DECAY_POWER = 8.0  # c of the paper: a_t = a^(c r_t)
MAX_SQRT_SLOPE = 1000.0  # RecurrentGemma clips the slope of sqrt(1 - a^2), which is infinite at a gate of 0


class InputNorm(torch.autograd.Function):
    """sqrt(1 - a^2) from log a <= 0, with expm1: near a = 1, `1 - a * a` loses all digits."""

    @staticmethod
    def forward(ctx: Any, log_a: Tensor) -> Tensor:
        norm = torch.sqrt(-torch.expm1(2 * log_a))
        ctx.save_for_backward(log_a, norm)
        return norm

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        log_a, norm = ctx.saved_tensors
        return -grads[0] * torch.exp(2 * log_a) / norm.clamp(min=0.5 / MAX_SQRT_SLOPE)


def coefficients(
    x: Tensor, input_gate: Tensor, recurrence_gate: Tensor, decay: Tensor, reset: Tensor
) -> tuple[Tensor, Tensor]:
    """a and b of h_t = a_t h_(t-1) + b_t, both (B, T, L), float32 or more."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    log_a = -DECAY_POWER * recurrence_gate.to(dtype) * decay.to(dtype)  # (B, T, L)
    start = reset[..., None]  # (B, T, 1)
    a = torch.exp(log_a).masked_fill(start, 0.0)
    norm = torch.where(start, 1.0, InputNorm.apply(log_a))
    return a, norm * input_gate.to(dtype) * x.to(dtype)


def rg_lru(
    x: Tensor, input_gate: Tensor, recurrence_gate: Tensor, decay: Tensor, state: Tensor, reset: Tensor
) -> tuple[Tensor, Tensor]:
    """One step after the other, differentiated by autograd: T small nodes, slow and simple."""
    a, b = coefficients(x, input_gate, recurrence_gate, decay, reset)
    h, outputs = state.to(a.dtype), []
    for a_t, b_t in zip(a.unbind(1), b.unbind(1), strict=True):
        h = a_t * h + b_t  # (B, L)
        outputs.append(h)
    return torch.stack(outputs, 1).to(x.dtype), h


def reach_of(reset: Tensor, taps: int) -> Tensor:
    """How far back a tap may look, 0 to taps - 1: (B, T) bool to (B, T) int64."""
    at = torch.arange(reset.shape[1], device=reset.device)
    last = torch.where(reset, at, -taps).cummax(1).values  # (B, T), the newest reset at or before t
    return (at - last).clamp(max=taps - 1)


def next_taps(x: Tensor, state: Tensor, reset: Tensor) -> Tensor:
    """The last W - 1 inputs, (B, W - 1, L); 0 where a reset hides one from the next token."""
    width, T = state.shape[1], x.shape[1]
    taps = torch.cat([state.to(x.dtype)[:, T:], x[:, -width:]], 1)
    reach = reach_of(reset[:, -width:], width + 1)[:, -1:]  # (B, 1), what the newest token sees
    age = torch.arange(width - 1, -1, -1, device=x.device)  # (W - 1,), counted from the newest token
    return taps.masked_fill((age > reach)[..., None], 0.0)


def causal_conv1d(x: Tensor, weight: Tensor, bias: Tensor, state: Tensor, reset: Tensor) -> tuple[Tensor, Tensor]:
    """The sum of W shifted products; `weight[:, W - 1]` meets the newest input, as in RecurrentGemma."""
    T, taps = x.shape[1], weight.shape[1]
    reach = reach_of(reset, taps)[..., None]  # (B, T, 1)
    padded = torch.cat([state.to(x.dtype), x], 1)  # (B, W - 1 + T, L)
    y = bias.expand_as(x)
    for back in range(taps):
        tap = padded[:, taps - 1 - back : taps - 1 - back + T]
        y = y + weight[:, taps - 1 - back] * tap.masked_fill(reach < back, 0.0)
    return y.to(x.dtype), next_taps(x, state, reset)
