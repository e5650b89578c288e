"""lab.corpora.manifest and scan: each kind of corpus becomes the same rows, and the rows give back the same sound."""

from __future__ import annotations

import gzip
import io
import json
import re
import tarfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fsspec
import numpy as np
import pytest

from lab import audio
from lab.corpora import filters, manifest, scan
from lab.corpora.manifest import Document, Span
from lab.errors import LabError
from tests.commands import lab, refused, tones
from tests.spoken import voiced


def wav(seconds: float, level: float = 0.1) -> bytes:
    path = Path("made.wav").resolve()
    audio.save(path, voiced(seconds, level))
    data = path.read_bytes()
    path.unlink()
    return data


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def tar(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as file:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            file.addfile(member, io.BytesIO(data))
    return path


# On disk


DOCUMENTS = [
    Document("a", (Span("a.flac", 0.5, 2.25),), "Ann", "a word\n", "train", "0123456789abcdef"),
    Document("b", (Span("b.flac", 0.0, 1.0), Span("s3://x/c.flac", 7.0, 3.0)), "", "both", "dev"),
    Document("ü/\udce4", (Span("\udce4.wav", 0.0, 1.0),)),
]


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_a_manifest_is_read_as_it_was_written(tmp_path: Path, ending: str) -> None:
    if ending == "parquet":
        pytest.importorskip("pyarrow")
    path, documents = tmp_path / f"m.{ending}", DOCUMENTS[: 3 if ending == "jsonl" else 2]
    manifest.write(path, documents)
    assert manifest.read(path) == documents
    assert DOCUMENTS[1].seconds == 4


def test_a_manifest_grows_at_its_end(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    manifest.grow(path, DOCUMENTS[:2], [])
    before = path.read_bytes()
    other = Document("b", (Span("elsewhere.flac", 0.0, 9.0),))
    left_out: list[str] = []
    assert manifest.grow(path, [DOCUMENTS[2], other], left_out) == DOCUMENTS
    assert path.read_bytes().startswith(before)
    assert left_out == [f"b: {path} has another of this id; list a folder above both into a new one"]
    manifest.grow(path, DOCUMENTS, left_out)
    assert len(left_out) == 1  # what is there already is not left out


@pytest.mark.parametrize(
    ("text", "message"),
    [("{]", "row 1: "), ("[1]", "row 1: it is no object"), ('{"id": "a"}', "from row 1 on, is damaged .no 'path'"),
     ('{"id": "a", "path": "a", "start": -1, "seconds": 1}', "start and seconds are numbers of 0 or more"),
     ('{"id": "a", "path": "a", "start": 0, "seconds": NaN}', "start and seconds are numbers"),
     ('{"id": "a", "path": "a", "start": "x", "seconds": 1}', "is damaged"),
     ('{"id": "a", "path": "a", "start": 0, "seconds": 1, "split": "tset"}',
      "no split 'tset'; there are train, dev, test")],
)  # fmt: skip
def test_a_bad_manifest_is_an_error(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "m.jsonl").write_text(text + "\n")
    with pytest.raises(LabError, match=message):
        manifest.read(tmp_path / "m.jsonl")


# The sound


def test_a_span_is_that_stretch_of_its_file(here: Path) -> None:
    sound = voiced(3)
    audio.save("a.wav", sound)
    part = Span("a.wav", 1.0, 0.5).load()
    np.testing.assert_allclose(part, sound[16_000:24_000], atol=1e-4)
    whole = Document("a", (Span("a.wav", 0.0, 1.0), Span("a.wav", 1.0, 2.0))).read()
    np.testing.assert_allclose(whole.samples(), Document("a", (Span("a.wav"),)).read().samples(), atol=1e-3)
    fsspec.filesystem("memory").pipe_file("/bucket/a.wav", (here / "a.wav").read_bytes())
    np.testing.assert_array_equal(Span("memory://bucket/a.wav", 1.0, 0.5).load(), part)


@pytest.mark.parametrize(
    ("span", "message"),
    [(Span("none.wav"), "cannot read none.wav: No such file"), (Span("a.wav", 5.0), "a.wav ends before second 5"),
     (Span("a.wav", -1.0), "from second -1 on; give 0 or more"), (Span("memory://none.wav"), "memory://none.wav"),
     (Span("nope://a.wav"), "cannot read nope://a.wav: Protocol not known")],
)  # fmt: skip
def test_what_cannot_be_reached_is_an_error(here: Path, span: Span, message: str) -> None:
    audio.save("a.wav", voiced(1))
    with pytest.raises(LabError, match=message):
        span.load()


# Corpora


def folder(root: Path) -> str:
    (root / "ann").mkdir()
    (root / "ann/one.wav").write_bytes(wav(2))
    (root / "ann/one.txt").write_text("One  Owl")
    return str(root)


def librilight(root: Path) -> str:
    (root / "small/ann/a_book").mkdir(parents=True)
    (root / "small/ann/a_book/one.wav").write_bytes(wav(2))
    (root / "small/ann/a_book/one.json").write_text(json.dumps({"speaker": "ann", "snr": 9.1}))
    (root / "small/ann/a_book/one.txt").write_text("one owl")
    return str(root / "small")


def webdataset(root: Path) -> str:
    about = json.dumps({"text": "One owl", "speaker": "ann"}).encode()
    tar(root / "x-000.tar", {"one.wav": wav(2), "one.json": about})
    return str(root / "x-*.tar")


def storage(root: Path) -> str:
    files = fsspec.filesystem("memory")
    files.pipe_file("/corpus/ann/one.wav", wav(2))
    files.pipe_file("/corpus/ann/one.txt", b"one owl")
    return "memory://corpus"


def cutset(root: Path) -> str:
    (root / "one.wav").write_bytes(wav(3))
    said = [{"id": "s", "text": "ONE OWL", "speaker": "ann", "start": 0, "duration": 2}]
    recording = {"id": "r", "sources": [{"type": "file", "channels": [0], "source": str(root / "one.wav")}],
                 "sampling_rate": 16_000, "num_samples": 48_000, "duration": 3.0}  # fmt: skip
    cuts = [{"id": "c", "start": 0.0, "duration": 2.0, "channel": 0, "supervisions": said, "recording": recording,
             "type": "MonoCut"}, {"id": "d", "tracks": [], "type": "MixedCut"}]  # fmt: skip
    with gzip.open(root / "cuts.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(cut) + "\n" for cut in cuts)
    return str(root / "cuts.jsonl.gz")


def shar(root: Path) -> str:
    source = json.loads(gzip.open(cutset(root)).readline())
    source["recording"]["sources"] = [{"type": "shar", "channels": [0], "source": ""}]
    with gzip.open(root / "cuts.000000.jsonl.gz", "wt") as file:
        file.write(json.dumps(source) + "\n")
    tar(root / "recording.000000.tar", {"c.wav": wav(2), "c.json": b"{}"})
    return str(root)


def librispeech(root: Path) -> str:
    (root / "ann/7").mkdir(parents=True)
    for number in range(2):
        (root / f"ann/7/ann-7-000{number}.wav").write_bytes(wav(1))
    (root / "ann/7/ann-7.trans.txt").write_text("ann-7-0000 ONE\nann-7-0001 OWL\n")
    return str(root)


def at_an_address(corpus: Callable[[Path], str]) -> Callable[[Path], str]:
    def stored(root: Path) -> str:
        corpus(root)
        files = fsspec.filesystem("memory")
        for path in filter(Path.is_file, root.rglob("*")):
            files.pipe_file(f"/{root.name}/{path.relative_to(root)}", path.read_bytes())
        return f"memory://{root.name}"

    stored.__name__ = f"{corpus.__name__}_at_an_address"
    return stored


CORPORA = [folder, librilight, webdataset, storage, cutset, shar, librispeech]
STORED = [at_an_address(corpus) for corpus in (librilight, webdataset, shar)]


@pytest.mark.parametrize("corpus", CORPORA + STORED, ids=lambda corpus: corpus.__name__)
def test_every_corpus_becomes_documents(here: Path, corpus: Callable[[Path], str]) -> None:
    left_out: list[str] = []
    (document,) = scan.documents(corpus(here), left_out)
    assert document.speaker == "ann" and document.text == "one owl" and document.seconds == pytest.approx(2)
    assert len(left_out) == (corpus is cutset)  # the mixed cut
    read = document.read()
    assert read.seconds == pytest.approx(2) and (read.text, read.narrator) == ("one owl", "ann")
    manifest.write(here / "m.jsonl", [document])
    assert scan.documents("m.jsonl", []) == [document]


def test_transcripts_of_another_numbering_go_by_their_names(here: Path) -> None:
    """No chapters of numbered utterances, which LibriSpeech has in such files."""
    folder(here)
    (here / "ann" / "my.trans.txt").write_text("one ONE OWL\n")
    (document,) = scan.documents("ann", [])
    assert document.id.startswith("one") and document.seconds == pytest.approx(2)


def test_librispeech_at_an_address_is_a_document_a_file(here: Path) -> None:
    first, second = scan.documents(at_an_address(librispeech)(here), [])
    assert [(first.text, second.text), (first.speaker, second.speaker)] == [("one", "owl"), ("ann", "ann")]


def test_a_manifest_tells_where_files_are_from_its_folder_on(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what `lab corpus` made of relative names is read from anywhere: a worker may have another folder."""
    folder(here)
    assert lab("corpus", "ann", "-o", "made.jsonl").exit_code == 0
    row = {"id": "a", "path": "ann/one.wav", "start": 0, "seconds": 2}
    (here / "hand.jsonl").write_text(json.dumps(row))
    fsspec.filesystem("memory").pipe_file("/hand.jsonl", json.dumps(row).encode())
    (here / "elsewhere").mkdir()
    monkeypatch.chdir(here / "elsewhere")
    for name in ("made", "hand"):
        (document,) = scan.documents(f"../{name}.jsonl", [])
        assert document.read().seconds == pytest.approx(2)
    (document,) = scan.documents("memory://hand.jsonl", [])
    assert document.spans[0].path == "memory://ann/one.wav"


def test_a_cut_that_is_not_as_its_file_is_left_out(here: Path) -> None:
    cutset(here)
    cut = json.loads(gzip.open("cuts.jsonl.gz").readline())
    changed, kept, channel = (json.loads(json.dumps(cut | {"id": name})) for name in ("changed", "kept", "channel"))
    changed["recording"]["transforms"] = [{"name": "Speed", "kwargs": {"factor": 1.1}}]
    kept["recording"]["transforms"] = [{"name": "Resample", "kwargs": {"sampling_rate": 16_000}}]
    channel["recording"]["sources"][0]["channels"] = [0, 1]
    Path("cuts.jsonl").write_text("".join(json.dumps(each) + "\n" for each in (changed, kept, channel)))
    left_out: list[str] = []
    assert [each.id for each in scan.documents("cuts.jsonl", left_out)] == ["kept"]
    assert left_out == ["changed in cuts.jsonl is changed by Speed; give the recordings themselves",
                        "channel in cuts.jsonl is one channel of several; give files of one"]  # fmt: skip


def test_an_empty_file_in_a_storage_is_left_out_in_a_line(here: Path) -> None:
    files = fsspec.filesystem("memory")
    for name, data in {"good": wav(1), "empty": b"", "text": b"none"}.items():
        files.pipe_file(f"/odd/{name}.wav", data)
    left_out: list[str] = []
    assert [each.id for each in scan.documents("memory://odd", left_out)] == ["good.wav"]
    assert left_out == ["memory:///odd/empty.wav: it is empty (0 bytes)",
                        "memory:///odd/text.wav: the audio is not audio that can be read"]  # fmt: skip


def test_a_storage_that_tells_no_size_is_listed(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = fsspec.filesystem("memory")
    files.pipe_file("/sizes/a.wav", wav(2))
    monkeypatch.setattr(type(files), "size", lambda *_: None)
    (document,) = scan.documents("memory://sizes", [])
    assert document.seconds == pytest.approx(2)


def test_libri_light_is_cut_and_what_cannot_serve_is_named(here: Path) -> None:
    (here / "x").mkdir()
    for name, data in {"long": wav(5.2), "silent": wav(2, 0), "copy": wav(5.2)[:], "short": wav(0.5)}.items():
        (here / "x" / f"{name}.wav").write_bytes(data)
    (here / "x/empty.wav").write_bytes(b"")
    result = lab("corpus", "x", "-o", "m.jsonl", "--cut", "2", "--shortest", "1", "--listen", "--json")
    assert result.exit_code == 0, result.output
    documents = manifest.read("m.jsonl")
    assert [(each.id, each.spans[0].start, each.seconds) for each in documents] == [
        ("copy.wav#0000", 0, 2), ("copy.wav#0001", 2, 2), ("copy.wav#0002", 4, pytest.approx(1.2))
    ]  # fmt: skip
    left_out = json.loads(result.stdout)["left_out"]
    for wrong in ("empty.wav is empty", "short.wav lasts 0.5 s", "silent.wav is silent", "long.wav#0001 is a copy of "):
        assert sum(wrong in line for line in left_out) == 1, (wrong, left_out)
    (here / "x/new.wav").write_bytes(wav(1.5))
    before = Path("m.jsonl").read_bytes()
    assert lab("corpus", "x", "-o", "m.jsonl", "--cut", "2", "--shortest", "1", "--listen").exit_code == 0
    assert [each.id for each in manifest.read("m.jsonl")][3:] == ["new.wav"]
    assert Path("m.jsonl").read_bytes().startswith(before)


@pytest.mark.parametrize("kind", ["a folder", "a tar"])
def test_what_a_manifest_has_is_not_opened_again(here: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what is new is left out where it is a copy of that."""
    (here / "x").mkdir()

    def given(**sounds: bytes) -> str:
        for name, data in sounds.items():
            (here / "x" / f"{name}.wav").write_bytes(data)
        if kind == "a folder":
            return "x"
        return str(tar(here / "x.tar", {path.name: path.read_bytes() for path in sorted((here / "x").iterdir())}))

    def stem(name: str) -> str:
        return re.findall(r"(\w+)\.wav", name)[0]

    opened: list[str] = []
    seconds, read = scan._seconds, Document.read
    monkeypatch.setattr(scan, "_seconds", lambda *given: (opened.append(stem(given[1])), seconds(*given))[1])
    monkeypatch.setattr(Document, "read", lambda each, **more: (opened.append(stem(each.id)), read(each, **more))[1])
    assert lab("corpus", given(a=wav(2), b=wav(3)), "-o", "m.jsonl", "--listen").exit_code == 0
    scan.archive.cache_clear()
    opened.clear()
    result = lab("corpus", given(c=wav(1), copy=wav(3)), "-o", "m.jsonl", "--listen", "--json")
    assert result.exit_code == 0, result.output
    assert opened == ["c", "copy"] * 2  # for its length, and to be heard
    assert [each.id[-5:] for each in manifest.read("m.jsonl")] == ["a.wav", "b.wav", "c.wav"]
    (left_out,) = json.loads(result.stdout)["left_out"]
    assert "copy.wav is a copy of " in left_out and left_out.endswith("b.wav")


def test_another_language_is_left_out(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "x").mkdir()
    for name, seconds in {"english": 1, "french": 2, "quiet": 3}.items():
        (here / "x" / f"{name}.wav").write_bytes(wav(seconds))

    def language(waveform: np.ndarray) -> tuple[str, float]:
        if len(waveform) == 3 * 16_000:
            raise LabError("quiet.wav is too quiet to be heard")
        return ("en", 0.9) if len(waveform) == 16_000 else ("fr", 0.87)

    asked: list[str] = []
    monkeypatch.setattr("lab.judges.load", lambda spec: asked.append(spec) or SimpleNamespace(language=language))
    result = lab("corpus", "x", "-o", "m.jsonl", "--language", "en", "--json")
    assert result.exit_code == 0 and asked == ["whisper:base"], result.output
    assert [each.id for each in manifest.read("m.jsonl")] == ["english.wav"]
    assert json.loads(result.stdout)["left_out"] == [
        "french.wav is in fr, to 87%, and en is asked for", "quiet.wav is too quiet to be heard"
    ]  # fmt: skip
    monkeypatch.setattr("lab.judges.load", lambda spec: SimpleNamespace())
    refused("minilm cannot tell a language", "corpus", "x", "-o", "n.jsonl", "--language", "en", "--listener", "minilm")


def test_too_little_speech_is_left_out(here: Path) -> None:
    left_out: list[str] = []
    pauses = np.concatenate([tones(1), tones(3, 0.001)])
    audio.save("pauses.wav", pauses)
    found = [Document("pauses", (Span("pauses.wav"),))]
    (kept,) = filters.heard(found, filters.Sound(0.2), left_out)
    assert kept.id == "pauses" and len(kept.digest) == 16
    assert not list(filters.heard(found, filters.Sound(0.5), left_out))
    assert left_out == ["pauses has speech in 25% of its time, within 30 dB of its loudest, and 50% is asked for"]
    assert list(filters.heard(found, filters.Sound(0.5, within=50), left_out)) == [kept]  # the pause is at -40 dB


def test_what_is_too_soft_or_clipped_is_left_out_by_what_is_asked(here: Path) -> None:
    (here / "x").mkdir()
    loud = tones(2, 0.5)
    loud[:100] = 1
    for name, sound in {"loud": loud, "soft": tones(2, 0.004)}.items():
        audio.save(here / "x" / f"{name}.wav", sound)
    assert lab("corpus", "x", "-o", "all.jsonl", "--listen").exit_code == 0 and len(manifest.read("all.jsonl")) == 2
    for option, value, gone in (
        ("--quietest", "-40", "soft.wav is silent (peak -48 dBFS, below -40)"),
        ("--clipped", "0.001", "loud.wav is clipped: 0.3% of it is at full scale, above 0.1%"),
    ):
        result = lab("corpus", "x", "-o", f"{value}.jsonl", option, value, "--json")
        (left_out,) = json.loads(result.stdout)["left_out"]
        assert left_out.endswith(gone) and len(manifest.read(f"{value}.jsonl")) == 1
    audio.save(here / "x/silent.wav", np.zeros(32_000, np.float32))
    assert lab("corpus", "x", "-o", "unheard.jsonl").exit_code == 0 and len(manifest.read("unheard.jsonl")) == 3
    result = lab("corpus", "x", "-o", "none.jsonl", "--texts")
    assert result.exit_code == 2 and "nothing of x can be listed, 3 left out; none.jsonl is as it was" in result.stderr
    assert not Path("none.jsonl").exists()


BAD: dict[str, tuple[tuple[Any, ...], str]] = {
    "nothing": (("nowhere", "-o", "m.jsonl"), "no corpus 'nowhere' and no folder"),
    "no tar": (("none-*.tar", "-o", "m.jsonl"), "there is nothing at none-*.tar; look at its name"),
    "a tar that is none": (("bad.tar", "-o", "m.jsonl"), "it is no whole tar"),
    "no manifest": (("none.jsonl", "-o", "m.jsonl"), "there is no manifest none.jsonl; make it with `lab corpus`"),
    "nothing there": (("memory://none", "-o", "m.jsonl"), "there is nothing at memory://none; look at its name"),
    "nobody there": (("http://127.0.0.1:9/x", "-o", "m.jsonl"), "cannot read http://127.0.0.1:9/x: Cannot connect"),
    "no package": (("gs://x/m.jsonl", "-o", "m.jsonl"), "; `pip install speechssm-lab[storage]` brings it"),
    "no package for tars": (("gs://x/*.tar", "-o", "m.jsonl"), "; `pip install speechssm-lab[storage]` brings it"),
    "no package of ours": (("abfs://x/*.tar", "-o", "m.jsonl"), "cannot read abfs://x/*.tar: Install adlfs"),
    "no split": ((".", "-o", "m.jsonl", "--split", "tset"), "'tset' is not one of 'train', 'dev', 'test'"),
    "no Parquet": (("bad.parquet", "-o", "m.jsonl"), "arquet"),
    "no storage": (("nope://x", "-o", "m.jsonl"), "cannot read nope://x: Protocol not known"),
    "no length": ((".", "-o", "m.jsonl", "--cut", "0"), "cannot cut into pieces of 0 seconds"),
    "a share": ((".", "-o", "m.jsonl", "--speech", "2"), "cannot listen with --speech 2; give 0 to 1"),
    "no speech": ((".", "-o", "m.jsonl", "--within", "nan"), "cannot listen with --within nan; give 0 to 120"),
    "a peak": ((".", "-o", "m.jsonl", "--quietest", "-70"), "cannot listen with --quietest -70; give -60 to 0"),
    "clipped": ((".", "-o", "m.jsonl", "--clipped", "0.1"), "cannot listen with --clipped 0.1; give 0 to 0.01"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_corpus_is_an_error(here: Path, kind: str) -> None:
    words, message = BAD[kind]
    audio.save("a.wav", voiced(1))
    if words[0].startswith("bad."):
        Path(words[0]).write_bytes(b"none")
    refused(message, "corpus", *words)
