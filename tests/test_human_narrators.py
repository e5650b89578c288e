"""lab.corpora: human-like narrators, where package and models are; and folders of documents with sentence times."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf

from lab import audio
from lab.corpora import Utterance, kokoro, narrate, narrated_folder, narration, splits, storyworld
from lab.corpora.kokoro import DEVELOPMENT, FIGURES, HELD_OUT, TRAINING, KokoroNarrator
from lab.corpora.narrated_folder import held_out, narrated
from lab.corpora.piper import PiperNarrator
from lab.errors import LabError
from lab.evaluate import sets
from lab.train import others
from lab.train.plan import Plan

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


@dataclass(frozen=True)
class Tone:
    """Reads at 20 letters a second."""

    name: str = "A Tone+0.50 b, speed 1.00"
    speed: float = 1.0

    def read(self, text: str) -> np.ndarray:
        return 0.1 * np.sin(np.arange(len(text) * 800) / 10).astype(np.float32)


@pytest.fixture
def tones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(narrate.FAMILIES, "kokoro", lambda random: Tone())
    monkeypatch.setattr(narration, "make", lambda maker, jobs, workers: map(maker, jobs))


def test_narrated_stories_have_times_and_a_folder_goes_on(tmp_path: Path, tones: None) -> None:
    made = list(narrate.narrate(tmp_path, 3, sentences=4))
    documents = narrated(tmp_path).documents
    assert [document.path for document in documents] == made and len(made) == 3
    for number, document in enumerate(documents):
        assert document.seed == narration.training_seed(1_000_000 + number) and document.voice == Tone.name
        told = storyworld.story(document.seed, 4).sentences
        assert [sentence.text for sentence in document.sentences] == list(told)
        starts, ends, _ = zip(*document.sentences, strict=True)
        assert np.subtract(ends, starts) == pytest.approx([len(text) / 20 for text in told], abs=2e-3)
        pauses = np.subtract(starts[1:], ends[:-1])
        assert 0.239 <= pauses.min() < pauses.max() <= 0.531
        quiet = audio.load(document.path)[round(16_000 * ends[0]) + 800 :][:2000]
        assert audio.level(document.read().samples()) > -30 and np.abs(quiet).max() < 1e-3
    before = made[0].read_bytes()
    made[1].with_suffix(".json").unlink()  # a kill came between the two
    assert list(narrate.narrate(tmp_path, 4, sentences=4)) == [made[1], made[0].with_stem("story-00003")]
    assert made[0].read_bytes() == before


def test_whoever_reads_most_is_the_reader_of_units(
    tmp_path: Path, tones: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(narrate, "KokoroNarrator", Tone)
    list(narrate.narrate(tmp_path, 2, sentences=4, voice="af_heart"))
    assert [document.voice for document in narrated(tmp_path).documents] == ["af_heart"] * 2
    for voice, family in (("af_sky", "kokoro"), ("af_heart", "piper")):
        with pytest.raises(LabError, match=f"'{voice}' reads nothing to learn from"):
            next(narrate.narrate(tmp_path, 3, family, voice=voice))
    plan = Plan(tmp_path, tmp_path, None, tmp_path)
    assert next(others._readings(plan))[0].narrator == others.READER.name  # of a few seconds nobody learns a voice
    monkeypatch.setattr(others, "LEAST", 0.001)
    for his, beside in others._readings(plan):
        assert his.narrator == "af_heart" and beside[0] is his and len(beside) == 4
        assert [one.narrator for one in beside[1:3]] == ["af_heart at 0.88", "af_heart at 1.13"]
        assert all(one.text == his.text for one in beside) and beside[3].narrator != "af_heart"


def test_what_the_reader_says_is_put_together_from_words_of_others(
    tmp_path: Path, tones: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one read "one two" as ones and twos, of two tokens each; nobody read "six"."""
    monkeypatch.setattr(others, "LEAST", 0.001)
    said = [[0.0, 4.0, "Two one."], [4.4, 5.0, "Six."]]
    document(tmp_path, "ann/long", said, seconds=6.0, voice="ann", seed=2)
    document(tmp_path, "bea/short", [[0.0, 1.0, "One two one."]], voice="bea", seed=4)
    sound = np.repeat(np.array([1, 1, 2, 2, 3], np.int16), 640)

    def heard(tokenizer: Any, utterance: Utterance, document: Any) -> Any:
        object.__setattr__(utterance, "waveform", sound[:-100])
        return np.arange(5), ["one", "two", "one."], np.array([0, 2, 4, 5])

    monkeypatch.setattr(others.selection, "heard", heard)
    monkeypatch.setattr(Plan, "load", lambda self, name: None)
    monkeypatch.setattr(
        narrated_folder.Document,
        "passages",
        lambda self, random: [Utterance(np.zeros(9, np.int16), text, "ann", "people") for text in ("two one", "six")],
    )
    (his, beside), (again, without) = others._readings(Plan(tmp_path, tmp_path, None, tmp_path))
    assert his.narrator == again.narrator == "ann" and len(beside) == len(without) == 5
    spliced = beside[4].waveform.reshape(-1, 640)
    assert spliced[:, 0].tolist() == [2, 2, 3] and spliced[-1, -1] == 0
    assert without[4] is again


def test_another_text_is_read_to_its_end(tmp_path: Path, tones: None) -> None:
    text = tmp_path / "text.txt"
    text.write_text("One by one. Two at once!\nThree?  Four; five.")
    list(narrate.narrate(tmp_path / "into", 9, sentences=2, texts=text))
    documents = narrated(tmp_path / "into").documents
    said = [[sentence.text for sentence in document.sentences] for document in documents]
    assert said == [["One by one.", "Two at once!"], ["Three?", "Four;"], ["five."]]
    assert {document.seed for document in documents} == {None}
    with pytest.raises(LabError, match="no narrators 'espeak'; there are kokoro, piper"):
        next(narrate.narrate(tmp_path, 1, "espeak"))
    with pytest.raises(LabError, match="0 documents"):
        next(narrate.narrate(tmp_path, 0))
    with pytest.raises(LabError, match="cannot be read as text"):
        next(narrate.narrate(tmp_path, 1, texts=tmp_path / "none.txt"))


