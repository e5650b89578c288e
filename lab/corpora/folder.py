"""Any folder of audio files as a corpus; texts are optional.

A text stands in `name.txt` beside `name.wav`, in a `*.trans.txt` (LibriSpeech) or in a `metadata.csv` or `.tsv`: name,
then the text, divided by | (LJSpeech), tabs or commas; with two texts the last one, where numbers are spelled out.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path, PurePath

from lab.corpora.storage import served
from lab.corpora.utterance import Recording, Utterance
from lab.errors import LabError

READABLE = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au", ".caf", ".rf64", ".sph", ".w64")
BY_FFMPEG = (".aac", ".m4a", ".mp4", ".wma", ".webm", ".mka", ".amr")
METADATA = ("metadata.csv", "metadata.tsv", "metadata.txt")


@dataclass
class Corpus:
    """Recordings, read one by one as they are asked for; `skipped` names each file that cannot serve, and why.

    What the audio itself is like is known when it is read, so `skipped` is complete after a pass over the corpus. One
    that cannot be reached is tried again, and raises Unreachable if that does not help.
    """

    recordings: list[Recording]
    skipped: list[str] = field(default_factory=list)

    def __iter__(self) -> Iterator[Utterance]:
        for recording in self.recordings:
            if utterance := served(recording.read, self.skipped):
                yield utterance


def corpus(root: Path, *, source: str = "recorded", texts: bool = False) -> Corpus:
    """Every audio file below `root`, by path, linked folders included; hidden ones are left out.

    `texts`: skip those without a text. The narrator is the name of the folder that a file is in, or of the folder above
    it where files are named after their folder: LibriSpeech is reader/chapter/reader-chapter-0000.flac,
    LibriSpeech-Long reader/chapter/chapter_0000. Raises LabError when there is no such folder or no audio in it.
    """
    root = Path(root)
    if not root.is_dir():
        raise LabError(f"there is no folder {shown(root)}; give one with audio files in it")
    found = Corpus([])
    files = sorted(path for path in below(root, found.skipped) if path.suffix.lower() in READABLE + BY_FFMPEG)
    if not files:
        left_out = f" (left out: {found.skipped[0]})" if found.skipped else ""
        raise LabError(f"there is no audio file below {shown(root)}{left_out}; give a folder with some, such as WAV")
    listed = cache(lambda folder: _metadata(folder.parent) | _metadata(folder) | transcripts(folder))
    for path in files:
        text = " ".join(_read(path.with_suffix(".txt")).lower().split()) or listed(path.parent).get(path.stem, "")
        if texts and not text:
            found.skipped.append(f"{shown(path)} has no text")
        else:
            found.recordings.append(Recording(shown(path.stem), (path,), text, shown(narrator(path)), source))
    there = {(path.parent, path.stem) for path in files}
    for chapter in sorted({path.parent for path in files}):
        missing = [name for name in transcripts(chapter) if (chapter, name) not in there]
        found.skipped += [f"{shown(chapter)} has a text for {name} and no audio file of that name" for name in missing]
    return found


def below(root: Path, skipped: list[str]) -> Iterator[Path]:
    """Files below a folder, through links to folders, each folder once; into `skipped` goes what cannot be read."""
    seen: set[tuple[int, int]] = set()

    def unreadable(error: OSError) -> None:
        skipped.append(f"{shown(error.filename)} cannot be read: {error.strerror}")

    for folder, folders, names in os.walk(root, onerror=unreadable, followlinks=True):
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in seen:  # a link to a folder that was or is being gone through
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(folder, name)
            if name.startswith("."):
                continue
            if path.is_file():
                yield path
            elif path.is_symlink():
                skipped.append(f"{shown(path)} is a link to a file that is not there")


def transcripts(chapter: Path) -> dict[str, str]:
    """Name -> text, as LibriSpeech lists them."""
    return transcribed("\n".join(map(_read, sorted(chapter.glob("*.trans.txt")))))


def transcribed(lines: str) -> dict[str, str]:
    """Name -> text, of a `.trans.txt`."""
    return {line.split()[0]: " ".join(line.split()[1:]).lower() for line in lines.splitlines() if line.strip()}


def _metadata(folder: Path) -> dict[str, str]:
    """Name -> text, as LJSpeech and others list them beside or in a folder of audio."""
    found: dict[str, str] = {}
    for name in METADATA:
        lines = _read(folder / name).splitlines()
        divider = max("|\t,", key=lambda mark: sum(mark in line for line in lines))
        rows = csv.reader(lines, delimiter=divider) if divider != "|" else (line.split("|") for line in lines)
        for row in rows:
            if len(row) > 1 and (text := next((cell for cell in reversed(row[1:]) if cell.strip()), "")):
                found.setdefault(_name(row[0]), " ".join(text.lower().split()))
    return found


def _name(cell: str) -> str:
    """The name of a file as metadata give it: with or without its folder and its ending."""
    name = cell.strip().replace("\\", "/").rpartition("/")[2]
    stem, dot, ending = name.rpartition(".")
    return stem if dot and f".{ending.lower()}" in READABLE + BY_FFMPEG else name


def _read(path: Path) -> str:
    """A file of text, if it is there: UTF-8 or UTF-16 by its mark, else UTF-8, else Latin-1, which takes any byte."""
    with suppress(OSError, ValueError):
        data = path.read_bytes()
        if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
            return data.decode("utf-16", errors="replace")
        try:
            return data.decode("utf-8-sig")
        except UnicodeDecodeError:
            return data.decode("latin-1")
    return ""


def shown(name: str | Path) -> str:
    """A name that can be printed and stored: bytes that are no text, as old disks have them, as \\x.."""
    return os.fsencode(name).decode("utf-8", errors="backslashreplace")


def narrator(path: PurePath) -> str:
    """The name of the folder that a file is in, or of the folder above where files are named after theirs."""
    folder = path.parent
    return (folder.parent if re.fullmatch(rf"(.*-)?{re.escape(folder.name)}[-_]\d+", path.stem) else folder).name
