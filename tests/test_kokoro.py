"""lab.corpora: Kokoro's narrators, where package and model are; and folders of documents with sentence times."""

from __future__ import annotations

import json
import os
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from lab import audio
from lab.corpora import kokoro
from lab.corpora.kokoro import HELD_OUT, TRAINING, KokoroNarrator
from lab.corpora.narrated_folder import narrated
from lab.errors import LabError

TEXT = "good night, badger."
there = pytest.mark.skipif(
    not (find_spec("kokoro_onnx") and os.environ.get("LAB_KOKORO")), reason="kokoro-onnx and LAB_KOKORO are needed"
)


def test_held_out_voices_are_never_drawn_and_every_other_narrator_is_a_blend() -> None:
    assert len(set(TRAINING)) == 22 and len(set(HELD_OUT)) == 6 and not set(TRAINING) & set(HELD_OUT)
    drawn = [kokoro.random_narrator(np.random.default_rng(seed)) for seed in range(400)]
    assert {who.voice for who in drawn} | {who.other for who in drawn} == {*TRAINING, ""}
    assert all(who.voice != who.other and 0.92 <= who.speed <= 1.12 for who in drawn)
    assert 160 < sum(bool(who.other) for who in drawn) < 240
    assert kokoro.random_narrator(np.random.default_rng(7)) == drawn[7]


def test_what_lacks_is_said_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LAB_KOKORO", raising=False)
    with pytest.raises(LabError, match="set LAB_KOKORO"):
        KokoroNarrator("af_sky").read(TEXT)
    with pytest.raises(LabError, match=r"there is no kokoro\*.onnx|kokoro_onnx not installed.*\[kokoro\]"):
        KokoroNarrator("af_sky").read(TEXT, tmp_path)
    with pytest.raises(LabError, match="not 3 and 0.0"):
        KokoroNarrator("af_sky", speed=3).read(TEXT)


@there
def test_kokoro_reads_alike_every_time_and_blends_end_in_the_voices() -> None:
    first, second = (KokoroNarrator(voice).read(TEXT) for voice in HELD_OUT[:2])
    assert first.dtype == np.float32 and 0.8 < len(first) / audio.SAMPLE_RATE < 3
    assert audio.level(first) == pytest.approx(-23, abs=0.5)
    np.testing.assert_array_equal(first, KokoroNarrator(HELD_OUT[0]).read(TEXT))
    np.testing.assert_array_equal(second, KokoroNarrator(HELD_OUT[1], HELD_OUT[0], 0.0).read(TEXT))
    assert len(KokoroNarrator(HELD_OUT[0], speed=1.5).read(TEXT)) < 0.85 * len(first)
    with pytest.raises(LabError, match="no voice 'bf_nobody'"):
        KokoroNarrator("bf_nobody").read(TEXT)
    with pytest.raises(LabError, match="cannot read ''"):
        KokoroNarrator(HELD_OUT[0]).read("")


def document(root: Path, name: str, sentences: object, seconds: float = 2.0, **more: object) -> None:
    path = root / f"{name}.ogg"
    path.parent.mkdir(parents=True, exist_ok=True)
    sf.write(path, 0.1 * np.sin(np.arange(int(16_000 * seconds)) / 10), 16_000, format="OGG", subtype="VORBIS")
    facts = {"voice": "af_heart", "speed": 1.05, "source": "story world", "seed": 4, "sentences": sentences}
    path.with_suffix(".json").write_text(json.dumps(facts | more), encoding="utf-8-sig")


GOOD = [[0.0, 0.9, "Tom was a fox."], [1.2, 2, "He slept."]]


def test_documents_have_their_sentences_and_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    document(tmp_path, "af_heart/story-0000", GOOD)
    document(tmp_path, "af_heart/tale-0001", GOOD, source="Alice", seed=None)
    monkeypatch.setenv("LAB_NARRATION", str(tmp_path))
    story, tale = narrated().documents
    assert story.sentences == ((0.0, 0.9, "Tom was a fox."), (1.2, 2.0, "He slept."))
    assert (story.voice, story.speed, story.source, story.seed, tale.seed) == ("af_heart", 1.05, "story world", 4, None)
    heard = story.read()
    assert heard.text == "Tom was a fox. He slept." and heard.seconds == pytest.approx(2, abs=0.01)
    assert (heard.narrator, heard.story, tale.read().story) == ("af_heart", 4, -1)


def test_documents_that_cannot_serve_are_named(tmp_path: Path) -> None:
    document(tmp_path, "a/good", GOOD)
    wrong = {"back": GOOD[::-1], "pair": [[0, 1]], "none": [], "word": 3, "nan": [[0, float("nan"), "x"]]}
    for name, sentences in wrong.items():
        document(tmp_path, f"a/{name}", sentences)
    document(tmp_path, "a/alone", GOOD)
    (tmp_path / "a/alone.json").unlink()
    (tmp_path / "a/mute.json").write_text("{}")
    found = narrated(tmp_path)
    assert [one.path.stem for one in found.documents] == ["good"]
    for name in [*wrong, "alone", "mute"]:
        assert sum(f"/{name}." in line for line in found.skipped) == 1, name
    assert len(found.skipped) == 7


def test_a_document_that_ends_too_early_is_refused(tmp_path: Path) -> None:
    document(tmp_path, "a/short", GOOD, seconds=1.0)
    with pytest.raises(LabError, match=r"has 1.0 s, but its last sentence ends at 2.0 s"):
        narrated(tmp_path).documents[0].read()
    with pytest.raises(LabError, match="no folder"):
        narrated(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(LabError, match="no narrated document"):
        narrated(tmp_path / "empty")
