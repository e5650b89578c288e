"""RG-LRU as an op of torch's library from a kernel each way, whatever runs those.

torch.compile takes such an op as it is, by its shapes alone: no graph breaks at a kernel.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

LIBRARY = torch.library.Library("lab", "FRAGMENT")
HUGE_PAGE, MADV_HUGEPAGE = 1 << 21, 14


# forward(x, i, r, decay, state, reset, h) fills h (B, T, L). backward(x, i, r, decay, state, reset, h, dh, dx, di, dr,
# ddecay, carry) fills the gradients, ddecay (B, L) of each sequence; carry (B, L) comes in as the gradient of the last
# state and leaves as that of the first.
KERNELS: dict[str, tuple[Callable[..., None], Callable[..., None]]] = {}


def custom_op(name: str) -> Callable[[Callable[..., Any]], Any]:
    """As torch.library.custom_op, the first call of which imports all of torch._dynamo, 1.5 s. See `complete`."""

    def define(function: Callable[..., Any]) -> Any:
        schema = torch.library.infer_schema(function, mutates_args=())
        LIBRARY.define(name + schema, tags=torch.Tag.pt2_compliant_tag)
        LIBRARY.impl(name, function, "CompositeExplicitAutograd")
        return getattr(torch.ops.lab, name)

    return define


def complete(name: str, fake: Callable[..., Any], backward: Callable[..., Any], setup: Any = None) -> None:
    """The shapes of what a custom op returns, and its gradient."""
    torch.library.register_fake(f"lab::{name}", fake, lib=LIBRARY)
    torch.library.register_autograd(f"lab::{name}", backward, setup_context=setup, lib=LIBRARY)


def refuse(ctx: Any, *grads: Tensor) -> None:
    """The gradient of a gradient: a kernel records no graph, and it would be wrong."""
    raise RuntimeError("a kernel's gradient cannot be differentiated again; use backend='reference'")


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


@custom_op("rg_lru")
def scan(
    kernels: str,
    x: Tensor,
    input_gate: Tensor,
    recurrence_gate: Tensor,
    decay: Tensor,
    state: Tensor,
    reset: Tensor,
) -> tuple[Tensor, Tensor]:
    """h (B, T, L) and the last of it (B, L), by the kernels of that name.

    Tensors are contiguous; state and decay, h and what is computed are float32.
    """
    inputs = x, input_gate, recurrence_gate, decay, state, reset
    h = fresh(x, torch.float32)
    KERNELS[kernels][0](*inputs, h)
    return h, h[:, -1].clone()


@custom_op("rg_lru_backward")
def scan_backward(
    kernels: str,
    x: Tensor,
    input_gate: Tensor,
    recurrence_gate: Tensor,
    decay: Tensor,
    state: Tensor,
    reset: Tensor,
    h: Tensor,
    dh: Tensor,
    dlast: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The gradients of all but reset."""
    dx, di, dr = (fresh(tensor) for tensor in (x, input_gate, recurrence_gate))
    ddecay, carry = torch.zeros_like(state), dlast.clone(memory_format=torch.contiguous_format)
    inputs = x, input_gate, recurrence_gate, decay, state, reset
    KERNELS[kernels][1](*inputs, h, dh.contiguous(), dx, di, dr, ddecay, carry)
    return dx, di, dr, ddecay.sum(0), carry


def _fake(kernels: str, x: Tensor, *rest: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x, dtype=torch.float32), x.new_empty(x.shape[::2], dtype=torch.float32)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.kernels = inputs[0]
    ctx.save_for_backward(*inputs[1:], output[0])


def _backward(ctx: Any, dh: Tensor, dlast: Tensor) -> tuple[Tensor | None, ...]:
    return None, *scan_backward(ctx.kernels, *ctx.saved_tensors, dh, dlast), None


complete("rg_lru", _fake, _backward, _setup)
complete("rg_lru_backward", lambda kernels, *tensors: tuple(map(torch.empty_like, tensors[:5])), refuse)
