"""The one training loop. Devices, precision and distribution are Fabric's; a recipe brings model, loss and batches.

A batch is a function of the step alone, so that a run that was stopped goes on as if it had not been. Processes, and
the passes that are accumulated, share its rows, so that their number changes speed and memory and not what is learnt.
"""

from __future__ import annotations

import csv
import json
import logging
import math
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies import DDPStrategy, ModelParallelStrategy
from lightning_utilities.core.apply_func import apply_to_collection
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from lab import machine
from lab.errors import LabError
from lab.extras import require

Losses = tuple[Tensor, dict[str, Tensor]]

logging.getLogger("lightning_fabric.utilities.rank_zero").setLevel(logging.WARNING)  # not a line a run on precision
_PATIENCE = timedelta(days=1)  # of the processes that wait while the first one makes the data


@dataclass(frozen=True)
class Schedule:
    """Linear warm-up, then cosine to `floor` times the learning rate (SpeechSSM: lr / 20); AdamW; gradients clipped."""

    steps: int
    learning_rate: float = 1e-3
    warmup: int = 100
    floor: float = 0.05
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.98)
    clip: float = 1.0
    save_seconds: float = 60.0

    def rate(self, step: int) -> float:
        """Learning rate at `step`, counted from 0."""
        if step < self.warmup:
            return self.learning_rate * (step + 1) / self.warmup
        done = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.learning_rate * (self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))


