"""lab.evaluate.field and its view: all systems from one prompt, kept, made now, or named as missing."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lab import audio
from lab.corpora.prompts import prompts
from lab.errors import LabError
from lab.evaluate import field, systems
from lab.evaluate.examples import Example, Sound
from lab.evaluate.systems import System
from lab.measure.coherence import Span
from lab.view.field import IDEAS, field_player, ideas
from tests.spoken import voiced


@pytest.fixture
def spoken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every system says the same."""

    def go_on(example: Example, sound: Sound, seconds: float) -> np.ndarray:
        return voiced(seconds)

    monkeypatch.setattr(
        systems, "load", lambda name, root, temperature: System(name, temperature, {"codec": "1"}, go_on)
    )


class Ear:
    name = "ear"

    def predict_mos(self, waveform: np.ndarray) -> float:
        return 3.0 if len(waveform) == 80_000 else 0.0


def test_what_is_kept_is_heard_what_is_in_the_bundle_is_made_and_the_rest_is_named(
    tmp_path: Path, tiny_bundle: Path, spoken: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompt = prompts()[1]
    monkeypatch.setattr(field, "prompts", lambda: [prompt])
    monkeypatch.setattr(field, "SECONDS", 11.0)
    judge: Any = Ear()
    field.keep(["gslm+3s"], judge, tiny_bundle, tmp_path)
    found = field.field(prompt, 7.0, tiny_bundle, tmp_path)
    assert {system: heard.kept for system, heard in found.heard.items()} == {
        "griffin": False,
        "transformer+3s": False,
        "gslm+3s": True,
    }
    assert found.heard["gslm+3s"].mos == [3.0] and not found.heard["griffin"].mos  # the first 5 of 7 s
    before = audio.load(prompt.path)
    assert all(len(heard.waveform) == len(before) + 7 * 16_000 for heard in found.heard.values())
    assert [line.split()[0] for line in found.missing] == ["twist", "spiritlm", "audiolm-refined"]
    assert "`lab train twist`, and LAB_BUNDLE=runs/bundle" in found.missing[0]
    with pytest.raises(LabError, match="there is no 'owl' in the field; there are griffin,"):
        field.keep(["owl"], judge, tiny_bundle, tmp_path)
    (tmp_path / "field.json").write_text("{")
    with pytest.raises(LabError, match=r"field.json is damaged"):
        field.field(prompt, 7.0, tiny_bundle, tmp_path)


def test_each_system_has_a_row_with_what_it_alone_has() -> None:
    assert list(IDEAS) == list(field.SYSTEMS)
    shown = str(ideas("gslm+3s", "audiolm-refined+3s").data)
    assert "GSLM: 200 clusters of sound, no repeats; AudioLM: one more for coarse codes, then the codec" in shown
    svg = base64.b64decode(shown.partition("base64,")[2].partition('"')[0]).decode()
    assert svg.count("<rect") == 6 and svg.count(f'fill="{IDEAS["gslm+3s"].colour}" stroke') == 1
    with pytest.raises(LabError, match="no system 'owl'"):
        ideas("owl")


def test_systems_on_one_clock_with_what_is_known_of_each() -> None:
    sounds = {"griffin": voiced(8), "gslm+3s": voiced(8, 0.05)}
    words = {system: [(4.0, 4.5, "fox")] for system in sounds}
    spans: dict[str, list[Span]] = {"griffin": [Span(0, 3, 0.5, 0.2)], "gslm+3s": []}
    player = field_player(sounds, words, spans, {"griffin": [], "gslm+3s": [2.0]}, prompt=3.0)
    assert [sound["name"] for sound in player._sounds] == ["SpeechSSM", "GSLM"]
    kinds = [lane["kind"] for lane in player._lanes]
    assert kinds == ["heat", "curve", "words", "words"]
    assert player._start == 1.0  # 2 s before the continuation: what a page keeps is how each goes on
    bare = field_player(sounds, words, {"griffin": [], "gslm+3s": []}, {}, prompt=3.0)
    assert [lane["kind"] for lane in bare._lanes] == ["words", "words"]
