"""lab.train.choice: of the checkpoints that a run kept, the one whose transcripts are the likeliest text."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from lab import bundle
from lab.errors import LabError
from lab.evaluate import ears, sets
from lab.evaluate.examples import Example, Examples, Sound
from lab.evaluate.systems import System
from lab.train import choice, kept
from lab.train.loop import Compute
from tests.commands import lab, refused
from tests.spoken import voiced


class Ear:
    """Hears a word for each 0.1 of loudness, and finds a text the likelier the more words it has."""

    name = "ear"

    def transcribe(self, waveform: np.ndarray) -> str:
        return "owl " * int(10 * np.abs(waveform).max())

    def log_likelihood(self, text: str, context: str = "") -> tuple[float, int]:
        return -10.0, len(text.split())

    def provenance(self) -> dict[str, str]:
        return {"backend": "test"}


LOUDNESS = {10: 0.35, 20: 0.55, 30: 0.15, 40: 0.0}  # by the step


@pytest.fixture
def spoken() -> list[float]:
    """How loud each system spoke that went on from a prompt."""
    return []


@pytest.fixture
def work(tmp_path: Path, tiny_bundle: Path, spoken: list[float], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bundle, and a run that kept four checkpoints; how loud a system speaks is in its weights."""
    shutil.copytree(tiny_bundle, tmp_path / "bundle")
    best = kept.Best(Compute().fabric(), tmp_path / "griffin", 5, step=0)
    network = bundle.load(tiny_bundle, "griffin")
    for step, loudness in LOUDNESS.items():
        network.embedding.data.fill_(loudness)  # type: ignore[union-attr, operator]
        best.offer(step, 1 / step, network, "")

    def load(name: str, root: Path, temperature: float, device: str | None) -> System:
        loudness = float(bundle.load(root, name).embedding[0, 0])  # type: ignore[index, arg-type]
        assert bundle.load(root, "tokenizer").config == bundle.load(tiny_bundle, "tokenizer").config

        def go_on(example: Example, sound: Sound, seconds: float) -> np.ndarray:
            spoken.append(loudness)
            return (loudness * np.sin(0.1 * np.arange(round(16_000 * seconds)))).astype(np.float32)

        return System(name, temperature, {name: bundle.digests(root)[name]}, go_on)

    monkeypatch.setattr(choice.systems, "load", load)
    monkeypatch.setattr("lab.evaluate.run.audio.set_level", lambda waveform: waveform)
    return tmp_path


def judged(work: Path, **changes: Any) -> list[choice.Judged]:
    sound = Sound(voiced(2), reference=voiced(2))
    samples = Examples("development", [Example(f"{number}", lambda: sound, number) for number in range(2)])
    given: dict[str, Any] = {"folder": work / "griffin", "ears": ears.of([Ear()])} | changes
    return choice.judge("griffin", given["folder"], work / "bundle", samples, 4.0, given["ears"])


def test_the_likeliest_transcripts_choose(work: Path, spoken: list[float]) -> None:
    found = judged(work)
    assert [each.checkpoint.step for each in found] == [20, 10, 30, 40]
    assert [each.perplexity for each in found] == pytest.approx([2.0, 10 / 3, 10.0, np.inf])
    assert len(spoken) == 8
    assert [each.checkpoint for each in judged(work)] == [each.checkpoint for each in found]
    assert len(spoken) == 8  # all is in a file
    before = bundle.index(work / "bundle")["griffin"]["card"]
    card = choice.put("griffin", found, work / "bundle", {"command": "lab choose griffin"})
    assert card == bundle.index(work / "bundle")["griffin"]["card"] and card["steps"] == 20
    assert card["data"] == before["data"] and card["chosen"]["perplexity_after_step"]["10"] == pytest.approx(3.3333)
    assert float(bundle.load(work / "bundle", "griffin").embedding[0, 0]) == pytest.approx(0.55, abs=1e-3)  # type: ignore[index, arg-type]


def test_what_cannot_be_chosen_from_is_an_error(work: Path) -> None:
    with pytest.raises(LabError, match="nobody judges transcripts; give --ears with both, such as whisper:base.en,lm:"):
        judged(work, ears=ears.load("ctc", work / "bundle"))
    with pytest.raises(LabError, match="no checkpoint is kept in .*codec; train with --set keep=5, or give another"):
        judged(work, folder=work / "codec")
    torch.manual_seed(0)
    kept.Best(Compute().fabric(), work / "griffin", 5, step=99).offer(50, 0.0, nn.Linear(2, 1), "")
    with pytest.raises(LabError, match=r"step-50.safetensors is of another griffin than .*bundle has .*Missing key"):
        judged(work)


def test_the_command_chooses(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(work)
    sound = Sound(voiced(2), reference=voiced(2))
    asked: list[Any] = []

    def examples(*given: Any) -> Examples:
        asked.append(given[:3])
        return Examples(given[0], [Example("a", lambda: sound, 0)])

    monkeypatch.setattr(sets, "examples", examples)
    monkeypatch.setattr(ears, "load", lambda specs, root: ears.of([Ear()]))
    result = lab("choose", "griffin", "--work", ".", "--ears", "ear", "--minutes", "0.1", "--count", "3", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["step"] == 20 and asked == [("development", 3, 6.0)]
    assert bundle.index(work / "bundle")["griffin"]["card"]["chosen"]["command"].startswith("lab choose griffin --set")
    refused("no checkpoint is kept in transformer", "choose", "transformer", "--work", ".", "--ears", "ear")


def test_choices_have_stories_of_their_own() -> None:
    names = {name: {each.name for each in sets.examples(name, 3, 60.0)} for name in ("stories", "development")}
    assert names["development"] == {"story-1000100", "story-1000101", "story-1000102"}
    assert not names["stories"] & names["development"]
