"""lab.audio: what a waveform is, how loud its speech is and where it lies."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lab import audio
from lab.audio import SAMPLE_RATE
from lab.errors import LabError
from tests.spoken import voiced


def room(seconds: float, peak: float = 1e-3) -> np.ndarray:
    return (peak * np.random.default_rng(1).standard_normal(round(seconds * SAMPLE_RATE))).astype(np.float32)


@pytest.mark.parametrize(
    ("samples", "said"),
    [
        (np.zeros(9, np.int16), r"is of int16; give floats in \[-1, 1\], such as x / 32768"),
        (np.zeros(9, np.uint8), "is of uint8"),
        (np.zeros(9, bool), "is of bool"),
        (np.zeros(9, complex), "is of complex128"),
        (torch.zeros(9, dtype=torch.int32), "is of int32"),
        ([0.0, 0.1], "is of type list"),
        (b"abc", "is of type bytes"),
        (None, "is of type NoneType"),
        (np.zeros((2, 9), np.float32), r"has shape \(2, 9\)"),
        (np.full(9, np.nan), "NaN or infinite"),
        (np.full(9, 12_000.0), "peaks at 12000"),
    ],
)
def test_what_is_no_waveform(samples: object, said: str) -> None:
    for judge in (audio.as_waveform, audio.check_prompt, audio.level, audio.set_level, audio.speech_span):
        with pytest.raises(LabError, match=said):
            judge(samples)  # type: ignore[operator]


def test_what_is_one() -> None:
    for samples in (np.zeros(9), np.zeros(9, np.float16), torch.zeros(9), torch.zeros(9, requires_grad=True)):
        assert audio.as_waveform(samples).dtype == np.float32


def test_what_was_checked_is_scaled_to_the_same_bits() -> None:
    sound = voiced(2.0) + np.float32(0.05)
    assert np.array_equal(audio.scaled(audio.check_prompt(sound, 1.0)), audio.set_level(sound))


@pytest.mark.parametrize("offset", [0.01, -0.05, 0.3])
def test_a_constant_is_no_sound(offset: float) -> None:
    speech = 0.1 * voiced(5)
    moved = audio.set_level(speech + np.float32(offset))
    np.testing.assert_allclose(moved, audio.set_level(speech), atol=1e-5)
    with pytest.raises(LabError, match="silent"):
        audio.check_prompt(np.full(5 * SAMPLE_RATE, offset, np.float32))


def test_slow_drift_is_no_sound() -> None:
    drift = np.linspace(-0.3, 0.3, 5 * SAMPLE_RATE, dtype=np.float32)
    with pytest.raises(LabError, match="silent"):
        audio.check_prompt(drift)
    speech = voiced(5)
    assert abs(audio.level(speech + drift) - audio.level(speech)) < 0.1


def test_low_voices_pass() -> None:
    wave = 0.1 * np.sin(2 * np.pi * 80 * np.arange(SAMPLE_RATE) / SAMPLE_RATE)
    left = audio.without_offset(wave.astype(np.float32))[2000:-2000]
    assert np.sqrt(2) * left.std() == pytest.approx(0.1, rel=0.02)


def test_room_tone_does_not_set_the_level() -> None:
    speech = voiced(6)
    for waveform in (
        np.concatenate([room(10), speech]),
        np.concatenate([speech, room(20)]),
        np.concatenate([speech[: 3 * SAMPLE_RATE], np.zeros(30 * SAMPLE_RATE, np.float32), speech[3 * SAMPLE_RATE :]]),
    ):
        assert abs(audio.level(waveform) - audio.level(speech)) < 0.5


def test_a_click_in_silence_is_no_prompt() -> None:
    click = np.zeros(5 * SAMPLE_RATE, np.float32)
    click[40_000:40_010] = 0.9
    with pytest.raises(LabError, match=r"holds 0\.0\d s of sound"):
        audio.check_prompt(click)


def test_where_speech_begins() -> None:
    speech = voiced(6)
    assert audio.speech_span(speech) == 0
    assert audio.speech_span(speech[: 2 * SAMPLE_RATE]) == 0
    for seconds in (3.2, 12.0):
        start = audio.speech_span(np.concatenate([room(seconds), speech]))
        assert seconds - 2.2 <= start / SAMPLE_RATE <= seconds + 1 and start % 640 == 0
    click = room(20)
    click[8000:8010] = 0.9
    assert audio.speech_span(np.concatenate([click, speech])) / SAMPLE_RATE >= 17.8
    assert audio.speech_span(np.concatenate([speech, room(50)])) == 0
