"""lab.train.selection: stories put together from the words of narrators, and what they are taken from."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from lab import audio
from lab.corpora import narration
from lab.errors import LabError
from lab.others.units import Units, UnitsConfig
from lab.train import recipes, selection, unit_stories
from lab.train.plan import Plan
from lab.train.selection import Readings, edges_of, words_of
from tests.spoken import voiced


def test_the_last_word_of_a_sentence_is_another() -> None:
    assert [*words_of(["A fox, a hen.", "...", "Sleep!"])] == ["a", "fox", "a", "hen.", "sleep."]


def test_words_begin_where_the_one_before_has_ended_and_the_head_is_late() -> None:
    """The tokenizer misreads "hat", so nobody knows where that begins or ends."""
    times = {"a": (0.4, 0.6), "fox": (0.8, 1.2), "is": (1.24, 1.3), "has": (2.0, 2.4), "den": (3.2, 3.6)}
    heard = [(start, end, word) for word, (start, end) in times.items()]
    tokenizer: Any = SimpleNamespace(words=lambda tokens: heard if len(tokens) == 100 else [])
    edges = edges_of(tokenizer, np.zeros(100, np.uint16), ["a", "fox", "is", "hat", "den."])
    assert edges.tolist() == [0, 18, 30, -1, -1, 100]


def test_pauses_are_brief() -> None:
    tokens = np.array([7] * 9 + [3] * 2 + [7] * 30 + [0] * 8, np.uint16)
    assert selection.brief(tokens).tolist() == [7] * 8 + [3] * 2 + [7] * 8 + [0] * 8
    assert selection.brief(tokens[:0]).tolist() == []


def document(text: str, first: int, unknown: tuple[int, ...] = ()) -> tuple[np.ndarray, list[str], np.ndarray]:
    """Words of three tokens each, from `first` on."""
    words = [*words_of(f"{sentence}." for sentence in text.split(". "))]
    edges = np.arange(len(words) + 1) * 3
    edges[list(unknown)] = -1
    return np.arange(first, first + 3 * len(words)).astype(np.uint16), words, edges


def told(readings: Readings, text: str, seed: int = 0) -> list[list[int]]:
    """Of each word the number of its recording: a third of its tokens."""
    found = readings.tell([f"{sentence}." for sentence in text.split(". ")], np.random.default_rng(seed))
    assert [*range(0, len(found.places), 3)] == [first for first, _, _ in found.words]
    return (readings.tokens[found.places][::3] // 3).tolist()


def test_longer_runs_of_words_are_taken_from_one_recording(monkeypatch: pytest.MonkeyPatch) -> None:
    readings = Readings([document("the red fox ran. the fox sat", 0), document("a red fox sat", 60)])
    monkeypatch.setattr(selection, "RUN", (3, 3))
    assert {tuple(told(readings, "a fox sat. the red fox ran", seed))[3:6] for seed in range(9)} == {(0, 1, 2)}
    monkeypatch.setattr(selection, "RUN", (1, 1))
    assert len({tuple(told(readings, "a fox sat. the red fox ran", seed))[3:6] for seed in range(9)}) > 1


def test_neighbours_that_end_and_begin_alike_are_preferred(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "RUN", (1, 1))
    readings = Readings([document("the owl saw a cat. the owls saw two cats", 0), document("a hen saw ten dogs", 60)])
    assert {told(readings, "the owls saw ten dogs", seed)[2] for seed in range(20)} == {7}
    assert {told(readings, "a hen saw a cat", seed)[2] for seed in range(20)} == {2, 22}  # each has one neighbour alike


def test_a_run_begins_and_ends_where_it_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody knows where "red" ends in the one and where it begins in the other."""
    monkeypatch.setattr(selection, "RUN", (3, 3))
    readings = Readings([document("the red fox ran", 0, unknown=(2,)), document("a red fox sat", 60, unknown=(1,))])
    assert told(readings, "the red fox ran") == []
    readings = Readings([document("the red fox ran", 0, unknown=(2,)), document("red fox sat", 60)])
    assert told(readings, "the red fox ran") == [0, 1, 2, 3] and told(readings, "red fox ran") == [20, 21, 3]


def test_without_readings_nothing_can_be_told() -> None:
    with pytest.raises(LabError, match="no reading to take words from"):
        Readings([])


@pytest.fixture
def plan(tmp_path: Path, tiny_bundle: Path, noise: list[int], monkeypatch: pytest.MonkeyPatch) -> Plan:
    home = tmp_path / "people" / "ann"
    home.mkdir(parents=True)
    for name, seed in (("one", None), ("two", 4)):
        audio.save(home / f"{name}.ogg", voiced(4.0))
        sentences = [[0.1, 1.4, "One fox."], [2.0, 3.5, "Two owls."]]
        about = {"voice": "ann", "speed": 1, "source": "a book", "seed": seed, "sentences": sentences}
        (home / f"{name}.json").write_text(json.dumps(about))
    monkeypatch.setattr(selection, "PAUSE", 99)
    monkeypatch.setattr(selection, "edges_of", lambda _, tokens, words: np.array([0, 20, 50, -1, len(tokens)]))
    root = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    return Plan(tmp_path / "runs", root, None, tmp_path / "people", hours=60 / 3600, corpus="read-stories")