@dataclass(frozen=True)
class Compute:
    """Where a run computes and how it is followed.

    devices: GPUs of a machine, or processes where it has none; nodes: machines, for torchrun to start. strategy: ddp
    keeps the whole model in each process, fsdp a share of it. accumulate: passes that a batch is made in, for want of
    memory. stop: what Ctrl-C sets; another thread may.
    """

    devices: int = 1
    nodes: int = 1
    strategy: str = "ddp"
    accumulate: int = 1
    tensorboard: bool = False
    log_every: int = 20  # steps
    progress: bool = True
    stop: threading.Event = field(default_factory=threading.Event, compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.strategy not in ("ddp", "fsdp"):
            raise LabError(f"there is no strategy {self.strategy!r}; there are ddp and fsdp")
        for name in ("devices", "nodes", "accumulate", "log_every"):
            if getattr(self, name) < 1:
                raise LabError(f"cannot train with {name} {getattr(self, name)}; give 1 or more")

    def fabric(self, mixed: bool = False) -> Fabric:
        """Fabric, with as many processes as it needs: those that are missing run the same command from its beginning.

        Raises LabError for more devices than there are.
        """
        found = torch.cuda.device_count()
        if torch.cuda.is_available() and self.devices > found:
            raise LabError(f"cannot train on {self.devices} GPUs: this machine has {found}; give --devices {found}")
        processes = self.devices * self.nodes
        strategy: Any = "auto"
        if processes > 1 and self.strategy == "ddp":
            strategy = DDPStrategy(timeout=_PATIENCE)
        elif processes > 1:
            strategy = ModelParallelStrategy(_shard, processes, 1, timeout=_PATIENCE)
        precision: Any = "bf16-mixed" if mixed and machine.fast_bf16() else None
        fabric = Fabric(devices=self.devices, num_nodes=self.nodes, strategy=strategy, precision=precision)
        fabric.launch()
        return fabric


def _shard(model: nn.Module, mesh: DeviceMesh) -> nn.Module:
    """FSDP2: a block's weights are whole while it computes, those beside the blocks while the model does."""
    blocks = [block for part in model.modules() if isinstance(part, nn.ModuleList) for block in part]
    for module in (*blocks, model):
        fully_shard(module, mesh=mesh["data_parallel"])
    return model


def whole(state: Any) -> Any:
    """A state with the tensors that are shared among processes put together. Every process has to ask."""
    return apply_to_collection(state, DTensor, lambda share: share.full_tensor().cpu())


class Trainable:
    """A model with its optimiser, as Fabric wrapped them."""

    def __init__(self, fabric: Fabric, model: nn.Module, schedule: Schedule):
        self.fabric, self.schedule = fabric, schedule
        self.model = fabric.setup_module(model)
        matrices = [p for p in self.model.parameters() if p.requires_grad and p.ndim > 1]
        vectors = [p for p in self.model.parameters() if p.requires_grad and p.ndim <= 1]  # norms, decays: no decay
        optimiser = torch.optim.AdamW(
            [
                {"params": matrices, "weight_decay": schedule.weight_decay},
                {"params": vectors, "weight_decay": 0.0},
            ],
            lr=schedule.learning_rate,
            betas=schedule.betas,
        )
        self.order = matrices + vectors  # as the optimiser numbers them
        self.optimiser: Any = fabric.setup_optimizers(optimiser)

    def step(
        self, number: int, loss_of: Callable[..., Losses], parts: list[Any], *others: nn.Module
    ) -> dict[str, float]:
        """One step of the optimiser on the mean of `loss_of(model, *others, part)`; the mean of what that logs."""
        for group in self.optimiser.param_groups:
            group["lr"] = self.schedule.rate(number)
        self.optimiser.zero_grad(set_to_none=True)
        told: defaultdict[str, list[float]] = defaultdict(list)
        for part in parts:
            with self.fabric.no_backward_sync(self.model, enabled=part is not parts[-1]):
                loss, logs = loss_of(self.model, *others, part)
                self.fabric.backward(loss / len(parts))
            for name, value in logs.items():
                told[name].append(float(value.detach()))
        norm = self.fabric.clip_gradients(
            self.model, self.optimiser, max_norm=self.schedule.clip, error_if_nonfinite=False
        )
        if norm is not None and not torch.isfinite(whole(norm)):
            return {"skipped": 1.0}  # one bad batch must not poison the averages of Adam
        self.optimiser.step()
        return {name: sum(values) / len(values) for name, values in told.items()}

    def state(self) -> dict[str, Any]:
        return whole({"model": self.model.state_dict(), "optimiser": self.optimiser.state_dict()})

    def load(self, state: dict[str, Any]) -> None:
        own = self.model.state_dict()
        self.model.load_state_dict({name: _as(own.get(name), value) for name, value in state["model"].items()})
        averages = state["optimiser"]["state"]
        for number, values in averages.items():
            like = self.order[number]
            averages[number] = {
                name: _as(like, value) if value.shape == like.shape else value for name, value in values.items()
            }
        self.optimiser.load_state_dict(state["optimiser"])


def _as(like: Tensor | None, value: Tensor) -> Tensor:
    """`value` shared among the processes as `like` is."""
    return distribute_tensor(value, like.device_mesh, like.placements) if isinstance(like, DTensor) else value


def take_over(model: nn.Module, other: nn.Module) -> None:
    """Begin with the weights of `other`. Raises LabError when it is of another config."""
    if model.config != other.config:
        raise LabError(f"cannot begin with the weights of {other.config}: what is trained is {model.config}")
    model.load_state_dict(other.state_dict())


def fit(
    model: nn.Module,
    loss_of: Callable[[nn.Module, Any], Losses],
    batches: Callable[[int], Any],
    *,
    schedule: Schedule,
    folder: Path,
    evaluate: Callable[[nn.Module], dict[str, float]] | None = None,
    evaluate_every: int = 500,
    adversary: tuple[nn.Module, Callable[[nn.Module, nn.Module, Any], Losses]] | None = None,
    seed: int = 0,
    mixed: bool = False,
    inputs: Mapping[str, str] | None = None,
    compute: Compute | None = None,
) -> dict[str, float]:
    """Train `model` in place to `schedule.steps`, from where `folder` left off, and return the last figures.

    `batches(step)` gives the batch of a step; `loss_of(model, batch)` the loss and what to log. The adversary, a module
    and its own loss, takes one step before each of the model's. `folder` receives log.csv, checkpoint.pt (weights,
    optimiser, random state, step) and schedule.json; a kill costs `schedule.save_seconds` of work. Ctrl-C, SIGTERM and
    SIGHUP save, after the step that is on its way, before they end in KeyboardInterrupt with their
    number. `mixed`: matrix products in bfloat16 where the chip has it, all else in float32. `inputs` names what is
    learnt from: LabError where the checkpoint in `folder` is of other inputs, another config or seed, where it is
    damaged, or where the rows of a batch cannot be shared evenly.
    """
    machine.keep_freed_memory()
    compute = compute or Compute()
    fabric = compute.fabric(mixed)
    if adversary is not None and fabric.world_size * compute.accumulate > 1:
        raise LabError("an adversary looks at whole batches; train it with 1 device and without accumulation")
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed + fabric.global_rank)
    config = getattr(model, "config", None)
    learnt = {name: str(value) for name, value in (asdict(config) if config else {}).items()}
    learnt |= {"seed": str(seed), **(inputs or {})}
    players = [Trainable(fabric, model, schedule)]
    if adversary is not None:
        players.append(Trainable(fabric, adversary[0], schedule))
    first, seconds = _resume(fabric, folder, players, learnt)
    last: dict[str, float] = {}
    figures: dict[str, float] = {}
    began = saved = time.monotonic()
    log = _Log(fabric, folder, first, compute.tensorboard)
    step, ended = first, False
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    told = compute.progress and fabric.is_global_zero

    def elapsed() -> float:
        return seconds + time.monotonic() - began

    try:
        with _stopping(compute.stop) as signals, Progress(*columns, disable=not told) as progress:
            bar = progress.add_task(folder.name, total=schedule.steps, completed=first)
            while step < schedule.steps:
                due = time.monotonic() - saved > schedule.save_seconds
                stop, save = _agreed(fabric, compute.stop.is_set(), due)
                if stop:
                    break
                if save:
                    _save(fabric, folder, players, schedule, learnt, step, elapsed())
                    saved = time.monotonic()
                model.train()
                parts = _parts(fabric, batches(step), compute.accumulate)
                last.pop("skipped", None)
                buffers = [(buffer, buffer.clone()) for player in players for buffer in player.model.buffers()]
                if adversary is not None:
                    last |= players[1].step(step, adversary[1], parts, players[0].model)
                last |= players[0].step(step, loss_of, parts)
                if "skipped" in last:  # a forward pass has moved codebooks and running statistics already
                    for buffer, before in buffers:
                        buffer.copy_(before)
                step += 1
                if step % compute.log_every == 0:
                    last = _mean(fabric, last)
                    log.write(step, elapsed(), last)
                    figured = " ".join(f"{name} {value:.3g}" for name, value in last.items())
                    progress.update(bar, completed=step, description=f"{folder.name}: {figured}")
                if evaluate is not None and (step % evaluate_every == 0 or step == schedule.steps):
                    model.eval()
                    figures = evaluate(model)
                    log.write(step, elapsed(), figures)
                    if told:
                        progress.console.print(f"{folder.name} step {step}, {elapsed() / 60:.1f} min: {figures}")
            ended = True
    finally:
        if ended or fabric.world_size == 1:  # a process that fails alone must not wait for the others
            _save(fabric, folder, players, schedule, learnt, step, elapsed())
    if step < schedule.steps:
        raise KeyboardInterrupt(*signals)
    model.eval()
    if evaluate is not None and not figures:  # a run that was complete before
        figures = evaluate(model)
    return last | figures | {"steps": float(step), "minutes": elapsed() / 60}


