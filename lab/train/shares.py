"""Checkpoints of a model that processes share (FSDP2): each writes its own share, while training goes on.

    checkpoint-120/    tensors of the run after step 120, in safetensors, and rest.pt: all that is small
    .checkpoint-120/   one that is being written, or whose writing was cut: no checkpoint

Nothing is gathered: a process holds a copy of its share in memory while it writes it. Any number of processes reads
what any other number wrote (torch.distributed.checkpoint).
"""

from __future__ import annotations

import shutil
import warnings
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, distributed
from torch.distributed import checkpoint as dcp
from torch.distributed.checkpoint.api import CheckpointException

from lab.errors import LabError
from lab.files import made
from lab.train.compute import raise_together

# Before 2.9 torch.distributed.checkpoint writes no shares as safetensors; then a model is gathered to be saved.
if USABLE := tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 9):
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter

NAME, REST = "checkpoint-", "rest.pt"


def latest(folder: Path) -> Path | None:
    """The last whole checkpoint in a folder."""
    return max(folder.glob(f"{NAME}*"), key=_step, default=None)


def names(path: Path) -> set[str]:
    """Of the tensors of a checkpoint. Raises LabError where torch is too old to read it."""
    if not USABLE:
        raise LabError(f"{path} is of shares, which torch {torch.__version__} cannot read; give it 2.9 or later")
    return set(HuggingFaceStorageReader(str(path)).read_metadata().state_dict_metadata)


def rest(path: Path) -> dict[str, Any]:
    return dict(torch.load(path / REST, map_location="cpu", weights_only=True))


def load(path: Path, tensors: dict[str, Tensor]) -> None:
    """Into `tensors`, which may be shared in another way. All processes have to ask. Raises RuntimeError for a
    checkpoint of other tensors."""
    alone = not distributed.is_initialized()
    try:
        with warnings.catch_warnings():  # that there is one process
            warnings.simplefilter("ignore", UserWarning)
            dcp.load(tensors, storage_reader=HuggingFaceStorageReader(str(path)), no_dist=alone)
    except CheckpointException as error:  # no Exception
        raise RuntimeError(_first(error)) from error


def sweep(folder: Path, kept: Path | None = None) -> None:
    """Takes away all checkpoints of shares but one, and what was cut."""
    for path in (*folder.glob(f"{NAME}*"), *folder.glob(f".{NAME}*")):
        if path != kept:
            shutil.rmtree(path)


class Writer:
    """Writes one checkpoint at a time; every process has to call `begin` and `finish`."""

    def __init__(self, fabric: Fabric, folder: Path):
        self.fabric, self.folder = fabric, folder
        self.writing: tuple[Path, Future[Any]] | None = None
        # Of its own, as training has the other in use meanwhile, and NCCL serves GPUs alone.
        self.group = distributed.new_group(backend="gloo") if distributed.is_initialized() else None

    def begin(self, step: int, tensors: dict[str, Tensor], small: dict[str, Any]) -> None:
        """Copies what is here of `tensors` and returns while that is written. Raises LabError where it cannot be."""
        target = self.folder / f"{NAME}{step}"
        part = target.with_name(f".{target.name}")
        error = None
        if self.fabric.is_global_zero:
            try:
                shutil.rmtree(part, ignore_errors=True)
                torch.save(small, made(part) / REST)
            except (OSError, RuntimeError) as failure:  # the second is what torch makes of a full disk
                error = LabError(f"cannot write {part}: {failure}; free some space and go on")
        raise_together(self.fabric, error)
        writer = HuggingFaceStorageWriter(str(part), save_distributed=True)
        future = dcp.async_save(tensors, storage_writer=writer, process_group=self.group, no_dist=self.group is None)
        assert isinstance(future, Future)
        self.writing = target, future

    @property
    def written(self) -> bool:
        """Whether there is something for `finish` to do that it does not have to wait for."""
        return self.writing is not None and self.writing[1].done()

    def finish(self) -> Path | None:
        """Waits for what `begin` began, and gives its name; only now it is a checkpoint, and takes the place of the one
        before. Raises LabError, in all processes, where one of them could not write."""
        if self.writing is None:
            return None
        (target, future), self.writing = self.writing, None
        error = None
        try:
            future.result()
            if self.fabric.is_global_zero:
                if not target.exists():  # one of the same step is the same
                    target.with_name(f".{target.name}").rename(target)
                sweep(self.folder, target)
        except (CheckpointException, OSError, RuntimeError) as failure:
            error = LabError(f"cannot write {target}: {_first(failure)}; free some space and go on")
        raise_together(self.fabric, error)
        return target


def _first(error: BaseException) -> str:
    """What a process said, of those that failed."""
    failures = [each for each, _ in error.failures.values()] if isinstance(error, CheckpointException) else [error]
    return str(failures[0])


def _step(path: Path) -> int:
    return int(path.name.removeprefix(NAME))
