"""The one training loop. Devices, precision and distribution are Fabric's; a recipe brings model, loss and batches.

A batch is a function of the step alone, so that a run that was stopped goes on as if it had not been. Processes, and
the passes that are accumulated, share its rows, so that their number changes speed and memory and not what is learnt.

A step is taken whole or not at all: where a loss or the norm of its gradients is not finite, weights, buffers
(codebooks, running averages) and optimisers of all players stay as they were.
"""

from __future__ import annotations

import copy
import math
import signal
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn

from lab import machine
from lab.console import console
from lab.errors import LabError
from lab.train import loading, shares
from lab.train import settings as run_settings
from lab.train.batches import positive, seed_of
from lab.train.checkpoint import Checkpoint, held
from lab.train.compute import (
    Compute,
    Weights,
    agreed,
    checkpointing,
    compiling,
    mean,
    raise_together,
    rows_of,
    shared_as,
    shares_model,
    whole,
)
from lab.train.kept import Best
from lab.train.log import Log, Meter
from lab.train.stopping import stopping

__all__ = ["Compute", "Losses", "Schedule", "fit", "learning", "take_over", "whole"]

Losses = tuple[Tensor, dict[str, Tensor]]
EVALUATE_EVERY = 500  # steps
REFUSED = 10  # steps in a row that are not finite end a run


