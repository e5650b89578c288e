"""lab.measure of sound, speakers and stories, and by name: each number on cases made by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from torch import nn

from lab import audio
from lab.corpora import Utterance, narration, narrators
from lab.corpora.librispeech import HELD_OUT_CHAPTER
from lab.errors import LabError
from lab.measure import audio as audio_measures
from lab.measure import figures, of_language, of_tokens, of_voice, seams, speaker
from lab.measure.tokens import minutes_scored
from lab.speech import SpeechSSM, Story
from lab.voice import Synthesizer
from lab.windows import Windowing
from tests.test_measure_tokens import Spoken

# Loudness, seams and codes


def test_loudness_of_a_fading_tone() -> None:
    seconds = np.arange(8 * 16_000) / 16_000
    tone = 0.5 * np.sin(2 * np.pi * 200 * seconds) * 10 ** (-3 * np.floor(seconds) / 20)
    tone[seconds % 1 >= 0.5] = 0  # a pause does not make speech softer
    levels = audio_measures.loudness(tone[:-1], seconds=1)  # the last second is not whole
    # of a tone, `audio.without_offset` takes 0.2 dB where it begins and ends
    np.testing.assert_allclose(levels, 20 * np.log10(0.5 / 2**0.5) - 3 * np.arange(7), atol=0.2)
    np.testing.assert_allclose(np.diff(levels), -3, atol=1e-3)
    assert audio_measures.drift(tone, seconds=1) == pytest.approx(-21, abs=1e-3)
    assert audio_measures.drift(tone[::-1], seconds=1) == pytest.approx(21, abs=1e-3)
    with pytest.raises(LabError, match="1 s have no drift; give 2 x 1 s"):
        audio_measures.drift(tone[:16_000], seconds=1)


SEAMS = [0.5, 1.25, 2.0, 2.75, 3.5]


def hiss(seconds: float = 4) -> np.ndarray:
    return 0.05 * np.random.default_rng(0).normal(size=round(16_000 * seconds)).astype(np.float32)


def clicking(waveform: np.ndarray, shift: int) -> np.ndarray:
    clicks = waveform.copy()
    clicks[[round(16_000 * seam) + shift for seam in SEAMS]] += 0.9
    return clicks


def changing(waveform: np.ndarray) -> np.ndarray:
    """Another loudness after each seam."""
    return waveform * 4.0 ** (np.searchsorted(16_000 * np.array(SEAMS), np.arange(len(waveform)), side="right") % 2)


@pytest.mark.parametrize(
    ("join", "least", "most"),
    [
        (lambda waveform: waveform, 0.8, 1.2),
        (lambda waveform: clicking(waveform, 0), 1.5, 9),
        (lambda waveform: clicking(waveform, 100), 1.5, 9),
        (lambda waveform: clicking(waveform, 1600), 0.7, 1.1),  # elsewhere
        (changing, 1.5, 9),
    ],
    ids=["none", "click", "click beside", "click far off", "step"],
)
def test_jumps_at_seams(join: Callable[[np.ndarray], np.ndarray], least: float, most: float) -> None:
    at, elsewhere = audio_measures.spectral_jumps(join(hiss()), SEAMS)
    assert at.shape == (5,) and len(elsewhere) > 500
    assert least < at.mean() / elsewhere.mean() < most


def test_a_jump_is_in_nepers() -> None:
    buzz = np.tile(np.eye(80)[0] / 4, 400)  # the same spectrum in every frame
    buzz[16_000:] *= np.e
    at, elsewhere = audio_measures.spectral_jumps(buzz, [1.0])
    assert at[0] == pytest.approx(1, abs=0.05) and elsewhere.max() < 1e-3


def test_jumps_do_not_depend_on_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = audio_measures.spectral_jumps(clicking(hiss(), 0), SEAMS)
    monkeypatch.setattr(audio_measures, "_BLOCK", 4000)
    for ours, theirs in zip(audio_measures.spectral_jumps(clicking(hiss(), 0), SEAMS), whole, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("seam", [0.01, 3.99])
def test_a_seam_at_the_end_is_none(seam: float) -> None:
    with pytest.raises(LabError, match="are not all within 0.03 and 3.97 s"):
        audio_measures.spectral_jumps(hiss(), [seam])


def test_codes_used_by_level() -> None:
    spoken = {1: [[0, 3], [1, 3]], 2: [[1, 3], [2, 3], [2, 3]]}  # waveform of so many samples: its codes (F, 2)
    codec = SimpleNamespace(encode=lambda waveform: torch.tensor(spoken[waveform.shape[1]])[None], codes=4)
    waveforms = [np.zeros(length, np.float32) for length in spoken]
    assert audio_measures.codes_used(codec, waveforms) == [3 / 4, 1 / 4]  # type: ignore[arg-type]


# The speaker


def voice(pitch: float, formants: tuple[float, ...], seed: int, seconds: float = 2.0) -> np.ndarray:
    """Pulses at a pitch that wanders by 2 %, through resonances of 100 Hz, with some breath."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(16_000 * seconds)) / 16_000
    wander = 1 + 0.02 * np.sin(2 * np.pi * 3 * time + rng.uniform(0, 6))
    pulses = np.diff(np.floor(np.cumsum(pitch * wander / 16_000)), prepend=0) + 0.02 * rng.normal(size=len(time))
    lags = np.arange(800) / 16_000
    tract = sum(np.exp(-np.pi * 100 * lags) * np.sin(2 * np.pi * formant * lags) for formant in formants)
    return audio.set_level(np.convolve(pulses, tract)[: len(time)])


