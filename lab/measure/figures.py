"""The figures of a bundle, by `lab measure`: held-out stories, held-out narrators, one unseen LibriSpeech chapter.

Defaults that a figure depends on are in the names of the rows and in the functions here.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

from lab import bundle
from lab.corpora import librispeech, narration, narrators, storyworld
from lab.errors import LabError
from lab.measure import audio as audio_measures
from lab.measure import tokens as token_measures
from lab.speech import SpeechSSM

HELD_OUT_CHAPTER = (
    "158079"  # of reader 4088, whose other chapter is in training; the one lossless chapter of our excerpt
)
PROMPT_SECONDS = 10.0  # the paper's long-form prompts


@dataclass(frozen=True)
class Figure:
    model: str  # whose card it belongs to
    name: str
    value: float


def of_tokens(ssm: SpeechSSM, speech: Path | None, count: int) -> list[Figure]:
    stories = [narration.held_out_story(number) for number in range(count)]
    pairs = [
        tuple(narration.held_out_story(number, narrators.HELD_OUT[(number + shift) % 6]) for shift in (0, 1))
        for number in range(count)
    ]
    figures = {"character error rate, held-out stories": token_measures.transcription(ssm.tokenizer, stories)}
    if chapter := _chapter(speech):
        figures["character error rate, unseen LibriSpeech chapter"] = token_measures.transcription(
            ssm.tokenizer, chapter
        )
    between = token_measures.between_narrators(ssm.tokenizer, pairs)  # type: ignore[arg-type]
    figures["unit edit distance, two held-out narrators"] = between["unit_edit_distance"]
    figures["unit edit distance, repeats collapsed"] = between["unit_edit_distance_collapsed"]
    figures["share of codes used"] = token_measures.codes_used(ssm.tokenizer, stories)
    return [Figure("tokenizer", name, value) for name, value in figures.items()]


def of_codec(ssm: SpeechSSM, speech: Path | None, count: int) -> list[Figure]:
    codec, levels = ssm.voice.codec, ssm.voice.soundstorm.config.levels
    groups = {"held-out narrators": [narration.held_out_story(number, sentences=4) for number in range(count)]}
    if chapter := _chapter(speech):
        groups["unseen LibriSpeech chapter"] = chapter[:count]
    rows = []
    for group, utterances in groups.items():
        for depth in sorted({codec.config.levels, levels}, reverse=True):
            scores = audio_measures.of_codec(codec, [u.samples() for u in utterances], depth)
            rows += [Figure("codec", f"{name}, {group}, {depth} levels", value) for name, value in scores.items()]
    return rows


def of_voice(ssm: SpeechSSM, speech: Path | None, count: int) -> list[Figure]:
    """Stories by held-out narrators, spoken from their tokens in the voice of a named narrator reading another text."""
    truth, heard, direct = [], [], []
    for number in range(count):
        utterance = narration.held_out_story(number, sentences=7)
        speaker = narration.held_out_story(1000 + number, narrators.NAMED[number % 24], sentences=2).samples()
        tokens = ssm.tokenizer.encode(utterance.samples())
        voice = ssm.voice.prompt(speaker, ssm.tokenizer.encode(speaker))
        spoken = ssm.voice.speak(tokens, voice, seed=number)
        truth.append(utterance.text)
        direct.append(ssm.tokenizer.transcribe(tokens))
        heard.append(ssm.tokenizer.transcribe(ssm.tokenizer.encode(spoken)))
    again = token_measures.character_error_rate(truth, heard)
    name = "character error rate after tokens, voice and codec, prompt of another text"
    return [
        Figure("soundstorm", name, again),
        Figure("soundstorm", "the same before the voice", token_measures.character_error_rate(truth, direct)),
    ]


def of_stories(ssm: SpeechSSM, speech: Path | None, count: int) -> list[Figure]:
    """Two-minute stories from 10 s of held-out stories: words that exist in the world, by the tokens and by ear."""
    shares: list[float] = []
    kept: list[float] = []
    for number in range(count):
        story = ssm.continue_(prompt(number), 120.0, seed=number)
        for tokens, found in (
            (story.tokens[story.prompt_tokens :], shares),
            (ssm.tokenizer.encode(story.waveform)[story.prompt_tokens :], kept),
        ):
            found.append(token_measures.words_that_exist(ssm.tokenizer.transcribe(tokens), storyworld.VOCABULARY))
    return [
        Figure("griffin", "share of words that exist, 2-minute stories, from the tokens", float(np.mean(shares))),
        Figure("griffin", "share of words that exist, 2-minute stories, heard again", float(np.mean(kept))),
    ]


def of_speed(ssm: SpeechSSM, speech: Path | None, count: int) -> list[Figure]:
    """One 2-minute story as `lab story` tells it, after start-up (a first short one compiles and warms)."""
    ssm.continue_(prompt(0), 1.0)
    began = time.perf_counter()
    story = ssm.continue_(prompt(0), 120.0)
    took = time.perf_counter() - began
    return [
        Figure("griffin", "seconds of speech per second, 2-minute story", story.seconds / took),
        Figure(
            "griffin",
            "tokens per second, the language model alone",
            len(story.tokens) / story.timings["language"],
        ),
    ]


def of_memory(ssm: SpeechSSM, speech: Path | None, count: int, minutes: float = 20.0) -> list[Figure]:
    """Resident memory of this process while it tells a story, minute 1 against minute 20."""
    process, first, last = psutil.Process(), 0, 0
    for piece in ssm.tell(prompt(0), 60 * minutes, keep_tokens=True):
        last = process.memory_info().rss
        if piece.seconds < 75:
            first = last
    return [
        Figure("griffin", "resident memory at minute 1, MB", first / 1e6),
        Figure("griffin", f"resident memory at minute {minutes:.0f}, MB", last / 1e6),
    ]


Measure = Callable[[SpeechSSM, Path | None, int], list[Figure]]
MEASURES: dict[str, tuple[Measure, int]] = {  # and how many held-out stories each takes by default
    "tokens": (of_tokens, 24),
    "codec": (of_codec, 24),
    "voice": (of_voice, 12),
    "stories": (of_stories, 6),
    "speed": (of_speed, 1),
    "memory": (of_memory, 1),
}


def measure(what: str, root: Path, speech: Path | None, count: int | None = None) -> list[Figure]:
    """The figures of the bundle at `root` that are called `what`, or all. Raises LabError for another name."""
    if what != "all" and what not in MEASURES:
        raise LabError(f"there is no measure {what!r}; there are {', '.join(MEASURES)} and all")
    if count is not None and count < 1:
        raise LabError(f"cannot measure {count} stories; give 1 or more")
    ssm = SpeechSSM.load(root)
    return [
        figure
        for name, (of, usual) in MEASURES.items()
        if what in (name, "all")
        for figure in of(ssm, speech, count or usual)
    ]


def record(root: Path, what: str, figures: list[Figure], machine: str) -> None:
    """Put figures into the models' cards in bundle.json, each with the command that prints it."""
    entries = bundle.index(root)
    for figure in figures:
        card = entries[figure.model]["card"].setdefault("figures", {})
        card[figure.name] = {
            "value": float(f"{figure.value:.4g}"),
            "command": f"lab measure {what}",
            "machine": machine,
        }
    bundle.write_index(root, entries)


def prompt(number: int) -> np.ndarray:
    """The first 10 s of held-out story `number` by a held-out narrator."""
    samples = narration.held_out_story(number).samples()
    return samples[: int(PROMPT_SECONDS * 16_000)]


def _chapter(speech: Path | None) -> list[narration.Utterance]:
    if speech is None:
        return []
    return [
        u
        for folder in librispeech.chapters(speech)
        if folder.name == HELD_OUT_CHAPTER
        for u in librispeech.read(folder)
    ]
