"""A piece of speech with its text, and where it comes from: in memory, or still in files."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lab import audio
from lab.corpora.storage import reached

SHORTEST = 0.2  # seconds; a file of less says nothing


@dataclass(frozen=True)
class Utterance:
    """Waveform (N,) int16 at 16 kHz (half the memory of float32: corpora of hours are held whole), text as spelled."""

    waveform: np.ndarray
    text: str
    narrator: str
    source: str  # "narrated" (by espeak-ng), "kokoro", "piper", "librispeech", "recorded", ...
    story: int = -1  # seed, where there is one
    split: str = "train"
    recording: str = ""  # the file or address that it is, or is a piece of

    @property
    def seconds(self) -> float:
        return len(self.waveform) / 16_000

    def samples(self) -> np.ndarray:
        """Waveform (N,) float32 in [-1, 1]."""
        return self.waveform.astype(np.float32) / 32768


@dataclass(frozen=True)
class Recording:
    """An utterance whose audio is still in its files, one or several that follow each other."""

    name: str
    paths: tuple[Path, ...]
    text: str
    narrator: str
    source: str

    def read(self) -> Utterance:
        """The files joined and levelled as narrators are.

        Raises LabError for a file that cannot be read, is empty, silent, clipped, not finite or shorter than 0.2 s;
        Unreachable where that may pass.
        """
        waveform = levelled((str(path), _loaded(path)) for path in self.paths)
        return Utterance(waveform, self.text, self.narrator, self.source)


def _loaded(path: Path) -> audio.Waveform:
    with reached(str(path)):
        return audio.load(path)


def normalize(text: str) -> str:
    """Text as the tokenizer spells it: lower case, letters and apostrophes, single spaces."""
    return " ".join(re.sub(r"[^a-z' ]+", " ", text.lower()).split())


def levelled(parts: Iterable[tuple[str, audio.Waveform]], **limits: float) -> np.ndarray:
    """Named waveforms (N,) -> one (N,) int16, at the level of narrators.

    Raises LabError for one that is empty, silent, clipped, not finite or shorter than 0.2 s. limits: `silence` and
    `clipped` of `audio.check_prompt`.
    """
    checked = [(waveform, audio.check_prompt(waveform, SHORTEST, name=name, **limits)) for name, waveform in parts]
    if len(checked) == 1:
        return int16(audio.scaled(checked[0][1]))  # its constant part is gone already
    return int16(audio.set_level(np.concatenate([waveform for waveform, _ in checked])))


def digest_of(text: str) -> str:
    """12 hexadecimal digits."""
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:12]


def int16(waveform: np.ndarray) -> np.ndarray:
    """Waveform (N,) float32 -> int16, limited rather than wrapped."""
    return (np.clip(waveform, -1, 1) * 32767).astype(np.int16)
