"""The command `lab`: bad input costs one line, exit code 2 and no half file."""

from __future__ import annotations

import shutil
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf

from lab import bundle
from lab.corpora import folder, scan
from lab.corpora.shards import Shard
from lab.errors import LabError
from lab.speech import SpeechSSM
from tests.commands import RATE, SECOND, lab, refused, tones
from tests.test_audio import disk_of

pytestmark = pytest.mark.usefixtures("desk")


def wav_of_hours(path: Path) -> None:
    """70 s of a tone, then nothing for ten hours: 1.2 GB, of which 2 MB are on the disk."""
    size, sound = 10 * 3600 * RATE * 2, (tones(70) * 32767).astype("<i2").tobytes()
    header = (
        b"RIFF" + struct.pack("<I", 36 + size) + b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, RATE, 2 * RATE, 2, 16)
    )
    with path.open("wb") as file:
        file.write(header + b"data" + struct.pack("<I", size) + sound)
        file.truncate(44 + size)


def spoiled(at: int) -> np.ndarray:
    waveform = tones(4)
    waveform[at] = np.nan
    return waveform


FLOAT = partial(sf.write, samplerate=RATE, subtype="FLOAT")
BAD: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no file": (lambda path: None, "No such file"),
    "a folder": (lambda path: path.mkdir(), "Is a directory"),
    "not audio": (lambda path: path.write_text("once upon a time " * 99), "is not audio"),
    "empty": (lambda path: path.write_bytes(b""), "is empty"),
    "no samples": (lambda path: FLOAT(path, np.zeros(0)), "holds no samples"),
    "short": (lambda path: FLOAT(path, tones(2.5)), "lasts 2.50 s; give at least 3 s"),
    "silent": (lambda path: FLOAT(path, np.zeros(4 * RATE)), "is silent"),
    "NaN": (lambda path: FLOAT(path, spoiled(RATE)), "NaN or infinite samples, the first at 1.000 s"),
    "clipped": (lambda path: FLOAT(path, tones(4, peak=3.0).clip(-1, 1)), "is clipped"),
}


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("words", [("story",), ("story", "prompt.wav", "--speaker")], ids=["prompt", "speaker"])
def test_a_bad_recording(kind: str, words: tuple[str, ...]) -> None:
    make, message = BAD[kind]
    make(Path("bad.wav"))
    refused(message, *words, "bad.wav", "--minutes", SECOND)


def test_hours_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    wav_of_hours(Path("bad.wav"))
    read: list[int] = []
    whole = sf.SoundFile.read

    def counted(self: sf.SoundFile, frames: int = -1, *args: Any, **options: Any) -> np.ndarray:
        block = whole(self, frames, *args, **options)
        read.append(len(block))
        return block

    monkeypatch.setattr(sf.SoundFile, "read", counted)
    result = lab("story", "bad.wav", "--minutes", SECOND)
    assert result.exit_code == 0 and "warning: the prompt is longer than 60 s; taking its beginning\n" in result.stderr
    assert 60 * RATE < sum(read) < 62 * RATE
    assert {path.name for path in Path().iterdir()} == {"prompt.wav", "bad.wav", "story.wav"}


@pytest.mark.parametrize(("piped", "message"), [(b"", "standard input is empty"), (b"owl" * 99, "is not audio")])
def test_bad_standard_input(piped: bytes, message: str) -> None:
    for command in ("story", "tokens"):
        refused(message, command, "-", stdin=piped)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--minutes", "-1"), "Invalid value for '--minutes'"),
        (("--minutes", "0"), "cannot continue for 0 seconds; give a positive length"),
        (("--minutes", "nan"), "Invalid value for '--minutes'"),
        (("--minutes", "inf"), "seconds must be 0 or more, not inf"),
        (("--minutes", "1e300"), "cannot continue for 6e+301 seconds"),
        (("--seed", "1.5"), "Invalid value for '--seed'"),
        (("--temperature", "nan"), "Invalid value for '--temperature'"),
        (("--temperature", "-1"), "Invalid value for '--temperature'"),
        (("--baseline", "mamba"), "has no mamba; it has "),
        (("-o", "story.mp3"), "must end in .wav, .flac, .ogg"),
        (("-o", "story"), "must end in"),
        (("-o", "prompt.wav/story.wav"), "Not a directory; give a folder you can write to"),
        (("-o", "nowhere/story.wav"), "No such file or directory; give a folder"),
        (("-o", "."), "must end in"),
    ],
)  # fmt: skip
def test_bad_options_of_a_story(options: tuple[str, ...], message: str) -> None:
    refused(message, "story", "prompt.wav", *options)


def test_an_output_that_is_a_folder() -> None:
    Path("story.wav").mkdir()
    refused("it is a folder", "story", "prompt.wav")


