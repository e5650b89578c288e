"""lab.train.settings: what a run may have other than its recipe."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lab.errors import LabError
from lab.train import settings
from lab.train.loop import Compute, Schedule, fit
from tests.test_train import batches, loss_of, model


def test_settings_hold_are_saved_and_given_back(tmp_path: Path) -> None:
    schedule = Schedule(4, learning_rate=0.5, warmup=2)
    asked = settings.gathered(None, ["lr=3e-4", "warmup=0", "log_every=1", "precision=mixed"])
    fit(model(), loss_of, batches, schedule=schedule, folder=tmp_path / "a", settings=asked)
    assert json.loads((tmp_path / "a/schedule.json").read_text())["learning_rate"] == 3e-4
    assert len((tmp_path / "a/log.csv").read_text().splitlines()) >= 4
    again = settings.gathered(tmp_path / "a/run.toml", [])
    assert again.items() >= {**asked, "steps": 4, "evaluate_every": 500, "clip": 1.0}.items()
    fit(model(), loss_of, batches, schedule=Schedule(9), folder=tmp_path / "b", settings=again)
    for name in ("run.toml", "schedule.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert settings.gathered(tmp_path / "a/run.toml", ["lr=1"])["learning_rate"] == 1


def test_without_settings_the_recipe_holds(tmp_path: Path) -> None:
    fit(model(), loss_of, batches, schedule=Schedule(2), folder=tmp_path, compute=Compute(log_every=2))
    found = settings.gathered(tmp_path / "run.toml", [])
    assert found["learning_rate"] == 1e-3 and found["log_every"] == 2 and found["precision"] == "float32"


@pytest.mark.parametrize(
    ("text", "assignment", "message"),
    [("speed = 1", "lr=1", "no setting 'speed'; there are lr, steps"), ("", "lr", "cannot set 'lr'; give a name and a"),
     ("", "lr=high", "cannot set learning_rate to 'high'; give a number"), ("", "lr=true", "to True; give a number"),
     ("warmup = 1.5", "lr=1", "cannot set warmup to 1.5; give a whole"), ("=", "lr=1", "cannot read .*TOML file"),
     ("", "precision=int4", "to 'int4'; give float32 or mixed")],
)  # fmt: skip
def test_a_bad_setting_is_an_error(tmp_path: Path, text: str, assignment: str, message: str) -> None:
    (tmp_path / "run.toml").write_text(text)
    with pytest.raises(LabError, match=message):
        settings.gathered(tmp_path / "run.toml", [assignment])


def test_a_value_that_cannot_be_trained_with_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="cannot train with a clip of 0"):
        fit(model(), loss_of, batches, schedule=Schedule(2), folder=tmp_path, settings={"clip": 0})
    with pytest.raises(LabError, match="log_every 0"):
        fit(model(), loss_of, batches, schedule=Schedule(2), folder=tmp_path, settings={"log_every": 0})
