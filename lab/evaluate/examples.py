"""What is scored: a prompt, how a system went on from it, and how it really goes on.

A folder holds `prompts/NAME.wav`, `continuations/NAME.wav` (without the prompt), and where there are any
`references/NAME.wav`, `texts/NAME.txt` (of prompt and reference) and `seeds/NAME.txt`. A manifest has a line of JSON a
sample: {"prompt": FILE, "continuation": FILE, "reference": FILE, "text": "...", "seed": 0, "name": "..."}, of which the
first two are needed; files are relative to it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lab import audio
from lab.audio import SAMPLE_RATE, Waveform
from lab.console import console
from lab.corpora import storyworld
from lab.corpora.folder import BY_FFMPEG, READABLE, shown
from lab.errors import LabError
from lab.files import made, replacing

SHORTEST = 1.0  # seconds of a prompt, a continuation or a reference
_FRAME = SAMPLE_RATE // 100
_FOLDERS = {"prompt": "prompts", "continuation": "continuations", "reference": "references"}
_NOTES = {"text": "texts", "seed": "seeds"}


class Sound(NamedTuple):
    """Waveforms (N,); continuation and reference begin where the prompt ends."""

    prompt: Waveform
    continuation: Waveform | None = None
    reference: Waveform | None = None


@dataclass(frozen=True)
class Example:
    """One prompt and what belongs to it. `sound` reads it, or raises LabError for audio that cannot be scored."""

    name: str
    sound: Callable[[], Sound]
    seed: int = 0
    text: str = ""  # of prompt and reference, where it is known
    cast: storyworld.Cast | None = None  # of a story of the story world


@dataclass
class Examples:
    """Of one set; `skipped` names what cannot serve, and why."""

    name: str
    examples: list[Example]
    skipped: list[str] = field(default_factory=list)

    def __iter__(self) -> Iterator[Example]:
        return iter(self.examples)

    def __len__(self) -> int:
        return len(self.examples)


def read(source: Path) -> Examples:
    """A folder or a manifest. Raises LabError for neither, and where no sample is left."""
    if source.is_dir():
        found = _folder(source)
    elif source.is_file():
        found = _manifest(source)
    else:
        raise LabError(f"there is no {shown(source)}; give a folder with prompts/ and continuations/, or a manifest")
    if not found.examples:
        why = f" (left out: {found.skipped[0]})" if found.skipped else ""
        raise LabError(f"{shown(source)} holds no prompt with its continuation{why}; see `lab evaluate --help`")
    return found


def _folder(root: Path) -> Examples:
    files = {part: _audio_files(root / folder) for part, folder in _FOLDERS.items()}
    found = Examples(shown(root.resolve().name), [])
    for name in sorted({*files["prompt"], *files["continuation"], *files["reference"]}):
        there = {part: paths[name] for part, paths in files.items() if name in paths}
        notes = {key: _note(root / folder / f"{name}.txt") for key, folder in _NOTES.items()}
        _add(found, name, name, {**there, **{key: note for key, note in notes.items() if note}})
    return found


def _audio_files(folder: Path) -> dict[str, Path]:
    paths = sorted(folder.iterdir()) if folder.is_dir() else []
    return {shown(path.stem): path for path in paths if path.suffix.lower() in READABLE + BY_FFMPEG}


def _note(path: Path) -> str:
    return path.read_text(errors="replace").strip() if path.is_file() else ""


def _manifest(path: Path) -> Examples:
    found = Examples(shown(path.stem), [])
    for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
        if not line.strip():
            continue
        where = f"{shown(path.name)} line {number}"
        try:
            told = json.loads(line)
        except ValueError as error:
            found.skipped.append(f"{where} is no JSON ({error})")
            continue
        if not isinstance(told, dict) or not all(isinstance(told.get(part, ""), str) for part in _FOLDERS):
            found.skipped.append(f"{where} is no object with names of files")
            continue
        there = {part: path.parent / told[part] for part in _FOLDERS if told.get(part)}
        name = str(told.get("name") or Path(told.get("continuation", where)).stem)
        _add(found, name, where, {**there, **{key: told[key] for key in _NOTES if key in told}})
    return found


def _add(found: Examples, name: str, where: str, told: Mapping[str, Any]) -> None:
    """To the examples, or to those left out: without a partner, with a name that is taken, with an odd seed."""
    seed = told.get("seed", 0)
    if lacking := [part for part in ("prompt", "continuation") if part not in told]:
        found.skipped.append(f"{where} has no {lacking[0]}")
    elif Path(name).name != name:
        found.skipped.append(f"{where} has a name with a folder, {name}")
    elif name in {example.name for example in found}:
        found.skipped.append(f"{where} has the name of another sample, {name}")
    elif not str(seed).lstrip("-").isdecimal():
        found.skipped.append(f"{where} has no integer for a seed, but {seed!r}")
    else:
        paths = {part: told[part] for part in _FOLDERS if part in told}
        found.examples.append(Example(name, partial(_sound, paths), int(seed), str(told.get("text", ""))))


def _sound(paths: Mapping[str, Path]) -> Sound:
    """Raises LabError for a file that is unreadable, empty or too short, and for a prompt or reference of silence.

    A silent continuation is scored: a system that falls silent must not drop out.
    """
    read = {part: audio.load(path) for part, path in paths.items()}
    for part, waveform in read.items():
        if part != "continuation":
            audio.check_prompt(waveform, SHORTEST, name=shown(paths[part]))
        elif len(waveform) < SHORTEST * SAMPLE_RATE:
            lasts = f"{shown(paths[part])} lasts {len(waveform) / SAMPLE_RATE:.2f} s"
            raise LabError(f"{lasts}; give at least {SHORTEST:g} s")
        elif silent(waveform):
            console.print(f"warning: {shown(paths[part])} is silent: it is scored as that")
    return Sound(**{part: audio.set_level(waveform) for part, waveform in read.items()})


def fingerprint(waveform: Waveform) -> str:
    """12 digits of how loud each hundredth of a second of (N,) is, in whole dB: another recording has others, the same
    one where another machine rounds its samples otherwise has the same."""
    frames = waveform[: len(waveform) // _FRAME * _FRAME].reshape(-1, _FRAME)
    power = np.square(frames, dtype=np.float64).mean(1)
    levels = np.round(10 * np.log10(np.maximum(power, 10 ** (audio.SILENCE / 10)))).astype("<i2")
    return hashlib.sha256(levels.tobytes()).hexdigest()[:12]


def silent(waveform: Waveform) -> bool:
    """Whether a waveform (N,) nowhere rises above -60 dBFS."""
    return bool(np.abs(audio.without_offset(waveform)).max(initial=0) < 10 ** (audio.SILENCE / 20))


def keep(root: Path, example: Example, sound: Sound) -> None:
    """Write a sample into a folder that `read` takes, for other ears and for listening tests."""
    for part, folder in _FOLDERS.items():
        if (waveform := getattr(sound, part)) is not None:
            audio.save(made(root / folder) / f"{example.name}.flac", waveform)
    for key, folder in _NOTES.items():
        if note := str(getattr(example, key)):
            with replacing(made(root / folder) / f"{example.name}.txt") as part_file:
                part_file.write_text(note + "\n")
