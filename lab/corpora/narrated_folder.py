"""Documents read aloud whose sentences have times: VOICE/name.ogg, and beside each a JSON that says what is read when.

The JSON: voice, speed, source (what was read), seed (of the story world, or null), sentences as [start, end, text] in
seconds, and narrators (whose voice it is: kokoro, piper; "people" if left out).
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lab.audio import SAMPLE_RATE
from lab.corpora import kokoro, splits
from lab.corpora.folder import below, shown
from lab.corpora.utterance import Recording, Utterance, normalize
from lab.errors import LabError

LONGEST = 11.0  # seconds of a passage of several sentences
_MARGIN = 0.12  # seconds around a passage: within the pauses between sentences


class TimedSentence(NamedTuple):
    start: float  # seconds
    end: float
    text: str


@dataclass(frozen=True)
class Document:
    path: Path  # of the audio
    voice: str
    speed: float
    source: str
    seed: int | None
    sentences: tuple[TimedSentence, ...]
    narrators: str = "people"

    @property
    def held_out(self) -> bool:
        """Whether it is a story that nothing learns from."""
        return self.seed is not None and self.seed % 2 == 1

    @property
    def number(self) -> int:
        """Of the held-out story that it is."""
        return (self.seed or 0) // 2

    def read(self) -> Utterance:
        """The document, levelled. Raises LabError as `Recording.read` does, and for audio that ends too early."""
        text = " ".join(sentence.text for sentence in self.sentences)
        utterance = Recording(shown(self.path.stem), (self.path,), text, self.voice, self.narrators).read()
        if utterance.seconds < self.sentences[-1].end - 0.1:
            end = self.sentences[-1].end
            raise LabError(
                f"{shown(self.path)} has {utterance.seconds:.1f} s, but its last sentence ends at {end:.1f} s"
            )
        return replace(utterance, story=-1 if self.seed is None else self.seed)

    def passages(self, random: np.random.Generator) -> list[Utterance]:
        """The document cut into passages of one to three sentences, of 11 s if they are several, in order."""
        whole, found, at = self.read(), [], 0
        while at < len(self.sentences):
            part = self.sentences[at : at + int(random.integers(1, 4))]
            while len(part) > 1 and part[-1].end - part[0].start > LONGEST:
                part = part[:-1]
            at += len(part)
            start, stop = max(0.0, part[0].start - _MARGIN), part[-1].end + _MARGIN
            waveform = whole.waveform[round(start * SAMPLE_RATE) : round(stop * SAMPLE_RATE)]
            text = normalize(" ".join(sentence.text for sentence in part))
            found.append(replace(whole, waveform=waveform, text=text))
        return found


@dataclass
class Narrated:
    documents: list[Document]
    skipped: list[str] = field(default_factory=list)  # each file that cannot serve, and why


def find() -> Path | None:
    """The folder named by LAB_NARRATION, if it is set and there."""
    root = os.environ.get("LAB_NARRATION")
    return Path(root) if root and Path(root).is_dir() else None


def narrated(root: Path | None = None) -> Narrated:
    """Every document below `root`, else below the folder that LAB_NARRATION names, by path.

    Raises LabError when there is no such folder or no document in it.
    """
    given = root or os.environ.get("LAB_NARRATION")
    if not given or not Path(given).is_dir():
        raise LabError(
            f"there is no folder {given or 'given'}; name one of narrated documents, or set LAB_NARRATION to it"
        )
    found = Narrated([])
    files = set(below(Path(given), found.skipped))
    for path in sorted(file for file in files if file.suffix.lower() == ".ogg"):
        beside = path.with_suffix(".json")
        try:
            found.documents.append(_document(path, beside))
        except FileNotFoundError:
            found.skipped.append(f"{shown(path)} has no {shown(beside.name)} beside it")
        except (OSError, ValueError, TypeError, LookupError, RecursionError) as error:
            found.skipped.append(f"{shown(beside)} is no list of timed sentences: {error}")
    audible = {document.path.with_suffix(".json") for document in found.documents}
    for path in sorted(
        file for file in files - audible if file.suffix == ".json" and file.with_suffix(".ogg") not in files
    ):
        found.skipped.append(f"{shown(path)} has no audio beside it")
    if not found.documents:
        raise LabError(
            f"there is no narrated document in {shown(given)}; each is a name.ogg with a name.json beside it"
        )
    return found


def held_out(root: Path | None = None, numbers: range | None = None) -> Narrated:
    """The held-out stories of `narrated`, by name; of those `numbers`, if given, that are not read by a voice of which
    nothing may be known there. Raises LabError for none."""
    found = narrated(root)
    chosen = numbers is not None and numbers[0] in splits.DEVELOPMENT
    told = [each for each in found.documents if each.held_out and (numbers is None or each.number in numbers)]
    reserved = () if numbers is None else kokoro.FIGURES if chosen else kokoro.DEVELOPMENT
    found.documents = sorted((each for each in told if each.voice not in reserved), key=lambda each: each.path.stem)
    why = "which figures are measured on" if chosen else "which choices are made on"
    others = [each for each in told if each.voice in reserved]
    found.skipped += [f"{shown(each.path.stem)}: read by {each.voice}, {why}" for each in others]
    if not found.documents:
        what, how = (" for choices", "development") if chosen else ("", "held-out")
        raise LabError(f"{shown(root or '')} has no held-out story{what}; make some by `lab narrate FOLDER --{how}`")
    return found


def _document(path: Path, beside: Path) -> Document:
    data = json.loads(beside.read_bytes())
    sentences = tuple(TimedSentence(float(start), float(end), str(text)) for start, end, text in data["sentences"])
    times = [0.0, *(time for sentence in sentences for time in sentence[:2])]
    if not sentences or not all(
        before <= after < float("inf") for before, after in zip(times, times[1:], strict=False)
    ):
        raise ValueError("its times do not rise")
    seed = data.get("seed")
    narrators = str(data.get("narrators", "people"))
    source, seed = str(data["source"]), seed and int(seed)
    return Document(path, str(data["voice"]), float(data["speed"]), source, seed, sentences, narrators)
