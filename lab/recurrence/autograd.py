"""RG-LRU and its gradients from a kernel each way, whatever runs those."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

HUGE_PAGE, MADV_HUGEPAGE = 1 << 21, 14


def fresh(like: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """An empty tensor, large ones in pages of 2 MB where Linux has them.

    A large array is new memory each time, and page faults every 4 kB can take longer than filling it.
    """
    made = torch.empty_like(like, dtype=dtype)
    if sys.platform == "linux" and made.device.type == "cpu" and made.nbytes >= 2 * HUGE_PAGE:
        start = -(-made.data_ptr() // HUGE_PAGE) * HUGE_PAGE
        length = (made.data_ptr() + made.nbytes - start) // HUGE_PAGE * HUGE_PAGE
        # advice: it may be refused
        ctypes.CDLL(None).madvise(ctypes.c_void_p(start), ctypes.c_size_t(length), MADV_HUGEPAGE)
    return made


class RGLRU(torch.autograd.Function):
    """Tensors are contiguous; state and decay, h and what is computed are float32.

    forward(x, i, r, decay, state, reset, h) fills h (B, T, L). backward(x, i, r, decay, state, reset, h, dh, dx, di,
    dr, ddecay, carry) fills the gradients, ddecay (B, L) of each sequence; carry (B, L) comes in as the gradient of the
    last state and leaves as that of the first.
    """

    @staticmethod
    def forward(
        ctx: Any, forward: Callable[..., None], backward: Callable[..., None], *inputs: Tensor
    ) -> tuple[Tensor, Tensor]:
        h = fresh(inputs[0], torch.float32)
        forward(*inputs, h)
        ctx.save_for_backward(*inputs, h)
        ctx.kernel = backward
        return h, h[:, -1].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        dx, di, dr = (fresh(tensor) for tensor in saved[:3])
        ddecay, carry = torch.zeros_like(saved[4]), grads[1].clone(memory_format=torch.contiguous_format)
        ctx.kernel(*saved, grads[0].contiguous(), dx, di, dr, ddecay, carry)
        return None, None, dx, di, dr, ddecay.sum(0), carry, None
