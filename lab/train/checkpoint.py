"""The folder of a run: one run at a time, its log and its last good checkpoint."""

from __future__ import annotations

import csv
import errno
import io
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from lab.errors import LabError
from lab.extras import require
from lab.files import locked, made, replacing
from lab.train.compute import gathered, raise_together


@contextmanager
def held(fabric: Fabric, folder: Path) -> Iterator[None]:
    """The folder, made if need be, for this run alone.

    Raises LabError, in all processes, where it cannot be written to or another run holds it.
    """
    error = None
    with ExitStack() as stack:
        if fabric.is_global_zero:
            try:
                stack.enter_context(locked(made(folder), wait=0, doing="training in"))
            except LabError as failure:
                error = failure
        raise_together(fabric, error)
        yield


class Log:
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
            if self.board is not None:
                for name, value in values.items():
                    self.board.add_scalar(name, value, step)
                self.board.flush()
        except OSError as error:
            return LabError(f"cannot write {self.path}: {error.strerror or error}; free some space and go on")
        return None


@dataclass
class Checkpoint:
    """checkpoint.pt in `folder`: weights, optimisers, the state of every generator of random numbers, the step.

    `inputs` tells what the run learns from and with; a checkpoint of others is not gone on from.
    """

    fabric: Fabric
    folder: Path
    players: Sequence[Any]  # Trainables
    inputs: dict[str, str]
    good: str = "there is no checkpoint yet"

    @property
    def chip(self) -> Any:
        """torch.cuda or torch.mps, whose generator masks and dropout draw from there; None on a CPU."""
        name = self.fabric.device.type
        return getattr(torch, name) if name in ("cuda", "mps") else None

    @property
    def path(self) -> Path:
        return self.folder / "checkpoint.pt"

    def save(self, step: int, seconds: float) -> None:
        """In place of the one before, whole or not at all. Every process has to call it; the first one writes.

        Raises LabError where it cannot be written, and for weights that are not finite.
        """
        state = {
            "step": step,
            "seconds": seconds,
            "random": torch.stack(gathered(self.fabric, torch.get_rng_state())),
            "device_random": gathered(self.fabric, self.chip and self.chip.get_rng_state().cpu()),
            "inputs": self.inputs,
            "players": [player.state(self.fabric.is_global_zero) for player in self.players],
        }
        error = None
        if self.fabric.is_global_zero:
            try:
                if odd := not_finite(state["players"]):
                    raise LabError(f"{self.folder}: not saved, since {odd} is not finite after step {step}")
                with replacing(self.path) as part, part.open("wb") as file:
                    try:
                        torch.save(state, file)
                    except RuntimeError as failure:  # what torch makes of a full disk
                        cause = failure.__context__
                        raise cause if isinstance(cause, OSError) else OSError(str(failure)) from None
                self._is_good(step)
            except LabError as failure:
                error = LabError(f"{failure}; {self.good}")
        raise_together(self.fabric, error)

    def _is_good(self, step: int) -> None:
        self.good = f"the last good checkpoint is that of step {step}, {self.path}"

    def resume(self) -> tuple[int, float]:
        """Steps and seconds of training that the checkpoint holds, now loaded; 0 of both where there is none.

        Raises LabError for one that is damaged, or of other models, inputs or seeds.
        """
        if not self.path.exists():
            return 0, 0.0
        try:
            state = torch.load(self.path, map_location="cpu", weights_only=True)
            theirs = state.get("inputs", {})
            odd = [name for name, value in self.inputs.items() if theirs.get(name, value) != value]
            if odd:
                found, ours = (", ".join(f"{name} {side[name]}" for name in odd) for side in (theirs, self.inputs))
                raise LabError(
                    f"{self.path} was trained with {found}, and this run has {ours}; train into another folder"
                )
            if name := not_finite(state["players"]):
                raise LabError(f"{self.path} cannot be gone on from: {name} is not finite; delete it and train again")
            for player, saved in zip(self.players, state["players"], strict=True):
                player.load(saved)
            states = state["random"].view(-1, len(torch.get_rng_state()))
            rank = self.fabric.global_rank
            torch.set_rng_state(states[rank % len(states)])
            states = state.get("device_random", [None])
            if self.chip and (of_chip := states[rank % len(states)]) is not None:  # None: saved on a CPU
                self.chip.set_rng_state(of_chip)
            self._is_good(state["step"])
            return int(state["step"]), float(state["seconds"])
        except LabError:
            raise
        except Exception as error:  # torch has many for a damaged file
            reason = " ".join(str(error).split())[:200]
            raise LabError(
                f"{self.path} does not fit this run ({reason}); train into another folder or delete it"
            ) from error


def not_finite(state: Any, name: str = "") -> str:
    """The name of the first tensor in a state that holds NaN or infinity; none: the empty string."""
    if isinstance(state, Tensor):
        return name if state.is_floating_point() and not torch.isfinite(state).all() else ""
    items = state.items() if isinstance(state, dict) else enumerate(state) if isinstance(state, (list, tuple)) else ()
    return next((odd for key, value in items if (odd := not_finite(value, f"{name}.{key}".strip(".")))), "")