@dataclass(frozen=True)
class Schedule:
    """Linear warm-up, then cosine to `floor` times the learning rate (SpeechSSM: lr / 20); AdamW; gradients clipped
    to the norm `clip`; a checkpoint every `save_seconds`. Raises LabError for values that cannot be trained with."""

    steps: int
    learning_rate: float = 1e-3
    warmup: int = 100
    floor: float = 0.05
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.98)
    clip: float = 1.0
    save_seconds: float = 60.0

    def __post_init__(self) -> None:
        for name in ("steps", "learning_rate", "warmup", "floor", "weight_decay", "clip", "save_seconds"):
            value, least = getattr(self, name), {"clip": 1e-30, "save_seconds": -math.inf}.get(name, 0)
            if not isinstance(value, (int, float)) or not least <= value <= 1e9:  # NaN is neither
                raise LabError(f"cannot train with a {name} of {value!r}; give a number of {least:g} or more")
        if len(self.betas) != 2 or not all(isinstance(beta, (int, float)) and 0 <= beta < 1 for beta in self.betas):
            raise LabError(f"cannot train with betas {self.betas}; give two numbers from 0 to below 1")

    def lasting(self, steps: int) -> Schedule:
        """The same over so many steps, a quarter of them for the warm-up at most."""
        return replace(self, steps=steps, warmup=min(self.warmup, steps // 4))

    def rate(self, step: int) -> float:
        """Learning rate at `step`, counted from 0."""
        if step < self.warmup:
            return self.learning_rate * (step + 1) / self.warmup
        done = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.learning_rate * (self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))


class Trainable:
    """A model with its loss and its optimiser, as Fabric wrapped them."""

    def __init__(self, fabric: Fabric, model: nn.Module, schedule: Schedule, loss_of: Callable[..., Losses]):
        self.fabric, self.schedule, self.loss_of = fabric, schedule, loss_of
        self.model = fabric.setup_module(model)
        matrices = [p for p in self.model.parameters() if p.requires_grad and p.ndim > 1]
        vectors = [p for p in self.model.parameters() if p.requires_grad and p.ndim <= 1]  # norms, decays: no decay
        optimiser = torch.optim.AdamW(
            [{"params": matrices, "weight_decay": schedule.weight_decay}, {"params": vectors, "weight_decay": 0.0}],
            lr=schedule.learning_rate,
            betas=schedule.betas,
            fused=fabric.device.type == "cuda",
        )
        self.order = matrices + vectors  # as the optimiser numbers them
        self.norm = math.nan  # of the gradients of the last step, before they were clipped
        self.optimiser: Any = fabric.setup_optimizers(optimiser)

    def step(self, number: int, parts: list[Any], *others: nn.Module) -> tuple[dict[str, float], str]:
        """One step of the optimiser on the mean of `loss_of(model, *others, part)`: the mean of what that logs, and
        what is not finite, so that the step was not taken."""
        for group in self.optimiser.param_groups:
            group["lr"] = self.schedule.rate(number)
        self.optimiser.zero_grad(set_to_none=True)
        logged: defaultdict[str, list[float]] = defaultdict(list)
        losses = []
        for part in parts:
            with self.fabric.no_backward_sync(self.model, enabled=part is not parts[-1]):
                loss, logs = self.loss_of(self.model, *others, part)
                self.fabric.backward(loss / len(parts))
            losses.append(loss.detach())
            for name, value in logs.items():
                logged[name].append(float(value.detach()))
        norm = whole(
            self.fabric.clip_gradients(
                self.model, self.optimiser, max_norm=self.schedule.clip, error_if_nonfinite=False
            )
        )
        loss = torch.stack(losses).mean()
        self.norm = float(norm)
        odd_loss, odd_norm = agreed(self.fabric, not bool(torch.isfinite(loss)), not bool(torch.isfinite(norm)))
        if odd_loss or odd_norm:
            self.optimiser.zero_grad(set_to_none=True)
            return {}, f"the loss is {float(loss)}" if odd_loss else f"the norm of the gradients is {float(norm)}"
        self.optimiser.step()
        return {name: sum(values) / len(values) for name, values in logged.items()}, ""

    def kept(self, steps: bool) -> Callable[[], None]:
        """What puts everything back that a forward pass changes and, if it `steps`, an optimiser."""

        def changing() -> list[Tensor]:
            return [*self.model.buffers(), *(self.order if steps else [])]

        before = [tensor.detach().clone() for tensor in changing()]
        averages = copy.deepcopy(self.optimiser.state_dict()) if steps else None

        @torch.no_grad()
        def put_back() -> None:
            for now, then in zip(changing(), before, strict=True):
                now.copy_(then)
            if averages is not None:
                self.optimiser.load_state_dict(averages)

        return put_back

    def state(self, keep: bool = True) -> dict[str, Any]:
        return whole({"model": self.model.state_dict(), "optimiser": self.optimiser.state_dict()}, keep)

    def tensors(self) -> dict[str, Tensor]:
        """Weights, buffers and what the optimiser keeps of each weight, by name, shared as they are."""
        averages = self.optimiser.state_dict()["state"]
        kept = {f"optimiser.{n}.{name}": value for n, each in averages.items() for name, value in each.items()}
        return {f"model.{name}": value for name, value in self.model.state_dict().items()} | kept

    def groups(self) -> list[dict[str, Any]]:
        return list(self.optimiser.state_dict()["param_groups"])

    def load_shares(self, path: Path, groups: list[dict[str, Any]]) -> None:
        """What `tensors` and `groups` gave, in whatever way it was shared."""
        there = shares.names(path)
        averages = {
            number: {"step": torch.zeros(()), "exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}
            for number, p in enumerate(self.order)
            if f"optimiser.{number}.step" in there
        }
        self.optimiser.load_state_dict({"state": averages, "param_groups": groups})
        shares.load(path, self.tensors())  # in place

    def load(self, state: dict[str, Any]) -> None:
        own = self.model.state_dict()
        self.model.load_state_dict({name: shared_as(own.get(name), value) for name, value in state["model"].items()})
        averages = state["optimiser"]["state"]
        for number, values in averages.items():
            like = self.order[number]
            averages[number] = {
                name: shared_as(like, value) if value.shape == like.shape else value for name, value in values.items()
            }
        self.optimiser.load_state_dict(state["optimiser"])


def take_over(model: nn.Module, other: nn.Module) -> None:
    """Begin with the weights of `other`, unless on the meta device. Raises LabError when it is of another config."""
    if model.config != other.config:
        raise LabError(f"cannot begin with the weights of {other.config}: what is trained is {model.config}")
    if next(model.parameters()).device.type != "meta":
        model.load_state_dict(other.state_dict())


@contextmanager
def learning(model: nn.Module, layers: tuple[str, ...]) -> Iterator[None]:
    """Only the layers of those names learn; afterwards the whole model may again."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.partition(".")[0] in layers)
    try:
        yield
    finally:
        model.requires_grad_(True)


def fit(
    model: nn.Module,
    loss_of: Callable[[nn.Module, Any], Losses],
    batches: Callable[[int], Any],
    *,
    schedule: Schedule,
    folder: Path,
    evaluate: Callable[[nn.Module], dict[str, float]] | None = None,
    evaluate_every: int = EVALUATE_EVERY,
    adversary: tuple[nn.Module, Callable[[nn.Module, nn.Module, Any], Losses]] | None = None,
    seed: int = 0,
    mixed: bool = False,
    inputs: Mapping[str, str] | None = None,
    compute: Compute | None = None,
    settings: Mapping[str, Any] | None = None,
    tokens: int = 0,
    weights: Weights | None = None,
) -> dict[str, float]:
    """Train `model` in place to `schedule.steps`, from where `folder` left off, and return the last figures.

    `batches(step)` gives the batch of a step, also in another process; `loss_of(model, batch)` the loss and what to
    log. The adversary, a module and its own loss, takes one step before each of the model's. `folder` receives
    run.toml, log.csv and a checkpoint (weights, optimiser, random states, step); a kill costs `schedule.save_seconds`
    of work. Ctrl-C, SIGTERM and SIGHUP save, after the step that is on its way, before they end in KeyboardInterrupt
    with their number; so do the minutes of `compute`, with SIGALRM's. `mixed`: matrix products in bfloat16 where the
    chip has it, all else in float32. `inputs` names what is learnt from. `settings` take the place of what the recipe
    says; all that hold are in run.toml. `tokens`, of a step, has the log tell tokens/s. `weights` of a model on the
    meta device. A line of the log, and the figures, are means over the steps since the line before. As many checkpoints
    as the setting `keep` says are kept beside the last, those with the least of the first figure of `evaluate`.

    A step that is not finite changes nothing and is counted as `skipped`. Raises LabError for ten of them in a row,
    weights that are not finite, a folder that another run holds or that cannot be written to, a checkpoint in it that
    is damaged or of other inputs, another config or seed, and rows of a batch that cannot be shared evenly.
    """
    machine.keep_freed_memory()
    asked = dict(settings or {})
    schedule = replace(schedule, **{name: asked[name] for name in asdict(schedule) if name in asked})
    evaluate_every, mixed = (
        asked.get("evaluate_every", evaluate_every),
        asked.get("precision", mixed) in (True, "mixed"),
    )
    compute, folder = compute or Compute(), Path(folder)
    compute = replace(compute, log_every=asked.get("log_every", compute.log_every))
    used = asked | asdict(schedule) | {"evaluate_every": evaluate_every, "log_every": compute.log_every}
    used |= {"precision": "mixed" if mixed else "float32", "seed": int(seed)}
    fabric = compute.fabric(mixed, weights)
    workers = asked.get("workers", 2 if fabric.device.type == "cuda" else 0)  # on a CPU they would take from training
    if adversary is not None and fabric.world_size * compute.accumulate > 1:
        raise LabError("an adversary looks at whole batches; train it with 1 device and without accumulation")
    positive(evaluate_every=evaluate_every)
    config = getattr(model, "config", None)
    learnt = {name: str(value) for name, value in (asdict(config) if config else {}).items()}
    learnt |= {"seed": str(seed_of(seed)), **(inputs or {})}
    last: dict[str, float] = {}
    figures: dict[str, float] = {}
    skipped = in_a_row = 0  # steps that were refused
    shown = compute.progress and fabric.is_global_zero
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    progress = Progress(*columns, console=console, disable=not (shown and console.is_terminal))

    def elapsed() -> float:
        return seconds + time.monotonic() - began

    def save() -> None:
        checkpoint.save(step - (in_a_row if in_a_row == REFUSED else 0), elapsed())

    def say(message: str) -> None:
        if fabric.is_global_zero:
            console.print(f"{folder.name}: {message}")

    again, compiled = (
        checkpointing(model, asked.get("checkpointing", False)),
        compiling(model, asked.get("compile", False)),
    )
    with held(fabric, folder), stopping(compute.stop) as signals, again, compiled, progress:
        torch.manual_seed(seed_of(seed + fabric.global_rank))
        players = [Trainable(fabric, model, schedule, loss_of)]
        if adversary is not None:
            players.append(Trainable(fabric, adversary[0], schedule, adversary[1]))
        meter = Meter(fabric, sum(p.numel() for p in model.parameters()), tokens)
        writer = shares.Writer(fabric, folder) if shares.USABLE and shares_model(fabric) else None
        checkpoint = Checkpoint(fabric, folder, players, learnt, meter, writer)
        step, seconds = checkpoint.resume()
        best = Best(fabric, folder, asked.get("keep", 0), step)
        log = Log(fabric, folder, step, compute.tensorboard, compute.wandb)
        if fabric.is_global_zero:
            run_settings.write(folder / "run.toml", used)
        bar = progress.add_task(folder.name, total=schedule.steps, completed=step)
        began = saved = time.monotonic()
        made = loading.batches(batches, range(step, schedule.steps), workers)
        try:
            while step < schedule.steps:
                due = time.monotonic() - saved > schedule.save_seconds
                stop, due, written = agreed(fabric, compute.stop.is_set() or compute.over, due, checkpoint.written)
                if written:
                    checkpoint.finish()
                if stop:
                    break
                if due:
                    save()
                    saved = time.monotonic()
                    if shown and not console.is_terminal:
                        say(f"step {step} of {schedule.steps}: {_figured(last)}")
                model.train()
                started = time.monotonic()
                logged, fault = _step(players, step, rows_of(fabric, next(made), compute.accumulate))
                meter.add(logged, time.monotonic() - started)
                last |= meter.means()
                step += 1
                in_a_row = in_a_row + 1 if fault else 0
                if fault:
                    skipped += 1
                    last["skipped"] = float(skipped)
                if in_a_row == 1:
                    say(f"step {step} was left out: {fault}")
                if in_a_row == REFUSED:
                    save()
                    checkpoint.finish()
                    raise LabError(
                        f"{folder.name}: {REFUSED} steps in a row were left out, the last because {fault}; look at the "
                        f"batches from step {step - REFUSED} on and at the learning rate; {checkpoint.good}"
                    )
                if step % compute.log_every == 0:
                    last = mean(fabric, last)
                    told = {"gradient_norm": players[0].norm, "learning_rate": schedule.rate(step - 1)} | meter.speed()
                    meter.begin()
                    raise_together(fabric, log.write(step, elapsed(), last | told))
                    progress.update(bar, completed=step, description=f"{folder.name}: {_figured(last)}")
                if evaluate is not None and (step % evaluate_every == 0 or step == schedule.steps):
                    model.eval()
                    figures = evaluate(model)
                    raise_together(fabric, log.write(step, elapsed(), figures))
                    best.offer(step, next(iter(figures.values())), model, checkpoint.good)
                    if shown:
                        say(f"step {step} of {schedule.steps}, {elapsed() / 60:.1f} min: {_figured(figures)}")
        except BaseException as error:
            if fabric.world_size == 1:  # a process that fails alone must not wait for the others
                try:
                    save()
                    checkpoint.finish()
                except LabError as failure:
                    if not isinstance(error, LabError):
                        say(str(failure))
            raise
        finally:
            made.close()
        save()
        checkpoint.finish()
    if step < schedule.steps:
        if shown:
            say(f"stopped after step {step} of {schedule.steps} and saved; the same command goes on")
        raise KeyboardInterrupt(*(signals or [signal.SIGALRM] * compute.over))
    model.eval()
    if evaluate is not None and not figures:  # a run that was complete before
        figures = evaluate(model)
    return last | figures | {"steps": float(step), "minutes": elapsed() / 60}


def _figured(figures: dict[str, float]) -> str:
    return " ".join(f"{name} {value:.3g}" for name, value in figures.items())


def _step(players: list[Trainable], number: int, parts: list[Any]) -> tuple[dict[str, float], str]:
    """One step of all players, the adversary first, or none: what they log, or why it was refused."""
    put_back = [player.kept(steps=player is not players[0]) for player in players]
    logs: dict[str, float] = {}
    for player in players[::-1]:
        others = [players[0].model] if player is not players[0] else []
        logged, fault = player.step(number, parts, *others)
        if fault:
            for each in put_back:
                each()
            return {}, fault
        logs |= logged
    return logs, ""