LOW, HIGH = (110, (500, 1500, 2500)), (110, (600, 1800, 3000))  # of one pitch: a longer and a shorter tract


def test_speakers_are_known_by_their_tract() -> None:
    enrolled = [(voice(*who, seed), name) for seed in range(4) for name, who in (("long", LOW), ("short", HIGH))]
    gallery = speaker.enrol(*zip(*enrolled, strict=True))
    heard = [voice(*LOW, 10), voice(*HIGH, 11), voice(*HIGH, 12), voice(*LOW, 13)]
    assert speaker.top1(gallery, heard, ["long", "short", "short", "long"]) == 1
    assert speaker.top1(gallery, heard, ["long", "short", "long", "short"]) == 0.5


def test_narrators_are_known_by_other_words_and_in_noise() -> None:
    texts = (
        "the little fox went down to the river, and the owl was waiting there.",
        "soft snow covered the ground before the moon came up over the hill.",
        "where are you going with my golden key, asked the old fisherman.",
        "everybody in the village was glad to hear the bell ring out at noon.",
    )
    named = narrators.NAMED[:8]
    names = [narrator.name for narrator in named]
    gallery = speaker.enrol([who.read(text) for text in texts[:3] for who in named], 3 * names)
    heard = [who.read(texts[3]) for who in named]
    assert speaker.top1(gallery, heard, names) == 1
    noisy = [waveform + 0.14 * hiss(9)[: len(waveform)] for waveform in heard]  # 20 dB below
    assert speaker.top1(gallery, noisy, names) == 1


@pytest.mark.parametrize("pitch", [80, 125, 220, 350])
def test_the_pitch_of_a_voice(pitch: float) -> None:
    median, spread, voiced = speaker.embedding(voice(pitch, LOW[1], 0))[-3:]
    assert np.exp(median) == pytest.approx(pitch, rel=0.03)
    assert spread < 0.1 and voiced > 0.9
    assert speaker.embedding(hiss())[-1] < 0.1


def test_pitch_over_time_is_that_of_voiced_frames_alone() -> None:
    low, high, pause = voice(110, LOW[1], 0, 1), voice(220, LOW[1], 1, 1), np.zeros(8000, np.float32)
    times, f0 = speaker.pitch(np.concatenate([low, pause, high, hiss(1)]))
    assert times[0] == 0.02 and np.allclose(np.diff(times), 0.01) and len(times) == len(f0)
    assert np.isnan(f0[(times > 1.05) & (times < 1.45)]).all() and np.isnan(f0[times > 2.55]).mean() > 0.9
    for pitch, start in ((110, 0.05), (220, 1.55)):
        there = f0[(times > start) & (times < start + 0.9)]
        assert np.nanmedian(there) == pytest.approx(pitch, rel=0.03) and np.isfinite(there).mean() > 0.9


