"""Headers that tell a false length, or none: everything that is there is read, and what was wrong is said."""

from __future__ import annotations

import io
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from lab import audio
from lab.audio import SAMPLE_RATE
from lab.audio.containers import mend
from lab.errors import LabError
from tests.test_audio import noise, tone

SECONDS = 6


def encoded(form: str, samples: np.ndarray | None = None, **options: object) -> bytearray:
    file = io.BytesIO()
    sf.write(file, tone(SECONDS) if samples is None else samples, SAMPLE_RATE, format=form, **options)
    return bytearray(file.getvalue())


def heard(data: bytes | bytearray) -> np.ndarray:
    return audio.load(io.BytesIO(bytes(data)))


def with_length(data: bytearray, chunk: bytes, length: int, order: str = "little", width: int = 4) -> bytearray:
    at = data.index(chunk) + 4
    data[at : at + width] = (length % 2 ** (8 * width)).to_bytes(width, order)  # type: ignore[arg-type]
    return data


@pytest.mark.parametrize("length", [0, 1000, 2**31 - 1, 2**32 - 1])
@pytest.mark.parametrize(("form", "chunk", "order"), [("WAV", b"data", "little"), ("AIFF", b"SSND", "big")])
def test_lengths_of_chunks(form: str, chunk: bytes, order: str, length: int) -> None:
    loaded = heard(with_length(encoded(form), chunk, length, order))
    np.testing.assert_allclose(loaded, tone(SECONDS), atol=1e-4)


def test_a_caf_that_was_streamed_and_an_au_of_no_length() -> None:
    assert len(heard(with_length(encoded("CAF"), b"data", -1, "big", 8))) == SECONDS * SAMPLE_RATE
    data = encoded("AU")
    data[8:12] = bytes(4)
    assert len(heard(data)) == SECONDS * SAMPLE_RATE


def test_chunks_after_the_sound_are_no_sound(capsys: pytest.CaptureFixture[str]) -> None:
    tags = b"LIST" + (10).to_bytes(4, "little") + b"INFOabcdef"
    assert len(heard(encoded("WAV") + tags)) == SECONDS * SAMPLE_RATE
    assert not capsys.readouterr().err


def test_a_recording_that_was_cut_off_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    data = encoded("WAV")
    assert len(heard(data[: len(data) // 2])) > 2.9 * SAMPLE_RATE
    assert "cut off" in capsys.readouterr().err


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24"])
@pytest.mark.parametrize("count", [0, 16_000, 16_000 * 60])
def test_samples_that_a_flac_counts(count: int, subtype: str) -> None:
    samples = noise(100_003, peak=0.1)
    data = encoded("FLAC", samples, subtype=subtype)
    data[21] &= 0xF0
    data[22:26] = count.to_bytes(4, "big")
    np.testing.assert_allclose(heard(data), samples, atol=1e-4)


def test_a_flac_that_was_cut_off_gives_its_whole_frames() -> None:
    samples = noise(100_003, peak=0.1)
    data = encoded("FLAC", samples)
    loaded = heard(data[: 2 * len(data) // 3])
    assert 60_000 < len(loaded) < 67_000
    np.testing.assert_allclose(loaded, samples[: len(loaded)], atol=1e-4)


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_an_ogg_that_was_cut_off_gives_its_whole_pages(subtype: str, capsys: pytest.CaptureFixture[str]) -> None:
    data = encoded("OGG", noise(SAMPLE_RATE * 20, peak=0.1), subtype=subtype)
    assert len(heard(data[: len(data) // 2])) > 5 * SAMPLE_RATE
    assert "cut off" in capsys.readouterr().err


def mp3(samples: np.ndarray, **options: object) -> tuple[bytearray, int]:
    """Data, and where the second frame begins: the first holds the Xing header."""
    data = encoded("MP3", samples, bitrate_mode="VARIABLE", compression_level=0.5, **options)
    return data, data.index(data[:2], 8)


def test_an_mp3_without_its_xing_header() -> None:
    loud, quiet = noise(SAMPLE_RATE, peak=0.3), 0.01 * tone(40)  # the first frames are the longest by far
    data, second = mp3(np.concatenate([loud, quiet]))
    assert len(heard(data[second:])) > 40 * SAMPLE_RATE
    assert len(heard(b"ID3\x03\x00\x00\x00\x00\x00\x0a" + bytes(10) + data[second:])) > 40 * SAMPLE_RATE
    assert len(audio.load(io.BytesIO(bytes(data[second:])), max_seconds=2)) == 2 * SAMPLE_RATE


@pytest.mark.parametrize("count", [0, 20, 10_000])
def test_an_mp3_whose_xing_header_is_false(count: int) -> None:
    data, _ = mp3(tone(30))
    at = data.index(b"Xing") + 8
    data[at : at + 4] = count.to_bytes(4, "big")
    assert 29.9 < len(heard(data)) / SAMPLE_RATE < 30.3


def test_an_mp3_whose_xing_header_is_false_and_of_which_a_part_is_asked_for() -> None:
    data = encoded("MP3", tone(90), compression_level=0.5, bitrate_mode="VARIABLE")
    at = data.index(b"Xing") + 8
    data[at : at + 4] = (30).to_bytes(4, "big")
    assert len(audio.load(io.BytesIO(data), max_seconds=5)) == 5 * SAMPLE_RATE


@pytest.mark.parametrize(("form", "chunk", "width"), [("AIFF", b"COMM", 4), ("CAF", b"desc", 8)])
def test_lengths_of_chunks_that_lead_backwards(
    form: str, chunk: bytes, width: int, capfd: pytest.CaptureFixture[str]
) -> None:
    """A chunk before the sound that ends before it begins: nobody walks in circles, or before the beginning."""
    with suppress(LabError):
        heard(with_length(encoded(form), chunk, -4 - width, "big", width))
    assert "Traceback" not in capfd.readouterr().err


def test_a_file_in_order_is_read_as_it_is() -> None:
    for form in ("WAV", "FLAC", "OGG", "MP3", "AIFF", "CAF", "RF64"):
        data = bytes(encoded(form))
        view, complaint = mend(io.BytesIO(data))
        assert view.read() == data and not complaint, form


def test_channels_that_cancel_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    samples = np.stack([tone(SECONDS), -tone(SECONDS, peak=0.45)], 1)
    np.testing.assert_allclose(heard(encoded("WAV", samples)), tone(SECONDS), atol=1e-4)
    assert "cancel" in capsys.readouterr().err


def test_what_ffmpeg_has_to_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ffmpeg = tmp_path / "bin" / "ffmpeg"
    ffmpeg.parent.mkdir()
    sf.write(tmp_path / "sound.wav", tone(SECONDS), SAMPLE_RATE)
    ffmpeg.write_text(f"#!/bin/sh\ncat {tmp_path}/sound.wav\n")
    ffmpeg.chmod(0o755)
    (tmp_path / "a.m4a").write_bytes(b"\0\0\0\x1cftypM4A " + bytes(100))
    monkeypatch.setenv("PATH", f"{ffmpeg.parent}:/usr/bin:/bin")
    assert len(audio.load(tmp_path / "a.m4a")) == SECONDS * SAMPLE_RATE
    ffmpeg.write_text("#!/bin/sh\necho moov atom not found >&2; exit 1\n")
    with pytest.raises(LabError, match=r"a\.m4a is not audio that can be read \(moov atom not found\)"):
        audio.load(tmp_path / "a.m4a")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LabError, match="install ffmpeg"):
        audio.load(tmp_path / "a.m4a")
