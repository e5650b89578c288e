"""lab.train.shares: checkpoints that each process writes its share of. Several processes: tests/test_distributed.py."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from lab.errors import LabError
from lab.train import shares
from lab.train.loop import Compute, Schedule, fit
from tests.test_train import batches, loss_of, model, same, until, values

pytestmark = pytest.mark.skipif(not shares.USABLE, reason="torch before 2.9")
SCHEDULE = Schedule(6, warmup=2, learning_rate=0.1)


@pytest.fixture
def writer(tmp_path: Path) -> shares.Writer:
    return shares.Writer(Compute(progress=False).fabric(), tmp_path)


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run of one process that saves as those do that share a model."""
    monkeypatch.setattr("lab.train.loop.shares_model", lambda fabric: True)


def test_what_is_saved_is_what_was_there_when_it_began(writer: shares.Writer, tmp_path: Path) -> None:
    weights = torch.arange(12.0).reshape(4, 3)
    writer.begin(9, {"a.b": weights, "n": torch.tensor(3)}, {"step": 9})
    weights.zero_()  # training goes on
    assert shares.latest(tmp_path) is None  # it is no checkpoint before `finish`
    assert writer.finish() == tmp_path / "checkpoint-9" == shares.latest(tmp_path)
    found = {"a.b": torch.zeros(4, 3), "n": torch.tensor(0)}
    shares.load(tmp_path / "checkpoint-9", found)
    assert torch.equal(found["a.b"], torch.arange(12.0).reshape(4, 3)) and found["n"] == 3
    assert shares.rest(tmp_path / "checkpoint-9") == {"step": 9} and shares.names(tmp_path / "checkpoint-9") == {*found}
    (tmp_path / ".checkpoint-11").mkdir()  # a kill cut it
    writer.begin(10, {"a.b": weights}, {"step": 10})
    assert shares.latest(tmp_path) == tmp_path / "checkpoint-9"
    writer.finish()
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-10"]
    with pytest.raises(RuntimeError, match="Size mismatch .* for a.b"):
        shares.load(tmp_path / "checkpoint-10", {"a.b": torch.zeros(4, 4)})


def test_a_full_disk_keeps_the_one_before(
    writer: shares.Writer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer.begin(1, {"a": torch.ones(2)}, {"step": 1})
    writer.finish()

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shares.HuggingFaceStorageWriter, "write_data", full)
    writer.begin(2, {"a": torch.ones(2)}, {"step": 2})
    with pytest.raises(LabError, match="cannot write .*checkpoint-2: .*No space left on device; free some space"):
        writer.finish()
    assert shares.latest(tmp_path) == tmp_path / "checkpoint-1"


def test_a_run_goes_on_from_shares_bit_for_bit(shared: None, tmp_path: Path) -> None:
    whole, resumed = model(), model()
    fit(whole, loss_of, batches, schedule=SCHEDULE, folder=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        fit(model(), loss_of, until(4), schedule=SCHEDULE, folder=tmp_path / "cut")
    assert shares.latest(tmp_path / "cut") == tmp_path / "cut/checkpoint-4"
    torch.rand(5)
    fit(resumed, loss_of, batches, schedule=SCHEDULE, folder=tmp_path / "cut")
    assert same(values(resumed), values(whole))
    assert {path.name for path in (tmp_path / "cut").iterdir()} == {"checkpoint-6", "run.toml"}


def test_either_checkpoint_is_gone_on_from_and_takes_the_place_of_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = model()
    fit(whole, loss_of, batches, schedule=SCHEDULE, folder=tmp_path / "whole")
    for number, first in enumerate((True, False)):
        folder, resumed = tmp_path / f"{number}", model()
        monkeypatch.setattr("lab.train.loop.shares_model", lambda fabric, first=first: first)
        with pytest.raises(KeyboardInterrupt):
            fit(model(), loss_of, until(3), schedule=SCHEDULE, folder=folder)
        monkeypatch.setattr("lab.train.loop.shares_model", lambda fabric, first=first: not first)
        fit(resumed, loss_of, batches, schedule=SCHEDULE, folder=folder)
        assert same(values(resumed), values(whole))
        assert (folder / "checkpoint.pt").exists() == first and (folder / "checkpoint-6").exists() != first


def test_shares_that_do_not_fit_are_an_error(shared: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fit(model(), loss_of, batches, schedule=Schedule(2), folder=tmp_path)
    with pytest.raises(LabError, match="checkpoint-2 does not fit this run"):
        fit(nn.Linear(3, 1), loss_of, batches, schedule=Schedule(3), folder=tmp_path)
    with pytest.raises(LabError, match="checkpoint-2 was trained with seed 0, and this run has seed 1"):
        fit(model(), loss_of, batches, schedule=Schedule(3), folder=tmp_path, seed=1)
    monkeypatch.setattr(shares, "USABLE", False)
    with pytest.raises(LabError, match="checkpoint-2 is of shares, which torch .* cannot read; give it 2.9"):
        fit(model(), loss_of, batches, schedule=Schedule(3), folder=tmp_path)
    monkeypatch.undo()
    for path in (tmp_path / "checkpoint-2").glob("*.safetensors"):
        path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(LabError, match="checkpoint-2 does not fit this run"):
        fit(model(), loss_of, batches, schedule=Schedule(3), folder=tmp_path)


def test_what_is_written_is_a_checkpoint_before_the_next_is_saved(
    shared: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = shares.dcp.async_save

    def saved(*words: Any, **options: Any) -> Any:
        future = save(*words, **options)
        future.result()
        return future

    def slow(step: int) -> torch.Tensor:
        if step == 1:
            time.sleep(0.4)
        if step == 3:
            assert shares.latest(tmp_path) == tmp_path / "checkpoint-2"
        return batches(step)

    monkeypatch.setattr(shares.dcp, "async_save", saved)
    fit(model(), loss_of, slow, schedule=Schedule(4, save_seconds=0.3), folder=tmp_path)