def test_similarity_is_a_cosine_around_the_mean_narrator(monkeypatch: pytest.MonkeyPatch) -> None:
    who = (LOW, HIGH, (190, (550, 1400, 2800)))
    enrolled, names = [voice(*each, seed) for seed in range(4) for each in who], 4 * ["long", "short", "third"]
    first, second = ([voice(*each, seed + k) for k, each in enumerate(who)] for seed in (10, 20))
    gallery = speaker.enrol(enrolled, names)
    cosines = speaker.similarity(gallery, first, second[:2])
    assert cosines.shape == (3, 2) and np.abs(cosines).max() <= 1 + 1e-9
    assert cosines[0, 0] > 0.9 and cosines[1, 1] > 0.9  # themselves, another time
    assert max(cosines[0, 1], *cosines[1:, 0], cosines[2, 1]) < 0.5
    np.testing.assert_allclose(speaker.similarity(gallery, second[:2], first), cosines.T)
    plain = speaker.embedding
    monkeypatch.setattr(speaker, "embedding", lambda waveform: plain(waveform) + 100)
    again = speaker.similarity(speaker.enrol(enrolled, names), first, second[:2])
    np.testing.assert_allclose(again, cosines, atol=1e-6)  # what all voices share is no likeness


def test_a_speaker_is_not_how_loud_he_is_nor_his_pauses() -> None:
    spoken = voice(*LOW, 0)
    first = speaker.embedding(spoken)
    np.testing.assert_allclose(speaker.embedding(0.1 * spoken), first, rtol=1e-3, atol=1e-3)
    pausing = np.concatenate([spoken, np.zeros(16_000, np.float32)])
    np.testing.assert_allclose(speaker.embedding(pausing)[:19], first[:19], atol=1)  # dB, of some 100


@pytest.mark.parametrize("samples", [0, 100, 16_000])
def test_silence_has_no_speaker(samples: int) -> None:
    with pytest.raises(LabError, match="nobody speaks"):
        speaker.embedding(np.zeros(samples, np.float32))


# What is no waveform

TOOTH = hiss(1)
NO_WAVEFORMS: dict[str, tuple[object, str]] = {
    "int16": ((32767 * TOOTH).astype(np.int16), "int16; give floats"),
    "list": (TOOTH.tolist(), "list; give a numpy array"),
    "bytes": (TOOTH.tobytes(), "bytes; give a numpy array"),
    "complex": (TOOTH.astype(complex), "complex128; give floats"),
    "stereo": (np.stack([TOOTH, TOOTH], 1), "give one channel"),
    "integer tensor": (torch.ones(16_000, dtype=torch.int16), "int16; give floats"),
    "nan": (np.where(np.arange(len(TOOTH)) == 8000, np.nan, TOOTH), "NaN or infinite samples, the first at 0.500 s"),
    "full scale of integers": (32767 * TOOTH, "peaks at"),
}


@cache
def gallery() -> LinearDiscriminantAnalysis:
    who = [(name, voice(*of, seed, 0.5)) for seed in range(4) for name, of in (("a", LOW), ("b", HIGH))]
    return speaker.enrol([spoken for _, spoken in who], [name for name, _ in who])


DOORS: dict[str, Callable] = {
    "loudness": lambda models, it: audio_measures.loudness(it, 0.1),
    "drift": lambda models, it: audio_measures.drift(it, 0.1),
    "spectral_change": lambda models, it: audio_measures.spectral_change(it),
    "spectral_jumps": lambda models, it: audio_measures.spectral_jumps(it, [0.3]),
    "of_codec": lambda models, it: audio_measures.of_codec(models["codec"], [it], 1),
    "codes_used": lambda models, it: audio_measures.codes_used(models["codec"], [it]),
    "embedding": lambda models, it: speaker.embedding(it),
    "pitch": lambda models, it: speaker.pitch(it),
    "enrol": lambda models, it: speaker.enrol([it, it, TOOTH, TOOTH], ["a", "a", "b", "b"]),
    "top1": lambda models, it: speaker.top1(gallery(), [it], ["a"]),
    "similarity": lambda models, it: speaker.similarity(gallery(), [TOOTH], [it]),
    "tokens_alone": lambda models, it: seams.tokens_alone(models["tokenizer"], it, Windowing(20, 4)),
    "distance": lambda models, it: seams.distance(it, it),
    "correlation": lambda models, it: seams.correlation(TOOTH, it),
    "ranks": lambda models, it: seams.ranks(it, [0.5]),
    "endings": lambda models, it: seams.endings(models["tokenizer"], it, [30], 5),
    "quiet_tokens": lambda models, it: seams.quiet_tokens(models["tokenizer"], [it]),
}


