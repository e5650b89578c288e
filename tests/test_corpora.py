"""lab.corpora: the story world, its narrators, LibriSpeech folders, and the corpora made of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab import audio
from lab.corpora import librispeech, narration, narrators, storyworld
from lab.corpora.utterance import Utterance, int16
from lab.errors import LabError

SEEDS = st.integers(0, 2**31)
SENTENCE = "the fox, the owl and the kitten went home."


# The story world


@given(SEEDS, st.integers(1, 80))
def test_a_seed_is_one_story_of_the_length_asked_for(seed: int, sentences: int) -> None:
    story = storyworld.story(seed, sentences)
    assert story == storyworld.story(seed, sentences)
    assert len(story.sentences) == sentences
    assert storyworld.story(seed + 1, 60).text != storyworld.story(seed, 60).text


@given(SEEDS, st.integers(1, 60), st.integers(1, 60))
def test_a_longer_story_begins_as_a_shorter_one_does(seed: int, length: int, more: int) -> None:
    shorter, longer = storyworld.story(seed, length), storyworld.story(seed, length + more)
    bodies = [story.sentences[:-3] if len(story.sentences) > 7 else story.sentences for story in (shorter, longer)]
    assert all(ours == theirs for ours, theirs in zip(*bodies, strict=False))
    assert shorter.cast == longer.cast
    if length > 7:
        assert shorter.sentences[-3:] == longer.sentences[-3:]
        assert shorter.sentences[-1] == f"good night, {shorter.cast.hero}."


@given(SEEDS)
def test_every_word_is_in_the_vocabulary(seed: int) -> None:
    text = storyworld.story(seed, 60).text
    assert "{" not in text
    words = set(storyworld.normalize(text).split())
    assert words <= storyworld.VOCABULARY
    assert set(storyworld.nonsense(np.random.default_rng(seed), 12).split()) <= storyworld.VOCABULARY


def test_the_vocabulary_holds_no_word_that_nobody_says() -> None:
    told = " ".join(storyworld.story(seed, 60).text for seed in range(200))
    assert set(storyworld.normalize(told).split()) == storyworld.VOCABULARY


@given(SEEDS)
def test_who_and_what_stays_from_beginning_to_end(seed: int) -> None:
    story = storyworld.story(seed, 60)
    said = storyworld.normalize(story.text)
    cast, words = story.cast, said.split()
    assert cast.pronoun == storyworld.HEROES[cast.hero]
    assert {"he", "she"} & set(words) <= {cast.pronoun}
    assert set(storyworld.HEROES) & set(words) == {cast.hero}
    assert set(storyworld.COMPANIONS) & set(words) == {cast.companion}
    assert {promise for promise in storyworld.PROMISES if promise in said} == {cast.promise}
    first, last = story.sentences[1], story.sentences[-3]
    assert first.split(" in a ")[1].split(" with ")[0] == last.split(" to the ")[1].rstrip(".")  # the home
    wrong = {f"a {word}" for word in storyworld.COMPANIONS if word[0] in "aeiou"}
    assert not any(f" {phrase} " in f" {said} " for phrase in wrong)


@pytest.mark.parametrize(("text", "said"), [('"Yes," said Tom.', "yes said tom"), ("It's  9 o'clock", "it's o'clock")])
def test_normalize_keeps_what_is_said(text: str, said: str) -> None:
    assert storyworld.normalize(text) == said


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
    who = narrators.cast(np.random.default_rng(seed))
    first = who.read(SENTENCE)
    narrators.cast(np.random.default_rng(other)).read("the rain began to fall.")
    np.testing.assert_array_equal(who.read(SENTENCE), first)


@given(SEEDS)
def test_held_out_narrators_are_never_cast(seed: int) -> None:
    rng = np.random.default_rng(seed)
    who = narrators.cast(rng)
    double = narrators.double(who, rng)
    assert {variant(who), variant(double)} <= set(narrators.variants())
    assert double.rate == who.rate and double.voice.split("+")[0] == who.voice.split("+")[0]
    assert narrators.cast(np.random.default_rng(seed)) == who


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


def test_most_pairs_are_in_step() -> None:
    pairs = [narration.pair(number) for number in range(16)]
    for first, other in pairs:
        assert first.text == other.text and first.narrator != other.narrator
        assert not np.array_equal(first.waveform[:16000], other.waveform[:16000])
    lengths = np.array([[len(utterance.waveform) for utterance in pair] for pair in pairs])
    assert np.mean(lengths[:, 0] == lengths[:, 1]) > 0.5
    ratio = lengths[:, 0] / lengths[:, 1]
    assert ((ratio == 1) | (abs(ratio - 1) >= 0.04)).all()


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


# LibriSpeech


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """Reader 7 with chapters 10 (FLAC) and 11 (OGG), reader 8 with chapter 12; two utterances each, of 1 and 2 s."""
    for reader, chapter, kind in (("7", "10", "flac"), ("7", "11", "ogg"), ("8", "12", "flac")):
        folder = tmp_path / reader / chapter
        folder.mkdir(parents=True)
        lines = []
        for number, text in enumerate(("IT'S LATE", "GOOD NIGHT OWL")):
            name = f"{reader}-{chapter}-{number:04}"
            tone = 0.02 * np.sin(np.arange(16000 * (number + 1)) * 0.1)
            audio.save(folder / f"{name}.{kind}", tone.astype(np.float32))
            lines.append(f"{name} {text}")
        (folder / f"{reader}-{chapter}.trans.txt").write_text("\n".join(lines) + "\n\n")
    return tmp_path


def test_a_chapter_is_read_in_order_and_levelled(library: Path) -> None:
    for chapter in librispeech.chapters(library):
        first, second = librispeech.read(chapter)
        assert [first.text, second.text] == ["it's late", "good night owl"]
        assert first.narrator == chapter.parent.name and first.source == "librispeech"
        assert first.seconds == pytest.approx(1, abs=0.01) and second.seconds == pytest.approx(2, abs=0.01)
        assert audio.level(second.samples()) == pytest.approx(-23, abs=0.5)


def test_held_out_chapters_are_left_out(library: Path) -> None:
    assert [folder.name for folder in librispeech.chapters(library)] == ["10", "11", "12"]
    assert [utterance.narrator for utterance in librispeech.read_all(library, ("11",))] == [
        "7",
        "7",
        "8",
        "8",
    ]
    assert len(librispeech.read_all(library, ("10", "11", "12"))) == 0


@pytest.mark.parametrize(("seconds", "given"), [(0.5, 1), (1, 1), (1.5, 3), (60, 3)])
def test_a_passage_is_whole_utterances(library: Path, seconds: float, given: int) -> None:
    utterances = librispeech.read(library / "7" / "10")
    passage = librispeech.passage(utterances, seconds)
    assert len(passage) == given * 16000
    np.testing.assert_array_equal(passage[:16000], utterances[0].samples())


def test_a_passage_of_nothing_is_empty() -> None:
    assert len(librispeech.passage([], 5)) == 0


def test_a_text_without_audio_is_an_error(library: Path) -> None:
    (library / "7" / "11" / "7-11-0001.ogg").unlink()
    with pytest.raises(LabError, match="11 has a text for 7-11-0001 and no audio"):
        librispeech.read_all(library)


def test_a_folder_without_chapters_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="no LibriSpeech chapter"):
        librispeech.chapters(tmp_path)


def test_the_folder_of_the_environment(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAB_LIBRISPEECH", str(library))
    assert librispeech.find() == library
    monkeypatch.setenv("LAB_LIBRISPEECH", str(library / "nowhere"))
    assert librispeech.find() is None
    monkeypatch.delenv("LAB_LIBRISPEECH")
    assert librispeech.find() is None


def test_real_chapters_are_speech(real_speech: Path, tmp_path: Path) -> None:
    whole = librispeech.chapters(real_speech)[0]
    line = next(whole.glob("*.trans.txt")).read_text().splitlines()[0]
    (tmp_path / "one.trans.txt").write_text(line)
    for path in whole.glob(f"{line.split()[0]}.*"):
        (tmp_path / path.name).symlink_to(path)
    (utterance,) = librispeech.read(tmp_path)
    assert utterance.seconds > 1 and set(utterance.text) <= set("abcdefghijklmnopqrstuvwxyz' ")
    assert audio.level(utterance.samples()) == pytest.approx(-23, abs=1)
    assert 5 < len(utterance.text) / utterance.seconds < 25  # characters a second
