"""lab.audio: saving, and the file of audio that grows."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from lab import audio
from lab.audio import SAMPLE_RATE, Writer
from lab.audio.writing import WavStream
from lab.errors import LabError
from tests.test_audio import disk_of, noise, tone

# --- save


@pytest.mark.parametrize(("ending", "error"), [("wav", 1e-4), ("flac", 1e-4), ("ogg", 0.05), ("WAV", 1e-4)])
def test_save_and_load(tmp_path: Path, ending: str, error: float) -> None:
    path = tmp_path / f"a.{ending}"
    audio.save(path, tone(2))
    np.testing.assert_allclose(audio.load(path), tone(2), atol=error)
    assert os.listdir(tmp_path) == [path.name]


def test_saved_files_obey_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        audio.save(tmp_path / "a.wav", tone(1))
    finally:
        os.umask(old)
    assert (tmp_path / "a.wav").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("none/a.wav", "No such file or directory"),
        ("file.txt/a.wav", "Not a directory"),
        ("folder.wav", "it is a folder"),
        ("a.xyz", "must end in .wav, .flac, .ogg"),
        ("a", "must end in"),
    ],
)
def test_where_nothing_can_be_written(tmp_path: Path, path: str, said: str) -> None:
    (tmp_path / "file.txt").touch()
    (tmp_path / "folder.wav").mkdir()
    with pytest.raises(LabError, match=said) as caught:
        audio.save(tmp_path / path, tone(1))
    assert str(tmp_path / path) in str(caught.value)
    assert sorted(os.listdir(tmp_path)) == ["file.txt", "folder.wav"]


@pytest.mark.skipif(os.getuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(LabError, match="Permission denied"):
        audio.save(tmp_path / "a.wav", tone(1))


@pytest.mark.parametrize("ending", ["wav", "flac", "ogg"])
def test_save_on_a_full_disk_leaves_nothing_new(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a.{ending}"
    audio.save(path, tone(1))
    with pytest.raises(LabError, match="cannot write more than"), disk_of(20_001):
        audio.save(path, noise(400_000))
    assert os.listdir(tmp_path) == [path.name] and len(audio.load(path)) == SAMPLE_RATE


# --- Writer


def test_writer_grows(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    audio.save(path, tone(1))
    with Writer(path) as writer:
        for start in range(0, 80_000, 10_000):
            writer.append(noise(80_000)[start : start + 10_000])
        assert len(audio.load(path)) == SAMPLE_RATE  # the older file, until the end
    assert writer.samples == 80_000 and writer.seconds == 5
    np.testing.assert_allclose(audio.load(path), noise(80_000), atol=1e-4)
    assert os.listdir(tmp_path) == ["a.wav"]


@pytest.mark.parametrize("stop", [KeyboardInterrupt, LabError])
@pytest.mark.parametrize("ending", ["wav", "flac", "ogg"])
def test_what_was_spoken_is_kept(tmp_path: Path, stop: type[BaseException], ending: str) -> None:
    path = tmp_path / f"a.{ending}"
    with pytest.raises(stop), Writer(path) as writer:
        writer.append(tone(2))
        raise stop
    assert len(audio.load(path)) == writer.samples == 2 * SAMPLE_RATE
    assert os.listdir(tmp_path) == [path.name]


def test_a_crash_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), Writer(tmp_path / "a.wav") as writer:
        writer.append(tone(2))
        raise ZeroDivisionError
    assert not os.listdir(tmp_path) and writer.samples == 0


@pytest.mark.parametrize("stop", [KeyboardInterrupt, None])
def test_nothing_spoken_leaves_no_file(tmp_path: Path, stop: type[BaseException] | None) -> None:
    try:
        with Writer(tmp_path / "a.wav"):
            if stop:
                raise stop
    except KeyboardInterrupt:
        pass
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(("ending", "least"), [("wav", 8000), ("ogg", 20_000), ("flac", 0)])
def test_a_full_disk_keeps_what_fitted(tmp_path: Path, ending: str, least: int) -> None:
    path = tmp_path / f"a.{ending}"
    with (
        pytest.raises(LabError, match=f"to {path}: "),
        disk_of(20_001),
        Writer(path) as writer,
    ):
        for seed in range(100):
            writer.append(noise(4000, seed))
    assert writer.samples >= least
    if least:
        assert len(audio.load(path)) == writer.samples
    assert os.listdir(tmp_path) == ([path.name] if least else [])


def test_a_disk_that_fills_on_closing(tmp_path: Path) -> None:
    """A FLAC of less than one block of 4096 samples reaches the disk when it is closed."""
    with (
        pytest.raises(LabError, match="cannot write more than"),
        disk_of(1000),
        Writer(tmp_path / "a.flac") as writer,
    ):
        writer.append(noise(3000))
    assert not os.listdir(tmp_path)


def test_a_rename_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def replace(source: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(LabError, match="No space left on device"):
        audio.save(tmp_path / "a.wav", tone(1))
    assert not os.listdir(tmp_path)


def test_an_unwritable_path_is_told_before_any_work(tmp_path: Path) -> None:
    worked = False
    with pytest.raises(LabError, match="No such file or directory"), Writer(tmp_path / "none" / "a.wav"):
        worked = True
    assert not worked


def test_writer_takes_no_nan(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"NaN or infinite samples, the first at 1\.000 s"):
        with Writer(tmp_path / "a.wav") as writer:
            writer.append(tone(1))
            writer.append(np.full(10, np.nan, np.float32))
    assert len(audio.load(tmp_path / "a.wav")) == SAMPLE_RATE


def test_long_ogg(tmp_path: Path) -> None:
    """One write of minutes of OGG crashes libsndfile 1.2."""
    path = tmp_path / "a.ogg"
    audio.save(path, tone(240))
    assert sf.info(path).frames == 240 * SAMPLE_RATE


def test_a_wav_past_4_gib_is_an_rf64(tmp_path: Path) -> None:
    """Its 64-bit lengths stand where a chunk was kept free; soundfile counts by them."""
    with open(tmp_path / "a.wav", "w+b") as file:
        stream = WavStream(file)
        stream.write(tone(1))
        stream.bytes += 2**32
        stream._header()
        header = (file.seek(0), file.read(80))[1]
    assert header[:16] == b"RF64\xff\xff\xff\xffWAVEds64" and header[-4:] == b"\xff\xff\xff\xff"
    assert int.from_bytes(header[28:36], "little") == 2**32 + 2 * SAMPLE_RATE
    os.truncate(tmp_path / "a.wav", 80 + 2**32 + 2 * SAMPLE_RATE)  # a sparse file
    assert sf.info(tmp_path / "a.wav").frames == 2**31 + SAMPLE_RATE
