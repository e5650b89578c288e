"""The backends of both ops, which of them work here and, where one does not, why.

A backend is imported and tried by a small call when it is first needed; what goes wrong is kept as the reason.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import NamedTuple

import torch
from torch import Tensor

from lab.errors import LabError
from lab.recurrence.compiled import compiling

Op = Callable[..., tuple[Tensor, Tensor]]
HALF_TO_SINGLE = (torch.float32, torch.bfloat16, torch.float16)


def _fused_conv(x: Tensor, width: int) -> str:
    if not 2 <= width <= 4:
        return f"a width of {width}, but 2 to 4"
    if x.shape[2] % 8:
        return f"{x.shape[2]} channels, but multiples of 8"
    return "2^32 elements or more" if x.numel() >= 1 << 32 else ""  # its offsets are of 32 bits


@dataclass(frozen=True)
class Backend:
    """A function for one op, the tensors that it accepts, and the command that installs it."""

    name: str
    function: str  # module:function
    device: str  # the type of the device it runs on, "any" for all
    dtypes: tuple[torch.dtype, ...] = HALF_TO_SINGLE
    limits: Callable[[Tensor, int], str] | None = None  # as `refuses`
    auto: bool = True  # False: only by name
    command: str = ""

    def refuses(self, x: Tensor, width: int) -> str:
        """What of x this backend does not accept; "" if it accepts x."""
        if self.device not in ("any", x.device.type) or x.dtype not in self.dtypes:
            return f"{x.dtype} on {x.device.type}"
        return self.limits(x, width) if self.limits else ""


ANY = (*HALF_TO_SINGLE, torch.float64)
TRITON_DEVICE = "cpu" if os.environ.get("TRITON_INTERPRET") == "1" else "cuda"
SCAN, CONV, MAKE = "lab.recurrence.{}:rg_lru", "lab.recurrence.{}:causal_conv1d", "make cuda"

# the best first
BACKENDS: dict[str, tuple[Backend, ...]] = {
    "rg_lru": (
        Backend("numba", SCAN.format("cpu"), "cpu"),
        Backend("mamba-ssm", SCAN.format("cuda"), "cuda", command=MAKE),
        Backend("mamba-ssm-bf16", SCAN.format("cuda") + "_bf16", "cuda", (torch.bfloat16,), auto=False, command=MAKE),
        # experimental: no GPU has measured it yet
        Backend("triton", SCAN.format("fused"), TRITON_DEVICE, auto=False, command="pip install triton"),
        Backend("reference", SCAN.format("reference"), "any", ANY),
    ),
    "causal_conv1d": (
        Backend("numba", CONV.format("cpu"), "cpu"),
        Backend("causal-conv1d", CONV.format("cuda"), "cuda", limits=_fused_conv, command=MAKE),
        Backend("reference", CONV.format("reference"), "any", ANY),
    ),
}


class Row(NamedTuple):
    """What `lab doctor` prints of one backend of one op."""

    op: str
    name: str
    usable: bool
    reason: str
    command: str  # that installs it; "" for what comes with the lab


def _try(op: str, function: Op, device: str, dtype: torch.dtype, backward: bool) -> None:
    """One forward over 2 tokens of 8 channels, and a backward if wanted: compiling one takes seconds."""
    device = "cpu" if device == "any" else device
    x = torch.full((1, 2, 8), 0.5, device=device, dtype=dtype, requires_grad=backward)
    reset = torch.zeros(1, 2, dtype=torch.bool, device=x.device)
    vector = x.detach()[0, 0]
    if op == "rg_lru":
        y, _ = function(x, x, x, vector, vector[None], reset)
    else:
        y, _ = function(x, vector[:, None].expand(8, 4), vector, vector.expand(1, 3, 8), reset)
    if backward:
        y.sum().backward()
    if not torch.isfinite(y).all() or backward and (x.grad is None or not torch.isfinite(x.grad).all()):
        raise ArithmeticError("the trial call gave numbers that are not finite")


def _reason(error: Exception) -> str:
    message = " ".join(str(error).split())[:200]
    if isinstance(error, LabError):
        return message
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"{error.name} is not installed"
    if "undefined symbol" in message or "cannot open shared object" in message:
        return f"its extension was built for another torch or CUDA, {message}"
    if "no kernel image" in message:
        return f"its extension holds no code for this GPU, {capability()}: {message}"
    return f"{type(error).__name__}: {message}"


def capability() -> str:
    """The compute capability of the GPU in use as compilers name it, for instance sm_90."""
    return "sm_{}{}".format(*torch.cuda.get_device_capability())


@cache
def _load(op: str, backend: Backend, backward: bool) -> tuple[Op | None, str]:
    if backend.device == "cuda" and not torch.cuda.is_available():
        built = torch.version.cuda or torch.version.hip
        return None, "no GPU that torch can use" if built else "no GPU: this build of torch is for the CPU"
    try:
        module, name = backend.function.split(":")
        function = getattr(import_module(module), name)
        with torch.inference_mode(False), torch.enable_grad(), compiling(f"{op} by {backend.name}"):
            _try(op, function, backend.device, backend.dtypes[0], backward)
    except Exception as error:  # an import, a compiler, a driver: any of them may fail, in any way
        return None, _reason(error)
    return function, "works" if backend.auto else "works; only by name"


def backends(x: Tensor | None = None, width: int = 4) -> list[Row]:
    """Every backend of every op, tried here and now: in general or, given an x (B, T, L), for one like it.

    width: of the causal convolution's kernel.
    """
    rows = []
    for op, table in BACKENDS.items():
        for backend in table:
            function, reason = _load(op, backend, True)
            if function is not None and x is not None and (refused := backend.refuses(x, width)):
                function, reason = None, f"does not take {refused}"
            rows.append(Row(op, backend.name, function is not None, reason, backend.command))
    return rows


def pick(op: str, name: str, x: Tensor, width: int = 4) -> Op:
    """The backend called `name`, or with "auto" the first that takes x and a kernel of that width, and works.

    Raises LabError for an unknown name, and for one that does not take x or does not work here, with the
    reason.
    """
    for backend in BACKENDS[op]:
        if name == backend.name or (name == "auto" and backend.auto):
            refused = backend.refuses(x, width)
            function, reason = (None, "") if refused else _load(op, backend, torch.is_grad_enabled())
            if function is not None:
                return function
            if name != "auto":
                why = f"does not take {refused}" if refused else f"is not usable here ({reason})"
                raise LabError(f"{op}: backend {name!r} {why}; use backend='auto'")
    names = ", ".join(backend.name for backend in BACKENDS[op])
    raise LabError(f"{op}: no backend {name!r} takes {x.dtype} on {x.device.type}; there are: auto, {names}")
