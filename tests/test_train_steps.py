"""lab.train.loop: a step is taken whole or not at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lab.errors import LabError
from lab.train.loop import Compute, Losses, Schedule, fit
from tests.test_train import batches, logged, loss_of, model, same, values


class Followed(nn.Module):
    """A layer with a buffer that every forward pass in training moves, as codebooks are."""

    seen: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 1)
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.seen += x.mean().detach()
        return self.layer(x)


def spoiled(*steps: int) -> Callable[[int], Tensor]:
    return lambda step: batches(step) * (float("nan") if step in steps else 1)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_step_that_is_not_finite_changes_nothing_and_is_counted(
    accumulate: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network, compute = Followed(), Compute(accumulate=accumulate, log_every=1)
    before = values(network)
    figures = fit(network, loss_of, spoiled(0), schedule=Schedule(1, warmup=0), folder=tmp_path / "a", compute=compute)
    assert figures["skipped"] == 1 and same(before, values(network))
    assert capsys.readouterr().err == "a: step 1 was left out: the loss is nan\n"
    figures = fit(
        network, loss_of, spoiled(0, 2), schedule=Schedule(4, warmup=0), folder=tmp_path / "b", compute=compute
    )
    assert figures["skipped"] == 2 and np.isfinite(figures["loss"]) and not same(before, values(network))
    assert [row for row in logged(tmp_path / "b") if row[1] == "skipped"] == [
        (1, "skipped", 1), (2, "skipped", 1), (3, "skipped", 2), (4, "skipped", 2),
    ]  # fmt: skip
    twin = Followed()
    twin.load_state_dict(before)
    kept = [step for step in range(4) if step not in (0, 2)]
    fit(
        twin,
        loss_of,
        lambda step: batches(kept[step]),
        schedule=Schedule(2, warmup=0),
        folder=tmp_path / "c",
        compute=compute,
    )
    torch.testing.assert_close(network.seen, twin.seen)


def test_a_gradient_that_is_not_finite_changes_nothing(tmp_path: Path) -> None:
    network = Followed()
    before = values(network)

    def loss(player: nn.Module, batch: Tensor) -> Losses:
        loss = (player(batch) * 0).sqrt().sum()  # 0, and its slope endless
        return loss, {"loss": loss}

    figures = fit(network, loss, batches, schedule=Schedule(1, warmup=0), folder=tmp_path)
    assert figures["skipped"] == 1 and same(before, values(network))


def test_steps_that_are_never_finite_end_a_run_with_the_last_good_checkpoint(tmp_path: Path) -> None:
    network = Followed()
    with pytest.raises(
        LabError, match=r"10 steps in a row were left out, the last because the loss is nan; .* step 3 "
    ) as caught:
        fit(network, loss_of, spoiled(*range(3, 30)), schedule=Schedule(30), folder=tmp_path)
    assert "\n" not in str(caught.value) and f"that of step 3, {tmp_path}" in str(caught.value)
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert state["step"] == 3 and same(network.state_dict(), state["players"][0]["model"])
    assert fit(network, loss_of, batches, schedule=Schedule(30), folder=tmp_path)["steps"] == 30  # with better data


def test_weights_that_are_not_finite_are_never_saved(tmp_path: Path) -> None:
    network = model()
    fit(network, loss_of, batches, schedule=Schedule(2), folder=tmp_path)
    good = (tmp_path / "checkpoint.pt").read_bytes()

    def poisoned(step: int) -> Tensor:
        with torch.no_grad():
            network[0].weight[0, 0] = float("inf")
        return batches(step) * 0

    with pytest.raises(LabError, match=r"0.model.0.weight is not finite after step \d; the last .* of step 2, "):
        fit(network, lambda m, b: ([*m.parameters()][-1].sum(), {}), poisoned, schedule=Schedule(4), folder=tmp_path)
    assert (tmp_path / "checkpoint.pt").read_bytes() == good


@pytest.mark.parametrize("who", ["judge", "player"])
def test_both_players_of_a_game_take_a_step_or_none(who: str, tmp_path: Path) -> None:
    """The judge has stepped already when the loss of the player turns out to be none."""
    player, judge = Followed(), nn.Linear(1, 1)
    told: list[tuple[dict[str, Tensor], ...]] = []

    def loss(name: str, value: Tensor, step: int) -> Losses:
        return (value * float("nan") if (name, step) == (who, 2) else value), {name: value}

    def loss_of_judge(adversary: nn.Module, one: nn.Module, batch: Tensor) -> Losses:
        return loss("judge", adversary(one(batch).detach()).square().mean(), len(told) - 1)

    def batch(step: int) -> Tensor:
        told.append((values(player), values(judge)))
        return batches(step)

    def loss_of_player(one: nn.Module, batch: Tensor) -> Losses:
        return loss("player", one(batch).square().mean(), len(told) - 1)

    fit(
        player, loss_of_player, batch, schedule=Schedule(5, warmup=0), folder=tmp_path, adversary=(judge, loss_of_judge)
    )
    told.append((values(player), values(judge)))
    for number in range(2):
        moved = [not same(one[number], other[number]) for one, other in zip(told, told[1:], strict=False)]
        assert moved == [True, True, False, True, True]


def test_gradients_are_clipped(tmp_path: Path) -> None:
    """What is left in `grad` after the last step is what the optimiser saw."""
    network = nn.Linear(3, 1)
    for clip, norm in ((0.5, 0.5), (1e9, None)):
        fit(
            network,
            lambda m, b: (1e3 * m(b).sum(), {}),
            batches,
            schedule=Schedule(1, clip=clip),
            folder=tmp_path / str(clip),
        )
        found = torch.cat([p.grad.flatten() for p in network.parameters()]).norm()
        assert found == pytest.approx(norm, rel=1e-4) if norm else found > 1e3
