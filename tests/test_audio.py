from __future__ import annotations

import io
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile as sf
from hypothesis import given
from hypothesis import strategies as st

from lab import audio, windows
from lab.audio import SAMPLE_RATE
from lab.errors import LabError

ROOT = Path(__file__).parent.parent


def tone(seconds: float, rate: int = SAMPLE_RATE, hertz: float = 440.0, peak: float = 0.5) -> np.ndarray:
    return (peak * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def noise(samples: int, seed: int = 0, peak: float = 0.5) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-peak, peak, samples).astype(np.float32)


def write(path: Path, samples: np.ndarray, rate: int = SAMPLE_RATE, subtype: str = "PCM_16") -> Path:
    sf.write(path, samples, rate, subtype=subtype)
    return path


@contextmanager
def disk_of(size: int) -> Iterator[None]:
    """No file may grow beyond `size` bytes: the kernel refuses with a short write, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# --- load


def test_mono_16k_comes_as_it_is(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", noise(20_000), subtype="FLOAT")
    loaded = audio.load(path)
    assert loaded.dtype == np.float32
    np.testing.assert_array_equal(loaded, noise(20_000))


@pytest.mark.parametrize("rate", [8000, 11_025, 22_050, 44_100, 48_000, 96_000])
def test_any_rate(tmp_path: Path, rate: int) -> None:
    loaded = audio.load(write(tmp_path / "a.wav", tone(2, rate), rate, "FLOAT"))
    assert len(loaded) == 2 * SAMPLE_RATE
    middle = slice(2000, -2000)
    np.testing.assert_allclose(loaded[middle], tone(2)[middle], atol=1e-3)


def test_stereo_44k_is_the_mean_of_its_channels(tmp_path: Path) -> None:
    stereo = np.stack([tone(1, 44_100), tone(1, 44_100, 1000)], axis=1)
    loaded = audio.load(write(tmp_path / "a.wav", stereo, 44_100))
    assert loaded.shape == (SAMPLE_RATE,)
    np.testing.assert_allclose(loaded[500:-500], (tone(1) + tone(1, hertz=1000))[500:-500] / 2, atol=2e-3)


@pytest.mark.parametrize(("ending", "subtype", "error"), [("wav", "PCM_U8", 0.01), ("flac", "PCM_24", 1e-6)])
def test_other_encodings(tmp_path: Path, ending: str, subtype: str, error: float) -> None:
    loaded = audio.load(write(tmp_path / f"a.{ending}", tone(1), subtype=subtype))
    np.testing.assert_allclose(loaded, tone(1), atol=error)


@pytest.mark.parametrize("rate", [SAMPLE_RATE, 44_100])
def test_max_seconds_is_the_start_of_the_whole(tmp_path: Path, rate: int) -> None:
    path = write(tmp_path / "a.wav", noise(6 * rate), rate)
    start = audio.load(path, max_seconds=2.5)
    assert len(start) == 2.5 * SAMPLE_RATE
    np.testing.assert_allclose(start, audio.load(path)[: len(start)], atol=1e-4)
    assert len(audio.load(path, max_seconds=60)) == 6 * SAMPLE_RATE


def test_hours_are_not_read_when_seconds_are_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    write(path, tone(5))
    header = bytearray(path.read_bytes())
    header[4:8] = header[40:44] = (2**32 - 64).to_bytes(4, "little")  # 37 hours, of which 5 s are there
    path.write_bytes(header)
    os.truncate(path, 2**32 - 20)  # a sparse file
    with open(path, "rb") as file:
        assert len(audio.load(file, max_seconds=3)) == 3 * SAMPLE_RATE
        assert file.tell() < 2**20


def test_beyond_full_scale_is_clipped(tmp_path: Path) -> None:
    loaded = audio.load(write(tmp_path / "a.wav", tone(1, peak=3), subtype="FLOAT"))
    assert np.abs(loaded).max() == 1


def test_a_binary_file(tmp_path: Path) -> None:
    data = write(tmp_path / "a.wav", tone(1)).read_bytes()
    assert len(audio.load(io.BytesIO(data))) == SAMPLE_RATE


@pytest.mark.parametrize("seconds", [None, 2.0])
def test_standard_input_through_a_pipe(tmp_path: Path, seconds: float | None) -> None:
    data = write(tmp_path / "a.wav", tone(3)).read_bytes()
    program = f"from lab.audio import load; print(load('-', max_seconds={seconds}).shape)"
    done = subprocess.run([sys.executable, "-c", program], input=data, capture_output=True, check=True, cwd=ROOT)
    assert done.stdout.decode().strip() == f"({int((seconds or 3) * SAMPLE_RATE)},)"


def test_a_pipe_without_end_is_left_when_enough_is_heard() -> None:
    start = io.BytesIO()
    sf.write(start, tone(1), SAMPLE_RATE, format="WAV")
    header = bytearray(start.getvalue())
    header[4:8] = header[40:44] = b"\xff" * 4  # how ffmpeg marks a length it does not know

    class Pipe:
        taken = 0

        def seekable(self) -> bool:
            return False

        def read(self, size: int) -> bytes:
            self.taken += size
            return bytes(header) if self.taken == size else bytes(size)

    pipe = Pipe()
    loaded = audio.load(pipe, max_seconds=2)  # type: ignore[arg-type]
    assert len(loaded) == 2 * SAMPLE_RATE and np.abs(loaded).max() > 0.4
    assert pipe.taken < 2**25


def test_standard_input_of_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: True, closed=False))
    with pytest.raises(LabError, match="is a terminal"):
        audio.load("-")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("words.wav", b"once upon a time " * 20, "not audio"),
        ("words.raw", b"once upon a time " * 20, "not audio"),
        ("empty.wav", b"", r"empty \(0 bytes\)"),
        ("riff.wav", b"RIFF", "not audio"),
    ],
)
def test_what_is_not_audio(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(LabError, match=said) as caught:
        audio.load(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="No such file"):
        audio.load(tmp_path / "none.wav")
    with pytest.raises(LabError, match="Is a directory"):
        audio.load(str(tmp_path))


def test_no_samples(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="no samples"):
        audio.load(write(tmp_path / "a.wav", np.zeros(0)))


def test_what_comes_before_the_damage_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "a.flac", noise(400_000))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] + bytes(len(data) // 2))
    loaded = audio.load(path)
    assert 100_000 < len(loaded) <= 200_000
    np.testing.assert_allclose(loaded[:65_536], noise(400_000)[:65_536], atol=1e-4)
    assert len(capsys.readouterr().err.splitlines()) >= 1


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_where_samples_are_not_numbers(tmp_path: Path, bad: float) -> None:
    samples = np.stack([tone(10), tone(10)], axis=1)
    samples[5 * SAMPLE_RATE, 1] = bad
    path = write(tmp_path / "a.wav", samples, subtype="FLOAT")
    with pytest.raises(LabError, match=r"NaN or infinite samples, the first at 5\.000 s"):
        audio.load(path)
    assert len(audio.load(path, max_seconds=3)) == 3 * SAMPLE_RATE


@pytest.mark.parametrize("seconds", [0, -1, float("nan")])
def test_a_length_must_be_positive(seconds: float) -> None:
    with pytest.raises(LabError, match="give a positive length"):
        audio.load("a.wav", max_seconds=seconds)


# --- prompts


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        (tone(2.9), r"lasts 2\.90 s; give at least 3 s"),
        (np.zeros(0, np.float32), r"lasts 0\.00 s"),
        (np.zeros(64_000, np.float32), r"silent \(peak -inf dBFS"),
        (tone(4, peak=0.0005), r"silent \(peak -66 dBFS"),
        (np.clip(tone(4, peak=2), -1, 1), r"clipped: 6\d\.\d% of it"),
        (np.full(64_000, np.nan, np.float32), r"NaN or infinite samples, the first at 0\.000 s"),
        (np.zeros((2, 64_000), np.float32), r"shape \(2, 64000\)"),
    ],
)
def test_bad_prompts(prompt: np.ndarray, said: str) -> None:
    with pytest.raises(LabError, match=said) as caught:
        audio.check_prompt(prompt, name="my.wav")
    assert str(caught.value).startswith("my.wav ")


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "FLOAT"])
@pytest.mark.parametrize("rate", [SAMPLE_RATE, 44_100])
def test_clipping_is_heard_through_rate_and_depth(tmp_path: Path, subtype: str, rate: int) -> None:
    clipped = audio.load(write(tmp_path / "a.wav", np.clip(noise(4 * rate, peak=3), -1, 1), rate, subtype))
    assert np.mean(clipped >= audio.levels.FULL_SCALE) > 0.01
    with pytest.raises(LabError, match="clipped"):
        audio.check_prompt(clipped)


def test_good_prompts() -> None:
    audio.check_prompt(tone(3))
    audio.check_prompt(tone(1), min_seconds=0.5)
    audio.check_prompt(np.concatenate([np.zeros(30_000, np.float32), tone(2, peak=0.02)]))


# --- level and rate


def test_level_of_the_active_part() -> None:
    assert audio.level(tone(1)) == pytest.approx(20 * np.log10(0.5 / np.sqrt(2)), abs=0.01)
    spoken = np.concatenate([np.zeros(48_000, np.float32), tone(1), noise(48_000, peak=1e-4)])
    assert audio.level(spoken) == pytest.approx(audio.level(tone(1)), abs=0.01)
    assert audio.level(np.zeros(1000)) == audio.level(np.zeros(0)) == -np.inf


def test_set_level() -> None:
    assert audio.level(audio.set_level(tone(1), -30)) == pytest.approx(-30, abs=0.01)
    click = tone(1, peak=0.01)
    click[0] = 0.5
    assert np.abs(audio.set_level(click, -10)).max() == pytest.approx(0.97)
    assert not audio.set_level(np.zeros(100, np.float32)).any()
    assert audio.set_level(np.zeros(0)).dtype == np.float32


def test_resample() -> None:
    np.testing.assert_allclose(
        audio.resample(tone(1, 22_050), 22_050, SAMPLE_RATE)[200:-200], tone(1)[200:-200], atol=1e-3
    )


# --- joins


def test_a_crossfade_keeps_the_power_of_unlike_signals() -> None:
    faded = audio.crossfade(noise(100_000, 1), noise(100_000, 2))
    power = np.square(faded).reshape(10, -1).mean(axis=1)
    np.testing.assert_allclose(power, 0.5**2 / 3, rtol=0.05)


def test_a_crossfade_starts_left_and_ends_right() -> None:
    faded = audio.crossfade(np.ones(320), np.zeros(320))
    assert faded[0] > 0.999 and faded[-1] < 0.005 and (np.diff(faded) < 0).all()
    with pytest.raises(LabError, match="equal lengths"):
        audio.crossfade(np.ones(3), np.ones(4))


def test_join() -> None:
    left, right = np.arange(10.0), np.arange(100.0, 120.0)
    np.testing.assert_array_equal(audio.join(left, right, 0), np.concatenate([left, right]))
    joined = audio.join(left, right, 4)
    assert len(joined) == 26
    np.testing.assert_array_equal(joined[:6], left[:6])
    np.testing.assert_array_equal(joined[10:], right[4:])
    for fade in (11, -1):
        with pytest.raises(LabError, match=f"over {fade} samples"):
            audio.join(left, right, fade)


@given(st.integers(1, 200), st.sampled_from([0, 2, 16]))
def test_stitched_windows_are_the_whole(total: int, fade: int) -> None:
    """Windows that agree give the original back outside the fades, at its full length."""
    whole, scale = noise(total * 8), 8
    plan = [w.scaled(scale) for w in windows.plan(total, 20, 4)]
    pieces = (whole[w.start : w.stop][w.kept(fade // 2)] for w in plan)
    stitched = np.concatenate(list(audio.stitch(pieces, fade)))
    assert len(stitched) == len(whole)
    faded = np.zeros(len(whole), bool)
    for seam in windows.seams(plan):
        faded[seam - fade // 2 : seam + fade // 2] = True
    np.testing.assert_array_equal(stitched[~faded], whole[~faded])


def test_stitching_lags_by_the_fade_only() -> None:
    came = audio.stitch(iter([np.ones(100), np.ones(100), np.ones(50)]), 20)
    assert [len(piece) for piece in came] == [80, 80, 30, 20]


def test_an_mp3_is_read_in_blocks_as_at_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A frame may begin in those before it: whoever seeks between two blocks loses that, and libmpg123 complains."""
    path, random = tmp_path / "long.mp3", np.random.default_rng(0)
    loudness = np.repeat(random.random(60) ** 3, SAMPLE_RATE // 2)[:, None]  # which moves bits from frame to frame
    sf.write(path, 0.1 * loudness * random.standard_normal((len(loudness), 1)), SAMPLE_RATE, bitrate_mode="CONSTANT")
    whole, _ = sf.read(path, dtype="float32")
    np.testing.assert_allclose(audio.load(path), whole, atol=1e-6)
    np.testing.assert_allclose(audio.load(path, max_seconds=20), whole[: 20 * SAMPLE_RATE], atol=1e-6)
    assert "error" not in capfd.readouterr().err
