"""The phones of read speech, from forced alignments (`lab.corpora.alignments`), and what is said in each frame."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lab.corpora import folder
from lab.corpora.alignments import SILENT, intervals
from lab.corpora.utterance import Utterance

SILENCE = "SIL"
UNKNOWN = "SPN"  # what aligners call speech that their dictionary has no phones for


@dataclass(frozen=True)
class Phone:
    """What is said from `start` to `stop`, in seconds: ARPAbet without marks of stress, SILENCE or UNKNOWN."""

    label: str
    start: float
    stop: float


def aligned(chapter: Path) -> Iterator[tuple[Utterance, list[Phone]]]:
    """Utterances of one chapter and their phones; none where there is no alignment.

    Silences (an empty label, sil, sp) are SILENCE. Raises LabError as `intervals`.
    """
    if there := intervals(chapter, "phone"):
        for recording in folder.corpus(chapter, source="librispeech").recordings:
            if found := there.get(recording.name):
                yield recording.read(), [Phone(_plain(label), start, stop) for start, stop, label in found]


def _plain(label: str) -> str:
    return SILENCE if label in SILENT else label.upper().rstrip("012")


def labels(phones: Sequence[Phone], frames: int, rate: float) -> list[str]:
    """What is said in the middle of each of `frames` frames, `rate` a second; outside of every phone SILENCE."""
    middles = (np.arange(frames) + 0.5) / rate
    following = np.searchsorted([phone.stop for phone in phones], middles, side="right")
    return [
        phones[index].label if index < len(phones) and phones[index].start <= middle else SILENCE
        for index, middle in zip(following, middles, strict=True)
    ]
