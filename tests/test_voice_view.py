"""Pictures of the voice, without a notebook."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch
from ipywidgets import IntSlider

from lab import view
from lab.errors import LabError
from lab.view import style
from lab.voice import SoundStorm, SoundStormConfig, VoicePrompt
from lab.voice.soundstorm import Pass, masked_after


def found(level: int, number: int, masked: list[int], probabilities: list[float]) -> Pass:
    nothing = torch.zeros(len(masked), dtype=torch.long)
    return Pass(
        level, number, nothing[:, None], torch.tensor(masked).bool(), torch.tensor(probabilities).log(), nothing
    )


@pytest.fixture(scope="module")
def passes() -> list[Pass]:
    """4 s of speech, by a tiny voice that knows nothing."""
    torch.manual_seed(0)
    soundstorm = SoundStorm(SoundStormConfig.preset("tiny")).eval()
    tokens, codes = torch.randint(32, (175,)), torch.randint(16, (75, 3))
    seen: list[Pass] = []
    prompt, generator = VoicePrompt(tokens[:75], codes), torch.Generator().manual_seed(0)
    soundstorm.generate(tokens[75:], prompt, generator, iterations=(8, 3, 1), on_pass=seen.append)
    return seen


def test_confidence_map_keeps_the_probability_at_which_a_frame_was_accepted() -> None:
    seen = [
        found(0, 1, [1, 0, 1], [0.2, 1.0, 0.3]),
        found(0, 2, [1, 0, 0], [0.4, 0.1, 0.5]),  # an accepted frame's later proposals count for nothing
        found(0, 3, [0, 0, 0], [0.0, 0.1, 0.1]),
        found(1, 1, [0, 0, 0], [0.5, 0.5, 0.5]),
    ]
    picture = view.confidence_map(seen, 1)
    assert picture.dtype == np.uint8
    np.testing.assert_array_equal(picture, [[0, 255, 0], [0, 255, 128], [1, 255, 128]])
    np.testing.assert_array_equal(view.confidence_map(seen, 2), [[128, 128, 128]])


def test_confidence_map_is_of_one_window(passes: list[Pass]) -> None:
    for wrong in (passes + passes, passes[1:], []):
        with pytest.raises(LabError, match="passes of level 1 are not those of one window"):
            view.confidence_map(wrong, 1)


@pytest.mark.parametrize(("level", "number", "of"), [(1, 1, 8), (1, 4, 8), (1, 8, 8), (2, 2, 3), (3, 1, 1)])
def test_decoding_shows_what_a_pass_did(passes: list[Pass], level: int, number: int, of: int) -> None:
    figure = view.decoding(passes, level, number)
    before, accepted, again = (len(trace.x) // 3 for trace in figure.data[1:])  # stems of three points
    left = [100] + [masked_after(100, n, of) for n in range(1, of + 1)]
    assert (before, accepted, again) == (100 - left[number - 1], left[number - 1] - left[number], left[number])
    assert figure.layout.title.text.startswith(f"Level {level}, pass {number} of {of}: {100 - left[number]}% of 100")
    assert np.asarray(figure.data[0].z).shape == (of, 100)
    assert figure.layout.shapes[0].y0 == number


def test_decoding_stands_where_the_frames_are(passes: list[Pass]) -> None:
    figure = view.decoding(passes, 1, 4)
    chosen = passes[3]
    again = figure.data[3]
    np.testing.assert_allclose(again.x[1::3], (np.flatnonzero(chosen.masked) + 0.5) / 25)
    np.testing.assert_allclose(again.y[1::3], 100 * chosen.confidence[chosen.masked].exp(), atol=0.06)
    assert (again.y[0::3] == 0).all() and np.isnan(again.y[2::3]).all()
    assert figure.data[0].x0 == 0.02 and figure.data[0].dx == 0.04  # seconds: a click there can be heard
    assert figure.layout.xaxis2.title.text == "seconds of speech"


def test_decoding_beyond_the_last_pass_is_the_last(passes: list[Pass]) -> None:
    assert view.decoding(passes, 2, 16).layout.title.text.startswith("Level 2, pass 3 of 3: 100%")


def test_decoding_answers_to_sliders(passes: list[Pass]) -> None:
    level, number = IntSlider(1, 1, 3), IntSlider(4, 1, 8)
    explorer = view.explore(partial(view.decoding, passes), level=level, number=number)
    for moved, to, title in ((number, 1, "Level 1, pass 1 of 8"), (level, 3, "Level 3, pass 1 of 1: 100%")):
        moved.value = to
        assert explorer.figure.layout.title.text.startswith(title)
    expected = view.decoding(passes, 3, 1)
    for shown, trace in zip(explorer.figure.data, expected.data, strict=True):
        for values in "x", "y", "z":
            if isinstance(getattr(trace, values, None), np.ndarray):
                np.testing.assert_array_equal(getattr(shown, values), getattr(trace, values))


def test_codec_levels_costs_and_what_the_voice_speaks() -> None:
    scores = [{"STOI": 0.5 + level / 10, "log-mel L1": 1 / level} for level in (1, 2, 3)]
    figure = view.codec_levels(scores, guessed=2, bits=500)
    mel, clear = figure.data
    assert mel.y == (1, 0.5, 0.3333) and clear.y == (0.6, 0.7, 0.8) and mel.x == (1, 2, 3)
    assert mel.marker.color == (style.CONTINUATION, style.CONTINUATION, style.TRUTH)
    assert figure.layout.xaxis.title.text == "levels, 0.5 kbit/s each"
    assert "guesses 2 of 3" in figure.layout.title.text


def pulses(pitch: float, seconds: float = 2.0) -> np.ndarray:
    """A tone of 20 harmonics, silent from 1.2 s to 1.6 s."""
    times = np.arange(int(16_000 * seconds)) / 16_000
    tone = sum(np.sin(2 * math.pi * pitch * k * times) / k for k in range(1, 21))
    return (0.1 * tone * ((times < 1.2) | (times >= 1.6))).astype(np.float32)


def test_prompt_swap_has_the_pitch_of_each_and_the_loudness_of_both() -> None:
    low, high = pulses(110), pulses(220)
    swapped = np.concatenate([low[:16_000], high[16_000:]])
    figure = view.prompt_swap(low, high, swapped, ("Ada", "Bruno"), seam=1.0)
    pitch = {trace.name: trace for trace in figure.data if trace.mode == "markers"}
    times = np.asarray(pitch["swapped"].x)
    for name, start, stop, hertz in (
        ("Ada", 0, 2, 110),
        ("Bruno", 0, 2, 220),
        ("swapped", 0, 0.95, 110),
        ("swapped", 1.05, 2, 220),
    ):
        there = np.asarray(pitch[name].y)[(times > start) & (times < stop)]
        assert np.nanmedian(there) == pytest.approx(hertz, rel=0.03)
    loud = {trace.name: np.asarray(trace.y) for trace in figure.data if trace.mode == "lines"}
    assert (loud["swapped"][31:39] == -60).all() and (loud["swapped"][:29] > -30).all()
    assert figure.layout.shapes[0].x0 == 1.0 and "swapped at 1.0 s" in figure.layout.title.text


def test_speaker_similarity_rings_the_nearest() -> None:
    cosines = np.array([[0.9, 0.1, -0.3], [0.2, 0.3, 0.801]])
    figure = view.speaker_similarity(cosines, ["Ada", "Bruno"], ["Ada", "Bruno", "Cora"])
    heat, rings = figure.data
    np.testing.assert_array_equal(heat.z, [[90, 10, -30], [20, 30, 80]])
    assert rings.x == ("Ada", "Cora") and rings.y == ("Ada", "Bruno")
    assert figure.layout.title.text == "For 1 of 2 prompts the nearest narrator is their own"