@pytest.mark.parametrize("command", [("story", "prompt.wav"), ("tokens", "prompt.wav"), ("doctor",), ("measure",)])
def test_a_missing_bundle(command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAB_BUNDLE", "nowhere")
    result = lab(*command)
    assert result.exit_code == 2
    said = "lab: there is no bundle in nowhere; train one with `lab train all` or set LAB_BUNDLE"
    assert result.stderr.splitlines()[-1] == said  # a doctor on a slow machine says that it compiles


def test_a_bundle_of_other_shapes(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = shutil.copytree(tiny_bundle, "bundle")
    monkeypatch.setenv("LAB_BUNDLE", root)
    with bundle.changing(Path(root)) as entries:
        entries["griffin"]["config"]["width"] = 64
    refused("griffin.safetensors does not fit the config", "story", "prompt.wav")


def test_a_full_disk() -> None:
    """What fitted stays, as a valid file; nothing half-written stays beside it."""
    lab("story", "prompt.wav", "--minutes", SECOND, "-o", "first.wav")  # the first one also writes what numba compiled
    Path("first.wav").unlink()
    with disk_of(100_000):
        result = lab("story", "prompt.wav", "--minutes", "0.05")
    assert result.exit_code == 2
    last = result.stderr.splitlines()[-1]
    assert last.startswith("lab: cannot write more than ") and last.endswith("File too large; give another path")
    assert "Traceback" not in result.output
    assert {path.name for path in Path().iterdir()} <= {"prompt.wav", "story.wav"}
    assert not Path("story.wav").exists() or 0 < sf.info("story.wav").frames < 50_000


def test_tokens_on_a_full_disk() -> None:
    with disk_of(100):
        result = lab("tokens", "prompt.wav", "-o", "said.npz")
    assert result.exit_code == 2 and "lab: cannot write 'said.npz': File too large" in result.stderr
    assert [path.name for path in Path().iterdir()] == ["prompt.wav"]


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("said.txt", "must end in .npz"),
        ("prompt.wav/said.npz", "Not a directory"),
        ("nowhere/said.npz", "No such file"),
    ],
)
def test_tokens_that_cannot_be_written(output: str, message: str) -> None:
    refused(message, "tokens", "prompt.wav", "-o", output)


def archive(path: Path, **arrays: Any) -> None:
    with path.open("wb") as file:
        np.savez(file, **arrays)


def damaged(path: Path) -> None:
    archive(path, tokens=np.zeros(999, np.int32), codes=32)
    data = bytearray(path.read_bytes())
    data[200:240] = b"\xff" * 40
    path.write_bytes(data)


BAD_TOKENS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no file": (lambda path: None, "there is no file said.npz; `lab tokens FILE -o said.npz` makes one"),
    "another tokenizer": (partial(archive, tokens=np.zeros(9, np.int32), codes=512), "tokenizer of 512 codes, and"),
    "out of range": (partial(archive, tokens=np.array([0, 32]), codes=32), "tokens from 0 to 31"),
    "negative": (partial(archive, tokens=np.array([-1, 3]), codes=32), "tokens from 0 to 31"),
    "none": (partial(archive, tokens=np.zeros(0, np.int32), codes=32), "tokens from 0 to 31"),
    "no integers": (partial(archive, tokens=np.array([np.nan, 1.0]), codes=32), "tokens from 0 to 31"),
    "two of them": (partial(archive, tokens=np.zeros((2, 3), np.int32), codes=32), "tokens from 0 to 31"),
    "no codes": (partial(archive, tokens=np.zeros(9, np.int32)), "is no file of `lab tokens`"),
    "many codes": (partial(archive, tokens=np.zeros(9, np.int32), codes=[1, 2]), "is no file of `lab tokens`"),
    "pickled": (partial(archive, tokens=np.array([{}]), codes=32), "is no file of `lab tokens`"),
    "one array": (lambda path: np.save(path.open("wb"), np.zeros(9)), "is no file of `lab tokens`"),
    "damaged": (damaged, "is no file of `lab tokens`"),
    "half": (lambda path: (damaged(path), path.write_bytes(path.read_bytes()[:600])), "is no file of `lab tokens`"),
    "text": (lambda path: path.write_text("0 1 2 3"), "is no file of `lab tokens`"),
    "empty": (lambda path: path.write_text(""), "is no file of `lab tokens`"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD_TOKENS)
def test_bad_tokens(kind: str) -> None:
    make, message = BAD_TOKENS[kind]
    make(Path("said.npz"))
    refused(message, "speak", "said.npz", "--speaker", "prompt.wav")