def test_held_out_stories_are_read_by_held_out_voices_and_not_learnt_from(
    tmp_path: Path, tones: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(KokoroNarrator, "read", lambda narrator, text: Tone().read(text))
    list(narrate.narrate(tmp_path, 7, sentences=12, held_out=True))
    documents = sorted(narrated(tmp_path).documents, key=lambda document: document.path.stem)
    assert [document.seed for document in documents] == [narration.held_out_seed(number) for number in range(7)]
    assert [document.voice for document in documents] == [*FIGURES, *FIGURES[:3]]
    found = list(sets.examples("narrated", 2, 60, tmp_path, seed=3))
    assert [each.seed for each in found] == [3, 4] and [each.name for each in found] == ["story-00000", "story-00001"]
    for number, each in enumerate(found):
        told = storyworld.story(narration.held_out_seed(number), 12)
        assert each.cast == told.cast and each.text == storyworld.normalize(told.text)
        sound, whole = each.sound(), audio.set_level(documents[number].read().samples())
        assert np.array_equal(np.concatenate([sound.prompt, sound.reference]), whole[: 60 * 16_000])
        assert len(sound.prompt) == 160_000
    with pytest.raises(LabError, match="7 stories of .* are held out"):
        Plan(tmp_path, tmp_path, narration=tmp_path, speech=None).people()
    with pytest.raises(LabError, match="there are 500, read by kokoro"):
        next(narrate.narrate(tmp_path, 501, held_out=True))
    list(narrate.narrate(tmp_path / "chosen", 2, sentences=2, development=True))
    chosen = held_out(tmp_path / "chosen", splits.DEVELOPMENT)
    assert [document.number for document in chosen.documents] == [1_000_100, 1_000_101]
    assert [document.voice for document in chosen.documents] == [*DEVELOPMENT]
    list(narrate.narrate(tmp_path / "training", 1))
    with pytest.raises(LabError, match="has no held-out story"):
        sets.examples("narrated", 1, 60, tmp_path / "training")


def test_development_stories_are_others_and_no_figures(
    tmp_path: Path, tones: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one folder with those that figures are of, each set takes its own."""
    monkeypatch.setattr(KokoroNarrator, "read", lambda narrator, text: Tone().read(text))
    list(narrate.narrate(tmp_path / "figures", 2, sentences=12, held_out=True))
    list(narrate.narrate(tmp_path / "choices", 3, sentences=6, development=True))
    documents = held_out(tmp_path, splits.DEVELOPMENT).documents
    assert len(documents) == 3
    assert all(each.number not in part for part in splits.FIGURES for each in documents)
    assert {each.voice for each in documents} == set(DEVELOPMENT) and all(each.held_out for each in documents)
    found = sets.examples("narrated-development", 16, 13, tmp_path)
    assert (found.name, len(found)) == ("narrated-development", 3)
    assert all(len(each.sound().prompt) == 48_000 for each in found)
    assert len(sets.examples("narrated", 16, 60, tmp_path)) == 2
    assert not {*DEVELOPMENT} & {*FIGURES} and not {*DEVELOPMENT, *FIGURES} & {*TRAINING}
    for number, (voice, why) in enumerate([(DEVELOPMENT[0], "choices are made on"), (FIGURES[0], "figures")]):
        beside = tmp_path / "other" / f"{number}.json"
        beside.parent.mkdir(exist_ok=True)
        shutil.copy(documents[0].path, beside.with_suffix(".ogg"))
        seed = narration.held_out_seed((splits.STORIES if voice in DEVELOPMENT else splits.DEVELOPMENT)[number])
        told = json.loads(documents[0].path.with_suffix(".json").read_text())
        beside.write_text(json.dumps(told | {"voice": voice, "seed": seed}))
        found = held_out(tmp_path, splits.STORIES if voice in DEVELOPMENT else splits.DEVELOPMENT)
        assert {each.voice for each in found.documents}.isdisjoint([voice]) and why in found.skipped[-1]
    with pytest.raises(LabError, match="has no held-out story for choices; make some by .* --development"):
        sets.examples("narrated-development", 1, 13, tmp_path / "figures")


def test_pipers_voice_is_named_where_it_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LAB_PIPER", raising=False)
    with pytest.raises(LabError, match="set LAB_PIPER"):
        PiperNarrator().read(TEXT)
    monkeypatch.setenv("LAB_PIPER", str(tmp_path / "none.onnx"))
    with pytest.raises(LabError, match="cannot be loaded from|not installed"):
        PiperNarrator().read(TEXT)


@pytest.mark.skipif(
    not (find_spec("kokoro_onnx") and os.environ.get("LAB_PIPER")), reason="kokoro-onnx and LAB_PIPER are needed"
)
def test_piper_reads_without_silence_around_it() -> None:
    slow, fast = (PiperNarrator(speed).read(TEXT) for speed in (0.85, 1.4))
    assert 0.6 < len(fast) / audio.SAMPLE_RATE < 0.8 * len(slow) / audio.SAMPLE_RATE < 2
    assert audio.level(slow) == pytest.approx(-23, abs=0.5)
    assert np.abs(slow[:320]).max() < 0.1 * np.abs(slow).max()
    with pytest.raises(LabError, match="nothing to say in ''"):
        PiperNarrator().read("")
