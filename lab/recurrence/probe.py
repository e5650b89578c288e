"""The backends of both ops, which of them work here and, where one does not, why.

A backend is imported and tried by a small call when it is first needed; what goes wrong is kept as the reason.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import NamedTuple

import torch
from torch import Tensor

from lab.errors import LabError
from lab.recurrence import reference
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
    traced: bool = True  # whether torch.compile takes it
    command: str = ""

    def takes(self, device: str, dtype: torch.dtype) -> bool:
        return self.device in ("any", device) and dtype in self.dtypes

    def refuses(self, x: Tensor, width: int) -> str:
        """What of x this backend does not accept; "" if it accepts x."""
        if not self.takes(x.device.type, x.dtype):
            return f"{x.dtype} on {x.device.type}"
        return self.limits(x, width) if self.limits else ""


ANY = (*HALF_TO_SINGLE, torch.float64)
TRITON_DEVICE = "cpu" if os.environ.get("TRITON_INTERPRET") == "1" else "cuda"
SCAN, CONV, MAKE = "lab.recurrence.{}:rg_lru", "lab.recurrence.{}:causal_conv1d", "make cuda"

# the best first
BACKENDS: dict[str, tuple[Backend, ...]] = {
    "rg_lru": (
        Backend("numba", SCAN.format("cpu"), "cpu"),
        Backend("mamba-ssm", SCAN.format("cuda"), "cuda", traced=False, command=MAKE),
        Backend(
            "mamba-ssm-bf16",
            SCAN.format("cuda") + "_bf16",
            "cuda",
            (torch.bfloat16,),
            auto=False,
            traced=False,
            command=MAKE,
        ),
        Backend("triton", SCAN.format("fused"), TRITON_DEVICE, command="pip install triton"),
        Backend("associative", SCAN.format("associative"), "any", ANY),
        Backend("reference", SCAN.format("reference"), "any", ANY),
    ),
    "causal_conv1d": (
        Backend("numba", CONV.format("cpu"), "cpu"),
        Backend("causal-conv1d", CONV.format("cuda"), "cuda", limits=_fused_conv, traced=False, command=MAKE),
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
    """Parity with the reference on 20 tokens of 2 sequences; of gradients too if wanted, whose kernels take seconds."""
    device = "cpu" if device == "any" else device
    generator = torch.Generator().manual_seed(0)
    shapes = ((2, 20, 8),) * 3 + ((8,), (2, 8)) if op == "rg_lru" else ((2, 20, 8), (8, 4), (8,), (2, 3, 8))
    given = [torch.rand(shape, generator=generator).to(device, dtype).requires_grad_(backward) for shape in shapes]
    reset = torch.zeros(2, 20, dtype=torch.bool, device=device)
    reset[1, 7] = True

    ours, theirs = function(*given, reset), getattr(reference, op)(*given, reset)
    _compare(ours, theirs, dtype)
    if backward:
        losses = [y.float().square().sum() + state.float().sum() for y, state in (ours, theirs)]
        _compare(torch.autograd.grad(losses[0], given), torch.autograd.grad(losses[1], given), dtype)


def _compare(ours: Sequence[Tensor], theirs: Sequence[Tensor], dtype: torch.dtype) -> None:
    for found, wanted in zip(ours, theirs, strict=True):
        error = float((found - wanted).detach().float().norm() / wanted.detach().float().norm())
        if not error < (1e-4 if dtype == torch.float32 else 5e-2):  # so that a NaN does not pass
            raise ArithmeticError(f"a trial call is off by {error:.1e} of the reference")


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
        # the hooks of a checkpoint, whose block may call an op first, would have it compute the trial again
        own = torch.autograd.graph.saved_tensors_hooks(torch.Tensor.detach, torch.Tensor.detach)
        with torch.inference_mode(False), torch.enable_grad(), own, compiling(f"{op} by {backend.name}"):
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

    While torch compiles, only one that it takes. Raises LabError for an unknown name, and for one that does not take x
    or does not work here, with the reason.
    """
    if torch.compiler.is_compiling():
        return _TRACED[op, _choose(op, name, x.device.type, x.dtype)]
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


_TRACED: dict[tuple[str, str], Op] = {}  # by op and name; torch.compile looks functions up, but takes none as a result


def _choose(op: str, name: str, device: str, dtype: torch.dtype) -> str:
    """The name of the backend that serves while torch compiles; all that may serve are then in _TRACED."""
    for other, table in BACKENDS.items():
        for backend in table:
            function = _load(other, backend, True)[0] if backend.traced else None
            if function is not None:
                _TRACED[other, backend.name] = function
    for backend in BACKENDS[op]:
        if (op, backend.name) in _TRACED and name in (backend.name, "auto") and backend.takes(device, dtype):
            return backend.name
    raise LabError(f"{op}: torch.compile takes no backend {name!r} for {dtype} on {device}; use backend='auto'")


# what torch.compiler.assume_constant_result does; that imports all of torch._dynamo, 1.5 s
setattr(_choose, "_dynamo_marked_constant", True)  # noqa: B010
