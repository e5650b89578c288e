"""What is told of a run while it goes: log.csv, TensorBoard, W&B, and the figures of an interval of steps."""

from __future__ import annotations

import csv
import errno
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import torch
from lightning_fabric import Fabric

from lab import machine
from lab.errors import LabError
from lab.extras import require
from lab.files import replacing

PROJECT = "speechssm-lab"  # of W&B, unless WANDB_PROJECT says another


class Log:
    """log.csv in long form (step, seconds, name, value): runs may be cut, curves may have other names.

    Raises MissingExtra where TensorBoard or W&B is asked for and not installed.
    """

    def __init__(self, fabric: Fabric, folder: Path, first: int, tensorboard: bool = False, wandb: bool = False):
        self.path = folder / "log.csv" if fabric.is_global_zero else None
        self.boards: list[Callable[[int, dict[str, float]], None]] = []
        if tensorboard and fabric.is_global_zero:
            self.boards.append(_tensorboard(folder, first))
        if wandb and fabric.is_global_zero:
            self.boards.append(_wandb(folder))

    def write(self, step: int, seconds: float, values: dict[str, float]) -> LabError | None:
        """Whole lines or none, and the error if none: it is for all processes to raise."""
        if self.path is None:
            return None
        lines = io.StringIO(newline="")
        csv.writer(lines).writerows([step, f"{seconds:.1f}", name, f"{value:.6g}"] for name, value in values.items())
        try:
            with self.path.open("ab+", buffering=0) as file:
                size, data = file.tell(), lines.getvalue().encode()
                file.seek(max(0, size - 4096))
                cut = len(file.read().rpartition(b"\n")[2])  # of a line that a kill cut
                file.truncate(size := size - cut)
                if file.write(data) != len(data):
                    file.truncate(size)
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            for board in self.boards:
                board(step, values)
        except OSError as error:
            return LabError(f"cannot write {self.path}: {error.strerror or error}; free some space and go on")
        return None


def _tensorboard(folder: Path, first: int) -> Callable[[int, dict[str, float]], None]:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        require("scale")
        raise
    board = SummaryWriter(folder / "tensorboard", purge_step=first)

    def write(step: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            board.add_scalar(name, value, step)
        board.flush()

    return write


def _wandb(folder: Path) -> Callable[[int, dict[str, float]], None]:
    """A run that goes on is the same run there: its id lies in the folder."""
    try:
        import wandb
    except ImportError:
        require("wandb")
        raise
    kept = folder / "wandb.id"
    known = kept.read_text() if kept.exists() else None
    project = os.environ.get("WANDB_PROJECT", PROJECT)
    run: Any = wandb.init(project=project, name=folder.name, dir=str(folder), id=known, resume="allow")
    with replacing(kept) as part:
        part.write_text(run.id)
    return lambda step, values: run.log(values, step=step)


class Meter:
    """An interval of steps: the mean of what each logs, tokens/s, memory, and MFU where the chip's peak is known.

    tokens: of a step of all processes, 0 for a model that is not one of tokens. MFU counts 6 operations a parameter and
    token, and those alone. Memory is the peak of the first GPU since the interval began, or what the first process has.
    """

    def __init__(self, fabric: Fabric, parameters: int, tokens: int):
        self.fabric, self.operations, self.tokens = fabric, 6 * parameters * tokens, tokens
        self.sums: dict[str, list[float]] = {}  # of each name the sum and the number of values
        self.steps, self.seconds = 0, 0.0

    def add(self, logged: dict[str, float], seconds: float) -> None:
        """A step and what it took, its batch with it; no evaluation, no checkpoint."""
        for name, value in logged.items():
            total, count = self.sums.get(name, (0.0, 0))
            self.sums[name] = [total + value, count + 1]
        self.steps += 1
        self.seconds += seconds

    def means(self) -> dict[str, float]:
        return {name: total / count for name, (total, count) in self.sums.items()}

    def speed(self) -> dict[str, float]:
        """Of the steps that this process has taken of the interval."""
        on_gpu = self.fabric.device.type == "cuda"
        used = torch.cuda.max_memory_allocated() if on_gpu else psutil.Process().memory_info().rss
        found = {"memory_gb": used / 1e9}
        if self.tokens and self.seconds:
            found["tokens_per_second"] = self.tokens * self.steps / self.seconds
            if peak := machine.peak():
                found["mfu"] = self.operations * self.steps / self.seconds / (peak * self.fabric.world_size)
        return found

    def begin(self) -> None:
        """The next interval."""
        self.sums, self.steps, self.seconds = {}, 0, 0.0
        if self.fabric.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
