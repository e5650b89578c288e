"""lab.train.plan: what to train, from what and for how long, the command that says the same, and what is complete."""

from __future__ import annotations

import shlex
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from lab import audio, bundle
from lab.corpora.librispeech import HELD_OUT_CHAPTER
from lab.errors import LabError
from lab.tokens import Tokenizer, TokenizerConfig
from lab.train import plan as plan_module
from lab.train import recipes
from lab.train.plan import RECIPES, WHOLE, Plan
from tests.commands import lab
from tests.spoken import voiced


@pytest.mark.parametrize("name", ["griffin", "soundstorm", "ctc-head"])
@pytest.mark.parametrize(
    "changes",
    [{}, {"steps": 7, "hours": 0.5}, {"seed": -3, "warm": True}, {"preset": "gpu", "length": "4min", "corpus": "a b"},
     {"speech": Path("my speech")}, {"init": "other", "settings": {"learning_rate": 3e-4, "compile": True}}],
)  # fmt: skip
def test_the_command_on_a_card_makes_the_same_plan(
    name: str, changes: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAB_LIBRISPEECH", str(tmp_path))
    monkeypatch.setattr("lab.cli.train.begin_bundle", lambda plan, names: None)
    plan, asked = Plan(**changes), []
    words = shlex.split(plan.command(name))
    done = {"steps": 1, "minutes": 1, "at_the_end": {}}
    monkeypatch.setattr(recipes, "train", lambda name, plan: asked.append((name, plan)) or done)
    assert words[:2] == ["lab", "train"] and lab(*words[1:]).exit_code == 0
    if name == "griffin":
        plan = replace(plan, speech=tmp_path)  # it learns from tokens
    else:  # of no use to the others
        plan = replace(plan, preset="laptop", length=None)
    if name == "ctc-head":
        plan = replace(plan, warm=False, init=None)  # it begins with what the bundle has, asked or not
    assert asked == [(name, replace(plan, work=asked[0][1].work, bundle=asked[0][1].bundle))]


def test_no_model_learns_from_the_chapter_that_figures_are_of(tmp_path: Path) -> None:
    for reader, chapter, text in (("4088", HELD_OUT_CHAPTER, "held"), ("4088", "1", "one"), ("7", "2", "two")):
        folder = tmp_path / reader / chapter
        folder.mkdir(parents=True)
        (folder / f"{reader}-{chapter}.trans.txt").write_text(f"{reader}-{chapter}-0000 {text}\n")
        audio.save(folder / f"{reader}-{chapter}-0000.wav", voiced(2))
    assert {read.text for read in Plan(speech=tmp_path).readers()} == {"one", "two"}


def test_of_a_corpus_that_no_memory_holds_every_nth_document_is_learnt_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(4):
        audio.save(tmp_path / f"{number}.wav", voiced(2))
    corpus = Plan(corpus=str(tmp_path), speech=None)
    assert len(corpus.readers(texts=False)) == 4
    room = SimpleNamespace(total=4 * 32_000 / plan_module.KEPT)  # bytes of 4 s
    monkeypatch.setattr(plan_module.psutil, "virtual_memory", lambda: room)
    assert len(corpus.readers(texts=False)) == 2
    assert "one document in 2 is learnt from" in " ".join(capsys.readouterr().err.split())


def test_the_order_is_one_in_which_every_model_finds_what_it_learns_from() -> None:
    made: set[str] = set()
    for name in WHOLE:
        recipe = RECIPES[name]
        assert made.issuperset(recipe.models) and (recipe.part is None or recipe.part in made), name
        made.add(name)
    assert made == bundle.KINDS.keys() - {"units", "one-voice"} | {"griffin30", "decoder", "refiner", "joint"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"steps": 0}, "0 steps"), ({"steps": -5}, "-5 steps"), ({"hours": 0.0}, "0 hours"), ({"hours": -1.0}, "-1 h"),
     ({"hours": float("nan")}, "nan hours"), ({"length": "5min"}, "pieces of '5min'; give one of 30s, 1min, 2min, 4m")],
)  # fmt: skip
def test_a_plan_of_nothing_is_an_error(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(LabError, match=message):
        Plan(**changes)


def test_a_plan_looks_at_the_environment_when_it_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAB_BUNDLE", str(tmp_path))
    monkeypatch.setenv("LAB_LIBRISPEECH", str(tmp_path))
    assert Plan().bundle == Plan().speech == tmp_path


def test_what_is_complete_is_not_trained_again(
    tmp_path: Path, tiny_bundle: Path, noise: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        recipes.language_recipe,
        "train",
        lambda *_, **__: (bundle.load(tiny_bundle, "griffin"), {"steps": 1.0, "minutes": 0.0}),
    )
    root = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    options: dict[str, Any] = {"work": tmp_path / "runs", "bundle": root, "speech": None, "hours": 0.01}
    plan = Plan(**options)
    assert not recipes.complete("griffin", plan)  # a card that does not say what its model learnt from
    recipes.train("griffin", plan)
    assert recipes.complete("griffin", plan)
    for changes in ({"hours": 0.02}, {"steps": 7}, {"preset": "gpu"}, {"length": "4min"}, {"seed": 1}):
        assert not recipes.complete("griffin", Plan(**options | changes)), changes
    assert not recipes.complete("griffin", Plan(**options | {"bundle": tmp_path / "none"}))
    torch.manual_seed(1)
    recipes.train("griffin", replace(plan, warm=True))
    assert recipes.complete("griffin", plan)  # went on since
    bundle.save(root, "tokenizer", Tokenizer(TokenizerConfig.preset("tiny")), {})
    assert not recipes.complete("griffin", plan)  # its tokens are another tokenizer's
