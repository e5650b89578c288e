"""The folder of a run: one run at a time, and its last good checkpoint.

That is the file checkpoint.pt, or the folder checkpoint-STEP where processes share the model (`shares`); any run that
fits goes on from either.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from lab.errors import LabError
from lab.files import locked, made, replacing
from lab.train import shares
from lab.train.compute import gathered, local, raise_together
from lab.train.log import Meter


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


@dataclass
class Checkpoint:
    """Weights, optimisers, the state of every generator of random numbers, the step, in `folder`.

    `inputs` tells what the run learns from and with; a checkpoint of others is not gone on from. `meter` has what was
    logged since the last line of the log, so that a run that goes on writes the same line.
    """

    fabric: Fabric
    folder: Path
    players: Sequence[Any]  # Trainables
    inputs: dict[str, str]
    meter: Meter
    writer: shares.Writer | None = None  # where processes share the model
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
        """In place of the one before, whole or not at all. Every process has to call it; where all is in each of them,
        the first one writes, and otherwise each, while training goes on: `finish` waits for that.

        Raises LabError where it cannot be written, and for weights that are not finite.
        """
        small = {
            "step": step,
            "seconds": seconds,
            "random": torch.stack(gathered(self.fabric, torch.get_rng_state())),
            "device_random": gathered(self.fabric, self.chip and self.chip.get_rng_state().cpu()),
            "inputs": self.inputs,
            "logged": gathered(self.fabric, self.meter.sums),
        }
        if self.writer is not None:
            self.finish()
            (player,) = self.players
            tensors = player.tensors()
            odd = not_finite({name: local(tensor) for name, tensor in tensors.items()})
            raise_together(self.fabric, self._refused(odd, step) if odd else None)
            self.writer.begin(step, tensors, small | {"groups": player.groups()})
            return
        state = small | {"players": [player.state(self.fabric.is_global_zero) for player in self.players]}
        error = None
        if self.fabric.is_global_zero:
            try:
                if odd := not_finite(state["players"]):
                    raise self._refused(odd, step)
                with replacing(self.path) as part, part.open("wb") as file:
                    try:
                        torch.save(state, file)
                    except RuntimeError as failure:  # what torch makes of a full disk
                        cause = failure.__context__
                        raise cause if isinstance(cause, OSError) else OSError(str(failure)) from None
                shares.sweep(self.folder)
                self._is_good(step, self.path)
            except LabError as failure:
                error = LabError(f"{failure}; {self.good}")
        raise_together(self.fabric, error)

    @property
    def written(self) -> bool:
        """Whether what was saved is on the disk, and `finish` would not wait."""
        return self.writer is not None and self.writer.written

    def finish(self) -> None:
        """Waits until what was saved is on the disk. Raises LabError where it could not be written."""
        try:
            path = self.writer.finish() if self.writer is not None else None
        except LabError as failure:
            raise LabError(f"{failure}; {self.good}") from failure
        if path is not None:
            if self.fabric.is_global_zero:
                self.path.unlink(missing_ok=True)
            self._is_good(int(path.name.removeprefix(shares.NAME)), path)

    def _refused(self, odd: str, step: int) -> LabError:
        return LabError(f"{self.folder}: not saved, since {odd} is not finite after step {step}")

    def _is_good(self, step: int, path: Path) -> None:
        self.good = f"the last good checkpoint is that of step {step}, {path}"

    def resume(self) -> tuple[int, float]:
        """Steps and seconds of training that the checkpoint holds, now loaded; 0 of both where there is none.

        Raises LabError for one that is damaged, or of other models, inputs or seeds.
        """
        shared = shares.latest(self.folder)
        path = shared or self.path
        if not path.exists():
            return 0, 0.0
        try:
            state = shares.rest(shared) if shared else torch.load(path, map_location="cpu", weights_only=True)
            theirs = state.get("inputs", {})
            odd = [name for name, value in self.inputs.items() if theirs.get(name, value) != value]
            if odd:
                found, ours = (", ".join(f"{name} {side[name]}" for name in odd) for side in (theirs, self.inputs))
                raise LabError(f"{path} was trained with {found}, and this run has {ours}; train into another folder")
            if shared:
                (player,) = self.players
                player.load_shares(shared, state["groups"])
                odd_tensor = not_finite({name: local(tensor) for name, tensor in player.tensors().items()})
            elif not (odd_tensor := not_finite(state["players"])):
                for player, saved in zip(self.players, state["players"], strict=True):
                    player.load(saved)
            if odd_tensor:
                raise LabError(f"{path} cannot be gone on from: {odd_tensor} is not finite; delete it and train again")
            states = state["random"].view(-1, len(torch.get_rng_state()))
            rank = self.fabric.global_rank
            torch.set_rng_state(states[rank % len(states)])
            states = state.get("device_random", [None])
            if self.chip and (of_chip := states[rank % len(states)]) is not None:  # None: saved on a CPU
                self.chip.set_rng_state(of_chip)
            logged = state.get("logged", [{}])
            self.meter.sums = logged[rank % len(logged)]
            self._is_good(state["step"], path)
            return int(state["step"]), float(state["seconds"])
        except LabError:
            raise
        except Exception as error:  # torch has many for a damaged file
            reason = " ".join(str(error).split())[:200]
            raise LabError(
                f"{path} does not fit this run ({reason}); train into another folder or delete it"
            ) from error


def not_finite(state: Any, name: str = "") -> str:
    """The name of the first tensor in a state that holds NaN or infinity; none: the empty string."""
    if isinstance(state, Tensor):
        return name if state.is_floating_point() and not torch.isfinite(state).all() else ""
    items = state.items() if isinstance(state, dict) else enumerate(state) if isinstance(state, (list, tuple)) else ()
    return next((odd for key, value in items if (odd := not_finite(value, f"{name}.{key}".strip(".")))), "")
