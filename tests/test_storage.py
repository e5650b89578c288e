"""lab.corpora.storage, and `lab shard`: a network that fails costs no recording, a bad file only itself."""

from __future__ import annotations

import asyncio
import io
import os
import re
import shutil
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import aiohttp
import numpy as np
import pytest
import soundfile as sf
from fsspec.exceptions import FSTimeoutError

from lab import audio
from lab.corpora import folder, manifest, scan, shards, storage, worker
from lab.corpora.manifest import Document, Span
from lab.corpora.shards import Source
from lab.corpora.storage import Absent, Unreachable
from lab.errors import LabError
from tests.commands import lab
from tests.spoken import spoken, voiced


class Server(ThreadingHTTPServer):
    """Files by HTTP, with ranges. `trouble`: name -> how often it still goes wrong, and how: a status, or "cut", an
    answer that ends in its middle."""

    def __init__(self, files: dict[str, bytes]):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.trouble, self.asked = files, dict[str, tuple[float, int | str]](), list[str]()

    def address(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{name}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_HEAD(self) -> None:
        self.answer(head=True)

    def do_GET(self) -> None:
        self.answer()

    def answer(self, head: bool = False) -> None:
        name = self.path.lstrip("/")
        times, how = self.server.trouble.get(name, (0, 0))
        if not head:
            self.server.asked.append(name)
        if times > 0 and not (head and how == "cut"):
            self.server.trouble[name] = (times - (not head), how)
            if isinstance(how, int):
                self.send_error(how)
                return
        if name not in self.server.files:
            self.send_error(404)
            return
        data = self.server.files[name]
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        part = data[int(asked[1]) : int(asked[2]) + 1] if asked else data
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("Content-Range", f"bytes {asked[1]}-{int(asked[1]) + len(part) - 1}/{len(data)}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        if not head:
            self.wfile.write(part[: len(part) // 2] if times > 0 else part)
            self.close_connection = times > 0

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """Six recordings of 2 to 3 s, two in a part."""
    files = {}
    for number in range(6):
        audio.save(path := tmp_path / "tape.wav", spoken(number)[0].samples())
        files[f"{number}.wav"] = path.read_bytes()
    with Server(files) as found:
        threading.Thread(target=found.serve_forever, daemon=True).start()
        yield found
        found.shutdown()


@pytest.fixture
def source(server: Server, monkeypatch: pytest.MonkeyPatch) -> Source:
    monkeypatch.setattr("lab.corpora.source.PART", 4.0)
    monkeypatch.setattr(storage, "WAITS", (0.0, 0.0))
    documents = [Document(name, (Span(server.address(name), 0.0, 2.0),), "Ann") for name in server.files]
    read = Source.of.__globals__["_document"]
    return Source("tapes 0", read, documents, ()).with_items(documents)


def whole(source: Source, tmp_path: Path, models: Path) -> list[list[int]]:
    made = shards.make(tmp_path / "whole", source, models, workers=1)
    return [document.tolist() for document in made.documents()]


# What is passing, and what is not


@pytest.mark.parametrize("trouble", [500, 503, 429, 403, "cut"])
def test_what_may_pass_is_unreachable(server: Server, trouble: int | str) -> None:
    """Also in the middle of a file, which libsndfile would take for its end."""
    server.trouble["1.wav"] = (9, trouble)
    with pytest.raises(Unreachable, match=re.escape(server.address("1.wav"))):
        Span(server.address("1.wav")).load()


def test_what_ends_in_the_middle_is_not_taken_for_short(server: Server, capfd: pytest.CaptureFixture[str]) -> None:
    """The first megabytes come, the next do not."""
    sf.write(buffer := io.BytesIO(), voiced(400), 16_000, format="WAV", subtype="FLOAT")
    server.files["long.wav"] = buffer.getvalue()
    with storage.opened(server.address("long.wav")) as file:
        assert audio.load(file, max_seconds=1).shape == (16_000,)
        server.trouble["long.wav"] = (9, 503)
        with pytest.raises(Unreachable, match="503"):
            audio.load(file, start=390)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("name", ["none.wav", "odd.wav"])
def test_what_will_not_pass_is_not(server: Server, name: str) -> None:
    server.files["odd.wav"] = b"none"
    with pytest.raises(LabError, match=re.escape(server.address(name))) as caught:
        Span(server.address(name)).load()
    assert not isinstance(caught.value, Unreachable)


def test_a_server_that_is_not_there_is_unreachable(server: Server) -> None:
    address = server.address("1.wav")
    server.shutdown()
    server.server_close()
    with pytest.raises(Unreachable, match="Cannot connect to host"):
        Span(address).load()


def test_a_disk_that_fails_is_unreachable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of another machine, say; a file that may not be read is a bad file."""
    audio.save(path := tmp_path / "tape.wav", voiced(2))
    for number, kind in ((5, Unreachable), (116, Unreachable), (13, Absent), (36, LabError)):

        def fail(*_: object, number: int = number) -> None:
            raise OSError(number, os.strerror(number))

        with monkeypatch.context() as patched:
            patched.setattr("lab.audio.reading.mend", fail)
            with pytest.raises(LabError, match=f"cannot read .*tape.wav: {os.strerror(number)}") as caught:
                Span(str(path)).load()
        assert type(caught.value) is kind


FAULTS = [MemoryError, RuntimeError, AssertionError, AttributeError, TypeError, KeyError]


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("local", [True, False])
def test_a_fault_of_our_own_is_none_of_the_storage(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: type[Exception], local: bool
) -> None:
    def fail(*_: object) -> None:
        raise fault("ours")

    audio.save(path := tmp_path / "tape.wav", voiced(2))
    monkeypatch.setattr("lab.audio.reading.mend", fail)
    with pytest.raises(fault, match="ours"):
        Span(str(path) if local else server.address("1.wav")).load()
    assert not storage.passes(fault())


def test_what_clients_raise_passes() -> None:
    """Each by what it derives from, also behind the file that fsspec says is not there."""
    slow = type("EndpointConnectionError", (type("BotoCoreError", (Exception,), {"__module__": "botocore.ours"}),), {})
    for error in (aiohttp.ClientPayloadError(), aiohttp.ServerDisconnectedError(), TimeoutError(), FSTimeoutError(),
                  asyncio.IncompleteReadError(b"", 1), slow(), ConnectionResetError()):  # fmt: skip
        missing = FileNotFoundError("a.wav")
        missing.__cause__ = error
        assert storage.passes(error) and storage.passes(missing), error
    assert not any(map(storage.passes, (FileNotFoundError(), aiohttp.InvalidURL("x"), ValueError(), EOFError())))


def slowly(seek: Callable[..., int], *place: int) -> int:
    """Others have time to seek elsewhere."""
    found = seek(*place)
    time.sleep(0.001)
    return found


def test_recordings_of_one_tar_are_read_at_once(tmp_path: Path) -> None:
    """By threads, through one file, which has one place."""
    expected = [np.random.default_rng(number).bytes(300_000) for number in range(8)]
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for number, data in enumerate(expected):
            member = tarfile.TarInfo(str(number))
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))

    def read(number: int) -> bytes:
        with storage.opened(f"tar://{number}::{tmp_path / 'a.tar'}") as file:
            return b"".join(iter(lambda: file.read(1000), b""))

    tar = storage.archive(str(tmp_path / "a.tar")).tar
    tar.fileobj = SimpleNamespace(read=tar.fileobj.read, seek=partial(slowly, tar.fileobj.seek))
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(read, range(8))) == expected


# What a list of a corpus makes of it


@pytest.fixture
def listed(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of a page that names three recordings."""
    monkeypatch.setattr(storage, "WAITS", (0.0, 0.0))
    monkeypatch.chdir(tmp_path)
    server.files["all/"] = b"".join(b'<a href="/all/%d.wav">' % number for number in range(3))
    server.files |= {f"all/{number}.wav": server.files[f"{number}.wav"] for number in range(3)}
    return server.address("all/")


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")  # libsndfile would not hear of it
@pytest.mark.parametrize("how", [503, "cut"])
def test_what_fails_while_a_corpus_is_listed_is_tried_again(server: Server, listed: str, how: int | str) -> None:
    server.trouble["all/1.wav"] = (1, how)
    left_out: list[str] = []
    assert [each.id for each in scan.documents(listed, left_out)] == ["0.wav", "1.wav", "2.wav"]
    assert left_out == [] and server.asked.count("all/1.wav") > server.asked.count("all/0.wav")


@pytest.mark.parametrize("options", [(), ("--listen",)])
def test_no_manifest_is_written_without_what_stays_unreachable(
    server: Server, listed: str, options: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    if options:  # it is lost when it is read
        found = scan.documents(listed, [])
        monkeypatch.setattr(scan, "documents", lambda *_: found)
    server.trouble["all/1.wav"] = (float("inf"), 503)
    result = lab("corpus", listed, "-o", "m.jsonl", *options)
    assert result.exit_code == 2 and "all/1.wav" in result.output and "trying again" in result.output
    assert not Path("m.jsonl").exists()
    server.trouble.clear()
    assert lab("corpus", listed, "-o", "m.jsonl", *options).exit_code == 0
    assert len(manifest.read("m.jsonl")) == 3


def test_a_recording_without_a_good_list_beside_it_is_left_out(server: Server, listed: str) -> None:
    server.files["all/"] += b'<a href="/all/1.json">'
    server.files["all/1.json"] = b"[]"
    left_out: list[str] = []
    assert [each.id for each in scan.documents(listed, left_out)] == ["0.wav", "2.wav"]
    assert left_out == [f"{server.address('all/1.wav')}: the .json beside it is no object"]


@pytest.mark.parametrize("times", [1, 9])
def test_a_corpus_in_a_folder_is_read_whole_or_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    """A folder of another machine, whose second file is lost for a while."""
    monkeypatch.setattr(storage, "WAITS", (0.0, 0.0))
    for number in range(3):
        audio.save(tmp_path / f"{number}.wav", voiced(2))
    load, lost = audio.load, iter([True] * times)

    def loaded(path: Path, **options: float) -> np.ndarray:
        if Path(path).name == "1.wav" and next(lost, False):
            raise LabError("cannot read 1.wav: Stale file handle; wait") from OSError(116, "Stale file handle")
        return load(path, **options)

    monkeypatch.setattr(audio, "load", loaded)
    corpus = folder.corpus(tmp_path)
    if times == 1:
        assert len(list(corpus)) == 3 and corpus.skipped == []
        return
    with pytest.raises(Unreachable, match="Stale"):
        list(corpus)


# What `lab shard` makes of it


def test_a_recording_that_fails_is_tried_again(
    source: Source, server: Server, tmp_path: Path, tiny_bundle: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    expected = whole(source, tmp_path, tiny_bundle)
    capfd.readouterr()
    server.trouble |= {"1.wav": (2, "cut"), "4.wav": (1, 503)}
    made = shards.make(tmp_path / "again", source, tiny_bundle, workers=1)
    assert [document.tolist() for document in made.documents()] == expected and made.skipped == []
    told = capfd.readouterr().err
    assert told.count("1.wav") == 2 and told.count("trying again in 0 s") == 3 and "0 skipped" in told


def test_waits_grow_and_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(threading.Event, "wait", lambda self, seconds: waits.append(seconds))

    def read(item: object) -> None:
        raise Unreachable("nothing comes; wait")

    ended = threading.Event()
    with pytest.raises(Unreachable):
        worker._read(read, 0, ended)  # type: ignore[arg-type]
    assert len(waits) == 5 and all(2 * before == after for before, after in zip(waits, waits[1:], strict=False))


def test_a_part_that_fails_is_made_by_the_same_command(
    source: Source, server: Server, tmp_path: Path, tiny_bundle: Path
) -> None:
    expected = whole(source, tmp_path, tiny_bundle)
    into = tmp_path / "tokens"
    server.trouble["2.wav"] = (float("inf"), 500)  # in the second of three parts
    with pytest.raises(LabError, match=r"1 part of .*tokens failed, such as: .*2.wav.*500.*; the same command goes on"):
        shards.make(into, source, tiny_bundle, workers=1)
    assert len(shards.Shard.open(into).starts) == 2 and shards.Shard.open(into).skipped == []
    told = shards.status(into, source)
    assert (told["failed"], told["parts"], told["running"]) == (1, 2, 0) and "2.wav" in told["reasons"][0]
    server.trouble.clear()
    server.asked.clear()
    shards.share(into, source, tiny_bundle, 1, 1, workers=1)
    assert shards.status(into, source)["failed"] == 0
    made = shards.make(into, source, tiny_bundle, workers=1)
    assert [document.tolist() for document in made.documents()] == expected and made.skipped == []
    assert set(server.asked) == {"2.wav", "3.wav"} and not (into / "parts").exists()


def test_what_stays_unreachable_may_be_left_out(
    source: Source, server: Server, tmp_path: Path, tiny_bundle: Path
) -> None:
    server.trouble["2.wav"] = (float("inf"), 500)
    with pytest.raises(LabError, match="1 part of .* failed"):
        shards.share(tmp_path, source, tiny_bundle, 1, 1, workers=1)
    made = shards.make(tmp_path, source, tiny_bundle, workers=1, skip_unreachable=True)
    assert len(made.starts) == 5 and len(made.skipped) == 1 and "2.wav" in made.skipped[0]


@pytest.mark.parametrize("lost", [range(6), range(2, 4), range(3, 4)], ids=["a disk", "a folder of it", "a file"])
def test_a_part_of_which_something_is_not_there_is_made_when_it_is(
    lost: range, tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What somebody mounts or puts back is learnt from, each document in its place."""
    monkeypatch.setattr("lab.corpora.source.PART", 4.0)
    paths, away = [tmp_path / f"{number}.wav" for number in range(6)], tmp_path / "away"
    away.mkdir()
    for number, path in enumerate(paths):
        audio.save(path, spoken(number)[0].samples())
    manifest.write(tmp_path / "m.jsonl", [Document(path.name, (Span(str(path), 0.0, 2.0),)) for path in paths])
    source, into = Source.of(str(tmp_path / "m.jsonl")), tmp_path / "tokens"
    expected = whole(source, tmp_path, tiny_bundle)
    for number in lost:
        paths[number].rename(away / paths[number].name)
    with pytest.raises(LabError, match="tokens failed, such as: .*No such file.*; the same command goes on"):
        shards.make(into, source, tiny_bundle, workers=1)
    assert shards.status(into, source)["failed"] == len({number // 2 for number in lost})
    for path in away.glob("[!3].wav"):
        path.rename(tmp_path / path.name)
    without = Path(shutil.copytree(into, tmp_path / "without"))
    made = shards.make(without, source, tiny_bundle, workers=1, skip_unreachable=True)
    (told,) = made.skipped
    assert len(made.starts) == 5 and "3.wav: No such file" in told and told.endswith("shard into another folder")
    (away / "3.wav").rename(paths[3])
    made = shards.make(into, source, tiny_bundle, workers=1)
    assert [document.tolist() for document in made.documents()] == expected and made.skipped == []


def test_why_a_part_failed_is_told_whole_or_not(
    source: Source, server: Server, tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody who looks meanwhile reads half of it."""
    written: list[Path] = []
    write = Path.write_text
    monkeypatch.setattr(Path, "write_text", lambda path, *given: (written.append(path), write(path, *given))[1])
    server.trouble["2.wav"] = (float("inf"), 500)
    with pytest.raises(LabError, match="1 part of .* failed"):
        shards.share(tmp_path, source, tiny_bundle, 1, 1, workers=1)
    (beside,) = [path for path in written if path.suffix == ".failed"]
    (told,) = (tmp_path / "parts").glob("*.failed")
    assert beside != told and "2.wav" in told.read_text()
    write(beside, "")  # as a kill would leave it
    assert len(worker.failures(tmp_path / "parts")) == 1


def test_a_network_that_is_gone_ends_the_work(
    source: Source, server: Server, tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "IN_A_ROW", 2)
    server.trouble |= {f"{number}.wav": (float("inf"), 500) for number in range(6)}
    with pytest.raises(LabError, match="2 parts of .* failed, such as"):
        shards.make(tmp_path, source, tiny_bundle, workers=1)
    assert "4.wav" not in server.asked


def test_no_more_is_made_than_was_asked_for(source: Source, server: Server, tmp_path: Path, tiny_bundle: Path) -> None:
    """Though what is made cannot be counted before the part that failed."""
    server.trouble["0.wav"] = (float("inf"), 500)
    with pytest.raises(LabError, match="1 part of .* failed"):
        shards.make(tmp_path, source, tiny_bundle, hours=2 / 3600, workers=1)
    assert {"2.wav", "3.wav"} < set(server.asked) and "4.wav" not in server.asked


def test_the_command_tells_which_parts_failed(
    source: Source, server: Server, tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    manifest.write(Path("m.jsonl"), source.items)
    server.trouble["5.wav"] = (float("inf"), 503)
    words = ("--bundle", str(tiny_bundle), "shard", "m.jsonl", "--into", "tokens")
    result = lab(*words, "--workers", "1")
    assert result.exit_code == 2 and "; the same command goes on with what is missing" in result.output
    result = lab(*words, "--status")
    assert result.exit_code == 0 and "2 of 3 parts" in result.output and "1 failed\nfailed: " in result.output
    assert "5.wav" in result.output
    result = lab(*words, "--workers", "1", "--skip-unreachable")
    assert result.exit_code == 0 and "5 documents" in result.output and "1 skipped" in result.output