def test_a_folder_becomes_a_shard(desk: Path, tiny_bundle: Path) -> None:
    Path("tapes").mkdir()
    Path("tapes/a.wav").write_bytes(Path("prompt.wav").read_bytes())
    Path("tapes/b.wav").write_bytes(b"")
    result = lab("shard", "tapes", "--into", "tokens/tapes", "--codes", "--workers", "1")
    assert result.exit_code == 0, result.output
    named, told = [line for line in result.stderr.splitlines() if line.startswith(("skipped", "tokens/tapes"))]
    assert named == f"skipped: {Path('tapes/b.wav').resolve()} is empty (0 bytes)"
    assert told.startswith("tokens/tapes: 1 documents, 100 tokens, 0.00 h of speech, 1 skipped; ")
    assert told.endswith(" seconds of speech per second")
    (utterance,) = folder.corpus(Path("tapes"))
    expected = SpeechSSM.load(tiny_bundle).tokenizer.encode(utterance.samples()).tolist()
    assert Shard.open(Path("tokens/tapes")).tokens.tolist() == expected
    assert Path("tokens/tapes/codes.bin").stat().st_size == 2 * 100 * 4
    advice = "another tokenizer than this would train; give --corpus what it was made of: tokens/tapes/manifest.jsonl"
    refused(advice, "train", "all", "--corpus", "tokens/tapes")  # before hours go into a tokenizer
    assert scan.documents("tokens/tapes/manifest.jsonl", [])
    assert lab("train", "tokenizer", "--corpus", "tokens/tapes", "--show").exit_code == 0  # it hears the tapes again
    assert {path.name for path in desk.iterdir()} == {"prompt.wav", "tapes", "tokens"}


def test_stories_become_a_shard() -> None:
    result = lab("shard", "stories", "--into", "told", "--hours", "0.001", "--workers", "1")
    assert result.exit_code == 0, result.output
    assert "told: 1 documents, " in result.stderr and "0 skipped" in result.stderr
    again = lab("shard", "stories", "--into", "told", "--hours", "0.001", "--workers", "1")
    assert "all was there" in again.stderr
    refused("told was made with source stories", "shard", "voices", "--into", "told", "--codes")


def test_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nothing listens there
    address = "https://storage.googleapis.com/librispeech_long/v0_1.tar.gz"
    refused(f"cannot fetch {address} (", "fetch", "librispeech-long", "--split", "dev-clean")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("shard", "nowhere", "--into", "x"), "no corpus 'nowhere' and no folder of that name"),
        (("shard", ".", "--into", "x", "--hours", "0"), "cannot shard 0 hours of speech"),
        (("fetch", "imagenet"), "'imagenet' is not one of 'librispeech-long'"),
        (("fetch", "librispeech-long", "--split", "train"), "'train' is not one of 'dev-clean'"),
        (("train", "mamba"), "'mamba' is not one of 'tokenizer'"),
        (("train", "tokenizer", "--steps", "-5"), "cannot train for -5 steps"),
        (("train", "tokenizer", "--hours", "0"), "cannot learn from 0 hours"),
        (("train", "griffin", "--length", "5min"), "'5min' is not one of '30s', '1min'"),
        (("train", "griffin", "--strategy", "horovod"), "'horovod' is not one of 'ddp', 'fsdp'"),
        (("train", "griffin", "--devices", "0"), "cannot train with devices 0"),
        (("train", "griffin", "--minutes", "0"), "cannot train for 0 minutes"),
        (("train", "griffin", "--set", "speed=2"), "there is no setting 'speed'; there are lr, "),
        (("train", "griffin", "--warm", "--init", "x"), "give --warm or --init"),
        (("train", "griffin", "--speech", "mine"), "give --corpus mine, a folder or a shard"),
        (("train", "joint", "--init", "x"), "joint goes on with a part of the bundle's codec; leave --init out"),
        (("shard", ".", "--into", "x", "--part", "3"), "cannot make part '3' by local"),
        (("measure", "beauty"), "'beauty' is not one of 'tokens'"),
        (("measure", "tokens", "--count", "-1"), "cannot measure -1 stories"),
        (("measure", "tokens", "--pairs", "."), "--pairs is for `lab measure likelihood`"),
        (("measure", "loss", "--development", "--save"), "is for choices; leave out --save"),
        (("measure", "coherence", "--minutes", "2", "--save"), "is for choices; leave out --save"),
        (("measure", "tokens", "--minutes", "2"), "minutes cannot be set for `lab measure tokens`"),
        (("measure", "likelihood", "--pairs", "nowhere"), "nowhere has no pairs of files 0_*.wav"),
    ],
)  # fmt: skip
def test_bad_words_for_the_makers(words: tuple[str, ...], message: str) -> None:
    refused(message, *words)


def test_an_error_is_one_line_whatever_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any, **options: Any) -> None:
        raise LabError("first\n  second\r\n\tthird")

    monkeypatch.setattr(bundle, "load", fail)
    assert lab("tokens", "prompt.wav").stderr == "lab: first second third\n"
