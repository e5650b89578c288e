"""lab.corpora.alignments: words of people's readings are where they are said, and Spirit LM learns from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lab import audio, bundle
from lab.corpora import alignments, librispeech
from lab.errors import LabError
from lab.others.spiritlm import Layout
from lab.others.units import Units, UnitsConfig
from lab.train import others, unit_stories
from lab.train.plan import Plan
from tests.spoken import voiced

# Chapter 10: of its five utterances the third has no alignment, and the last one's is not of its text.
TEXTS = {"10": ["OH OWL'S", "ONE FOX", "A", "TWO", "THREE FOUR"], librispeech.HELD_OUT_CHAPTER: ["NO"]}
SAID = {
    "7-10-0000": ["", "oh", "<unk>", "sp"],
    "7-10-0001": ["sil", "one", "fox"],
    "7-10-0003": ["two"],
    "7-10-0004": ["three", "fo", "ur"],
    f"7-{librispeech.HELD_OUT_CHAPTER}-0000": ["no"],
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Utterances of 2 s and a little more; labels last half a second each."""
    root = tmp_path / "speech"
    for chapter, texts in TEXTS.items():
        (folder := root / "7" / chapter).mkdir(parents=True)
        names = [f"7-{chapter}-{number:04}" for number in range(len(texts))]
        lines = [f"{name} {text}\n" for name, text in zip(names, texts, strict=True)]
        (folder / f"7-{chapter}.trans.txt").write_text("".join(lines))
        for number, name in enumerate(names):
            audio.save(folder / f"{name}.flac", voiced(2 + number / 10))
        rows = ["utterance,tier,start_s,end_s,label\n"] + [
            f"{name},{tier},{at / 2},{at / 2 + 0.5},{label}\n"
            for name in names
            for at, label in enumerate(SAID.get(name, []))
            for tier in ("word", "phone")
        ]
        (folder / f"7-{chapter}.alignment.csv").write_text("".join(rows))
    return root


def plan(tmp_path: Path, speech: Path | None) -> Plan:
    return Plan(tmp_path / "runs", tmp_path / "bundle", speech, None, steps=2, hours=0.01, preset="tiny")


@pytest.fixture
def units() -> Units:
    torch.manual_seed(0)
    return Units(UnitsConfig.preset("tiny", units=6, stack=2)).eval()


def test_utterances_in_a_row_are_one_reading_and_a_gap_ends_it(root: Path) -> None:
    found = alignments.readings(root, (librispeech.HELD_OUT_CHAPTER,))
    assert [[each.name for each, _ in one.parts] for one in found.readings] == [
        ["7-10-0000", "7-10-0001"],
        ["7-10-0003"],
    ]
    assert found.without == 2 and found.skipped == []
    utterance, words = found.readings[0].read()
    assert words == [(0.5, 1, "oh"), (1, 1.5, "owl's"), (2.5, 3, "one"), (3, 3.5, "fox")]
    assert (utterance.seconds, utterance.text) == (pytest.approx(4.1), "oh owl's one fox")
    assert (utterance.narrator, utterance.source) == ("7", "librispeech")
    assert len(alignments.readings(root).readings) == 3


def test_an_alignment_of_other_audio_is_an_error(root: Path) -> None:
    audio.save(root / "7/10/7-10-0001.flac", voiced(1.0))
    with pytest.raises(LabError, match="7-10-0001.flac ends 0.5 s before its last word; align it again"):
        alignments.readings(root).readings[0].read()


def test_a_damaged_alignment_is_an_error(root: Path) -> None:
    with (root / "7/10/7-10.alignment.csv").open("a") as file:
        file.write("7-10-0004,word,zero,1,owl\n")
    with pytest.raises(LabError, match="line 24: '7-10-0004,word,zero,1,owl' is not utterance,tier,start,end,label"):
        alignments.readings(root)


