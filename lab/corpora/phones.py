"""The phones of read speech, from forced alignments: `*.alignment.csv` beside a chapter of LibriSpeech.

Its rows: utterance, tier, start and end in seconds, label; those of tier "phone" are read. LibriSpeech itself has no
such files: aligners make them (Lugosch et al. 2019 for all of it, by the Montreal Forced Aligner).
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lab.corpora import folder
from lab.corpora.utterance import Utterance
from lab.errors import LabError

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

    Silences (an empty label, sil, sp) are SILENCE. Raises LabError for a row that is none.
    """
    intervals: dict[str, list[Phone]] = {}
    for path in chapter.glob("*.alignment.csv"):
        with path.open(newline="") as file:
            for number, row in enumerate(csv.reader(file), 1):
                try:
                    name, tier, start, stop, label = row
                    if tier == "phone":
                        intervals.setdefault(name, []).append(Phone(_plain(label), float(start), float(stop)))
                except ValueError:
                    raise LabError(
                        f"{path}, line {number}: {','.join(row)!r} is not utterance,tier,start,end,label; mend it"
                    ) from None
    if intervals:
        for recording in folder.corpus(chapter, source="librispeech").recordings:
            if recording.name in intervals:
                yield recording.read(), intervals[recording.name]


def _plain(label: str) -> str:
    return SILENCE if label in ("", "sil", "sp") else label.upper().rstrip("012")


def labels(phones: Sequence[Phone], frames: int, rate: float) -> list[str]:
    """What is said in the middle of each of `frames` frames, `rate` a second; outside of every phone SILENCE."""
    middles = (np.arange(frames) + 0.5) / rate
    following = np.searchsorted([phone.stop for phone in phones], middles, side="right")
    return [
        phones[index].label if index < len(phones) and phones[index].start <= middle else SILENCE
        for index, middle in zip(following, middles, strict=True)
    ]
