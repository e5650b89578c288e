"""lab.corpora.source: which documents a name stands for, and what is made of a corpus that grows."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lab import audio
from lab.corpora import copies, filters, librispeech, manifest, narration
from lab.corpora.manifest import Document, Span
from lab.corpora.shards import Shard, make
from lab.corpora.source import Source
from lab.errors import LabError
from tests.spoken import spoken, voiced


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


def test_a_copy_is_tokenized_once_wherever_it_comes(
    tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Also in another part, of another name that comes first, and later; whole or cut."""
    monkeypatch.setattr("lab.corpora.source.PART", 4.0)
    tapes, into = tmp_path / "tapes", tmp_path / "tokens"
    tapes.mkdir()
    for name, number in {"b": 1, "c": 2, "d": 4, "e": 1}.items():
        audio.save(tapes / f"{name}.wav", spoken(number)[0].samples())
    first = make(into, Source.of(str(tapes)), tiny_bundle, workers=1)
    assert len(first.starts) == 3 and first.skipped == ["e.wav is a copy of b.wav"]
    assert "skipped: e.wav is a copy of b.wav\n" in capfd.readouterr().err
    audio.save(tapes / "a.wav", spoken(2)[0].samples())
    audio.save(tapes / "f.wav", spoken(5)[0].samples())
    grown = make(into, Source.of(str(tapes)), tiny_bundle, workers=1)
    assert len(grown.starts) == 4 and grown.skipped == ["a.wav is a copy of c.wav", "e.wav is a copy of b.wav"]
    assert [each.tolist() for each in grown.documents()][:3] == [each.tolist() for each in first.documents()]
    left_out: list[str] = []
    cut = filters.cut(Source.of(str(tapes)).items, 1.0, left_out)
    listed = manifest.grow(tmp_path / "m.jsonl", cut, left_out)
    assert {each.spans[0].path[-5] for each in listed} == set("abdf")
    assert "c.wav#0001 is a copy of a.wav#0001" in left_out and "e.wav#0000 is a copy of b.wav#0000" in left_out


def test_what_differs_in_size_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor whole what begins otherwise, nor what there was before."""
    data = {"a": b"x" * 70_000, "b": b"y" + b"x" * 69_999, "c": b"x" * 69_999 + b"y", "d": b"x" * 70_000, "e": b"x"}
    for name, content in data.items():
        (tmp_path / name).write_bytes(content)
    paths = [str(tmp_path / name) for name in data]
    asked: list[tuple[str, int]] = []
    digest = copies._digest
    monkeypatch.setattr(copies, "_digest", lambda path, size=-1: asked.append((path[-1], size)) or digest(path, size))
    assert copies.among([*paths, str(tmp_path / "none"), "\0"]) == {paths[0]: paths[0], paths[3]: paths[0]}
    assert asked == [(name, 2**16) for name in "abcd"] + [(name, -1) for name in "acd"]
    asked.clear()
    assert copies.among(paths[4:], paths[:4]) == {} and copies.among([], paths) == {} and asked == []
    assert copies.among(paths[:1], paths[3:]) == {paths[0]: paths[3], paths[3]: paths[3]}


def test_a_shard_knows_of_which_recording_a_piece_is(
    tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also in another part; a shard of before knows nothing of that."""
    monkeypatch.setattr("lab.corpora.source.PART", 4.0)
    for name in "ab":
        audio.save(tmp_path / f"{name}.wav", voiced(6 if name == "a" else 5))
    manifest.write(tmp_path / "m.jsonl", filters.cut(Source.of(str(tmp_path)).items, 2.0, []))
    made = make(tmp_path / "tokens", Source.of(str(tmp_path / "m.jsonl")), tiny_bundle, workers=1)
    a, b = made.recordings[0], made.recordings[3]
    assert [*made.recordings] == [a] * 3 + [b] * 3 and a != b
    assert [*made.first(4 / 3600).recordings] == [a] * 2
    lines = [json.loads(line) for line in (tmp_path / "tokens/documents.jsonl").read_text().splitlines()]
    lines[1].pop("recordings")
    (tmp_path / "tokens/documents.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert [*Shard.open(tmp_path / "tokens").recordings] == [a, a, "2", "3", b, b]


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
