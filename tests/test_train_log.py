"""lab.train.log: what is told of a run while it goes."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from lab import machine
from lab.errors import LabError
from lab.train.log import Meter
from lab.train.loop import Compute, Schedule, fit
from lab.view.training import read_log
from tests.test_train import batches, loss_of, model, until

SCHEDULE = Schedule(6, warmup=2, learning_rate=0.1)


def curve(folder: Path, name: str = "loss") -> list[tuple[float, float]]:
    return [(step, value) for step, _, value in read_log(folder)[name].tolist()]


def test_a_line_is_the_mean_of_its_steps_wherever_a_run_was_stopped(tmp_path: Path) -> None:
    every, thirds = Compute(log_every=1), Compute(log_every=3)
    fit(model(), loss_of, batches, schedule=SCHEDULE, folder=tmp_path / "every", compute=every)
    figures = fit(model(), loss_of, batches, schedule=SCHEDULE, folder=tmp_path / "whole", compute=thirds)
    losses = np.array([value for _, value in curve(tmp_path / "every")])
    means = losses.reshape(2, 3).mean(1)
    assert curve(tmp_path / "whole") == [(3, pytest.approx(means[0], rel=1e-4)), (6, pytest.approx(means[1], rel=1e-4))]
    assert figures["loss"] == pytest.approx(means[1], rel=1e-4)
    for stop in (2, 4):
        folder = tmp_path / f"cut{stop}"
        with pytest.raises(KeyboardInterrupt):
            fit(model(), loss_of, until(stop), schedule=SCHEDULE, folder=folder, compute=thirds)
        fit(model(), loss_of, batches, schedule=SCHEDULE, folder=folder, compute=thirds)
        assert curve(folder) == curve(tmp_path / "whole")


def test_speed_and_memory_are_told(tmp_path: Path) -> None:
    fit(model(), loss_of, batches, schedule=SCHEDULE, folder=tmp_path, compute=Compute(log_every=3), tokens=600)
    log = read_log(tmp_path)
    assert (log["memory_gb"][:, 2] > 0.01).all() and len(log["tokens_per_second"]) == 2
    seconds = log["loss"][-1, 1]
    assert (log["tokens_per_second"][:, 2] > 1800 / (seconds + 1)).all() and "mfu" not in log


def test_mfu_counts_six_operations_a_parameter_and_token(monkeypatch: pytest.MonkeyPatch) -> None:
    meter = Meter(Compute(progress=False).fabric(), parameters=1000, tokens=50)
    monkeypatch.setattr(machine, "peak", lambda: 1e6)
    meter.add({"loss": 1.0}, 0.5)
    meter.add({}, 1.5)  # a step that was left out
    assert meter.means() == {"loss": 1.0}
    assert meter.speed()["tokens_per_second"] == 50 and meter.speed()["mfu"] == pytest.approx(6 * 1000 * 50 / 1e6)
    meter.begin()
    assert not meter.means() and set(meter.speed()) == {"memory_gb"}


def test_the_peak_is_that_of_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert machine.peak() is None
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for name, rate in (("NVIDIA H200", 989e12), ("NVIDIA A100-SXM4-80GB", 312e12), ("NVIDIA T4", None)):
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda name=name: name)
        assert machine.peak() == rate


def test_wandb_gets_the_log_of_one_run_however_often_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[int, dict[str, float]]] = []
    begun: list[dict[str, Any]] = []
    wandb = ModuleType("wandb")

    def init(**asked: Any) -> Any:
        begun.append(asked)
        return SimpleNamespace(id="r1", log=lambda values, step: told.append((step, values)))

    wandb.init = init  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    compute = Compute(log_every=2, wandb=True)
    with pytest.raises(KeyboardInterrupt):
        fit(model(), loss_of, until(3), schedule=SCHEDULE, folder=tmp_path / "run", compute=compute)
    fit(model(), loss_of, batches, schedule=SCHEDULE, folder=tmp_path / "run", compute=compute)
    assert [each["id"] for each in begun] == [None, "r1"] and begun[0]["project"] == "mine"
    assert [step for step, _ in told] == [2, 4, 6] and all("loss" in values for _, values in told)
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(LabError, match=r"pip install speechssm-lab\[wandb\]"):
        fit(nn.Linear(3, 1), loss_of, batches, schedule=SCHEDULE, folder=tmp_path / "none", compute=compute)
