"""Folders in the layout of LibriSpeech (Panayotov et al. 2015): reader/chapter/reader-chapter-number.{flac,ogg}.

Each chapter folder holds one `*.trans.txt` with a line per utterance.
"""

from __future__ import annotations

import os
from pathlib import Path

from lab.corpora import folder
from lab.corpora.folder import Corpus
from lab.corpora.storage import reason
from lab.corpora.utterance import Utterance
from lab.errors import LabError

# Figures are measured on it, and nothing learns from it: reader 4088, whose other chapter is in our excerpt too.
HELD_OUT_CHAPTER = "158079"


def find() -> Path | None:
    """The folder named by LAB_LIBRISPEECH, if it is set and there."""
    root = os.environ.get("LAB_LIBRISPEECH")
    return Path(root) if root and Path(root).is_dir() else None


def chapters(root: Path) -> list[Path]:
    """Chapter folders below `root`, sorted. Raises LabError when there is none."""
    found = sorted({path.parent for path in Path(root).rglob("*.trans.txt")})
    if not found:
        raise LabError(f"no LibriSpeech chapter (a folder with a *.trans.txt) below {root}")
    return found


def utterances(chapter: Path) -> Corpus:
    """Those of one chapter that have audio and a text, in reading order."""
    try:
        return folder.corpus(chapter, source="librispeech", texts=True)
    except LabError as error:  # no audio at all
        return Corpus([], [reason(error)])


def read(chapter: Path) -> list[Utterance]:
    """Utterances of one chapter in reading order, levelled as narrators are.

    Raises LabError for any that cannot be read: a figure over a part of a chapter would be another figure.
    """
    found = utterances(chapter)
    if found.skipped:
        raise LabError(f"{found.skipped[0]}; restore the chapter")
    return [recording.read() for recording in found.recordings]


def corpus(root: Path, held_out: tuple[str, ...] = ()) -> Corpus:
    """Every utterance with a text below `root` but those of the chapters named in `held_out` (folder names)."""
    parts = [utterances(chapter) for chapter in chapters(root) if chapter.name not in held_out]
    return Corpus([u for part in parts for u in part.recordings], [line for part in parts for line in part.skipped])
