"""lab.train.recipes: what `lab train` makes of a plan, and what it leaves in the bundle."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lab import bundle
from lab.corpora import Utterance, narration
from lab.corpora.utterance import int16
from lab.errors import LabError
from lab.tokens import Tokenizer, TokenizerConfig
from lab.train import recipes
from lab.train.recipes import Plan
from tests.test_train import said


@pytest.fixture
def narrated(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Corpora without processes and without speech: what each maker would be asked for."""
    asked: list[int] = []

    def made(maker: Callable[[int], Any], numbers: range) -> Iterator[Any]:
        asked.append(len(numbers))
        for number in numbers:
            tone = 0.1 * np.sin(np.arange(16_000 * 4) * 0.05 * (number + 1))
            utterance = Utterance(int16(tone), "owl", "Ada", "narrated")
            yield utterance if maker is narration.training_story else (utterance, utterance)

    monkeypatch.setattr(recipes, "_made", made)
    yield asked


def test_tokens_of_stories_are_made_once_for_each_tokenizer(tmp_path: Path, narrated: list[int]) -> None:
    torch.manual_seed(0)
    one, other = (Tokenizer(TokenizerConfig.preset("tiny")).eval() for _ in range(2))
    path = tmp_path / "run" / "stories.npz"
    documents = recipes.stories(path, one, hours=0.5)
    assert len(documents) == narrated[0] == 12 and all(len(document) == 100 for document in documents)
    again = recipes.stories(path, one, hours=0.5)
    assert len(narrated) == 1
    for ours, theirs in zip(again, documents, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    recipes.stories(path, other, hours=0.5)
    recipes.stories(path, other, hours=0.25)
    assert narrated == [12, 12, 6]
    assert [left.name for left in path.parent.iterdir()] == ["stories.npz"]


def test_a_recipe_puts_its_model_and_card_into_the_bundle(
    tmp_path: Path, narrated: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TokenizerConfig, "preset", classmethod(lambda cls, name: cls(width=16, kernel=3, blocks=1)))
    monkeypatch.setattr(narration, "held_out_story", lambda number: said("good night.", number))
    plan = Plan(tmp_path / "runs", tmp_path / "bundle", None, steps=5, hours=0.06, seed=0)
    card = recipes.train("tokenizer", plan)
    assert narrated == [12, 12]
    assert card == bundle.index(plan.bundle)["tokenizer"]["card"]
    assert card["steps"] == 5 and card["command"] == "lab train tokenizer" and "cer" in card["at_the_end"]
    assert card["data"] == f"{4 * 12 * 4 / 3600:.1f} h of stories narrated by espeak-ng"
    assert bundle.load(plan.bundle, "tokenizer").config.width == 16


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"steps": 0}, "0 steps"), ({"steps": -5}, "-5 steps"), ({"hours": 0.0}, "0 hours"), ({"hours": -1.0}, "-1 h"),
     ({"hours": float("nan")}, "nan hours")],
)  # fmt: skip
def test_a_plan_of_nothing_is_an_error(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(LabError, match=message):
        Plan(**changes)


def test_an_unknown_recipe_is_an_error() -> None:
    with pytest.raises(LabError, match="no recipe for 'mamba'; there are tokenizer, codec, .* and all"):
        recipes.train("mamba", Plan())


def test_a_plan_looks_at_the_environment_when_it_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAB_BUNDLE", str(tmp_path))
    monkeypatch.setenv("LAB_LIBRISPEECH", str(tmp_path))
    assert Plan().bundle == Plan().speech == tmp_path