@contextmanager
def _stopping(stop: threading.Event) -> Iterator[list[int]]:
    """Ctrl-C, SIGTERM and SIGHUP set `stop`; a second one interrupts at once. Gives those that came. Only the main
    thread hears of signals."""
    came: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield came
        return

    def ask(number: int, frame: Any) -> None:
        stop.set()
        came.append(number)
        signal.signal(number, signal.default_int_handler)

    asking = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, ask) for number in asking if signal.getsignal(number) != signal.SIG_IGN}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _agreed(fabric: Fabric, *asked: bool) -> list[bool]:
    """What one process asks for, all do."""
    if fabric.world_size == 1:
        return list(asked)
    votes = fabric.all_reduce(torch.tensor(asked, dtype=torch.float32), reduce_op="sum")
    assert isinstance(votes, Tensor)
    return (votes > 0).tolist()


def _parts(fabric: Fabric, batch: Any, accumulate: int) -> list[Any]:
    """This process's rows of a batch, in as many parts as are accumulated: (B, ...) -> each (B / parts, ...)."""
    parts = fabric.world_size * accumulate
    if parts == 1:
        return [fabric.to_device(batch)]

    def share(rows: Tensor, number: int) -> Tensor:
        if len(rows) % parts:
            raise LabError(
                f"a batch of {len(rows)} rows cannot be shared by {fabric.world_size} processes in {accumulate} parts "
                "each; give --devices and --accumulate whose product divides it"
            )
        return rows[number::parts]

    first = fabric.global_rank * accumulate
    numbers = range(first, first + accumulate)
    return [fabric.to_device(apply_to_collection(batch, Tensor, share, number)) for number in numbers]


