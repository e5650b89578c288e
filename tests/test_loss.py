"""lab.measure.loss: how surprised a model is whose answers are known, and of which stories it is told."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from lab import audio, bundle
from lab.corpora import narration, splits, storyworld
from lab.errors import LabError
from lab.measure import figures, loss, of_language
from lab.measure.loss import estimates, losses, whole_minutes
from tests.spoken import voiced


def counts_on(tokens: Tensor) -> tuple[Tensor, None]:
    """A model that expects each token to be one more than the last: nine to one, among ten others."""
    return F.one_hot(tokens + 1, 11).float() * math.log(90), None


def test_the_loss_of_a_token_is_that_of_the_model_before_it() -> None:
    found = losses(counts_on, torch.tensor([3, 4, 5, 2]))
    assert found.tolist() == pytest.approx([math.log(100 / 90)] * 2 + [math.log(100)], rel=1e-4)


def test_minutes_are_whole_and_a_minute_counts_that_half_of_the_stories_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(whole_minutes(torch.ones(240 * 25 - 1))) == 4  # of as many tokens the first has no loss
    assert len(whole_minutes(torch.ones(240 * 25 - 2))) == 3
    monkeypatch.setattr(loss, "MINUTE", 3)
    assert whole_minutes(torch.tensor([1.0, 3, 2, 4, 6, 5, 9])) == [2, 5]
    assert whole_minutes(torch.tensor([1.0, 3, 2, 4, 6, 5, 9]), lacking=2) == [2, 5, 9]
    told = [torch.tensor(each) for each in ([1.0, 3, 2, 4, 6, 5, 9, 9], [3.0] * 5, [5.0, 5, 5, 9])]
    found = estimates(told)
    assert [*found] == ["", ", minute 1", ", minute 2"]  # one of three has a third minute
    assert found[""].value == pytest.approx((39 / 8 + 3 + 24 / 4) / 3) and found[""].n == 3
    assert found[", minute 1"].value == pytest.approx(10 / 3) and found[", minute 1"].low < found[", minute 1"].high
    assert found[", minute 2"].value == 4 and found[", minute 2"].n == 2


def narrated(home: Path, number: int, sentences: int = 5, seconds: float = 12.0) -> None:
    home.mkdir(parents=True, exist_ok=True)
    seed = narration.held_out_seed(number)
    told = storyworld.story(seed, sentences).sentences
    length = seconds / sentences
    about = {"voice": "ann", "speed": 1, "source": "story world", "seed": seed, "narrators": "kokoro"}
    about["sentences"] = [[length * k, length * (k + 1), text] for k, text in enumerate(told)]
    audio.save(home / f"story-{number}.ogg", voiced(seconds))
    (home / f"story-{number}.json").write_text(json.dumps(about))


CHOSEN = splits.DEVELOPMENT[splits.WATCHED]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two stories that figures may be of, and one for choices."""
    for number in (3, 4, CHOSEN):
        narrated(tmp_path / "narrated" / "ann", number)
    return tmp_path / "narrated"


def test_what_human_like_voices_read_is_read_by_espeak_as_well(folder: Path) -> None:
    found = loss.stories(9, folder, splits.STORIES)
    assert [*found] == ["human-like voices", "espeak-ng"]
    for human, other in zip(*found.values(), strict=True):
        assert (
            storyworld.normalize(human.text) == other.text
            and human.story == other.story
            and human.narrator == "ann" != other.narrator
        )
    assert [each.story for each in found["espeak-ng"]] == [7, 9]
    chosen = loss.stories(9, folder, splits.DEVELOPMENT[splits.WATCHED :])
    assert [[each.story for each in told] for told in chosen.values()] == [[2 * CHOSEN + 1]] * 2
    with pytest.raises(
        LabError, match="no held-out story for choices; make some by `lab narrate FOLDER --development`"
    ):
        loss.stories(9, folder, splits.DEVELOPMENT[splits.WATCHED + 1 :])


def test_without_human_like_voices_espeak_reads_four_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(narration, "held_out_story", lambda number, sentences: (number, sentences))
    assert loss.stories(2, None, splits.STORIES) == {"espeak-ng": [(0, 96), (1, 96)]}  # type: ignore[comparison-overlap]


def test_figures_of_the_loss(folder: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of untrained models: about that of 32 tokens, all alike."""
    monkeypatch.setenv("LAB_BUNDLE", str(tiny_bundle))
    rows = figures.measure("loss", tiny_bundle, None, 2, narrated=folder)
    name = "loss, nats a token, stories read by "
    assert {(row.model, row.name) for row in rows} == {
        (model, name + voices) for model in of_language.LANGUAGES for voices in ("human-like voices", "espeak-ng")
    }
    assert all(0.3 * math.log(32) < row.value < 3 * math.log(32) for row in rows)
    assert {(row.n, row.kept, row.command, row.uses) for row in rows} == {
        (2, True, "lab measure loss --count 2 --narration NARRATION", ("tokenizer",))
    }
    assert len({row.value for row in rows}) == 6  # of each model and voice its own
    ssm: Any = SimpleNamespace(tokenizer=bundle.load(tiny_bundle, "tokenizer"))
    chosen = of_language.of_loss(ssm, None, 2, folder, development=True)
    assert {(row.n, row.kept) for row in chosen} == {(1, False)}
    tokens = ssm.tokenizer.encode(loss.stories(1, folder, splits.DEVELOPMENT)["espeak-ng"][0].samples())
    expected = float(np.mean(losses(bundle.load(tiny_bundle, "griffin"), tokens).numpy()))
    assert next(
        row.value for row in chosen if (row.model, row.name) == ("griffin", f"{name}espeak-ng")
    ) == pytest.approx(expected, rel=1e-5)


def test_options_are_for_what_takes_them(tiny_bundle: Path) -> None:
    with pytest.raises(LabError, match="minutes cannot be set for `lab measure loss`; it is for coherence"):
        figures.measure("loss", tiny_bundle, None, 2, minutes=3)
    with pytest.raises(LabError, match="development cannot be set for `lab measure all`; it is for loss and coherence"):
        figures.measure("all", tiny_bundle, None, 2, development=True)