def test_half_of_read_stories_are_told_in_the_words_of_narrators(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def told(number: int, sentences: int) -> Any:
        asked.append(number)
        return SimpleNamespace(sentences=("One fox.", "Two owls.", "Five dogs.") * (sentences // 6))

    monkeypatch.setattr(narration, "told", told)
    stream, seconds = recipes.told(plan, "read-stories")
    documents = np.split(stream.tokens, stream.starts[1:])
    read = documents[-len(asked) - 3 : -len(asked)]
    assert [len(each) for each in read] == [100, 114, 89] and seconds["read"] == 4  # at its pace, slower, faster
    assert asked == [500_000] and 30 <= seconds["told"] == len(documents[-1]) / 25
    # nobody knows where "two" ends, and nobody read "five dogs"
    assert documents[-1].tolist() == read[0].tolist()[:50] * 16
    assert sum(map(len, documents[: -len(asked) - 3])) / 25 == seconds["narrated"] >= 30
    assert recipes.told(plan, "read-stories")[1] == seconds and len(asked) == 1
    assert "--narration people" in plan.command("griffin") and plan.inputs("griffin")["narration"] == "people"
    (path,) = plan.work.glob("selected-*.npz")
    path.write_bytes(b"PK")
    with pytest.raises(LabError, match=r"\.npz is damaged \(.*\); delete it, and the same command makes it again"):
        recipes.told(plan, "read-stories")


def test_other_narrations_or_settings_make_other_stories(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [selection.digest(plan, 96)]
    shutil.copy(plan.narration / "ann" / "two.ogg", plan.narration / "ann" / "three.ogg")  # type: ignore[operator]
    shutil.copy(plan.narration / "ann" / "two.json", plan.narration / "ann" / "three.json")  # type: ignore[operator]
    found.append(selection.digest(plan, 96))
    monkeypatch.setattr(selection, "FITS", 1.0)
    found.append(plan.inputs("griffin")["selected"])
    assert len({*found}) == 3


def test_without_stories_read_aloud_it_says_so(plan: Plan) -> None:
    (plan.narration / "ann" / "two.json").unlink()  # type: ignore[operator]
    with pytest.raises(
        LabError,
        match="read-stories and long-read-stories are put together from stories read aloud; give --narration FOLDER",
    ):
        recipes.told(plan, "read-stories")


@pytest.mark.parametrize("stack", [1, 2])
def test_units_hear_the_same_words_and_when_they_are_said(
    plan: Plan, monkeypatch: pytest.MonkeyPatch, stack: int
) -> None:
    """Half by espeak-ng, then the reading as it is, and its words put together; the second sentence again and again."""
    torch.manual_seed(0)
    units = Units(UnitsConfig.preset("tiny", stack=stack)).eval()
    monkeypatch.setattr(
        narration, "told", lambda *_: SimpleNamespace(sentences=("One fox.",) * 20, text="One fox. " * 20)
    )
    monkeypatch.setattr(narration, "make", lambda maker, numbers, workers: map(maker, numbers))
    stories, seconds = unit_stories.stories(plan, units, 60 / 3600)
    spoken, read, told = stories
    samples = plan.documents()[-1].read().samples()
    assert np.array_equal(read.units, units.encode(samples).numpy()) and len(read.units) == 4 * units.rate
    assert [word for _, _, word in read.words()] == ["one", "fox", "two", "owls"]
    assert read.begins.tolist() == pytest.approx([0, 0.8, 2.0, 3.0])  # "owls" between edges that are known
    assert [word for _, _, word in told.words()] == ["one", "fox"] * 20
    assert told.begins.tolist() == pytest.approx([(k // 2) * 2 + k % 2 * 0.8 for k in range(40)])
    assert np.array_equal(told.units, np.tile(read.units[: 2 * units.rate], 20))
    if stack == 2:
        assert np.array_equal(read.pitches, unit_stories.expression(samples)[0][:50])
        assert np.array_equal(told.styles, np.tile(read.styles[:2], 20))
    assert [word for _, _, word in spoken.words()] == ["one", "fox"] * 20
    assert seconds == {"narrated": pytest.approx(len(spoken.units) / units.rate, abs=0.1), "read": 4, "told": 40}
    assert [each.units.tolist() for each in unit_stories.stories(plan, units, 60 / 3600)[0]] == [
        each.units.tolist() for each in stories
    ]