@pytest.mark.parametrize("kind", NO_WAVEFORMS)
@pytest.mark.parametrize("door", DOORS)
def test_only_waveforms_are_measured(models: dict[str, nn.Module], door: str, kind: str) -> None:
    given, told = NO_WAVEFORMS[kind]
    with pytest.raises(LabError, match=told):
        DOORS[door](models, given)


@pytest.mark.parametrize("door", sorted(DOORS.keys() - {"loudness", "quiet_tokens"}))
def test_nothing_is_not_measured(models: dict[str, nn.Module], door: str) -> None:
    with pytest.raises(LabError):
        DOORS[door](models, np.zeros(0, np.float32))
    assert audio_measures.loudness(np.zeros(0, np.float32)).shape == (0,)


@pytest.mark.parametrize("door", ["loudness", "spectral_change", "pitch", "embedding"])
def test_a_tensor_is_measured_as_its_array(models: dict[str, nn.Module], door: str) -> None:
    for given in (torch.from_numpy(hiss()), torch.from_numpy(hiss()).double().requires_grad_()):
        np.testing.assert_array_equal(DOORS[door](models, given), DOORS[door](models, hiss()))


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda codec: audio_measures.of_codec(codec, [], 1), "no waveform"),
        (lambda codec: audio_measures.codes_used(codec, []), "no waveform"),
        (lambda codec: audio_measures.of_codec(codec, [hiss()], 0), "no 0 levels; give 1 to"),
        (lambda codec: audio_measures.of_codec(codec, [hiss()], 99), "no 99 levels; give 1 to"),
        (lambda codec: audio_measures.of_codec(codec, [hiss(0.2)], 1), "0.20 s are too short"),
        (lambda codec: audio_measures.loudness(hiss(), 0), "cannot take the level of 0 s"),
        (lambda codec: audio_measures.loudness(hiss(), float("nan")), "cannot take the level of nan s"),
        (lambda codec: speaker.enrol([hiss()], ["a"]), "1 waveforms of 1 speakers"),
        (lambda codec: speaker.enrol([hiss()] * 4, ["a", "b", "c"]), "4 waveforms of 3 speakers"),
        (lambda codec: speaker.enrol([hiss()] * 4, ["a", "b", "a"]), "4 waveforms with 3 names"),
        (lambda codec: speaker.enrol([hiss()] * 4, ["a", "b", "a", "b"]), "too much alike"),
        (lambda codec: speaker.top1(gallery(), [], []), "0 waveforms"),
        (lambda codec: speaker.similarity(gallery(), [hiss()], []), "0 waveforms"),
        (lambda codec: seams.correlation(hiss(1), hiss(2)), "16000 samples with 32000"),
        (lambda codec: seams.distance(hiss(1), hiss(2)), "cannot compare"),
    ],
)
def test_odd_arguments_are_refused(models: dict[str, nn.Module], call: Callable, told: str) -> None:
    with pytest.raises(LabError, match=told):
        call(models["codec"])


def test_a_constant_offset_is_no_part_of_a_voice() -> None:
    spoken = np.concatenate([voice(*LOW, 0), np.zeros(16_000, np.float32)])
    for measure in (speaker.embedding, lambda waveform: np.nan_to_num(speaker.pitch(waveform)[1])):
        np.testing.assert_allclose(measure(spoken + np.float32(0.3)), measure(spoken), rtol=1e-3, atol=1e-2)


# Stories


def test_a_story_by_minutes() -> None:
    tokens = torch.tensor([0] * 1500 + [1] * 1500 + [2] * 1499)
    assert minutes_scored(Spoken(), tokens, lambda text: {"a" * 1500: 1.0, "b" * 1500: 0.25}[text]) == [1, 0.25]
    assert minutes_scored(Spoken(), tokens[:1499], len) == []


# By name


@pytest.fixture
def ssm(models: dict[str, nn.Module]) -> SpeechSSM:
    return SpeechSSM(models["tokenizer"], models["griffin"], Synthesizer(models["soundstorm"], models["codec"]))


