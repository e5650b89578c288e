"""lab.train.loop: what all recipes share."""

from __future__ import annotations

import csv
import os
import resource
import signal
import sys
import threading
import time
import tomllib
from collections.abc import Callable
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from lab.errors import LabError
from lab.language import Griffin, GriffinConfig
from lab.train import language, loop
from lab.train.loop import Compute, Losses, Schedule, fit
from tests.test_train_language import stream

# The schedule


def test_schedule_warms_up_then_falls_by_a_cosine_to_its_floor() -> None:
    schedule = Schedule(steps=1100, learning_rate=2.0, warmup=100, floor=0.05)
    assert [schedule.rate(step) for step in (0, 49, 99)] == pytest.approx([0.02, 1.0, 2.0])
    assert schedule.rate(100) == pytest.approx(2.0)
    assert schedule.rate(600) == pytest.approx(2.0 * (0.05 + 0.95 / 2))
    assert schedule.rate(1100) == schedule.rate(5000) == pytest.approx(0.1)


@given(st.integers(1, 500), st.integers(0, 600))
def test_schedule_never_leaves_its_range(steps: int, warmup: int) -> None:
    schedule = Schedule(steps, learning_rate=1.0, warmup=warmup)
    rates = [schedule.rate(step) for step in range(steps)]
    assert 0 < min(rates) and max(rates) <= 1
    assert rates[warmup:] == sorted(rates[warmup:], reverse=True)


# The loop


def model(width: int = 3) -> nn.Module:
    torch.manual_seed(5)
    return nn.Sequential(nn.Linear(width, 4), nn.Dropout(0.5), nn.Linear(4, 1))


def batches(step: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(step).standard_normal((6, 3)).astype(np.float32))


def loss_of(network: nn.Module, batch: Tensor) -> Losses:
    loss = (network(batch)[:, 0] - batch.sum(1)).square().mean()
    return loss, {"loss": loss}


def until(step: int) -> Callable[[int], Tensor]:
    """Batches for somebody who presses Ctrl-C when `step` is due."""

    def batch(number: int) -> Tensor:
        if number == step:
            raise KeyboardInterrupt
        return batches(number)

    return batch


def logged(folder: Path) -> list[tuple[int, str, float]]:
    with (folder / "log.csv").open(newline="") as file:
        rows = [(int(step), name, float(value)) for step, _, name, value in csv.reader(file)]
    return [row for row in rows if row[1] not in ("gradient_norm", "learning_rate", "memory_gb")]


