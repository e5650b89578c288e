"""Any folder of audio files as a corpus; texts are optional.

A text stands in `name.txt` beside `name.wav`, in a `*.trans.txt` (LibriSpeech) or in a `metadata.csv` (LJSpeech).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from lab.corpora.utterance import Recording, Utterance
from lab.errors import LabError

READABLE = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au", ".caf", ".rf64", ".sph", ".w64")
FOREIGN = (".aac", ".m4a", ".wma", ".webm")  # audio that soundfile cannot read: named rather than passed over


@dataclass
class Corpus:
    """Recordings, read one by one as they are asked for; `skipped` names each file that cannot serve, and why.

    What the audio itself is like is known when it is read, so `skipped` is complete after a pass over the corpus.
    """

    recordings: list[Recording]
    skipped: list[str] = field(default_factory=list)

    def __iter__(self) -> Iterator[Utterance]:
        for recording in self.recordings:
            try:
                yield recording.read()
            except LabError as error:
                self.skipped.append(reason(error))


def reason(error: LabError) -> str:
    """What was wrong, without the advice: in a corpus of thousands nobody mends one file."""
    return str(error).rpartition("; ")[0] or str(error)


def corpus(root: Path, *, source: str = "recorded", texts: bool = False) -> Corpus:
    """Every audio file below `root`, by path; hidden ones are left out. `texts`: skip those without a text.

    The narrator is the name of the folder that a file is in, or of the folder above it where files are named after
    their folder: LibriSpeech is reader/chapter/reader-chapter-0000.flac, LibriSpeech-Long reader/chapter/chapter_0000.
    Raises LabError when there is no such folder or no audio in it.
    """
    root = Path(root)
    if not root.is_dir():
        raise LabError(f"there is no folder {root}; give one with audio files in it")
    files = sorted(path for path in root.rglob("*") if path.suffix.lower() in READABLE + FOREIGN and path.is_file())
    files = [path for path in files if not any(part.startswith(".") for part in path.relative_to(root).parts)]
    if not files:
        raise LabError(f"there is no audio file below {root}; give a folder with some ({', '.join(READABLE)})")
    listed = cache(lambda folder: _metadata(folder.parent) | _metadata(folder) | transcripts(folder))
    found = Corpus([])
    for path in files:
        text = " ".join(_read(path.with_suffix(".txt")).lower().split()) or listed(path.parent).get(path.stem, "")
        if texts and not text:
            found.skipped.append(f"{path} has no text")
        else:
            found.recordings.append(Recording(path.stem, (path,), text, _narrator(path), source))
    heard = {(path.parent, path.stem) for path in files}
    for chapter in sorted({path.parent for path in root.rglob("*.trans.txt")}):
        missing = [name for name in transcripts(chapter) if (chapter, name) not in heard]
        found.skipped += [f"{chapter} has a text for {name} and no audio file of that name" for name in missing]
    return found


def transcripts(chapter: Path) -> dict[str, str]:
    """Name -> text, as LibriSpeech lists them."""
    lines = [line for path in sorted(chapter.glob("*.trans.txt")) for line in _read(path).splitlines()]
    return {line.split()[0]: " ".join(line.split()[1:]).lower() for line in lines if line.strip()}


def _metadata(folder: Path) -> dict[str, str]:
    """Name -> text, as LJSpeech lists them beside its folder of audio: name|text|text with numbers spelled out."""
    rows = [line.split("|") for line in _read(folder / "metadata.csv").splitlines()]
    return {row[0]: row[-1].strip().lower() for row in rows if len(row) > 1}


def _read(path: Path) -> str:
    """What is in a file of text, if it is there and can be read."""
    with suppress(OSError):
        return path.read_text(errors="replace")
    return ""


def _narrator(path: Path) -> str:
    folder = path.parent
    return (folder.parent if re.fullmatch(rf"(.*-)?{re.escape(folder.name)}[-_]\d+", path.stem) else folder).name