def values(rows: list[figures.Figure]) -> dict[str, float]:
    assert len({row.name for row in rows}) == len(rows) and all(np.isfinite(row.value) for row in rows)
    return {row.name: row.value for row in rows}


def test_the_narrator_and_the_speaker_among_few(ssm: SpeechSSM, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(narrators, "NAMED", narrators.NAMED[:2])  # a woman and a man
    found = values(of_tokens.of_narrator(ssm, None, 6))
    assert found["narrator of training known from 10 s among 2, by chance"] == 1 / 2
    assert found["narrator of training known from 10 s among 2, from log-mel"] == 1


@pytest.mark.parametrize(("speak", "right"), [("as prompted", 1), ("as who read the tokens", 0), ("as one", 0.5)])
def test_the_prompted_speaker_is_told_from_others(speak: str, right: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of synthesizers that are perfect, that ignore the prompt, and that have but one voice."""
    woman, man = narrators.NAMED[:2]
    monkeypatch.setattr(narrators, "NAMED", [woman, man])
    story, read = narration.held_out_story, []

    def held_out_story(number: int, narrator: narrators.Narrator | None = None, sentences: int = 40) -> Utterance:
        read.append((number, narrator))
        other = man if number % 2 == 0 else woman  # reads the tokens, and is not who is prompted
        return story(number, narrator or other, min(sentences, 3))

    spoken = {
        "as prompted": lambda tokens, prompt, seed: prompt,
        "as who read the tokens": lambda tokens, prompt, seed: tokens,
        "as one": lambda tokens, prompt, seed: story(7, man, 3).samples(),
    }
    voice = SimpleNamespace(
        prompt=lambda waveform, tokens: waveform,
        speak=spoken[speak],
        through_codec=lambda waveform: waveform,
    )
    ssm = SimpleNamespace(tokenizer=SimpleNamespace(encode=lambda waveform: waveform), voice=voice)
    monkeypatch.setattr(narration, "held_out_story", held_out_story)
    rows = of_voice.of_speaker(ssm, None, 2)  # type: ignore[arg-type]
    found = values(rows)
    known = "known among 2 of training, about 10 s"
    assert found[f"prompted speaker of the output {known}"] == right
    assert all(row.n == 2 and row.low is not None for row in rows)
    assert found[f"speaker of natural speech {known}"] == 1
    assert found[f"speaker of natural speech through the codec {known}"] == 1
    numbers = [number for number, _ in read]
    assert numbers.count(3000) == 2 and len(set(numbers)) == len(numbers) - 8  # each text of enrolment by both, once


def test_the_voice_is_prompted_by_another_text(monkeypatch: pytest.MonkeyPatch) -> None:
    story = narration.held_out_story
    monkeypatch.setattr(narration, "held_out_story", lambda number, *_, **__: story(number, sentences=2))
    read = [story(number, sentences=2) for number in (0, 1, 1000, 1001)]
    texts = {len(utterance.samples()): utterance.text for utterance in read}
    assert len(texts) == 4
    voice = SimpleNamespace(prompt=lambda waveform, tokens: waveform, speak=lambda tokens, prompt, seed: prompt)
    tokenizer = SimpleNamespace(encode=lambda waveform: waveform, transcribe=lambda tokens: texts[len(tokens)])
    found = values(of_voice.of_voice(SimpleNamespace(tokenizer=tokenizer, voice=voice), None, 2))  # type: ignore[arg-type]
    assert found["the same before the voice"] == 0
    assert found["character error rate after tokens, voice and codec, prompt of another text"] > 0.3


def test_memory_is_compared_between_the_first_minute_and_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[int] = []

    def stream(*_, **__) -> Iterator[SimpleNamespace]:
        for seconds in range(30, 121, 30):
            told.append(seconds)
            yield SimpleNamespace(seconds=seconds)

    grown = SimpleNamespace(memory_info=lambda: SimpleNamespace(rss=1_000_000 * told[-1]))
    monkeypatch.setattr(of_voice.psutil, "Process", lambda: grown)
    rows = of_voice.of_memory(SimpleNamespace(stream=stream), None, 1, minutes=2)  # type: ignore[arg-type]
    assert {row.temperature for row in rows} == {0.5}
    found = values(rows)
    assert list(found.values()) == [60, 120] and "minute 2" in list(found)[1]


def test_phones_of_a_chapter(ssm: SpeechSSM, tmp_path: Path) -> None:
    assert of_tokens.of_phones(ssm, None, 1) == []
    for name, lines in ((HELD_OUT_CHAPTER, 2), ("12", 1), ("13", 0)):
        folder = tmp_path / "7" / name
        folder.mkdir(parents=True)
        (folder / f"7-{name}.trans.txt").write_text(f"7-{name}-0000 OH\n7-{name}-0001 OH\n")
        for number in range(2):
            audio.save(folder / f"7-{name}-000{number}.wav", changing(hiss()))
        if lines:
            rows = [
                f"7-{name}-000{n},phone,{a},{b},{p}\n" for n in range(lines) for a, b, p in ((0, 1, "OW1"), (1, 4, ""))
            ]
            (folder / "7.alignment.csv").write_text("".join(rows))
    found = values(of_tokens.of_phones(ssm, tmp_path, 100))
    groups = "unseen LibriSpeech chapter", "all aligned LibriSpeech chapters"
    assert len(found) == 8
    for group in groups:
        assert 0.75 <= found[f"phone purity, {group}"] <= 1  # three frames in four are silence
        assert found[f"PNMI of shuffled tokens, {group}"] < 0.2
    assert len(values(of_tokens.of_phones(ssm, tmp_path / "7" / "12", 1))) == 4


def test_making(ssm: SpeechSSM) -> None:
    found = values(of_tokens.of_making(ssm, None, 1))
    parts = [
        found[f"seconds of speech per second, {what} stories, one process"] for what in ("narrating", "tokenizing")
    ]
    both = found["seconds of speech per second, narrating and tokenizing stories, one process"]
    assert both == pytest.approx(1 / sum(1 / part for part in parts))


WORDS = ("", "and the", "and xx", "xx", "and the and xx")


def telling(waveform: np.ndarray, tokens: torch.Tensor, seams: list[float]) -> SpeechSSM:
    """A road that tells this story to any prompt, one token of it the prompt's."""
    story = Story(waveform, tokens, 1, seams)
    tokenizer = SimpleNamespace(encode=lambda _: tokens, transcribe=lambda part: WORDS[int(part[0])])
    return SimpleNamespace(generate=lambda *_, **__: story, tokenizer=tokenizer)  # type: ignore[return-value]


def test_seams_of_long_stories() -> None:
    fading = hiss(130) * np.float32(10) ** (-2 * (np.arange(130 * 16_000) // 960_000) / 20)  # 2 dB less a minute
    rows = of_voice.of_seams(telling(clicking(fading, 0), torch.zeros(3), SEAMS), None, 2, minutes=2)
    assert {row.temperature for row in rows} == {0.5}
    found = values(rows)
    assert found["loudness drift, minute 1 to 2, dB"] == pytest.approx(2, abs=0.1)
    assert found["spectral jump at seams against elsewhere, 2-minute stories"] > 1.5


def test_sentences_of_stories_that_parse() -> None:
    spoken = telling(hiss(1), torch.zeros(6001), [])
    spoken.tokenizer.transcribe = lambda _: (
        "good night finn once upon a time there was a brave panda named finn " + 8 * "xyz "
    )
    rows = of_language.of_stories(spoken, None, 2)
    found = values(rows)
    assert {(row.temperature, row.n) for row in rows} == {(0.5, 2), (1.0, 2)} and len(rows) % 2 == 0
    assert all((", at temperature 1" in row.name) == (row.temperature == 1) for row in rows)
    assert found["share of sentences that parse, 4-minute stories, from the tokens"] == pytest.approx(2 / 3)


def test_words_of_stories_by_minute() -> None:
    tokens = torch.arange(5).repeat_interleave(1500)[1499:]
    found = values(of_language.of_stories(telling(hiss(1), tokens, []), None, 1))
    name = "share of words that exist, 4-minute stories"
    assert [found[f"{name}, minute {n}"] for n in range(1, 5)] == [1, 0.5, 0, 0.75]
    assert found[f"{name}, from the tokens"] == found[f"{name}, heard again"] == 9 / 16
