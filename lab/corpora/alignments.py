"""When each word of read speech is said: `*.alignment.csv` beside a chapter of LibriSpeech, made by a forced aligner.

Its rows: utterance, tier ("word" or "phone"), start and end in seconds, label. LibriSpeech itself has no such files:
aligners make them (Lugosch et al. 2019 for all of it, by the Montreal Forced Aligner).
"""

from __future__ import annotations

import csv
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from lab import audio
from lab.audio import SAMPLE_RATE
from lab.corpora import librispeech, librispeech_long
from lab.corpora.utterance import Recording, Utterance, levelled, normalize
from lab.errors import LabError

SILENT = ("", "sil", "sp", "<eps>")  # labels of what is no speech


class Interval(NamedTuple):
    start: float  # seconds
    end: float
    label: str


def intervals(chapter: Path, tier: str) -> dict[str, list[Interval]]:
    """Utterance -> what an aligner found in it, of a tier; nothing where there is no alignment.

    Raises LabError for a row that is none.
    """
    found: dict[str, list[Interval]] = {}
    for path in sorted(chapter.glob("*.alignment.csv")):
        with path.open(newline="") as file:
            for number, row in enumerate(csv.reader(file), 1):
                try:
                    name, of, start, end, label = row
                    if of == tier:
                        found.setdefault(name, []).append(Interval(float(start), float(end), label))
                except ValueError:
                    raise LabError(
                        f"{path}, line {number}: {','.join(row)!r} is not utterance,tier,start,end,label; mend it"
                    ) from None
    return found


@dataclass(frozen=True)
class Reading:
    """Utterances that follow each other, up to 4 minutes, and the words of each."""

    parts: tuple[tuple[Recording, tuple[Interval, ...]], ...]

    def read(self) -> tuple[Utterance, list[Interval]]:
        """All joined, as `Recording.read` does, and its words, in seconds from its beginning.

        Raises LabError as that does, and for audio that ends before its last word.
        """
        first, *_ = (recording for recording, _ in self.parts)
        waveforms, words, seconds = [], list[Interval](), 0.0
        for recording, said in self.parts:
            (path,) = recording.paths
            waveforms.append((str(path), audio.load(path)))
            words += [Interval(seconds + start, seconds + end, word) for start, end, word in said]
            seconds += len(waveforms[-1][1]) / SAMPLE_RATE
            if words[-1].end > seconds + 0.1:
                raise LabError(f"{path} ends {words[-1].end - seconds:.1f} s before its last word; align it again")
        text = " ".join(word.label for word in words)
        return Utterance(levelled(waveforms), text, first.narrator, first.source), words


class Aligned(NamedTuple):
    readings: list[Reading]
    without: int  # utterances whose words have no times
    skipped: list[str]  # what cannot serve, and why


def readings(root: Path, held_out: Collection[str] = ()) -> Aligned:
    """What is read below `root`, in the layout of LibriSpeech, where it is known when each word is said, but the
    chapters named in `held_out` (folder names). Raises LabError as `librispeech.chapters` and `intervals`.
    """
    found = Aligned([], 0, [])
    for chapter in librispeech.chapters(root):
        if chapter.name in held_out:
            continue
        there, utterances = intervals(chapter, "word"), librispeech.utterances(chapter)
        timed = {each.name: _words(there.get(each.name, ()), each.text) for each in utterances.recordings}
        aligned = [each for each in utterances.recordings if timed[each.name]]
        found.skipped.extend(utterances.skipped)
        found.readings.extend(
            Reading(tuple((each, timed[each.name]) for each in run))
            for run in librispeech_long.runs(aligned, librispeech_long.SECONDS, found.skipped)
        )
        found = found._replace(without=found.without + len(timed) - len(aligned))
    return found


def _words(said: Sequence[Interval], text: str) -> tuple[Interval, ...]:
    """The words of a text with their times, as an aligner calls one unknown that its dictionary has not; none where
    these are not as many."""
    there = [each for each in said if each.label not in SILENT]
    told = text.split()
    if len(there) != len(told):
        return ()
    return tuple(each._replace(label=normalize(word)) for each, word in zip(there, told, strict=True))
