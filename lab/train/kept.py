"""The best checkpoints of a run beside its last: of each the weights alone, for somebody to choose from.

kept/step-1500.safetensors   weights after step 1500, and in its metadata the figure that it is kept for
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import safetensors
import safetensors.torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from lab.errors import LabError
from lab.files import made, replacing
from lab.train.compute import gathered, raise_together, whole

FOLDER = "kept"


@dataclass(frozen=True)
class Kept:
    step: int
    figure: float  # less is better
    path: Path

    def weights(self) -> dict[str, Tensor]:
        """Raises LabError for a file that is damaged."""
        try:
            return safetensors.torch.load_file(self.path)
        except (OSError, safetensors.SafetensorError) as error:
            raise LabError(f"{self.path} is damaged ({error}); delete it and choose among the others") from None


def of(folder: Path) -> list[Kept]:
    """What a run's folder keeps, the best first. Raises LabError for a file that is damaged."""
    found = []
    for path in (folder / FOLDER).glob("step-*.safetensors"):
        try:
            with safetensors.safe_open(path, "pt") as file:
                about = file.metadata()
                found.append(Kept(int(about["step"]), float(about["figure"]), path))
        except (OSError, safetensors.SafetensorError, TypeError, KeyError, ValueError) as error:
            raise LabError(f"{path} is damaged ({error}); delete it and go on with the others") from None
    return sorted(found, key=lambda each: (each.figure, each.step))


class Best:
    """Keeps the `count` best of what it is offered in `folder`. Every process has to make the same calls."""

    def __init__(self, fabric: Fabric, folder: Path, count: int, step: int):
        """`step`: what a run goes on from; what was kept of later ones is made again."""
        if count < 0:
            raise LabError(f"cannot keep {count} checkpoints; give 0 or more")
        self.fabric, self.folder, self.count = fabric, folder, count
        error = None
        try:
            if fabric.is_global_zero:
                for each in of(folder):
                    if each.step > step:
                        each.path.unlink()
        except LabError as failure:
            error = failure
        raise_together(fabric, error)

    def offer(self, step: int, figure: float, model: nn.Module, good: str) -> None:
        """Raises LabError where it cannot be written, with `good`, what there is to go on from; what was kept stays."""
        if not self.count:
            return
        there = of(self.folder) if self.fabric.is_global_zero else []
        better = math.isfinite(figure) and (len(there) < self.count or figure < there[-1].figure)
        if not gathered(self.fabric, better)[0]:  # as the first process finds
            return
        weights = whole(model.state_dict(), self.fabric.is_global_zero)
        error = None
        if self.fabric.is_global_zero:
            path = made(self.folder / FOLDER) / f"step-{step}.safetensors"
            try:
                with replacing(path) as part:
                    try:
                        ready = {name: value.contiguous() for name, value in weights.items()}
                        safetensors.torch.save_file(ready, part, {"step": f"{step}", "figure": f"{figure!r}"})
                    except safetensors.SafetensorError as failure:  # how it tells of a full disk
                        raise OSError(str(failure)) from failure
                for each in of(self.folder)[self.count :]:
                    each.path.unlink()
            except LabError as failure:
                error = LabError(f"{failure}; {good}")
        raise_together(self.fabric, error)
