"""`lab measure` of codec and voice, and of whole stories as sound: is it the speaker, are the words there, how fast?"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from torch import Tensor

from lab import audio
from lab.corpora import Utterance, narration, narrators, splits
from lab.measure import audio as audio_measures
from lab.measure import speaker as speaker_measures
from lab.measure import statistics
from lab.measure import tokens as token_measures
from lab.measure.figure import Figure, estimated, prompt, unseen_chapter
from lab.speech import TEMPERATURE, SpeechSSM

_DRAWN: dict[str, Any] = {"temperature": TEMPERATURE, "seed": 0}  # stories as `lab story` tells them


def of_codec(ssm: SpeechSSM, speech: Path | None, count: int) -> list[Figure]:
    codec, levels = ssm.voice.codec, ssm.voice.soundstorm.config.levels
    groups = {"held-out narrators": [narration.held_out_story(number, sentences=4) for number in range(count)]}
    if chapter := unseen_chapter(speech):
        groups["unseen LibriSpeech chapter"] = chapter[:count]
    rows = []
    for group, utterances in groups.items():
        for depth in sorted({codec.levels, levels}, reverse=True):
            scores = [audio_measures.of_codec(codec, [u.samples()], depth) for u in utterances]
            rows += [
                estimated("codec", f"{name}, {group}, {depth} levels", statistics.mean([each[name] for each in scores]))
                for name in scores[0]
            ]
    used = audio_measures.codes_used(codec, [u.samples() for utterances in groups.values() for u in utterances])
    rows.append(Figure("codec", f"share of codes used, all {len(used)} levels", float(np.mean(used))))
    return rows + [Figure("codec", f"share of codes used, level {n}", share) for n, share in enumerate(used, 1)]


def of_voice(ssm: SpeechSSM, speech: Path | None, count: int) -> list[Figure]:
    """Stories by held-out narrators, spoken from their tokens in the voice of a named narrator reading another text."""
    truth, heard, direct = [], [], []
    for number in range(count):
        utterance, tokens, spoken = _spoken(ssm, number, sentences=7)
        truth.append(utterance.text)
        direct.append(ssm.tokenizer.transcribe(tokens))
        heard.append(ssm.tokenizer.transcribe(ssm.tokenizer.encode(spoken)))
    name = "character error rate after tokens, voice and codec, prompt of another text"
    return [
        estimated("soundstorm", name, token_measures.character_errors(truth, heard)),
        estimated("soundstorm", "the same before the voice", token_measures.character_errors(truth, direct)),
    ]


def of_speaker(ssm: SpeechSSM, speech: Path | None, count: int) -> list[Figure]:
    """The share of outputs whose speaker is the prompted one: tokens of others spoken as in `of_voice`, each taken for
    one of the 24 named narrators, who are those of training.

    They are enrolled by 8 natural readings each, of about 10 s, of texts that are in no other part of this measure.
    """
    named = narrators.NAMED
    enrolled = [
        (narration.held_out_story(splits.ENROLLED[k], narrator, 4), narrator.name)
        for k in range(8)
        for narrator in named
    ]
    gallery = speaker_measures.enrol([u.samples() for u, _ in enrolled], [name for _, name in enrolled])
    asked = [named[number % len(named)] for number in range(count)]
    natural = [
        narration.held_out_story(splits.NATURAL[number], narrator, 4).samples() for number, narrator in enumerate(asked)
    ]
    spoken = [_spoken(ssm, number, sentences=4)[2] for number in range(count)]
    names = [narrator.name for narrator in asked]
    groups = {
        "prompted speaker of the output": spoken,
        "speaker of natural speech": natural,
        "speaker of natural speech through the codec": [ssm.voice.through_codec(waveform) for waveform in natural],
    }
    known = f"known among {len(named)} of training, about 10 s"
    return [
        estimated("soundstorm", f"{group} {known}", statistics.share(right, [1.0] * count))
        for group, waveforms in groups.items()
        for right in [speaker_measures.known(gallery, waveforms, names)]
    ]


def of_seams(ssm: SpeechSSM, speech: Path | None, count: int, minutes: int = 16) -> list[Figure]:
    """What length does to the sound of a story: loudness from the first minute to the last, and jumps at the seams."""
    drifts, at_seams, elsewhere = [], [], []
    for number in range(count):
        story = ssm.generate(prompt(number), 60.0 * minutes, seed=number)
        drifts.append(abs(audio_measures.drift(story.waveform[: 60 * minutes * audio.SAMPLE_RATE])))
        at, others = audio_measures.spectral_jumps(story.waveform, story.seams)
        at_seams.append(float(at.mean()))
        elsewhere.append(float(others.mean()))
    jump = statistics.estimate(lambda table: table[0].mean(-1) / table[1].mean(-1), at_seams, elsewhere)
    told = f"spectral jump at seams against elsewhere, {minutes}-minute stories"
    return [
        estimated("soundstorm", f"loudness drift, minute 1 to {minutes}, dB", statistics.mean(drifts), **_DRAWN),
        estimated("soundstorm", told, jump, **_DRAWN),
    ]


def of_speed(ssm: SpeechSSM, speech: Path | None, count: int) -> list[Figure]:
    """One 2-minute story as `lab story` tells it, after start-up (a first short one compiles and warms)."""
    ssm.generate(prompt(0), 1.0)
    began = time.perf_counter()
    story = ssm.generate(prompt(0), 120.0)
    took = time.perf_counter() - began
    return [
        Figure("griffin", "seconds of speech per second, 2-minute story", story.seconds / took, **_DRAWN),
        Figure(
            "griffin",
            "tokens per second, the language model alone",
            len(story.tokens) / story.timings["language"],
            **_DRAWN,
        ),
    ]


def of_memory(ssm: SpeechSSM, speech: Path | None, count: int, minutes: float = 20.0) -> list[Figure]:
    """Resident memory of this process while it tells a story, minute 1 against minute 20."""
    process, first, last = psutil.Process(), 0, 0
    for piece in ssm.stream(prompt(0), 60 * minutes, keep_tokens=True):
        last = process.memory_info().rss
        if piece.seconds < 75:
            first = last
    return [
        Figure("griffin", "resident memory at minute 1, MB", first / 1e6, **_DRAWN),
        Figure("griffin", f"resident memory at minute {minutes:.0f}, MB", last / 1e6, **_DRAWN),
    ]


def _spoken(ssm: SpeechSSM, number: int, sentences: int) -> tuple[Utterance, Tensor, np.ndarray]:
    """Held-out story `number` by a held-out narrator, its tokens, and their sound in the voice of a named narrator,
    each in turn, who reads another text."""
    named = narrators.NAMED[number % len(narrators.NAMED)]
    utterance = narration.held_out_story(number, sentences=sentences)
    speaker = narration.held_out_story(splits.SPEAKERS[number], named, sentences=2).samples()
    tokens = ssm.tokenizer.encode(utterance.samples())
    voice = ssm.voice.prompt(speaker, ssm.tokenizer.encode(speaker))
    return utterance, tokens, ssm.voice.speak(tokens, voice, seed=number)
