"""lab.corpora: narrators, and the corpora made of them (story world and speech in files have tests of their own)."""

from __future__ import annotations

import _ctypes
import ctypes

import espeakng_loader
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab import audio
from lab.corpora import narration, narrators, storyworld
from lab.corpora.utterance import Utterance, int16
from lab.errors import LabError

SEEDS = st.integers(0, 2**31)
SENTENCE = "the fox, the owl and the kitten went home."


# Narrators


def variant(narrator: narrators.Narrator) -> str:
    return narrator.voice.split("+")[1]


def test_there_are_enough_narrators_and_no_two_are_one() -> None:
    assert len(narrators.NAMED) == 24 and len(narrators.HELD_OUT) == 6
    assert len(narrators.variants()) + len(narrators.HELD_OUT) >= 100
    everybody = narrators.NAMED + narrators.HELD_OUT
    assert len({who.name for who in everybody}) == len({variant(who) for who in everybody}) == 30
    assert not {variant(who) for who in narrators.HELD_OUT} & set(narrators.variants())


@pytest.mark.parametrize("who", narrators.NAMED + narrators.HELD_OUT, ids=lambda who: who.name)
def test_named_narrators_speak(who: narrators.Narrator) -> None:
    waveform = who.read(SENTENCE)
    assert waveform.dtype == np.float32 and np.abs(waveform).max() < 1
    assert 1.5 < len(waveform) / audio.SAMPLE_RATE < 4
    assert audio.level(waveform) == pytest.approx(-23, abs=1)
    assert narrators.named(who.name.upper()) is who


def test_every_variant_speaks() -> None:
    for name in narrators.variants():
        waveform = narrators.Narrator(name, f"en-us+{name}").read("good night, owl.")
        assert len(waveform) > 8000 and audio.level(waveform) > -26, name


@settings(deadline=None, max_examples=10)
@given(SEEDS, SEEDS)
def test_the_same_text_is_the_same_waveform_whatever_was_read_before(seed: int, other: int) -> None:
    """espeak-ng on its own starts each text where the pitch flutter of the one before stopped."""
    who = narrators.random_narrator(np.random.default_rng(seed))
    first = who.read(SENTENCE)
    narrators.random_narrator(np.random.default_rng(other)).read("the rain began to fall.")
    np.testing.assert_array_equal(who.read(SENTENCE), first)


def test_a_package_that_holds_the_library_changes_no_reading() -> None:
    """As kokoro-onnx does, until the process ends."""
    text, celia = "it was late.", narrators.named("Celia")
    alone = celia.read(text)
    held = ctypes.CDLL(espeakng_loader.get_library_path())
    narrators.HELD_OUT[0].read("the fox ran home.")
    assert np.array_equal(celia.read(text), alone)
    _ctypes.dlclose(held._handle)


@given(SEEDS)
def test_held_out_narrators_are_never_cast(seed: int) -> None:
    rng = np.random.default_rng(seed)
    who = narrators.random_narrator(rng)
    double = narrators.at_same_rate(who, rng)
    assert {variant(who), variant(double)} <= set(narrators.variants())
    assert double.rate == who.rate
    assert narrators.random_narrator(np.random.default_rng(seed)) == who


def test_a_larger_speaker_is_lower_and_no_slower() -> None:
    small, large = (narrators.Narrator("", "en-us+m3", size=size).read(SENTENCE * 3) for size in (0.9, 1.12))
    assert len(large) / len(small) == pytest.approx(1, abs=0.05)

    def centre(waveform: np.ndarray) -> float:
        power = np.abs(np.fft.rfft(waveform)) ** 2
        return float((power * np.arange(len(power))).sum() / power.sum() / len(power))

    assert centre(large) < 0.9 * centre(small)


@pytest.mark.parametrize("voice", ["nowhere", "en-us+nobody", "nowhere+f2", ""])
def test_an_unknown_voice_is_an_error(voice: str) -> None:
    with pytest.raises(LabError, match="espeak-ng has no"):
        narrators.Narrator("nobody", voice).read("hello")


def test_an_unknown_name_is_an_error() -> None:
    with pytest.raises(LabError, match="no narrator 'Nemo'; there are Ada, .*Ferdi"):
        narrators.named("Nemo")


# Corpora


@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_no_training_story_is_held_out(number: int, other: int) -> None:
    assert narration.training_seed(number) != narration.held_out_seed(other)
    assert narration.training_seed(number) != narration.training_seed(number + 1 + other)


@given(SEEDS)
def test_passages_last_a_few_words_of_the_world(seed: int) -> None:
    words = storyworld.normalize(narration.passage(seed, np.random.default_rng(seed))).split()
    assert 2 <= len(words) <= 60
    assert set(words) <= storyworld.VOCABULARY


def test_pairs_are_one_text_by_two_voices_in_the_same_accent_and_another() -> None:
    pairs = [narration.pair(number) for number in range(16)]
    for first, other in pairs:
        assert first.text == other.text and first.narrator != other.narrator
        assert not np.array_equal(first.waveform[:16000], other.waveform[:16000])
    accents = [{utterance.narrator.split("+")[0] for utterance in pair} for pair in pairs]
    assert {len(both) for both in accents} == {1, 2}


def test_voice_samples_are_two_texts_by_one_narrator() -> None:
    cast, named = narration.voice_samples(4), narration.voice_samples(5)
    for first, second in (cast, named):
        assert first.narrator == second.narrator and first.text != second.text
    assert named[0].narrator == narrators.NAMED[2].name
    assert cast[0].narrator not in {who.name for who in narrators.NAMED + narrators.HELD_OUT}


def test_held_out_stories_are_read_by_held_out_narrators_in_turn() -> None:
    stories = [narration.held_out_story(number, sentences=1) for number in range(7)]
    assert [story.narrator for story in stories[:6]] == [who.name for who in narrators.HELD_OUT]
    assert stories[6].narrator == stories[0].narrator and stories[6].text != stories[0].text
    assert stories[3].story == 7 and stories[3].source == "narrated"
    assert stories[3].text == storyworld.normalize(storyworld.story(7, 1).text)


def test_processes_make_what_one_would_in_order() -> None:
    """18 are a whole chunk and a short one, which is ready first."""
    made = list(narration.make(narration.pair, range(18), workers=2))
    assert len(made) == 18
    for number in (0, 7, 15, 16, 17):
        for ours, theirs in zip(narration.pair(number), made[number], strict=True):
            assert ours.text == theirs.text and ours.narrator == theirs.narrator
            np.testing.assert_array_equal(ours.waveform, theirs.waveform)


def test_int16_limits_rather_than_wraps() -> None:
    limited = int16(np.array([-2.0, -1.0, 0.0, 0.5, 1.0, 2.0], np.float32))
    assert limited.tolist() == [-32767, -32767, 0, 16383, 32767, 32767]
    utterance = Utterance(np.tile(limited, 8000), "", "", "narrated")
    assert utterance.seconds == 3 and np.abs(utterance.samples()).max() <= 1


def test_each_clear_narrator_tells_every_other_story_with_dense_gaps() -> None:
    clear = len(narrators.CLEAR)
    for number in (0, clear - 1, clear, 2 * clear):
        dense = number // clear % 2 == 0
        assert narration.told(number, 40) == storyworld.story(narration.training_seed(number), 40, dense)
        assert narration.told(number, 40) != storyworld.story(narration.training_seed(number), 40, not dense)
