"""Folders in the layout of LibriSpeech (Panayotov et al. 2015): reader/chapter/reader-chapter-number.{flac,ogg}.

Each chapter folder holds one `*.trans.txt` with a line per utterance.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from lab import audio
from lab.corpora.utterance import Utterance, int16
from lab.errors import LabError

_AUDIO = (".flac", ".ogg", ".wav")


def find() -> Path | None:
    """The folder named by LAB_LIBRISPEECH, if it is set and there."""
    folder = os.environ.get("LAB_LIBRISPEECH")
    return Path(folder) if folder and Path(folder).is_dir() else None


def chapters(root: Path) -> list[Path]:
    """Chapter folders below `root`, sorted. Raises LabError when there is none."""
    found = sorted({path.parent for path in Path(root).rglob("*.trans.txt")})
    if not found:
        raise LabError(f"no LibriSpeech chapter (a folder with a *.trans.txt) below {root}")
    return found


def read(chapter: Path) -> list[Utterance]:
    """Utterances of one chapter in reading order, levelled as narrators are."""
    utterances = []
    for line in next(chapter.glob("*.trans.txt")).read_text().splitlines():
        if not line.strip():
            continue
        name, _, text = line.partition(" ")
        path = next((chapter / f"{name}{kind}" for kind in _AUDIO if (chapter / f"{name}{kind}").exists()), None)
        if path is None:
            raise LabError(f"{chapter} has a text for {name} and no audio file of that name")
        waveform = audio.set_level(audio.load(path))
        utterances.append(Utterance(int16(waveform), text.lower(), chapter.parent.name, "librispeech"))
    return utterances


def read_all(root: Path, held_out: tuple[str, ...] = ()) -> list[Utterance]:
    """Every utterance below `root` but those of the chapters named in `held_out` (folder names)."""
    return [u for chapter in chapters(root) if chapter.name not in held_out for u in read(chapter)]


def passage(utterances: list[Utterance], seconds: float) -> np.ndarray:
    """Utterances joined in reading order into one waveform (N,) float32, of at least `seconds` if there is so much."""
    parts = [np.zeros(0, np.float32)]
    for utterance in utterances:
        if sum(map(len, parts)) >= seconds * audio.SAMPLE_RATE:
            break
        parts.append(utterance.samples())
    return np.concatenate(parts)
