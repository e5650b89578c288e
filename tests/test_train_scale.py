"""lab.train at scale: models on the meta device, batches made ahead, the best checkpoints, compiled blocks."""

from __future__ import annotations

import math
import multiprocessing
import os
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import safetensors
import torch
from torch import Tensor, nn

from lab.errors import LabError
from lab.language import Griffin, GriffinConfig, SpeechTransformer, TransformerConfig
from lab.train import kept, loading
from lab.train.compute import compiling
from lab.train.loop import Compute, Losses, Schedule, fit
from tests.test_train import batches, loss_of, model, same, values


@pytest.mark.parametrize(("kind", "config"), [(Griffin, GriffinConfig), (SpeechTransformer, TransformerConfig)])
def test_a_model_on_the_meta_device_begins_with_what_its_constructor_draws(kind: Any, config: Any) -> None:
    """What two processes learn that fill it so: tests/test_distributed.py."""
    config = config.preset("tiny", vocabulary=16)
    torch.manual_seed(3)
    expected = kind(config).state_dict()
    with torch.device("meta"):
        shapes = kind(config)
    torch.manual_seed(3)
    found = dict(shapes.initial())
    assert found.keys() == expected.keys() and same(found, expected)


# Batches


def test_batches_made_ahead_are_the_same_and_a_run_goes_on_exactly(tmp_path: Path) -> None:
    made, schedule = tmp_path / "made", Schedule(8, learning_rate=0.1, warmup=2)
    made.mkdir()

    def noted(step: int) -> Tensor:
        (made / f"{step} {os.getpid()}").touch()
        return batches(step)

    stopped, steps = Compute(progress=False), iter(range(9))

    def stopping(network: nn.Module, batch: Tensor) -> Losses:
        if next(steps) == 3:
            stopped.stop.set()
        return loss_of(network, batch)

    whole, resumed, settings = model(), model(), {"workers": 2}
    fit(whole, loss_of, batches, schedule=schedule, folder=tmp_path / "whole")
    given: dict[str, Any] = {"schedule": schedule, "folder": tmp_path / "cut", "settings": settings}
    with pytest.raises(KeyboardInterrupt) as end:
        fit(model(), stopping, noted, compute=stopped, **given)
    assert end.value.args == () and next(steps) == 4  # no signal
    first = sorted(int(path.name.split()[0]) for path in made.iterdir())
    assert first[:4] == [0, 1, 2, 3] and len(first) <= 8  # two each ahead
    for path in made.iterdir():
        assert path.name.split()[1] != f"{os.getpid()}"
        path.unlink()
    fit(resumed, loss_of, noted, **given)
    assert sorted(int(path.name.split()[0]) for path in made.iterdir()) == [4, 5, 6, 7]
    assert same(values(resumed), values(whole))


def test_what_is_wrong_with_a_batch_is_told_in_a_line() -> None:
    def odd(step: int) -> Tensor:
        raise LabError(f"batch {step} is odd")

    with pytest.raises(LabError, match=r"^batch 5 is odd$") as caught:
        list(loading.batches(odd, range(5, 9), 1))
    assert caught.tb and not multiprocessing.active_children()  # they would keep this process from its end
    with pytest.raises(LabError, match="with -1 workers; give 0 or more"):
        list(loading.batches(odd, range(5, 9), -1))


# The best checkpoints


def evaluated(folder: Path, figures: list[float], keep: int, seen: list[dict[str, Tensor]] | None = None) -> None:
    """A run of as many steps, whose held-out loss after each is as given."""
    told = iter(figures)

    def evaluate(network: nn.Module) -> dict[str, float]:
        if seen is not None:
            seen.append(values(network))
        return {"held_out_loss": next(told), "minute": 0.0}

    options: dict[str, Any] = {"evaluate": evaluate, "evaluate_every": 1, "settings": {"keep": keep}}
    fit(model(), loss_of, batches, schedule=Schedule(len(figures)), folder=folder, **options)


def test_the_best_are_kept_beside_the_last(tmp_path: Path) -> None:
    seen: list[dict[str, Tensor]] = []
    evaluated(tmp_path, [3.0, 1.0, math.nan, 2.0, 5.0], 2, seen)
    found = kept.of(tmp_path)
    assert [(each.step, each.figure) for each in found] == [(2, 1.0), (4, 2.0)]
    assert same(found[0].weights(), seen[1]) and not same(found[0].weights(), seen[3])
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"] == 5
    kept.Best(Compute().fabric(), tmp_path, 2, step=3)  # a run goes on from step 3
    assert [each.step for each in kept.of(tmp_path)] == [2]
    evaluated(tmp_path / "none", [1.0], 0)
    assert kept.of(tmp_path / "none") == [] and not (tmp_path / "none/kept").exists()


def test_a_full_disk_and_a_damaged_file_cost_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    best = kept.Best(Compute().fabric(), tmp_path, 2, step=0)
    best.offer(1, 3.0, nn.Linear(2, 1), "step 0")

    def full(*_: Any) -> None:
        raise safetensors.SafetensorError("No space left on device")

    with monkeypatch.context() as patch, pytest.raises(LabError, match="cannot write .*step-2.*No space left"):
        patch.setattr(kept.safetensors.torch, "save_file", full)
        best.offer(2, 1.0, nn.Linear(2, 1), "step 0")
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["step-1.safetensors"]
    (tmp_path / "kept/step-3.safetensors").write_bytes(b"half")
    with pytest.raises(LabError, match="step-3.safetensors is damaged .*; delete it and go on with the others"):
        kept.of(tmp_path)
    with pytest.raises(LabError, match="cannot keep -1 checkpoints"):
        kept.Best(best.fabric, tmp_path, -1, step=0)


# Compiled


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layer(x)


class Stack(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block() for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x


def test_blocks_are_compiled_while_a_run_lasts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graphs: list[Any] = []

    def backend(graph: Any, inputs: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    monkeypatch.setattr("lab.train.loop.compiling", partial(compiling, backend=backend))
    networks = {wanted: Stack() for wanted in (False, True)}
    networks[True].load_state_dict(networks[False].state_dict())
    for wanted, network in networks.items():
        settings = {"compile": wanted}
        fit(network, loss_of, batches, schedule=Schedule(2), folder=tmp_path / f"{wanted}", settings=settings)
        assert bool(graphs) == wanted and all(block._compiled_call_impl is None for block in network.blocks)
    assert len(graphs) < 3  # blocks that are alike share one
    assert same(values(networks[True]), values(networks[False]))


def test_what_cannot_be_compiled_is_an_error() -> None:
    def backend(graph: Any, inputs: Any) -> Any:
        raise RuntimeError("no compiler")

    network = Stack()
    with pytest.raises(LabError, match=r"Stack cannot be compiled here \(.*no compiler.*\); leave out compile"):
        with compiling(network, True, backend):
            network(torch.zeros(2, 3))
    assert network(torch.zeros(2, 3)).shape == (2, 3)