def values(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize("fast", [True, False])
def test_mixed_precision_is_for_chips_that_have_it(fast: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lab.machine.fast_bf16", lambda *_: fast)
    network, seen = model(), set()
    network[0].register_forward_hook(lambda module, inputs, output: seen.add(output.dtype))
    fit(network, loss_of, batches, schedule=Schedule(3), folder=tmp_path, mixed=True)
    assert seen == {torch.bfloat16 if fast else torch.float32}
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}


@pytest.mark.parametrize("stop", [1, 5])
def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(tmp_path: Path, stop: int) -> None:
    """Dropout draws from the saved random state, Adam goes on with its averages: the same weights, bit for bit."""
    schedule = Schedule(steps=8, warmup=2, learning_rate=0.1)
    whole, stopped, resumed = model(), model(), model()
    expected = fit(whole, loss_of, batches, schedule=schedule, folder=tmp_path / "whole", seed=3)
    with pytest.raises(KeyboardInterrupt):
        fit(stopped, loss_of, until(stop), schedule=schedule, folder=tmp_path / "cut", seed=3)
    torch.rand(5)
    figures = fit(resumed, loss_of, batches, schedule=schedule, folder=tmp_path / "cut", seed=3)
    assert figures["loss"] == expected["loss"] and figures["steps"] == 8
    for ours, theirs in zip(resumed.parameters(), whole.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert any(not torch.equal(a, b) for a, b in zip(stopped.parameters(), whole.parameters(), strict=True))
    assert not list((tmp_path / "cut").glob("*.part"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_run_between_two_steps(tmp_path: Path, number: signal.Signals) -> None:
    def signalled(step: int) -> Tensor:
        if step == 4:
            os.kill(os.getpid(), number)
        return batches(step)

    before = signal.getsignal(number)
    schedule = Schedule(steps=8, warmup=2, learning_rate=0.1)
    with pytest.raises(KeyboardInterrupt):
        fit(model(), loss_of, signalled, schedule=schedule, folder=tmp_path / "cut", seed=3)
    assert torch.load(tmp_path / "cut" / "checkpoint.pt", weights_only=True)["step"] == 5  # the step was finished
    assert signal.getsignal(number) == before
    figures = fit(model(), loss_of, batches, schedule=schedule, folder=tmp_path / "cut", seed=3)
    expected = fit(model(), loss_of, batches, schedule=schedule, folder=tmp_path / "whole", seed=3)
    assert figures["loss"] == expected["loss"]


def test_a_run_ends_when_its_minutes_are_over_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    schedule, whole, limited = Schedule(steps=8, learning_rate=1e-2, warmup=2), model(), model()
    fit(whole, loss_of, batches, schedule=schedule, folder=tmp_path / "whole")
    compute = Compute(minutes=5)

    def slow(step: int) -> Any:
        if step == 3:
            monkeypatch.setattr(time, "monotonic", lambda: compute.began + 301)
        return batches(step)

    with pytest.raises(KeyboardInterrupt) as end:
        fit(limited, loss_of, slow, schedule=schedule, folder=tmp_path / "cut", compute=compute)
    assert end.value.args == (signal.SIGALRM,)
    monkeypatch.undo()
    asked: list[int] = []
    fit(limited, loss_of, lambda step: asked.append(step) or batches(step), schedule=schedule, folder=tmp_path / "cut")
    assert asked == [4, 5, 6, 7]
    assert all(torch.equal(a, b) for a, b in zip(limited.parameters(), whole.parameters(), strict=True))


def test_another_thread_can_stop_a_run(tmp_path: Path) -> None:
    compute, ended = Compute(progress=False), []

    def work() -> None:
        try:
            fit(model(), loss_of, batches, schedule=Schedule(10**6), folder=tmp_path, compute=compute)
        except KeyboardInterrupt:
            ended.append(True)

    worker = threading.Thread(target=work)
    worker.start()
    compute.stop.set()
    worker.join(60)
    assert ended and torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"] < 10**6


@pytest.mark.parametrize("accumulate", [2, 3, 6])
def test_accumulation_changes_memory_and_nothing_else(tmp_path: Path, accumulate: int) -> None:
    def linear(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        return nn.Linear(3, 1)

    schedule = Schedule(steps=5, warmup=0, learning_rate=0.1)
    seen: list[int] = []

    def loss(network: nn.Module, batch: Tensor) -> Losses:
        seen.append(len(batch))
        return loss_of(network, batch)

    whole, parts = linear(1), linear(1)
    expected = fit(whole, loss, batches, schedule=schedule, folder=tmp_path / "whole")
    compute = Compute(accumulate=accumulate)
    figures = fit(parts, loss, batches, schedule=schedule, folder=tmp_path / "parts", compute=compute)
    assert seen == [6] * 5 + [6 // accumulate] * 5 * accumulate
    assert figures["loss"] == pytest.approx(expected["loss"], rel=1e-5)
    for ours, theirs in zip(parts.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"strategy": "horovod"}, "no strategy 'horovod'; there are ddp and fsdp"), ({"devices": 0}, "devices 0"),
     ({"accumulate": -1}, "accumulate -1")],
)  # fmt: skip
def test_a_computation_that_makes_no_sense_is_an_error(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(LabError, match=message):
        Compute(**changes)


def test_rows_that_cannot_be_shared_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="6 rows cannot be shared by 1 processes in 4 parts"):
        fit(model(), loss_of, batches, schedule=Schedule(1), folder=tmp_path, compute=Compute(accumulate=4))


def test_more_gpus_than_there_are_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    with pytest.raises(LabError, match="cannot train on 2 GPUs: this machine has 1"):
        Compute(devices=2).fabric()


def test_tensorboard_gets_the_curves_of_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, float, int]] = []

    class SummaryWriter:
        def __init__(self, folder: Path, purge_step: int):
            assert folder == tmp_path / "run" / "tensorboard" and purge_step == 0

        def add_scalar(self, name: str, value: float, step: int) -> None:
            told.append((name, value, step))

        def flush(self) -> None:
            assert told

    fake = ModuleType("torch.utils.tensorboard")
    fake.SummaryWriter = SummaryWriter  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", fake)
    compute = Compute(tensorboard=True, log_every=2)
    fit(model(), loss_of, batches, schedule=Schedule(4), folder=tmp_path / "run", compute=compute)
    assert {name for name, *_ in told} == {"loss", "gradient_norm", "learning_rate", "memory_gb"}
    losses = [(step, name, pytest.approx(value, rel=1e-4)) for name, value, step in told if name == "loss"]
    assert losses == logged(tmp_path / "run")
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(LabError, match=r"pip install speechssm-lab\[scale\]"):
        fit(model(), loss_of, batches, schedule=Schedule(1), folder=tmp_path / "none", compute=compute)


def test_it_learns_and_says_how(tmp_path: Path) -> None:
    network = nn.Linear(3, 1)
    schedule = Schedule(steps=60, learning_rate=0.2, warmup=0)
    seen: list[bool] = []

    @torch.no_grad()
    def evaluate(judged: nn.Module) -> dict[str, float]:
        seen.append(judged.training)
        return {"held_out": float(loss_of(judged, batches(10_000))[0])}

    folder = tmp_path / "run"
    figures = fit(network, loss_of, batches, schedule=schedule, folder=folder, evaluate=evaluate, evaluate_every=25)
    assert seen == [False, False, False] and not network.training
    rows = logged(folder)
    assert [(step, name) for step, name, _ in rows] == [
        (20, "loss"), (25, "held_out"), (40, "loss"), (50, "held_out"), (60, "loss"), (60, "held_out"),
    ]  # fmt: skip
    assert figures.keys() == {"loss", "held_out", "steps", "minutes"} and figures["steps"] == 60
    assert rows[-1][2] == pytest.approx(figures["held_out"], rel=1e-4)
    assert figures["held_out"] < 0.5 * rows[1][2]
    assert tomllib.loads((folder / "run.toml").read_text())["steps"] == 60
    again = fit(network, loss_of, until(0), schedule=schedule, folder=folder, evaluate=evaluate)
    assert again["held_out"] == figures["held_out"] and again["steps"] == 60  # complete: nothing but the figures


def test_the_adversary_steps_first(tmp_path: Path) -> None:
    network, judge = model(), nn.Linear(1, 1)
    told: list[tuple[str, int]] = []
    judged = [parameter.clone() for parameter in judge.parameters()]
    number = count()

    def loss_of_judge(adversary: nn.Module, player: nn.Module, batch: Tensor) -> Losses:
        told.append(("judge", next(number)))
        loss = adversary(player(batch).detach()).square().mean()
        return loss, {"judge": loss}

    def loss_of_player(player: nn.Module, batch: Tensor) -> Losses:
        told.append(("player", next(number)))
        assert any(not torch.equal(a, b) for a, b in zip(judged, judge.parameters(), strict=True))
        return loss_of(player, batch)

    schedule = Schedule(steps=2, warmup=0)
    figures = fit(
        network, loss_of_player, batches, schedule=schedule, folder=tmp_path, adversary=(judge, loss_of_judge)
    )  # fmt: skip
    assert told == [("judge", 0), ("player", 1), ("judge", 2), ("player", 3)]
    assert {"judge", "loss"} <= figures.keys()
    with pytest.raises(LabError, match=r"checkpoint\.pt does not fit this run"):  # it has two players
        fit(model(), loss_of, batches, schedule=schedule, folder=tmp_path)


@pytest.mark.parametrize(
    "changes",
    [{"learning_rate": float("nan")}, {"learning_rate": -1.0}, {"learning_rate": float("inf")}, {"steps": -1},
     {"weight_decay": float("nan")}, {"clip": 0.0}, {"betas": (0.9, 1.0)}, {"betas": (float("nan"), 0.9)},
     {"betas": (0.9,)}, {"betas": ("a", 0.9)},
     {"warmup": -1}, {"floor": float("nan")}, {"save_seconds": float("nan")}, {"learning_rate": None}],
)  # fmt: skip
def test_a_schedule_that_makes_no_sense_is_an_error(changes: dict[str, Any]) -> None:
    (name,) = changes
    with pytest.raises(LabError, match=f"cannot train with .*{name}"):
        Schedule(**{"steps": 5, **changes})


@pytest.mark.parametrize("seed", [-1, 2**70 + 5, np.int64(3)])
def test_any_integer_is_a_seed(seed: int, tmp_path: Path) -> None:
    def run(folder: str, seed: Any) -> dict[str, Tensor]:
        network = model()
        made = language.batches(stream(), 2, 4, seed)
        rows = lambda step: made(step)[0][:, :3].float()  # noqa: E731
        fit(network, loss_of, rows, schedule=Schedule(2), folder=tmp_path / folder, seed=seed)
        return values(network)

    assert same(run("one", seed), run("two", seed)) and not same(run("one", seed), run("three", 0))
    with pytest.raises(LabError, match="the seed must be an integer, not 1.5"):
        run("four", 1.5)


@pytest.mark.parametrize(("room", "rows", "what"), [(9000, 3000, "checkpoint.pt"), (30, 1, "log.csv")])
def test_a_full_disk_is_told_in_a_line_and_keeps_the_checkpoint(
    room: int, rows: int, what: str, tmp_path: Path
) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def batch(step: int) -> Tensor:
        if step == 3:
            resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
        return batches(step)

    compute, schedule = Compute(log_every=1), Schedule(9, save_seconds=0)
    try:
        with pytest.raises(LabError, match=f"cannot write .*{what}.?: File too large; ") as caught:
            fit(nn.Linear(3, rows), loss_of, batch, schedule=schedule, folder=tmp_path, compute=compute)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "\n" not in str(caught.value)
    assert f"; the last good checkpoint is that of step 3, {tmp_path}" in str(caught.value) or what == "log.csv"
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"] == 3
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint.pt", "log.csv", "run.toml"}
    assert [row[:2] for row in logged(tmp_path)][:2] == [(1, "loss"), (2, "loss")][: len(logged(tmp_path))]
    assert not (tmp_path / "log.csv").read_bytes()[-1:].strip()


def test_a_folder_is_for_one_run_at_a_time(tmp_path: Path) -> None:
    def beside(step: int) -> Tensor:
        with pytest.raises(LabError, match="process.* is training in .*; wait for its end or give another"):
            fit(model(), loss_of, batches, schedule=Schedule(1), folder=tmp_path)
        return batches(step)

    fit(model(), loss_of, beside, schedule=Schedule(1), folder=tmp_path)
    fit(model(), loss_of, batches, schedule=Schedule(2), folder=tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(LabError, match="cannot write to .*file.: "):
        fit(model(), loss_of, batches, schedule=Schedule(1), folder=tmp_path / "file")


def test_lines_are_whole_where_nobody_watches(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def evaluate(judged: nn.Module) -> dict[str, float]:
        return {f"a figure with a long name, number {n}": 0.5 for n in range(9)}

    name = "a folder whose name is long enough to reach far"
    fit(model(), loss_of, batches, schedule=Schedule(2), folder=tmp_path / name, evaluate=evaluate)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{name}: step 2 of 2, ") and line.endswith("number 8 0.5")


def test_a_line_of_the_log_that_was_cut_is_taken_back(tmp_path: Path) -> None:
    compute = Compute(log_every=1)
    fit(model(), loss_of, batches, schedule=Schedule(1), folder=tmp_path, compute=compute)
    with (tmp_path / "log.csv").open("a") as file:
        file.write("2,0.1,loss,0.")
    fit(model(), loss_of, batches, schedule=Schedule(2), folder=tmp_path, compute=compute)
    assert [row[:2] for row in logged(tmp_path)] == [(1, "loss"), (2, "loss")]


def test_vectors_do_not_decay(tmp_path: Path) -> None:
    """Biases, norms and the decays of the recurrence; a gradient of 0 leaves nothing but the decay."""
    network = nn.Linear(3, 2)
    weight, bias = network.weight.detach().clone(), network.bias.detach().clone()

    def nothing(player: nn.Module, batch: Tensor) -> Losses:
        loss = player(batch).sum() * 0
        return loss, {"loss": loss}

    schedule = Schedule(steps=1, warmup=0, learning_rate=0.1, weight_decay=0.5)
    fit(network, nothing, batches, schedule=schedule, folder=tmp_path)
    torch.testing.assert_close(network.weight.detach(), 0.95 * weight)
    assert torch.equal(network.bias.detach(), bias)


def other_shape(path: Path) -> None:
    fit(nn.Linear(3, 2), lambda m, b: (m(b).sum(), {}), batches, schedule=Schedule(steps=1), folder=path.parent)


def truncated(path: Path) -> None:
    other_shape(path)
    path.write_bytes(path.read_bytes()[:1000])


@pytest.mark.parametrize("spoil", [other_shape, truncated, lambda path: path.write_bytes(b""),
                                   lambda path: path.write_text("not a checkpoint"),
                                   lambda path: torch.save([1, 2], path)])  # fmt: skip
def test_a_checkpoint_that_does_not_fit_is_an_error(tmp_path: Path, spoil: Callable[[Path], Any]) -> None:
    spoil(tmp_path / "checkpoint.pt")
    found = (tmp_path / "checkpoint.pt").read_bytes()
    with pytest.raises(LabError, match=r"checkpoint\.pt does not fit this run \(") as caught:
        fit(model(), loss_of, batches, schedule=Schedule(steps=1), folder=tmp_path)
    assert "\n" not in str(caught.value)
    assert (tmp_path / "checkpoint.pt").read_bytes() == found


def test_a_checkpoint_of_other_inputs_names_both_sides(tmp_path: Path) -> None:
    def run(width: int = 32, seed: int = 0, **inputs: str) -> None:
        network = Griffin(GriffinConfig.preset("tiny", width=width))
        schedule = Schedule(steps=1)
        fit(network, language.loss_of, language.batches(stream(), 2, 4, 0), schedule=schedule, folder=tmp_path,
            seed=seed, inputs=inputs)  # fmt: skip

    run(tokenizer="1234", stories="abcd")
    with pytest.raises(LabError, match=r"trained with tokenizer 1234, and this run has tokenizer 5678; train into"):
        run(tokenizer="5678", stories="abcd")
    with pytest.raises(LabError, match=r"with width 32, seed 0, stories abcd, and this run has width 64, seed 1, st"):
        run(64, 1, tokenizer="1234", stories="efgh")
    run(tokenizer="1234", stories="abcd", folder="runs")  # what the checkpoint does not tell cannot be wrong


def test_a_checkpoint_of_before_there_were_inputs_is_gone_on_from(tmp_path: Path) -> None:
    schedule = Schedule(steps=2)
    fit(model(), loss_of, batches, schedule=schedule, folder=tmp_path)
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    del state["inputs"]
    torch.save(state, tmp_path / "checkpoint.pt")
    assert fit(model(), loss_of, until(0), schedule=schedule, folder=tmp_path, inputs={"a": "b"})["steps"] == 2


def test_it_saves_as_it_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved: list[int] = []
    monkeypatch.setattr(loop.Checkpoint, "save", lambda self, step, seconds: saved.append(step))
    schedule = Schedule(steps=3, save_seconds=-1)
    fit(model(), loss_of, batches, schedule=schedule, folder=tmp_path)
    assert saved == [0, 1, 2, 3]