def _gathered(fabric: Fabric, value: Any) -> list[Any]:
    """What each process has."""
    values: list[Any] = [value] * fabric.world_size
    if fabric.world_size > 1:
        distributed.all_gather_object(values, value)
    return values


def _mean(fabric: Fabric, values: dict[str, float]) -> dict[str, float]:
    """Over the processes that have a value of that name."""
    told = _gathered(fabric, values)
    found = {name: [each[name] for each in told if name in each] for each in told for name in each}
    return {name: sum(numbers) / len(numbers) for name, numbers in found.items()}


class _Log:
    """log.csv in long form (step, seconds, name, value): runs may be cut, curves may have other names."""

    def __init__(self, fabric: Fabric, folder: Path, first: int, tensorboard: bool):
        self.path, self.board = folder / "log.csv" if fabric.is_global_zero else None, None
        if tensorboard and fabric.is_global_zero:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                require("scale")
                raise
            self.board = SummaryWriter(folder / "tensorboard", purge_step=first)

    def write(self, step: int, seconds: float, values: dict[str, float]) -> None:
        if self.path is None:
            return
        with self.path.open("a", newline="") as file:
            csv.writer(file).writerows([step, f"{seconds:.1f}", name, f"{value:.6g}"] for name, value in values.items())
        if self.board is not None:
            for name, value in values.items():
                self.board.add_scalar(name, value, step)
            self.board.flush()


def _save(
    fabric: Fabric,
    folder: Path,
    players: list[Trainable],
    schedule: Schedule,
    learnt: dict[str, str],
    step: int,
    seconds: float,
) -> None:
    """Every process has to call it; the first one writes."""
    state = {
        "step": step,
        "seconds": seconds,
        "random": torch.stack(_gathered(fabric, torch.get_rng_state())),
        "inputs": learnt,
        "players": [player.state() for player in players],
    }
    if fabric.is_global_zero:
        part = folder / "checkpoint.part"
        torch.save(state, part)
        part.replace(folder / "checkpoint.pt")
        (folder / "schedule.json").write_text(json.dumps(asdict(schedule), indent=1))


def _resume(fabric: Fabric, folder: Path, players: list[Trainable], learnt: dict[str, str]) -> tuple[int, float]:
    path = folder / "checkpoint.pt"
    if not path.exists():
        return 0, 0.0
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        theirs = state.get("inputs", {})
        odd = [name for name in learnt if theirs.get(name, learnt[name]) != learnt[name]]
        if odd:
            found, ours = (", ".join(f"{name} {side[name]}" for name in odd) for side in (theirs, learnt))
            raise LabError(f"{path} was trained with {found}, and this run has {ours}; train into another folder")
        for player, saved in zip(players, state["players"], strict=True):
            player.load(saved)
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError, EOFError, UnpicklingError) as error:
        reason = " ".join(str(error).split())[:200]
        raise LabError(f"{path} does not fit this run ({reason}); train into another folder or delete it") from error
    states = state["random"].view(-1, len(torch.get_rng_state()))
    torch.set_rng_state(states[fabric.global_rank % len(states)])
    return state["step"], state["seconds"]
