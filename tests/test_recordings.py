"""lab.corpora: speech in files. Folders of any audio, LibriSpeech, and LibriSpeech-Long both ways."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from lab import audio
from lab.corpora import folder, librispeech, librispeech_long
from lab.errors import LabError
from tests.test_audio import disk_of


def tone(seconds: float, rate: int = 16_000, channels: int = 1) -> np.ndarray:
    wave = 0.02 * np.sin(np.arange(round(seconds * rate)) * 1600 / rate)
    return np.stack([wave] * channels, 1)


# Any folder


@pytest.fixture
def attic(tmp_path: Path) -> Path:
    """Five recordings of 1 s, as many kinds, four of them with a text, and half of one. And six that cannot serve."""
    root = tmp_path / "attic"
    for name in ("ann", "bob/wavs", ".hidden"):
        (root / name).mkdir(parents=True)
    sf.write(root / "ann" / "1.wav", tone(1, 8000), 8000)
    (root / "ann" / "1.txt").write_text("Hello,\n  owl.\n")
    sf.write(root / "ann" / "2.FLAC", tone(1, 44_100, 2), 44_100, format="FLAC")
    (root / "ann" / "ann.trans.txt").write_text("2 GOOD NIGHT\n3\n\n4 NOBODY SAYS THIS\n")
    sf.write(root / "ann" / "3.ogg", tone(1), 16_000)
    sf.write(root / "bob" / "wavs" / "b1.mp3", tone(1, 48_000), 48_000)
    sf.write(root / "bob" / "wavs" / "b2.aiff", tone(1, 22_050), 22_050)
    (root / "bob" / "metadata.csv").write_text("b1|Dr. Owl|Doctor Owl\nb2|a bee\n")
    sf.write(root / ".hidden" / "h.wav", tone(1), 16_000)
    (root / "cover.jpg").write_bytes(b"no audio, and nobody says so")
    (root / "a_text.wav").write_text("once upon a time " * 99)
    (root / "b_empty.wav").write_bytes(b"")
    sf.write(root / "c_silent.wav", np.zeros(16_000), 16_000)
    sf.write(root / "d_short.wav", tone(0.1), 16_000)
    sf.write(root / "e_nan.wav", np.full(16_000, np.nan), 16_000, subtype="FLOAT")
    whole = (root / "ann" / "2.FLAC").read_bytes()
    (root / "f_half.flac").write_bytes(whole[: len(whole) // 2])
    (root / "g_phone.m4a").write_bytes(b"\0\0\0 ftypM4A " + bytes(99))
    return root


WRONG = {
    "a_text.wav": "is not audio that can be read",
    "b_empty.wav": "is empty (0 bytes)",
    "c_silent.wav": "is silent (peak -inf dBFS, below -60)",
    "d_short.wav": "lasts 0.10 s",
    "e_nan.wav": "holds NaN or infinite samples, the first at 0.000 s",
    "g_phone.m4a": "is not audio that can be read",
}


def test_any_folder_is_a_corpus_and_what_cannot_serve_is_named(attic: Path) -> None:
    corpus = folder.corpus(attic)
    told = [(utterance.text, utterance.narrator, utterance.source) for utterance in corpus]
    texts = ["hello, owl.", "good night", "", "doctor owl", "a bee", ""]
    names = ["ann"] * 3 + ["wavs"] * 2 + ["attic"]
    assert told == [(text, name, "recorded") for text, name in zip(texts, names, strict=True)]
    nobody, *wrong = corpus.skipped
    assert nobody == f"{attic / 'ann'} has a text for 4 and no audio file of that name"
    for line, (name, reason) in zip(wrong, WRONG.items(), strict=True):
        assert line.startswith(f"{attic / name} {reason}")


def test_recordings_of_any_kind_come_levelled_at_16_khz(attic: Path) -> None:
    utterances = list(folder.corpus(attic))
    assert [utterance.seconds for utterance in utterances] == pytest.approx([1] * 5 + [0.46], abs=0.1)  # MP3 pads
    assert [audio.level(utterance.samples()) for utterance in utterances] == pytest.approx([-23] * 6, abs=0.5)


def test_nothing_is_read_before_it_is_asked_for(attic: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audio, "load", lambda path: pytest.fail(f"{path} was read"))
    assert len(folder.corpus(attic).recordings) == 12


def test_without_a_text_where_one_is_needed(attic: Path) -> None:
    corpus = folder.corpus(attic, texts=True)
    assert [recording.name for recording in corpus.recordings] == ["1", "2", "b1", "b2"]
    assert f"{attic / 'ann' / '3.ogg'} has no text" in corpus.skipped and len(corpus.skipped) == 9


TABLES = {
    "a byte order mark": b"\xef\xbb\xbfa|Hello|hello\r\nb|Good night|good night\r\n",
    "Excel's Unicode text": "a\thello\r\nb\tgood night\r\n".encode("utf-16"),
    "big endian": b"\xfe\xff" + "a|hello\nb|good night\n".encode("utf-16-be"),
    "carriage returns": b"a|hello\rb|good night\r",
    "commas and quotes": b'name,text\na.wav,"hello"\nwavs/b.wav,"good night"\n',
    "a text with commas": b"a|hello\nb|good night\nc|one, two, three, four\n",
    "Latin-1": b"a|hello\nb|good night\nc|caf\xe9\n",
    "no last text": b"a|hello|\nb|good night|\n",
}


@pytest.mark.parametrize("kind", TABLES)
def test_texts_as_others_write_them(tmp_path: Path, kind: str) -> None:
    (tmp_path / "wavs").mkdir()
    for name in ("a", "b"):
        sf.write(tmp_path / "wavs" / f"{name}.wav", tone(1), 16_000)
    (tmp_path / ("metadata.tsv" if kind.startswith("Excel") else "metadata.csv")).write_bytes(TABLES[kind])
    corpus = folder.corpus(tmp_path, texts=True)
    found = [(recording.name, recording.text) for recording in corpus.recordings]
    assert found == [("a", "hello"), ("b", "good night")]


def test_a_mark_before_the_first_transcript(tmp_path: Path) -> None:
    sf.write(tmp_path / "1.wav", tone(1), 16_000)
    (tmp_path / "x.trans.txt").write_bytes(b"\xef\xbb\xbf1 GOOD NIGHT\r\n")
    assert [recording.text for recording in folder.corpus(tmp_path, texts=True).recordings] == ["good night"]


def test_linked_folders_are_gone_through_once(tmp_path: Path) -> None:
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    root.mkdir()
    elsewhere.mkdir()
    sf.write(elsewhere / "a.wav", tone(1), 16_000)
    (root / "link").symlink_to(elsewhere)
    (root / "again").symlink_to(elsewhere)
    (elsewhere / "loop").symlink_to(root)
    (root / "gone.wav").symlink_to(tmp_path / "nowhere.wav")
    corpus = folder.corpus(root)
    assert [recording.paths[0].name for recording in corpus.recordings] == ["a.wav"]
    assert corpus.skipped == [f"{root / 'gone.wav'} is a link to a file that is not there"]


@pytest.mark.skipif(os.getuid() == 0, reason="root may read anything")
def test_folders_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    sf.write(tmp_path / "a.wav", tone(1), 16_000)
    (tmp_path / "closed").mkdir(0o000)
    assert folder.corpus(tmp_path).skipped == [f"{tmp_path / 'closed'} cannot be read: Permission denied"]


def test_names_that_are_no_text(tmp_path: Path) -> None:
    sf.write(os.fsencode(tmp_path / "caf") + b"\xe9.wav", tone(1), 16_000)
    (recording,) = folder.corpus(tmp_path).recordings
    assert recording.name == r"caf\xe9" and len(recording.read().samples()) == 16_000


def test_narrators_of_the_layouts_that_are_known(tmp_path: Path) -> None:
    for name in ("84/121123/84-121123-0000.wav", "84/121550/121550_0003.wav", "carl/tape_0001.wav"):
        (tmp_path / name).parent.mkdir(parents=True)
        sf.write(tmp_path / name, tone(1), 16_000)
    assert [recording.narrator for recording in folder.corpus(tmp_path).recordings] == ["84", "84", "carl"]


def test_a_folder_of_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="there is no audio file below"):
        folder.corpus(tmp_path)
    with pytest.raises(LabError, match="there is no folder .*nowhere"):
        folder.corpus(tmp_path / "nowhere")


# LibriSpeech


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """Reader 7 with chapters 10 (FLAC) and 11 (OGG), reader 8 with chapter 12; two utterances each, of 1 and 2 s."""
    for reader, chapter, kind in (("7", "10", "flac"), ("7", "11", "ogg"), ("8", "12", "flac")):
        folder = tmp_path / reader / chapter
        folder.mkdir(parents=True)
        lines = []
        for number, text in enumerate(("IT'S LATE", "GOOD NIGHT OWL")):
            name = f"{reader}-{chapter}-{number:04}"
            tone = 0.02 * np.sin(np.arange(16000 * (number + 1)) * 0.1)
            audio.save(folder / f"{name}.{kind}", tone.astype(np.float32))
            lines.append(f"{name} {text}")
        (folder / f"{reader}-{chapter}.trans.txt").write_text("\n".join(lines) + "\n\n")
    return tmp_path


def test_a_chapter_is_read_in_order_and_levelled(library: Path) -> None:
    for chapter in librispeech.chapters(library):
        first, second = librispeech.read(chapter)
        assert [first.text, second.text] == ["it's late", "good night owl"]
        assert first.narrator == chapter.parent.name and first.source == "librispeech"
        assert first.seconds == pytest.approx(1, abs=0.01) and second.seconds == pytest.approx(2, abs=0.01)
        assert audio.level(second.samples()) == pytest.approx(-23, abs=0.5)


def test_held_out_chapters_are_left_out(library: Path) -> None:
    assert [folder.name for folder in librispeech.chapters(library)] == ["10", "11", "12"]
    corpus = librispeech.corpus(library, ("11",))
    assert [utterance.narrator for utterance in corpus] == ["7", "7", "8", "8"] and not corpus.skipped
    assert not list(librispeech.corpus(library, ("10", "11", "12")))


def test_a_chapter_for_figures_must_be_whole(library: Path) -> None:
    (library / "7" / "11" / "7-11-0001.ogg").unlink()
    with pytest.raises(LabError, match="11 has a text for 7-11-0001 and no audio"):
        librispeech.read(library / "7" / "11")
    (library / "7" / "10" / "7-10-0001.flac").write_bytes(b"")
    with pytest.raises(LabError, match="7-10-0001.flac is empty"):
        librispeech.read(library / "7" / "10")


def test_what_cannot_be_read_costs_no_corpus(library: Path) -> None:
    (library / "7" / "11" / "7-11-0001.ogg").unlink()
    (library / "7" / "10" / "7-10-0001.flac").write_bytes(b"")
    corpus = librispeech.corpus(library)
    assert [utterance.narrator for utterance in corpus] == ["7", "7", "8", "8"]
    text, empty = corpus.skipped
    for path in (library / "8" / "12").glob("*.flac"):
        path.unlink()
    assert len(librispeech.corpus(library).recordings) == 3
    assert "there is no audio file below" in librispeech_long.build(library).skipped[-1]
    assert text.endswith("11 has a text for 7-11-0001 and no audio file of that name")
    assert empty.endswith("7-10-0001.flac is empty (0 bytes)")


def test_a_folder_without_chapters_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="no LibriSpeech chapter"):
        librispeech.chapters(tmp_path)


def test_the_folder_of_the_environment(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAB_LIBRISPEECH", str(library))
    assert librispeech.find() == library
    monkeypatch.setenv("LAB_LIBRISPEECH", str(library / "nowhere"))
    assert librispeech.find() is None
    monkeypatch.delenv("LAB_LIBRISPEECH")
    assert librispeech.find() is None


def test_real_chapters_are_speech(real_speech: Path, tmp_path: Path) -> None:
    whole = librispeech.chapters(real_speech)[0]
    line = next(whole.glob("*.trans.txt")).read_text().splitlines()[0]
    (tmp_path / "one.trans.txt").write_text(line)
    for path in whole.glob(f"{line.split()[0]}.*"):
        (tmp_path / path.name).symlink_to(path)
    (utterance,) = librispeech.read(tmp_path)
    assert utterance.seconds > 1 and set(utterance.text) <= set("abcdefghijklmnopqrstuvwxyz' ")
    assert audio.level(utterance.samples()) == pytest.approx(-23, abs=1)
    assert 5 < len(utterance.text) / utterance.seconds < 25  # characters a second


# LibriSpeech-Long, built


@pytest.fixture
def chapter(tmp_path: Path) -> Path:
    """Eleven utterances of reader 7 that count up: 0.5 s, 1 s, 0.5 s, ..., and 3 s at last."""
    home = tmp_path / "7" / "10"
    home.mkdir(parents=True)
    for number in range(11):
        seconds = 3 if number == 10 else 0.5 + number % 2 / 2
        audio.save(home / f"7-10-{number:04}.flac", tone(seconds)[:, 0].astype(np.float32))
    (home / "7-10.trans.txt").write_text("".join(f"7-10-{number:04} WORD{number}\n" for number in range(11)))
    return home


def words(*numbers: int) -> str:
    return " ".join(f"word{number}" for number in numbers)


def test_utterances_are_joined_up_to_the_target(chapter: Path) -> None:
    """0.5 + 1 + 0.5 = 2 s fit exactly; the next 1 + 0.5 have no room for another 1; what is longer stays whole."""
    built = librispeech_long.build(chapter.parents[1], seconds=2)
    told = [words(0, 1, 2), words(3, 4), words(5, 6), words(7, 8), words(9), words(10)]
    assert [document.text for document in built.recordings] == told
    assert [document.name for document in built.recordings] == [f"10_{number:04}" for number in range(6)]
    utterances = list(built)
    assert [utterance.seconds for utterance in utterances] == pytest.approx([2, 1.5, 1.5, 1.5, 1, 3])
    assert all(u.narrator == "7" and audio.level(u.samples()) == pytest.approx(-23, abs=0.5) for u in utterances)
    (whole,) = librispeech_long.build(chapter.parents[1]).recordings
    assert whole.text == words(*range(11)) and whole.read().seconds == pytest.approx(10.5)
    assert built.skipped == []


def test_a_document_does_not_run_on_over_a_gap(chapter: Path) -> None:
    (chapter / "7-10-0004.flac").unlink()
    (chapter / "7-10-0007.flac").write_bytes(b"fLaC, or so it says")
    built = librispeech_long.build(chapter.parents[1])
    assert [document.text for document in built.recordings] == [words(0, 1, 2, 3), words(5, 6), words(8, 9, 10)]
    gone, odd = built.skipped
    assert "has a text for 7-10-0004 and no audio" in gone and odd.endswith(
        "7-10-0007.flac is not audio that can be read"
    )


def test_documents_of_real_chapters(real_speech: Path) -> None:
    built = librispeech_long.build(real_speech)
    seconds = [sum(sf.info(path).duration for path in document.paths) for document in built.recordings]
    chapters = librispeech.chapters(real_speech)
    assert max(seconds) <= 240 and not built.skipped
    told = [line for path in real_speech.rglob("*.trans.txt") for line in path.read_text().splitlines()]
    assert sum(len(document.paths) for document in built.recordings) == len(told)
    assert sum(length > 210 for length in seconds) >= len(seconds) - 2 * len(chapters)  # an utterance lasts up to 35 s


# LibriSpeech-Long, fetched


class Server(ThreadingHTTPServer):
    """One file by HTTP, of which `cut` bytes come, if set."""

    def __init__(self, content: bytes):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.cut, self.asked = content, 0, 0

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/long.tar.gz"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked += 1
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.server.content)))
        self.end_headers()
        self.wfile.write(self.server.content[: self.server.cut or None])

    def log_message(self, *_: object) -> None:
        pass


def packed(files: dict[str, bytes]) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w:gz") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return target.getvalue()


NOISE = np.random.default_rng(0).bytes(300_000)
CONTENT = {
    "librispeech-long/README": b"durations",
    "librispeech-long/dev-clean/84/121123/121123_0000.txt": b"GO DO YOU HEAR",
    "librispeech-long/dev-clean/84/121123/121123_0000.flac": NOISE,
    "librispeech-long/test-clean/61/70968/70968_0000.txt": b"HE BEGAN",
}


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(packed(CONTENT)) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


TWO = ("dev-clean", "test-clean")


def unpacked(home: Path) -> dict[str, bytes]:
    return {str(path.relative_to(home.parent)): path.read_bytes() for path in home.rglob("*") if path.is_file()}


def test_the_archive_is_fetched_once(server: Server, tmp_path: Path) -> None:
    home = librispeech_long.fetch(tmp_path / "corpora", ["test-clean"], server.address)
    assert set(unpacked(home)) == {name for name in CONTENT if "dev-clean" not in name}
    assert librispeech_long.fetch(tmp_path / "corpora", TWO, server.address) == home
    assert unpacked(home) == CONTENT and server.asked == 1
    assert {path.name for path in home.parent.iterdir()} == {"librispeech-long", "long.tar.gz"}


def test_a_download_that_breaks_off_leaves_nothing(server: Server, tmp_path: Path) -> None:
    server.cut = 120_000
    with pytest.raises(LabError, match="cannot fetch .*; try with a network"):
        librispeech_long.fetch(tmp_path, TWO, server.address)
    assert not list(tmp_path.iterdir())
    server.cut = 0
    assert unpacked(librispeech_long.fetch(tmp_path, TWO, server.address)) == CONTENT


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<html>please log in</html>", "is no whole archive .*; delete it and fetch it again"),
        (packed(CONTENT)[:-200_000], "is no whole archive"),
        (packed(CONTENT)[:-8] + bytes(8), "is no whole archive .*CRC"),
        (gzip.compress(b"no tar" * 999), "is no whole archive"),
        (packed({"librispeech-long/dev-clean/1.txt": b""}), "holds no librispeech-long/test-clean; delete it"),
        (packed(CONTENT | {"librispeech-long/../../evil.txt": b""}), "is no whole archive .*outside"),
    ],
    ids=["a page", "half", "one byte wrong", "no tar", "no split", "a way out"],
)
def test_an_archive_of_something_else(server: Server, tmp_path: Path, content: bytes, message: str) -> None:
    server.content = content
    with pytest.raises(LabError, match=message):
        librispeech_long.fetch(tmp_path / "a" / "b", TWO, server.address)
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["long.tar.gz"]
    assert [path.name for path in tmp_path.rglob("*.txt")] == []


def test_without_a_network(tmp_path: Path) -> None:
    with Server(b"") as closed:
        address = closed.address
    with pytest.raises(
        LabError, match=f"cannot fetch {address} .*; try with a network, or put the file at .*long.tar.gz"
    ):
        librispeech_long.fetch(tmp_path, TWO, address)
    (tmp_path / "long.tar.gz").write_bytes(packed(CONTENT))
    assert unpacked(librispeech_long.fetch(tmp_path, TWO, address)) == CONTENT


def test_a_file_that_is_not_there(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Handler, "do_GET", lambda self: self.send_error(404))
    with pytest.raises(LabError, match="long.tar.gz answers 404 Client Error: Not Found"):
        librispeech_long.fetch(tmp_path, TWO, server.address)


def test_a_disk_that_is_full(server: Server, tmp_path: Path) -> None:
    with disk_of(100_000), pytest.raises(LabError, match="cannot write to .*File too large; free some space"):
        librispeech_long.fetch(tmp_path, TWO, server.address)
    with disk_of(len(server.content) - 100), pytest.raises(LabError, match="cannot write to"):
        librispeech_long.fetch(tmp_path, TWO, server.address)
    assert not (tmp_path / "librispeech-long").exists()
    assert unpacked(librispeech_long.fetch(tmp_path, TWO, server.address)) == CONTENT


def test_an_unknown_split_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="no split 'train'; it has dev-clean, dev-other, test-clean, test-other"):
        librispeech_long.fetch(tmp_path, ["train"])