def test_words_of_real_speech_are_where_it_is_loud(real_speech: Path) -> None:
    found = alignments.readings(real_speech, (librispeech.HELD_OUT_CHAPTER,))
    assert len(found.readings) > 5 and found.without < 0.02 * sum(len(each.parts) for each in found.readings)
    utterance, words = found.readings[0].read()
    assert 180 < utterance.seconds <= 240 and len(words) > 300
    frames = np.square(utterance.samples()[: len(utterance.waveform) // 160 * 160].reshape(-1, 160)).mean(1)
    said = np.zeros(len(frames), bool)
    for start, end, _ in words:
        said[round(100 * start) : round(100 * end)] = True
    assert np.median(frames[~said]) < 0.05 * np.median(frames[said])


# What Spirit LM makes of it


def test_readings_as_units_hear_them_are_made_once(
    root: Path, tmp_path: Path, units: Units, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    found, seconds = unit_stories.readings(plan(tmp_path, root), units)
    assert "2 aligned readings of " in (told := capfd.readouterr().err) and "2 utterances without times" in told
    assert [story.words()[0] for story in found] == [(0.5, 1, "oh"), (0, 0.5, "two")]
    assert [len(story.units) for story in found] == [103, 58] and seconds == pytest.approx(6.4)  # 25 Hz
    (kept,) = (tmp_path / "runs").glob("heard-2-*.npz")
    monkeypatch.setattr(alignments.Reading, "read", None)
    again, _ = unit_stories.readings(plan(tmp_path, root), units)
    assert all(
        np.array_equal(*both) for one, other in zip(found, again, strict=True) for both in zip(one, other, strict=True)
    )
    path = root / "7/10/7-10.alignment.csv"
    path.write_text(path.read_text().replace("word,0.5,1.0,oh", "word,0.6,1.0,oh"))
    monkeypatch.undo()
    assert unit_stories.readings(plan(tmp_path, root), units)[0][0].words()[0][0] == pytest.approx(0.6)
    assert kept.exists()


def test_what_cannot_be_read_is_named_and_heard_once_it_can(
    root: Path, tmp_path: Path, units: Units, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    path = root / "7/10/7-10-0003.flac"
    whole = path.read_bytes()
    audio.save(path, np.zeros(32_000, np.float32))
    heard: list[Any] = []
    monkeypatch.setattr(unit_stories, "heard", lambda *args, hear=unit_stories.heard: heard.append(0) or hear(*args))
    for _ in range(2):
        assert len(unit_stories.readings(plan(tmp_path, root), units)[0]) == 1
        assert "skipped: " in (told := capfd.readouterr().err) and "7-10-0003.flac is silent" in told
    assert len(heard) == 1
    path.write_bytes(whole)
    for _ in range(2):
        assert len(unit_stories.readings(plan(tmp_path, root), units)[0]) == 2
    assert len(heard) == 3


def test_speech_without_alignments_is_said_in_a_line(
    root: Path, tmp_path: Path, units: Units, capfd: pytest.CaptureFixture[str]
) -> None:
    for path in root.rglob("*.alignment.csv"):
        path.unlink()
    assert unit_stories.readings(plan(tmp_path, root), units) == ([], 0.0)
    (line,) = " ".join(capfd.readouterr().err.split()).split("\n")
    assert line.endswith("speech does not tell when words are said (*.alignment.csv in its chapters): Spirit LM learns "
                         "from narrated stories alone")  # fmt: skip
    assert unit_stories.readings(plan(tmp_path, None), units) == ([], 0.0)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("name", ["spiritlm-language", "spiritlm-base-language"])
def test_spirit_lm_turns_at_the_words_of_people(
    name: str, root: Path, tmp_path: Path, units: Units, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each reading is spoken, and of two one is written as well, and one by turns."""
    asked: dict[str, Any] = {}
    bundle.save(tmp_path / "bundle", "twist-units", units, {"data": "nothing"})
    monkeypatch.setattr(unit_stories, "stories", lambda *_: ([], {"narrated": 0.0}))

    def trained(plan: Plan, name: str, vocabulary: int, documents: Any, seconds: Any) -> Any:
        asked.update(vocabulary=vocabulary, documents=documents, seconds=seconds)

    monkeypatch.setattr(others, "_trained", trained)
    monkeypatch.setattr("lab.others.spiritlm.SPAN", (1, 2))
    others.train(plan(tmp_path, root), name)
    layout = Layout(units.vocabulary, expressive="base" not in name)
    assert asked["vocabulary"] == layout.size and asked["seconds"] == {
        "narrated": 0.0,
        "librispeech": pytest.approx(6.4),
    }
    first, turns, second, written = ([int(token) for token in each] for each in asked["documents"])
    assert first[0] == second[0] == layout.speech and written == layout.written("two")
    marks = [at for at, token in enumerate(turns) if token in (layout.text, layout.speech)]
    parts = [turns[at:end] for at, end in zip(marks, [*marks[1:], len(turns)], strict=True)]
    assert len(parts) == 4  # a word each
    said = "oh owl's one fox".split()
    story = unit_stories.readings(plan(tmp_path, root), bundle.load(tmp_path / "bundle", "twist-units"))[0][0]
    heard = layout.spoken(story.timed(), units.rate, story.expression())
    edges = [0.0, 1.0, 2.5, 3.0, 9.0]
    for number, part in enumerate(parts):
        if part[0] == layout.text:
            assert part == layout.written(f"{said[number]} ")
        else:
            assert part[1:] == [token for time, token in heard if edges[number] <= time < edges[number + 1]]
    assert sum(len(part) - 1 for part in parts if part[0] == layout.speech) > 0
