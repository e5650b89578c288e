"""Damaged audio and odd arguments: an exit code of 0 or 2, one line where it is 2, and nothing left behind."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lab import audio
from lab.errors import LabError
from tests.commands import lab
from tests.spoken import voiced

FIXED = settings(max_examples=200, derandomize=True, database=None, deadline=None)
FORMS = {"WAV": "PCM_16", "RF64": "PCM_16", "AIFF": "PCM_16", "CAF": "PCM_16", "AU": "PCM_16", "FLAC": "PCM_16"}
FORMS |= {"OGG": "VORBIS", "MP3": "MPEG_LAYER_III", "W64": "PCM_16"}


def encoded(form: str) -> bytes:
    file = io.BytesIO()
    sf.write(file, voiced(4), 16_000, format=form, subtype=FORMS[form])
    return file.getvalue()


WHOLE = {form: encoded(form) for form in FORMS}


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A file with bytes changed, most of them in its header, cut off, repeated or followed by others."""
    data = bytearray(WHOLE[draw(st.sampled_from(list(WHOLE)))])
    for _ in range(draw(st.integers(0, 6))):
        at = draw(st.integers(0, 99) | st.integers(0, len(data) - 1))
        data[at : at + 1] = draw(st.binary(min_size=1, max_size=4))
    end = draw(st.integers(0, len(data)) | st.just(len(data)) | st.integers(0, 99))
    return bytes(data[:end]) + draw(st.just(b"") | st.binary(max_size=40) | st.just(bytes(data[:200])))


NOWHERE = (  # a FLAC in which no frame can be sought
    b'fLaC\x00\x00\x00"\x10\x00\x10\x00\x00\x047\x00\t\xdd\x03\xe8\x00\xf0\x00\x00\xfa\x00\x8e\x98\x1f\xbbh\xef\x89\x1b\xe5\xc6\xc5E\xb7T\x15\xe9'
)


def test_damaged_audio_is_read_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")  # without ffmpeg, which would be started for each that libsndfile cannot read

    @FIXED
    @given(damaged(), st.sampled_from([0.0, 0.5]))
    @example(NOWHERE, 0.0)
    @example(NOWHERE, 0.5)
    def check(data: bytes, start: float) -> None:
        try:
            waveform = audio.load(io.BytesIO(data), start=start, max_seconds=30)
        except LabError as error:
            assert str(error) and "\n" not in str(error)
        else:
            assert waveform.dtype == np.float32 and waveform.ndim == 1 and 0 < len(waveform) <= 30 * 16_000
            assert np.isfinite(waveform).all() and np.abs(waveform).max() <= 1

    check()


NUMBERS = st.sampled_from(["0", "-1", "nan", "inf", "-inf", "1e300", "1e-40", "0x10", "", " ", "9" * 40, "½", "1,5"])
NAMES = st.sampled_from(
    [
        "",
        " ",
        ".",
        "..",
        "/",
        "nowhere.wav",
        "prompt.wav",
        "folder",
        "a\nb.wav",
        "é.wav",
        "\udce9.wav",
        "x" * 300 + ".wav",
    ]
    + [
        "-",
        "--",
        "folder/prompt.wav",
        "prompt.wav/",
        "prompt",
        "tokens.npz",
        "[x].wav",
        ":x:.flac",
        "~",
        "*.wav",
        "\0.wav",
    ]
)
OPTIONS = {
    "story": [
        "--minutes",
        "--seed",
        "--temperature",
        "--speaker",
        "-o",
        "--top-k",
        "--top-p",
        "--device",
        "--baseline",
    ],
    "tokens": ["-o"],
    "speak": ["--speaker", "-o", "--seed"],
}


@st.composite
def arguments(draw: st.DrawFn) -> list[str]:
    """A command with a file and a few options; a story, where it comes to one, has a second."""
    name = draw(st.sampled_from(list(OPTIONS)))
    words = [name, draw(NAMES)] + (["--minutes", "0.0167"] if name == "story" else [])
    for option in draw(st.lists(st.sampled_from(OPTIONS[name]), max_size=3)):
        words += [option, draw(NUMBERS | NAMES | st.text(max_size=8))]
    return words + draw(st.sampled_from([[], ["--json"], ["-q"], ["--bundle", "nowhere"], ["--no-such-option"]]))


@pytest.fixture
def room(desk: Path) -> Path:
    """Besides the prompt, a folder, a text and tokens."""
    (desk / "folder").mkdir()
    (desk / "prompt").write_text("once upon a time")
    np.savez(desk / "tokens.npz", tokens=np.arange(50) % 32)
    return desk


def test_odd_arguments_are_taken_or_refused(room: Path) -> None:
    """200 command lines; longer minutes than a second are left to the tests of stories."""

    @FIXED
    @given(arguments())
    def check(words: list[str]) -> None:
        before = {path: path.stat().st_size for path in room.rglob("*")}
        result = lab(*words, stdin=b"")
        assert result.exit_code in (0, 2), (words, result.output, result.exception)
        assert "Traceback" not in result.output and "internal error" not in result.stderr, (words, result.stderr)
        if result.exit_code == 2:
            errors = [line for line in result.stderr.splitlines() if line.startswith("lab: ")]
            assert len(errors) == 1 and result.stderr.splitlines()[-1] == errors[0], (words, result.stderr)
        made = {path for path in room.rglob("*")} - before.keys()
        assert result.exit_code == 0 or not made, (words, made)
        for path in made:
            assert not path.name.endswith(".part") and not path.name.startswith("."), (words, made)
            os.remove(path)

    check()
