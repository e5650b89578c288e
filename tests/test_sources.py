"""lab.corpora.source: which documents a name stands for, and what is made of a corpus that grows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lab import audio
from lab.corpora import librispeech, manifest, narration
from lab.corpora.manifest import Document, Span
from lab.corpora.shards import make
from lab.corpora.source import Source
from lab.errors import LabError
from tests.spoken import spoken


def test_narrated_sources_are_those_of_the_training_stories(monkeypatch: pytest.MonkeyPatch) -> None:
    stories, voices = Source.of("stories"), Source.of("voices")
    assert stories.name.startswith("stories ") and voices.name.startswith("voices ")
    assert stories.hours == 60 and voices.hours == 7
    (story,) = stories.read(3)
    expected = narration.training_story(3)
    np.testing.assert_array_equal(story.waveform, expected.waveform)
    assert narration.training_text(3) == f"{expected.narrator}: {expected.text}"
    first, second = voices.read(5)
    assert first.narrator == second.narrator == narration.voice_samples(5)[0].narrator
    again = Source.of("stories").name
    monkeypatch.setattr(narration, "training_text", lambda number: "another")
    assert stories.name == again != Source.of("stories").name  # another world is another corpus


def test_a_folder_is_a_source(tmp_path: Path) -> None:
    for name in ("b.wav", "a.flac", "c.ogg"):
        audio.save(tmp_path / name, spoken(1)[0].samples())
    source = Source.of(str(tmp_path))
    assert source.hours is None and [item.id for item in source.items] == ["a.flac", "b.wav", "c.ogg"]
    (utterance,) = source.read(source.items[0])
    assert audio.level(utterance.samples()) == pytest.approx(-23, abs=0.5)
    (tmp_path / "b.wav").unlink()
    again = Source.of(str(tmp_path))
    assert again.name == source.name and again.digest != source.digest


def test_a_corpus_grows_and_what_was_made_stays(
    tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("lab.corpora.source.PART", 4.0)  # two recordings
    tapes, into = tmp_path / "tapes", tmp_path / "tokens"
    tapes.mkdir()
    for number in (1, 2, 4):
        audio.save(tapes / f"{number}.wav", spoken(number)[0].samples())
    first = make(into, Source.of(str(tapes)), tiny_bundle, workers=1)
    before = [document.tolist() for document in first.documents()]
    audio.save(tapes / "0.wav", spoken(5)[0].samples())
    (tapes / "9.wav").write_bytes(b"")
    grown = make(into, Source.of(str(tapes)), tiny_bundle, workers=1)
    assert [document.tolist() for document in grown.documents()][:3] == before and len(grown.starts) == 4
    assert grown.skipped == [f"{tapes / '9.wav'} is empty (0 bytes)"]
    (other := tmp_path / "other").mkdir()
    audio.save(other / "1.wav", spoken(3)[0].samples())
    source = Source.of(str(other)).grown(into)
    assert [item.id for item in source.items].count("1.wav") == 1
    assert source.skipped == (
        f"1.wav: {into / 'manifest.jsonl'} has another of this id; list a folder above both into a new one",
    )
    capfd.readouterr()
    make(into, Source.of(str(tapes)), tiny_bundle, workers=1)
    assert "all was there" in capfd.readouterr().err
    with pytest.raises(LabError, match="was made with source .*tapes .*, and this is source .*other"):
        make(into, replace(Source.of(str(tapes)), name="other"), tiny_bundle, workers=1)
    assert len(Source.of(str(into)).items) == 4
    (into / "manifest.jsonl").unlink()
    with pytest.raises(LabError, match="was made from other documents"):
        make(into, Source.of(str(tapes)), tiny_bundle, workers=1)


def test_librispeech_is_a_source_less_its_held_out_chapter(tmp_path: Path) -> None:
    for reader, chapter in (("7", "10"), ("8", librispeech.HELD_OUT_CHAPTER)):
        folder = tmp_path / reader / chapter
        folder.mkdir(parents=True)
        audio.save(folder / f"{reader}-{chapter}-0000.flac", spoken(1)[0].samples())
        (folder / f"{reader}-{chapter}.trans.txt").write_text(f"{reader}-{chapter}-0000 OWL")
    source = Source.of(str(tmp_path))
    assert [(item.id, item.speaker, item.text) for item in source.items] == [("10_0000", "7", "owl")]
    assert source.skipped == (f"{folder} is held out",)


def test_an_unknown_source_is_an_error() -> None:
    with pytest.raises(LabError, match="no corpus 'stroies' and no folder of that name; give stories, voices or"):
        Source.of("stroies")


def test_dev_is_in_a_shard_and_held_out_and_test_is_not(tmp_path: Path, tiny_bundle: Path) -> None:
    """Whatever order a manifest and its growth have them in."""
    splits = {"a": "dev", "b": "train", "c": "test", "d": "train", "e": "dev"}
    documents = []
    for number, (name, split) in enumerate(splits.items()):
        audio.save(path := tmp_path / f"{name}.wav", spoken(3 * number)[0].samples())
        documents.append(Document(name, (Span(str(path), 0.0, 2.0),), "Ann", split=split))
    for few in (3, 5):
        manifest.write(tmp_path / "m.jsonl", documents[:few])
        made = make(tmp_path / "tokens", Source.of(str(tmp_path / "m.jsonl")), tiny_bundle, codes=True, workers=1)
    assert len(made.starts) == 4 and made.dev == (0, 3) and made.first(0.0001).dev == (0,)
    (learnt,) = made.utterances()
    expected = [made.documents()[number].tolist() for number in (1, 2)]
    assert [each.tokens.tolist() for each in learnt] == expected
