"""Where a run computes: devices and processes by Fabric, and what processes tell each other."""

from __future__ import annotations

import atexit
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies import DDPStrategy, ModelParallelStrategy
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.utils.checkpoint import checkpoint

from lab import machine
from lab.errors import LabError

logging.getLogger("lightning_fabric.utilities.rank_zero").setLevel(logging.WARNING)  # not a line a run on precision
_PATIENCE = timedelta(days=1)  # of the processes that wait while the first one makes the data
Weights = Callable[[], Iterable[tuple[str, Tensor]]]  # of a model, by name


@dataclass(frozen=True)
class Compute:
    """Where a run computes and how it is followed.

    devices: GPUs of a machine, or processes where it has none; nodes: machines, for torchrun to start. strategy: ddp
    keeps the whole model in each process, fsdp a share of it. accumulate: passes that a batch is made in, for want of
    memory. tensorboard, wandb: who else gets the log. minutes: after so many, counted from `began`, a run saves and
    ends as if by SIGALRM. stop: what Ctrl-C sets; another thread may.
    """

    devices: int = 1
    nodes: int = 1
    strategy: str = "ddp"
    accumulate: int = 1
    tensorboard: bool = False
    wandb: bool = False
    log_every: int = 20  # steps
    progress: bool = True
    minutes: float | None = None
    began: float = field(default_factory=time.monotonic, compare=False, repr=False)
    stop: threading.Event = field(default_factory=threading.Event, compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.strategy not in ("ddp", "fsdp"):
            raise LabError(f"there is no strategy {self.strategy!r}; there are ddp and fsdp")
        for name in ("devices", "nodes", "accumulate", "log_every"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise LabError(f"cannot train with {name} {value}; give a whole number, 1 or more")
        if self.minutes is not None and not self.minutes > 0:
            raise LabError(f"cannot train for {self.minutes:g} minutes; give a positive number")

    @property
    def over(self) -> bool:
        """Whether the minutes have passed."""
        return self.minutes is not None and time.monotonic() - self.began > 60 * self.minutes

    @property
    def shares(self) -> bool:
        """Whether each process has a share of the model alone."""
        return self.strategy == "fsdp" and self.devices * self.nodes > 1

    def fabric(self, mixed: bool = False, weights: Weights | None = None) -> Fabric:
        """Fabric, with as many processes as it needs: those that are missing run the same command from its beginning.

        `weights` of the model that it will share, where that is on the meta device. Raises LabError for more devices
        than there are.
        """
        found = torch.cuda.device_count()
        if torch.cuda.is_available() and self.devices > found:
            raise LabError(f"cannot train on {self.devices} GPUs: this machine has {found}; give --devices {found}")
        processes = self.devices * self.nodes
        strategy: Any = "auto"
        if processes > 1 and self.strategy == "ddp":
            strategy = DDPStrategy(timeout=_PATIENCE)
        elif processes > 1:
            strategy = ModelParallelStrategy(partial(_shard, weights=weights), processes, 1, timeout=_PATIENCE)
        precision: Any = "bf16-mixed" if mixed and machine.fast_bf16() else None
        fabric = Fabric(devices=self.devices, num_nodes=self.nodes, strategy=strategy, precision=precision)
        fabric.launch()
        atexit.unregister(_leave)
        atexit.register(_leave)
        return fabric


def _leave() -> None:
    """Ends gloo's threads while Python still runs: one that asks for Python's lock at its end aborts the process."""
    if distributed.is_initialized():
        distributed.destroy_process_group()


def _shard(model: nn.Module, mesh: DeviceMesh, weights: Weights | None = None) -> nn.Module:
    """FSDP2: a block's weights are whole while it computes, those beside the blocks while the model does.

    A model on the meta device gets memory for this process's share only now, and `weights` one after the other: those
    of the first process, as the others may have them on the meta device, too.
    """
    for module in (*blocks_of(model), model):
        fully_shard(module, mesh=mesh["data_parallel"])
    if weights is not None:
        model.to_empty(device=mesh.device_type)
        own = dict(model.named_parameters())
        with torch.no_grad():
            for name, value in weights():
                if value.is_meta:
                    value = torch.empty_like(value, device=mesh.device_type)
                own[name].copy_(shared_as(own[name], value))
    return model


@contextmanager
def checkpointing(model: nn.Module, wanted: bool = True) -> Iterator[None]:
    """Blocks keep their input alone for the backward pass, and are computed again there."""
    blocks = blocks_of(model) if wanted else []
    for block in blocks:
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)
    try:
        yield
    finally:
        for block in blocks:
            del block.forward


@contextmanager
def compiling(model: nn.Module, wanted: bool = True, backend: str = "inductor") -> Iterator[None]:
    """torch.compile of each block, so that those alike share a graph, or of a model without blocks.

    Raises LabError for what cannot be compiled here.
    """
    if not wanted:
        yield
        return
    from torch import _dynamo  # takes seconds

    nested = {id(inner) for block in blocks_of(model) for inner in blocks_of(block)}
    parts = [block for block in blocks_of(model) if id(block) not in nested] or [model]
    for part in parts:
        part.compile(backend=backend)
    try:
        with _dynamo.config.patch(allow_unspec_int_on_nn_module=True):  # how far attention looks back changes each step
            yield
    except _dynamo.exc.TorchDynamoException as error:
        said = " ".join(str(error).split())[:200]
        raise LabError(f"{type(model).__name__} cannot be compiled here ({said}); leave out compile") from error
    finally:
        for part in parts:
            part._compiled_call_impl = None


def blocks_of(model: nn.Module) -> list[nn.Module]:
    return [block for part in model.modules() if isinstance(part, nn.ModuleList) for block in part]


def whole(state: Any, keep: bool = True) -> Any:
    """A state with the tensors that are shared among processes put together, one at a time. Every process has to ask;
    one that does not `keep` them gets None in their place."""

    def gather(share: DTensor) -> Tensor | None:
        tensor = share.full_tensor()
        return tensor.cpu() if keep else None

    return apply_to_collection(state, DTensor, gather)


def shared_as(like: Tensor | None, value: Tensor) -> Tensor:
    """`value` shared among the processes as `like` is."""
    return distribute_tensor(value, like.device_mesh, like.placements) if isinstance(like, DTensor) else value


def local(tensor: Tensor) -> Tensor:
    """What this process has of it."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def shares_model(fabric: Fabric) -> bool:
    """Whether each process has a share of the model alone."""
    return isinstance(fabric.strategy, ModelParallelStrategy)


def agreed(fabric: Fabric, *asked: bool) -> list[bool]:
    """What one process asks for, all do."""
    return [any(votes) for votes in zip(*gathered(fabric, asked), strict=True)]


def gathered(fabric: Fabric, value: Any) -> list[Any]:
    """What each process has."""
    values: list[Any] = [value] * fabric.world_size
    if fabric.world_size > 1:
        distributed.all_gather_object(values, value)
    return values


def mean(fabric: Fabric, values: dict[str, float]) -> dict[str, float]:
    """Over the processes that have a value of that name."""
    each = gathered(fabric, values)
    found = {name: [one[name] for one in each if name in one] for one in each for name in one}
    return {name: sum(numbers) / len(numbers) for name, numbers in found.items()}


def raise_together(fabric: Fabric, error: LabError | None) -> None:
    """An error of one process is raised by all: none waits for one that is gone."""
    if fabric.world_size == 1 and error:
        raise error
    if messages := [message for message in gathered(fabric, str(error or "")) if message]:
        raise error or LabError(messages[0])


def rows_of(fabric: Fabric, batch: Any, accumulate: int) -> list[Any]:
    """This process's rows of a batch, in as many parts as are accumulated: (B, ...) -> each (B / parts, ...). A number
    is for all rows."""
    parts = fabric.world_size * accumulate
    if parts == 1:
        return [fabric.to_device(batch)]

    def share(rows: Tensor, number: int) -> Tensor:
        if not rows.ndim:
            return rows
        if len(rows) % parts:
            raise LabError(
                f"a batch of {len(rows)} rows cannot be shared by {fabric.world_size} processes in {accumulate} parts "
                "each; give --devices and --accumulate whose product divides it"
            )
        return rows[number::parts]

    first = fabric.global_rank * accumulate
    numbers = range(first, first + accumulate)
    return [fabric.to_device(apply_to_collection(batch, Tensor, share, number)) for number in numbers]
