"""lab.corpora.shards: what a shard holds; a kill, a full disk and a bad file cost what was in flight and no more."""

from __future__ import annotations

import functools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from torch import nn

from lab import bundle
from lab.corpora import encoding, shards, worker
from lab.corpora.shards import Shard, Source, make
from lab.corpora.utterance import Utterance
from lab.errors import LabError
from lab.tokens import Tokenizer, TokenizerConfig
from lab.train import language, soundstorm
from tests.conftest import ROOT
from tests.spoken import deadly, spoken
from tests.test_audio import disk_of

HOURS = 60 / 3600  # of 22 items of `spoken`, and no more


def picky(number: int) -> tuple[Utterance, ...]:
    if number % 2:
        raise LabError(f"{number}.wav is silent; give audible speech")
    return spoken(number)


SOURCE = Source("noise", spoken, range(1000), range(0, 1001, 2), HOURS)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.mark.parametrize(
    ("device", "engine", "workers"),
    [("cpu", "local", os.cpu_count()), ("cuda", "local", 2), ("cuda", "ray", 1), ("cpu", "ray", os.cpu_count())],
)
def test_a_gpu_is_shared_so_that_reading_does_not_starve_it(
    device: str, engine: str, workers: int, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_cpu = functools.cache(lambda root, codes, device="cpu": (bundle.load(root, "tokenizer"), None))
    monkeypatch.setattr(shards, "models_of", on_cpu)
    source = Source("some", len, [], [0])
    assert shards._asked(source, tiny_bundle, False, None, None, device, engine)[1] == workers
    assert shards._asked(source, tiny_bundle, False, None, 3, device, engine)[1] == 3


@pytest.fixture(scope="module")
def whole(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shard with codes, made at one go."""
    folder = tmp_path_factory.mktemp("shards") / "whole"
    make(folder, SOURCE, tiny_bundle, codes=True, workers=1)
    return folder


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "copy"))


# What it holds


def test_a_shard_holds_what_the_models_say(whole: Path, tiny_bundle: Path, capfd: pytest.CaptureFixture[str]) -> None:
    tokenizer, codec = bundle.load(tiny_bundle, "tokenizer"), bundle.load(tiny_bundle, "codec")
    shard = Shard.open(whole, tokenizer, codec)  # type: ignore[arg-type]
    told = [utterance for number in range(22) for utterance in spoken(number)][: len(shard.starts)]
    assert 60 <= shard.seconds < 60 + 10 and len(told) > 20
    assert shard.narrators == [utterance.narrator for utterance in told]
    for document, utterance in zip(shard.documents(), told, strict=True):
        np.testing.assert_array_equal(document, tokenizer.encode(utterance.samples()))  # type: ignore[operator]
    assert len({int(token) for token in shard.tokens}) > 5
    takes = shard.utterances()
    assert [len(group) for group in takes[:8]] == [1, 1, 1, 2, 1, 1, 1, 2]
    tokens, codes, _ = takes[3][1]
    padded = np.pad(told[4].samples(), (0, -len(told[4].waveform) % 640))
    assert torch.equal(codes.long(), codec.encode(torch.from_numpy(padded)[None])[0])  # type: ignore[operator]
    assert codes.shape == (len(tokens), 4) and torch.equal(tokens.long(), torch.from_numpy(shard.documents()[4]).long())
    assert set(files(whole)) == {"shard.json", "documents.jsonl", "tokens.bin", "codes.bin"}


def test_nothing_is_copied_on_the_way_to_a_batch(whole: Path) -> None:
    shard = Shard.open(whole)
    assert isinstance(shard.tokens, np.memmap) and isinstance(shard.codes, np.memmap)
    tokens, codes, _ = shard.utterances()[3][0]
    assert tokens.data_ptr() == shard.tokens.ctypes.data + 2 * int(shard.starts[3])
    assert codes.data_ptr() == shard.codes.ctypes.data + 2 * 4 * int(shard.starts[3])


def test_training_reads_a_shard_as_it_is(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shard = Shard.open(whole)
    stream = language.TokenStream(shard.tokens, shard.starts)
    tokens, targets, reset = language.batches(stream, 4, 200, seed=0)(0)
    assert tokens.dtype == torch.long and reset[:, 1:].any()
    assert ((targets == -100)[:, :-1] == reset[:, 1:]).all()  # every document begins with a reset
    monkeypatch.setattr(soundstorm, "PROMPT", 20)
    monkeypatch.setattr(soundstorm, "TARGET", (20, 30))
    batch = soundstorm.batches(shard.utterances(), 8, 4, seed=0)(0)
    assert batch.codes.shape[:2] == (8, batch.tokens.shape[1]) and batch.codes.dtype == torch.long


def test_codes_of_a_long_document_are_those_of_the_whole(models: dict[str, nn.Module]) -> None:
    waveform = 0.1 * np.random.default_rng(0).standard_normal(16_000 * 70).astype(np.float32)
    tokens, codes = encoding.encode(waveform, models["tokenizer"], models["codec"])  # type: ignore[arg-type]
    expected = models["codec"].encode(torch.from_numpy(waveform)[None])[0]  # type: ignore[operator]
    assert tokens.shape == (1750,) and codes.shape == (1750, 4) and codes.dtype == np.uint16
    assert (codes == expected.numpy()).mean() > 0.999  # rounding may tip a code that lies between two


def test_what_is_encoded_together_is_what_each_would_be(models: dict[str, nn.Module]) -> None:
    """Windows of other documents and the filling up to the longest of a batch change nothing."""
    rng = np.random.default_rng(0)
    told = [
        np.concatenate([0.3 * rng.random() * rng.standard_normal(640) for _ in range(tokens)])[:-7].astype(np.float32)
        for tokens in (40, 61, 1500, 52, 749, 751)
    ]
    both = models["tokenizer"], models["codec"]
    alone = [encoding.encode(waveform, *both) for waveform in told]  # type: ignore[arg-type]
    sizes: list[int] = []
    hook = models["tokenizer"].to_code.register_forward_hook(lambda *given: sizes.append(len(given[2])))  # type: ignore[operator, union-attr]
    together = encoding.encode_all(told, *both, together=4)  # type: ignore[arg-type]
    hook.remove()
    for one, other in zip(alone, together, strict=True):
        assert np.array_equal(one[0], other[0]) and np.array_equal(one[1], other[1])
    assert sizes == [4, 4, 1] and len({int(token) for tokens, _ in alone for token in tokens}) > 5


def test_a_gpu_gets_the_utterances_of_a_part_at_once(tmp_path: Path) -> None:
    """And those that cannot be encoded are left out alone."""
    sizes: list[int] = []
    refused = len(spoken(9)[0].waveform)

    def encode(waveforms: list[np.ndarray]) -> list[dict[str, np.ndarray]]:
        sizes.append(len(waveforms))
        if refused in map(len, waveforms):
            raise LabError("it is too long; cut it")
        return [{"tokens": np.full(len(each) // 640 + 1, number)} for number, each in enumerate(waveforms)]

    items = list(range(8))
    said = worker.make(tmp_path, spoken, encode, (0, "key", items), together=2, readers=3)
    told = [utterance for item in items for utterance in spoken(item)]
    assert sizes == [10] and said["narrators"] == [each.narrator for each in told]
    assert said["documents"] == [len(each.waveform) // 640 + 1 for each in told]
    said = worker.make(tmp_path, spoken, encode, (1, "key", [9, 0]), together=2)
    assert sizes[1:] == [2, 1, 1] and said["skipped"] == ["it is too long"] and len(said["documents"]) == 1


def test_without_codes_there_are_no_takes(tmp_path: Path, tiny_bundle: Path, models: dict[str, nn.Module]) -> None:
    shard = make(tmp_path, SOURCE, tiny_bundle, hours=0.001, workers=1)
    assert shard.codes is None and not (tmp_path / "codes.bin").exists()
    with pytest.raises(LabError, match="no codes of a codec; make one with `lab shard --codes`"):
        shard.utterances()
    with pytest.raises(LabError, match=f"{tmp_path} holds no codes of a codec; make one with `lab shard --codes`"):
        Shard.open(tmp_path, codec=models["codec"])  # type: ignore[arg-type]


def test_more_hours_go_on_and_the_first_ones_are_the_same(
    tmp_path: Path, tiny_bundle: Path, whole: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    asked: list[int] = []

    def counted(number: int) -> tuple[Utterance, ...]:
        asked.append(number)
        return spoken(number)

    source = replace(SOURCE, read=counted)
    few = make(tmp_path, source, tiny_bundle, codes=True, hours=HOURS / 3, workers=1)
    assert 20 <= few.seconds < 20 + 10
    make(tmp_path, source, tiny_bundle, codes=True, workers=1)
    assert asked == list(range(len(asked)))
    assert files(tmp_path) == files(whole)
    capfd.readouterr()
    again = make(tmp_path, source, tiny_bundle, codes=True, hours=HOURS / 3, workers=1)
    assert asked == list(range(len(asked))) and "all was there" in capfd.readouterr().err
    first = again.first(HOURS / 3)
    assert len(first.starts) <= len(few.starts) and first.seconds - 3 < 20 <= first.seconds
    np.testing.assert_array_equal(first.tokens, few.tokens[: len(first.tokens)])
    assert first.codes is not None and len(first.codes) == len(first.tokens)
    assert len(first.narrators) == len(first.starts)
    assert len(again.first(99).tokens) == len(again.tokens)


# Stopped


def test_a_killed_run_goes_on(tmp_path: Path, tiny_bundle: Path, whole: Path) -> None:
    """Four workers wait in items 9 to 15 of 22; the pieces of the items before are on disk, and stay as they are."""
    script = f"""
from pathlib import Path
from lab.corpora.shards import Source, make
from tests.spoken import gated
source = Source("noise", gated, range(1000), range(0, 1001, 2), 1)
make(Path({str(tmp_path)!r}), source, Path({str(tiny_bundle)!r}), codes=True, workers=4)
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen([sys.executable, "-c", script], env=environment, stderr=subprocess.DEVNULL) as run:
        try:
            journal, patience = tmp_path / "documents.jsonl", time.monotonic() + 300
            while not journal.exists() or journal.read_bytes().count(b"\n") < 4:
                assert run.poll() is None and time.monotonic() < patience
                time.sleep(0.02)
            workers = psutil.Process(run.pid).children(recursive=True)
            with pytest.raises(LabError, match="process .* is sharding into"):
                make(tmp_path, SOURCE, tiny_bundle, codes=True, workers=1)
        finally:
            run.send_signal(signal.SIGKILL)
    left = files(tmp_path)
    assert left["documents.jsonl"].count(b"\n") == 4
    asked: list[int] = []

    def counted(number: int) -> tuple[Utterance, ...]:
        asked.append(number)
        return spoken(number)

    make(tmp_path, replace(SOURCE, read=counted), tiny_bundle, codes=True, workers=1)
    assert asked[0] == 8
    assert files(tmp_path) == files(whole)
    assert len(workers) >= 4 and not psutil.wait_procs(workers, timeout=60)[1]


def test_what_was_written_and_not_counted_is_cut_off(copy: Path, whole: Path, tiny_bundle: Path) -> None:
    lines = (copy / "documents.jsonl").read_bytes().splitlines(keepends=True)
    (copy / "documents.jsonl").write_bytes(b"".join(lines[:3]) + lines[3][:20])
    (copy / "shard.json").write_text(json.dumps(json.loads((copy / "shard.json").read_text()) | {"tokens": 0}))
    assert len(Shard.open(copy).starts) == 7  # can be read before it is mended
    make(copy, SOURCE, tiny_bundle, codes=True, workers=1)
    assert files(copy) == files(whole)


def test_shares_of_several_workers_are_put_together(tmp_path: Path, tiny_bundle: Path, whole: Path) -> None:
    """Whoever makes the parts, the bytes are the same; here one of three never came."""
    for number in (3, 1):
        seconds = shards.share(tmp_path, SOURCE, tiny_bundle, number, 3, codes=True, workers=1)
        assert 20 <= seconds < 20 + 10
    told = shards.status(tmp_path, SOURCE)
    assert told["parts"] >= 4 and told["running"] == told["failed"] == 0 and told["hours_in_all"] == HOURS
    with pytest.raises(LabError, match="none was finished"):
        Shard.open(tmp_path)
    asked: list[int] = []

    def counted(number: int) -> tuple[Utterance, ...]:
        asked.append(number)
        return spoken(number)

    make(tmp_path, replace(SOURCE, read=counted), tiny_bundle, codes=True, workers=1)
    assert files(tmp_path) == files(whole) and 2 <= len(asked) <= 8
    with pytest.raises(LabError, match="cannot make part 4/3; give 1/3 to 3/3"):
        shards.share(tmp_path, SOURCE, tiny_bundle, 4, 3)


def test_a_damaged_part_is_made_anew(tmp_path: Path, tiny_bundle: Path, whole: Path) -> None:
    shards.share(tmp_path, SOURCE, tiny_bundle, 1, 1, codes=True, workers=1)
    first, *_, last = sorted((tmp_path / "parts").iterdir())
    os.truncate(last, 100)
    first.write_bytes(b"")
    (tmp_path / "parts" / ".000003-0.part.safetensors").write_bytes(b"half")  # and its worker died
    make(tmp_path, SOURCE, tiny_bundle, codes=True, workers=1)
    assert files(tmp_path) == files(whole) and not (tmp_path / "parts").exists()


def test_what_others_put_among_the_parts_is_left_alone(tmp_path: Path, tiny_bundle: Path, whole: Path) -> None:
    """A network's file system, another system's archive, somebody."""
    shards.share(tmp_path, SOURCE, tiny_bundle, 1, 1, codes=True, workers=1)
    strangers = [tmp_path / "parts" / name for name in (".nfs000012", "._000001-0.safetensors", "old.safetensors")]
    for path in strangers:
        path.write_bytes(b"")
    assert shards.status(tmp_path, SOURCE)["parts"] >= 4
    make(tmp_path, SOURCE, tiny_bundle, codes=True, workers=1)
    assert files(tmp_path) == files(whole) and set((tmp_path / "parts").iterdir()) == set(strangers)


def test_status_tells_who_is_at_work_and_who_died(tmp_path: Path, tiny_bundle: Path, copy: Path) -> None:
    shards.share(tmp_path / "share", SOURCE, tiny_bundle, 1, 1, codes=True, workers=1)
    (tmp_path / "share" / "parts").rename(copy / "parts")  # appended, and not yet taken away
    assert shards.status(copy, SOURCE)["hours"] * 3600 == Shard.open(copy).seconds
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    here = socket.gethostname()
    for number, (host, process, minutes) in enumerate(
        ((here, os.getpid(), 0), (here, gone.pid, 0), ("elsewhere", gone.pid, 1), ("elsewhere", gone.pid, 5))
    ):
        note = copy / "parts" / f"{number:06}-0.running"
        note.write_text(json.dumps([host, process, 100.0, 5.0]))
        os.utime(note, 2 * (time.time() - 60 * minutes,))
    told = shards.status(copy, replace(SOURCE, hours=2 * HOURS))
    assert (told["running"], told["failed"], told["speed"]) == (2, 2, 40.0)
    assert told["minutes_left"] == pytest.approx((120 - Shard.open(copy).seconds) / 40 / 60)


def test_who_is_at_work_gives_signs_of_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "BEAT", 0.01)
    with worker.at_work(tmp_path / "000000-0.safetensors"):
        os.utime(tmp_path / "000000-0.running", (0, 0))
        patience = time.monotonic() + 60
        while worker.notes(tmp_path)[0].lost:
            assert time.monotonic() < patience
            time.sleep(0.01)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_keeps_what_was_finished(tmp_path: Path, tiny_bundle: Path, whole: Path) -> None:
    with disk_of(6_000), pytest.raises(LabError, match="cannot write to .*File too large; make room"):
        make(tmp_path, SOURCE, tiny_bundle, codes=True, workers=1)
    kept = Shard.open(tmp_path)
    assert 0 < kept.seconds < 30
    make(tmp_path, SOURCE, tiny_bundle, codes=True, workers=1)
    assert files(tmp_path) == files(whole)


def test_a_worker_that_dies_is_an_error(tmp_path: Path, tiny_bundle: Path) -> None:
    with pytest.raises(LabError, match="a worker died, .*the same command with fewer goes on"):
        make(tmp_path, replace(SOURCE, read=deadly), tiny_bundle, workers=2)


# Bad input


def test_what_cannot_serve_is_named_and_left_out(
    tmp_path: Path, tiny_bundle: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source = Source("noise", picky, range(5), (0, 2, 4, 5), skipped=("x.wav has no text",))
    shard = make(tmp_path, source, tiny_bundle, workers=1)
    assert shard.narrators == ["reader 0", "reader 2", "reader 1"]
    assert shard.skipped == ["x.wav has no text", "1.wav is silent", "3.wav is silent"]
    told = capfd.readouterr().err
    assert (
        "skipped: x.wav has no text\n" in told
        and "skipped: 1.wav is silent\n" in told
        and "3 documents" in told
        and "3 skipped" in told
    )
    assert " seconds of speech per second\n" in told
    with pytest.raises(LabError, match="holds no document; all 1 files were skipped, such as: 1.wav is silent"):
        make(tmp_path / "none", replace(source, items=[1], bounds=(0, 1), skipped=()), tiny_bundle, workers=1)


def other_tokenizer(folder: Path, root: Path) -> Any:
    torch.manual_seed(1)
    bundle.save(root, "tokenizer", Tokenizer(TokenizerConfig.preset("tiny")), {})
    return make(folder, SOURCE, root, codes=True, workers=1)


def shortened(name: str, size: int) -> Callable[[Path, Path], Any]:
    def damage(folder: Path, root: Path) -> Shard:
        os.truncate(folder / name, size)
        return Shard.open(folder)

    return damage


def written(name: str, text: str) -> Callable[[Path, Path], Any]:
    def damage(folder: Path, root: Path) -> Shard:
        (folder / name).write_text(text)
        return Shard.open(folder)

    return damage


def lost(name: str) -> Callable[[Path, Path], Any]:
    def damage(folder: Path, root: Path) -> Shard:
        (folder / name).unlink()
        return make(folder, SOURCE, root, codes=True, workers=1)

    return damage


BAD: dict[str, tuple[Callable[[Path, Path], Any], str]] = {
    "another tokenizer": (other_tokenizer, "copy was made with tokenizer [0-9a-f]{12}, and this is tokenizer [0-9a-f]"),
    "another source": (
        lambda folder, root: make(folder, replace(SOURCE, name="rain"), root, codes=True, workers=1),
        "with source noise, and this is source rain",
    ),
    "no codes": (
        lambda folder, root: make(folder, SOURCE, root, workers=1),
        "codec [0-9a-f]{12}, and this is codec none",
    ),
    "few tokens": (shortened("tokens.bin", 999), "tokens.bin is truncated: 999 bytes found, [0-9]{4} expected"),
    "few codes": (shortened("codes.bin", 1000), "codes.bin is truncated: 1000 bytes found, [0-9]{5} expected"),
    "no tokens": (lost("tokens.bin"), "tokens.bin is truncated: 0 bytes found"),
    "few documents": (shortened("documents.jsonl", 300), "documents.jsonl is truncated: [0-9]+ tokens counted, 1"),
    "odd documents": (written("documents.jsonl", "{]\n"), "documents.jsonl is damaged"),
    "odd header": (written("shard.json", "[]"), "shard.json is damaged"),
    "half a header": (written("shard.json", '{"source": "noise"}'), "shard.json is damaged"),
    "no header": (lost("shard.json"), "copy has lost its shard.json"),
    "no shard": (lambda folder, root: Shard.open(folder / "nowhere"), "there is no shard in .*nowhere; make one with"),
    "a file": (lambda folder, root: make(folder / "tokens.bin", SOURCE, root, workers=1), "cannot write to .*exists"),
    "no hours": (lambda folder, root: make(folder, SOURCE, root, hours=0, workers=1), "cannot shard 0 hours"),
    "NaN hours": (lambda folder, root: make(folder, SOURCE, root, hours=float("nan"), workers=1), "shard nan hours"),
    "no workers": (lambda folder, root: make(folder, SOURCE, root, workers=0), "with 0 workers; give 1"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_shard_is_an_error(kind: str, copy: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    damage, message = BAD[kind]
    root = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    with pytest.raises(LabError, match=message):
        damage(copy, root)
