"""lab.train.settings: what a run may have other than its recipe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lab import bench
from lab.bench.report import Row, report
from lab.bench.timing import exactly
from lab.errors import LabError
from lab.language import Griffin, GriffinConfig
from lab.train import estimate, language, settings
from lab.train.loop import Compute, Schedule, fit
from lab.view.training import read_log
from tests.commands import lab, refused
from tests.test_train import batches, loss_of, model


def test_settings_hold_are_saved_and_given_back(tmp_path: Path) -> None:
    schedule = Schedule(4, learning_rate=0.5, warmup=2)
    asked = settings.gathered(None, ["lr=3e-4", "warmup=0", "log_every=1", "precision=mixed", "betas=[0.7, 0.8]"])
    fit(model(), loss_of, batches, schedule=schedule, folder=tmp_path / "a", settings=asked)
    log = read_log(tmp_path / "a")
    assert [step for step, _, _ in log["loss"]] == [1, 2, 3, 4] and (log["gradient_norm"][:, 2] > 0).all()
    assert log["learning_rate"][:, 2] == pytest.approx([Schedule(4, 3e-4, 0).rate(step) for step in range(4)], rel=1e-4)
    state = torch.load(tmp_path / "a/checkpoint.pt", weights_only=True)["players"][0]["optimiser"]
    assert tuple(state["param_groups"][0]["betas"]) == (0.7, 0.8)
    again = settings.gathered(tmp_path / "a/run.toml", [])
    assert again.items() >= {**asked, "steps": 4, "evaluate_every": 500, "clip": 1.0}.items()
    fit(model(), loss_of, batches, schedule=Schedule(9), folder=tmp_path / "b", settings=again)
    assert (tmp_path / "a/run.toml").read_bytes() == (tmp_path / "b/run.toml").read_bytes()
    assert settings.gathered(tmp_path / "a/run.toml", ["lr=1"])["learning_rate"] == 1


def test_without_settings_the_recipe_holds(tmp_path: Path) -> None:
    fit(model(), loss_of, batches, schedule=Schedule(2), folder=tmp_path, compute=Compute(log_every=2))
    found = settings.gathered(tmp_path / "run.toml", [])
    assert found["learning_rate"] == 1e-3 and found["log_every"] == 2 and found["precision"] == "float32"


@pytest.mark.parametrize("model", ["griffin", "tokenizer", "soundstorm", "gslm-units", "twist-language"])
def test_settings_are_printed_and_given_back(desk: Path, model: str) -> None:
    result = lab("train", model, "--set", "lr=0.25", "--steps", "40", "--show")
    assert result.exit_code == 0 and not (desk / "runs").exists(), result.output
    (desk / "run.toml").write_text(result.stdout)
    found = settings.gathered(desk / "run.toml", [])
    assert (found["learning_rate"], found["steps"], found["warmup"], found["precision"]) == (0.25, 40, 10, "mixed")
    assert (found.get("keep"), found.get("batch")) == ((5, 2) if model == "griffin" else (None, None))
    again = lab("train", model, "--config", "run.toml", "--show", "--json")
    assert found.items() <= json.loads(again.stdout)[model].items()


def test_a_run_given_back_is_the_same_run_and_an_option_holds(desk: Path, noise: list[int]) -> None:
    given = ("train", "griffin", "--hours", "0.03")
    result = lab(*given, "--preset", "tiny", "--length", "30s", "--seed", "7", "--steps", "2", "--work", "one")
    assert result.exit_code == 0, result.output
    result = lab(*given, "--config", "one/griffin/run.toml", "--work", "two")
    assert result.exit_code == 0, result.output
    first, again = (torch.load(desk / work / "griffin/checkpoint.pt", weights_only=True) for work in ("one", "two"))
    assert first["inputs"] == again["inputs"] and first["inputs"]["length"] == "30s" and first["step"] == 2
    for name, value in first["players"][0]["model"].items():
        assert torch.equal(value, again["players"][0]["model"][name])
    assert (desk / "one/griffin/run.toml").read_bytes() == (desk / "two/griffin/run.toml").read_bytes()
    other = ("--preset", "laptop", "--length", "1min", "--seed", "8", "--steps", "3")
    result = lab(*given, "--config", "one/griffin/run.toml", *other, "--show", "--json")
    told = json.loads(result.stdout)["griffin"]
    assert (told["preset"], told["length"], told["seed"], told["steps"]) == ("laptop", "1min", 8, 3)
    refused("there is no preset 'huge'", *given, "--set", "preset=huge", "--show")
    refused("cannot learn from pieces of '5min'", *given, "--set", "length=5min", "--show")


@pytest.mark.parametrize(
    ("text", "assignment", "message"),
    [("speed = 1", "lr=1", "no setting 'speed'; there are lr, "), ("", "lr", "cannot set 'lr'; give a name and a"),
     ("", "lr=high", "cannot set learning_rate to 'high'; give a number"), ("", "lr=true", "to True; give a number"),
     ("warmup = 1.5", "lr=1", "cannot set warmup to 1.5; give a whole"), ("=", "lr=1", "cannot read .*TOML file"),
     ("", "precision=int4", "to 'int4'; give float32 or mixed"), ("", "preset=3", "preset to 3; give a name"),
     ("", "batch=0", "cannot set batch to 0; give 1 or more"), ("", "batch=-2", "cannot set batch to -2; give 1 or"),
     ("log_every = 0", "lr=1", "cannot set log_every to 0; give 1"), ("", "evaluate_every=0", "to 0; give 1 or more"),
     ("", "keep=-1", "cannot set keep to -1; give 0 or more"), ("", "workers=-1", "set workers to -1; give 0 or more"),
     ("", "betas=0.9", r"cannot set betas to 0.9; give \[0.9, 0.95\]")],
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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("lr=-1", "cannot train with a learning_rate of -1"),
        ("keep=2", "keep cannot be set for tokenizer"),
        ("keep=-1", "cannot set keep to -1"),
        ("betas=[0.9]", "cannot train with betas [0.9]; give two numbers"),
        ('betas=["a", 0.9]', "cannot train with betas ['a', 0.9]; give two numbers"),
    ],
)
def test_a_bad_setting_is_told_before_anything_is_made(desk: Path, change: str, message: str) -> None:
    refused(message, "train", "all", "--set", change)
    assert not Path("runs").exists()


def test_blocks_that_are_computed_again_learn_the_same(tmp_path: Path) -> None:
    learnt: list[dict[str, torch.Tensor]] = []
    for again in (False, True):
        computed: list[int] = []
        torch.manual_seed(0)
        network = Griffin(GriffinConfig.preset("tiny", vocabulary=16))
        network.blocks[0].mix.register_forward_hook(lambda *_, computed=computed: computed.append(1))
        steps = language.batches(language.TokenStream.of([np.random.default_rng(0).integers(0, 16, 500)]), 2, 32, 0)
        settings = {"checkpointing": again}
        fit(network, language.loss_of, steps, schedule=Schedule(3), folder=tmp_path / f"{again}", settings=settings)
        learnt.append(network.state_dict())
        assert len(computed) == (6 if again else 3) and "forward" not in vars(network.blocks[0])
    for name, value in learnt[0].items():
        torch.testing.assert_close(value, learnt[1][name], msg=name)


def test_what_the_paper_took_is_planned_without_memory() -> None:
    """Griffin 2B and 9B in the paper's preset: the parameters are RecurrentGemma's, less its vocabulary."""
    assert estimate.parameters("paper-2b")[0] == pytest.approx(2.1e9, rel=0.05)
    assert estimate.parameters("paper-9b")[0] == pytest.approx(7.6e9, rel=0.05)
    one, eight = (estimate.memory("paper-2b", gpus) for gpus in (1, 8))
    assert one.weights == 8 * eight.weights == 16 * estimate.parameters("paper-2b")[0]
    assert eight.whole < one.whole and eight.activations == one.activations
    count, block = estimate.parameters("paper-9b")
    fits = {gpus: estimate.memory("paper-9b", gpus).total < 80e9 for gpus in (1, 2, 8)}
    assert fits == {1: False, 2: True, 8: True}  # of 80 GB each
    beside = 32_768 * 4096  # the embedding, which is made whole in float32 and cast, as a block is
    assert estimate.memory("paper-9b", 8).whole == 6 * (block + beside) and block < count / 30
    assert estimate.days("paper-2b", 8, "h100", 0.4) == 8 * estimate.days("paper-2b", 64, "h100", 0.4)


def test_a_worker_is_measured_with_the_one_thread_that_it_has(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[int] = []

    def encode(waveform: np.ndarray, *models: Any) -> tuple[np.ndarray, np.ndarray]:
        threads.append(torch.get_num_threads())
        return np.zeros(25, np.uint16), np.zeros((25, 4), np.uint16)

    monkeypatch.setattr(estimate.encoding, "encode", encode)
    torch.set_num_threads(2)
    speed, size = estimate.tokenization(tiny_bundle, True, 1.0)
    assert threads == [1, 1] and torch.get_num_threads() == 2 and speed > 0 and size == 250


def test_a_plan_is_told(desk: Path) -> None:
    result = lab("plan", "60000", "--speed", "100", "--price", "2", "--worker-price", "0.5", "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["worker_hours"] == 600 and told["worker_cost"] == 300 and told["bytes"] == 60_000 * 3600 * 50
    assert [row["fits"] for row in told["train"]] == [True, True, True] and told["here"] is None
    assert told["train"][1]["cost"] == pytest.approx(2 * 24 * 8 * told["train"][1]["days"])


def test_a_plan_tells_what_this_machine_takes(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To train; the speed of tokenization is that of another."""
    sharded = report("shard", "lab bench shard", [Row("1 process", "s of speech a second", exactly(200.0))])
    monkeypatch.setattr(bench, "FOLDER", sharded.save(desk / "bench").parent)
    machine = sharded.file.removeprefix("shard-").removesuffix(".json")
    result = lab("plan", "3", "--preset", "tiny", "--machine", machine, "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    tokens = language.PRESETS["tiny"].schedule.steps * language.PRESETS["tiny"].tokens
    assert told["speed"] == 200 and told["here"]["tokens_per_second"] > 0
    assert told["here"]["days"] * 86_400 * told["here"]["tokens_per_second"] == pytest.approx(tokens)


@pytest.mark.parametrize(
    ("words", "message"),
    [(["--", "-3"], "cannot plan with hours -3; give a positive number"), (["nan"], "cannot plan with hours nan"),
     (["3", "--share", "0"], "cannot plan with --share 0"), (["3", "--price", "-1"], "cannot plan with --price -1"),
     (["3", "--machine", "none"], "no bench of sharding is stored of 'none'; ")],
)  # fmt: skip
def test_a_plan_of_nothing_is_told_before_anything_is_measured(
    desk: Path, words: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimate, "tokenization", None)
    refused(message, "plan", *words)
