"""The one training loop. Devices, precision and distribution are Fabric's; a recipe brings model, loss and batches.

A batch is a function of the step alone, so that a run that was stopped goes on as if it had not been.
"""

from __future__ import annotations

import csv
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from lightning_fabric import Fabric
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn

from lab import machine
from lab.errors import LabError

Losses = tuple[Tensor, dict[str, Tensor]]


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


class Trainable:
    """A model with its optimiser, as Fabric wrapped them."""

    def __init__(self, fabric: Fabric, model: nn.Module, schedule: Schedule):
        self.schedule = schedule
        matrices = [p for p in model.parameters() if p.requires_grad and p.ndim > 1]
        vectors = [p for p in model.parameters() if p.requires_grad and p.ndim <= 1]  # biases, norms, decays: no decay
        optimiser = torch.optim.AdamW(
            [
                {"params": matrices, "weight_decay": schedule.weight_decay},
                {"params": vectors, "weight_decay": 0.0},
            ],
            lr=schedule.learning_rate,
            betas=schedule.betas,
        )
        self.model, self.optimiser = fabric.setup(model, optimiser)

    def step(self, fabric: Fabric, number: int, losses: Losses) -> dict[str, float]:
        for group in self.optimiser.param_groups:
            group["lr"] = self.schedule.rate(number)
        self.optimiser.zero_grad(set_to_none=True)
        fabric.backward(losses[0])
        norm = fabric.clip_gradients(self.model, self.optimiser, max_norm=self.schedule.clip, error_if_nonfinite=False)
        if norm is not None and not torch.isfinite(norm):
            return {"skipped": 1.0}  # one bad batch must not poison the averages of Adam
        self.optimiser.step()
        return {name: float(value.detach()) for name, value in losses[1].items()}

    def state(self) -> dict[str, Any]:
        return {"model": self.model.state_dict(), "optimiser": self.optimiser.state_dict()}

    def load(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])


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
    fabric: Fabric | None = None,
) -> dict[str, float]:
    """Train `model` in place to `schedule.steps`, from where `folder` left off, and return the last figures.

    `batches(step)` gives the batch of a step; `loss_of(model, batch)` the loss and what to log. The adversary, a module
    and its own loss, takes one step before each of the model's. `folder` receives log.csv, checkpoint.pt (weights,
    optimiser, random state, step) and schedule.json. Ctrl-C saves before it leaves. `mixed`: matrix products in
    bfloat16 where the chip has it, all else in float32.
    """
    machine.keep_freed_memory()
    precision: Any = "bf16-mixed" if mixed and machine.fast_bf16() else None
    fabric = fabric or Fabric(accelerator="auto", devices=1, precision=precision)
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    players = [Trainable(fabric, model, schedule)]
    if adversary is not None:
        players.append(Trainable(fabric, adversary[0], schedule))
    first, seconds = _resume(folder, players, schedule)
    last: dict[str, float] = {}
    figures: dict[str, float] = {}
    began = saved = time.monotonic()
    log = _Log(folder / "log.csv")
    step = first
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    try:
        with Progress(*columns, disable=not fabric.is_global_zero) as progress:
            bar = progress.add_task(folder.name, total=schedule.steps, completed=first)
            while step < schedule.steps:
                model.train()
                batch = fabric.to_device(batches(step))
                last.pop("skipped", None)
                if adversary is not None:
                    last |= players[1].step(fabric, step, adversary[1](players[1].model, players[0].model, batch))
                last |= players[0].step(fabric, step, loss_of(players[0].model, batch))
                step += 1
                elapsed = seconds + time.monotonic() - began
                if step % 20 == 0:
                    log.write(step, elapsed, last)
                    told = " ".join(f"{name} {value:.3g}" for name, value in last.items())
                    progress.update(bar, completed=step, description=f"{folder.name}: {told}")
                if evaluate is not None and (step % evaluate_every == 0 or step == schedule.steps):
                    model.eval()
                    figures = evaluate(model)
                    log.write(step, elapsed, figures)
                    progress.console.print(f"{folder.name} step {step}, {elapsed / 60:.1f} min: {figures}")
                if time.monotonic() - saved > schedule.save_seconds:
                    _save(folder, players, schedule, step, elapsed)
                    saved = time.monotonic()
    finally:
        _save(folder, players, schedule, step, seconds + time.monotonic() - began)
    model.eval()
    if evaluate is not None and not figures:  # a run that was complete before
        figures = evaluate(model)
    return last | figures | {"steps": float(step), "minutes": (seconds + time.monotonic() - began) / 60}


class _Log:
    """log.csv in long form (step, seconds, name, value): runs may be cut, curves may have other names."""

    def __init__(self, path: Path):
        self.path = path

    def write(self, step: int, seconds: float, values: dict[str, float]) -> None:
        with self.path.open("a", newline="") as file:
            csv.writer(file).writerows([step, f"{seconds:.1f}", name, f"{value:.6g}"] for name, value in values.items())


def _save(folder: Path, players: list[Trainable], schedule: Schedule, step: int, seconds: float) -> None:
    state = {
        "step": step,
        "seconds": seconds,
        "random": torch.get_rng_state(),
        "players": [player.state() for player in players],
    }
    part = folder / "checkpoint.part"
    torch.save(state, part)
    part.replace(folder / "checkpoint.pt")
    (folder / "schedule.json").write_text(json.dumps(asdict(schedule), indent=1))


def _resume(folder: Path, players: list[Trainable], schedule: Schedule) -> tuple[int, float]:
    path = folder / "checkpoint.pt"
    if not path.exists():
        return 0, 0.0
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        for player, saved in zip(players, state["players"], strict=True):
            player.load(saved)
    except (RuntimeError, ValueError, KeyError, TypeError, EOFError, UnpicklingError) as error:
        reason = " ".join(str(error).split())[:200]
        raise LabError(f"{path} does not fit this run ({reason}); train into another folder or delete it") from error
    torch.set_rng_state(state["random"])
    return state["step"], state["seconds"]
