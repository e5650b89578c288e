"""Human-like narrators read documents into a folder of the layout of `narrated_folder`, sentence by sentence."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from lab import audio
from lab.corpora import kokoro, narration, piper, splits, storyworld
from lab.corpora.kokoro import KokoroNarrator
from lab.corpora.piper import PiperNarrator
from lab.errors import LabError
from lab.files import made, replacing

FAMILIES: dict[str, Callable[[np.random.Generator], KokoroNarrator | PiperNarrator]] = {
    "kokoro": kokoro.random_narrator,
    "piper": piper.random_narrator,
}
FIRST = 1_000_000  # of the training stories that are narrated here
PAUSES = (0.24, 0.53)  # seconds between sentences: the 5 % and 95 % of Kokoro's own in long readings
SENTENCE_END = re.compile(r"(?<=[.?!;])\s+")


@dataclass(frozen=True)
class Job:
    """Document `number` of a folder: a training or held-out story of some sentences, or lines of another text."""

    folder: Path
    number: int
    family: str
    source: str
    sentences: tuple[str, ...]
    seed: int | None  # of the story world
    voice: str = ""  # of Kokoro; "" is one drawn

    @property
    def name(self) -> str:
        return f"{'text' if self.seed is None else 'story'}-{self.number:05d}"


def narrate(
    folder: Path,
    documents: int,
    family: str = "kokoro",
    sentences: int = 12,
    texts: Path | None = None,
    workers: int | None = None,
    held_out: bool = False,
    voice: str = "",
    development: bool = False,
) -> Iterator[Path]:
    """Make as many `documents` of so many sentences, each by a narrator of its own; yields their paths as they come.

    `texts` is a file of other texts, in place of stories; what it holds ends the folder. `held_out`: the first stories
    that figures are of (`splits.STORIES`), by the voices that they are of (`kokoro.FIGURES`) in turn; `development`:
    such as choices are made on, by others. `voice`: all by this one of Kokoro's, as the one voice of GSLM wants. A
    folder that was begun goes on. Raises LabError for another family, and as the narrators do.
    """
    if family not in FAMILIES:
        raise LabError(f"there are no narrators {family!r}; there are {', '.join(FAMILIES)}")
    if documents < 1 or sentences < 1:
        raise LabError(f"cannot narrate {documents} documents of {sentences} sentences; give 1 or more of both")
    told = splits.DEVELOPMENT[splits.WATCHED :] if development else splits.STORIES if held_out else None
    if told and (family != "kokoro" or texts is not None or documents > len(told)):
        raise LabError(f"of held-out stories there are {len(told)}, read by kokoro; leave texts out")
    if voice and (family != "kokoro" or told or voice not in kokoro.TRAINING):
        raise LabError(f"{voice!r} reads nothing to learn from; voices are kokoro's {', '.join(kokoro.TRAINING)}")
    there = {path.stem for path in folder.glob("*/*.json")}
    voices = (kokoro.DEVELOPMENT if development else kokoro.FIGURES) if told else (voice,)
    jobs = (
        replace(job, voice=voices[job.number % len(voices)])
        for job in _jobs(folder, documents, family, sentences, texts, told)
    )
    yield from narration.make(_document, [job for job in jobs if job.name not in there], workers)


def _jobs(
    folder: Path, documents: int, family: str, sentences: int, texts: Path | None, held_out: range | None
) -> Iterator[Job]:
    if texts is None:
        for number in range(documents):
            seed = narration.held_out_seed(held_out[number]) if held_out else narration.training_seed(FIRST + number)
            told = storyworld.story(seed, sentences).sentences
            yield Job(folder, number, family, "story world", told, seed)
        return
    try:
        lines = [line for line in SENTENCE_END.split(texts.read_text("utf-8")) if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise LabError(f"{texts} cannot be read as text: {error}") from error
    for number, start in enumerate(range(0, len(lines), sentences)[:documents]):
        yield Job(folder, number, family, texts.stem, tuple(lines[start : start + sentences]), None)


def _document(job: Job) -> Path:
    random = np.random.default_rng((job.number, job.seed or 0, len(job.sentences)))
    narrator = FAMILIES[job.family](random)
    narrator = KokoroNarrator(job.voice) if job.voice else narrator
    pieces: list[np.ndarray] = []
    times, at = [], 0.0
    for sentence in job.sentences:
        pause = np.zeros(round(random.uniform(*PAUSES) * audio.SAMPLE_RATE), np.float32)
        spoken = narrator.read(sentence)
        seconds = len(spoken) / audio.SAMPLE_RATE
        times.append([round(at, 3), round(at + seconds, 3), sentence])
        pieces += [spoken, pause]
        at += seconds + len(pause) / audio.SAMPLE_RATE
    home = job.folder / re.sub(r"[^a-z0-9_.]+", "-", narrator.name.lower())
    audio.save(made(home) / f"{job.name}.ogg", np.concatenate(pieces))
    told = {"voice": narrator.name, "speed": narrator.speed, "narrators": job.family, "source": job.source}
    with replacing(home / f"{job.name}.json") as part:  # last: a document without it is begun anew
        part.write_text(json.dumps({**told, "seed": job.seed, "sentences": times}))
    return home / f"{job.name}.ogg"
