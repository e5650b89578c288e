"""One file of results: rows, each a system over a set, and in each every sample's values.

A row is written anew after each sample, whole or not at all, so that a kill loses one sample at most. A row says all
that it takes to get it again: the command, the weights and the judges, n, seed, temperature, machine and date.
"""

from __future__ import annotations

import gzip
import json
import math
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from lab import __version__, machine
from lab.errors import LabError
from lab.files import made, replacing

FORMAT = 1
_SETTINGS = ("seed", "weights", "judges", "source")  # that all samples of a row have in common


@dataclass
class Row:
    """What was measured of one system. `samples`: of `scoring.score`, with the verdicts of `contest.hold`."""

    system: str
    set: str
    seconds: float | None  # of prompt and continuation; None for a folder, where each has its own
    temperature: float | None  # None where nothing was sampled here
    seed: int
    weights: dict[str, str]  # `bundle.digests` of the models that were heard
    judges: dict[str, dict[str, str]]  # the provenance of each who scores a sample by itself
    command: str
    source: str = ""  # of a folder or manifest, 12 digits of where it lies: another of its name is another one
    machine: str = field(default_factory=machine.name)
    date: str = field(default_factory=lambda: date.today().isoformat())
    version: str = __version__
    samples: list[dict[str, Any]] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    likelihood: dict[str, Any] = field(default_factory=dict)  # estimates of `likelihood.TESTS`
    contest: dict[str, Any] = field(default_factory=dict)  # of verdicts: judge and opponent -> the provenance of both
    trained: float | None = None  # seconds of the longest speech that the system learnt from, where it is known

    @property
    def key(self) -> tuple[str, str, float | None, float | None]:
        return self.system, self.set, self.seconds, self.temperature

    def sample(self, name: str) -> dict[str, Any] | None:
        return next((sample for sample in self.samples if sample["name"] == name), None)


@dataclass
class Results:
    """The rows of one file; gzip packs one that is called .gz."""

    path: Path
    rows: list[Row] = field(default_factory=list)
    _seen: tuple[int, int] | None = None  # which file it was when it was read or written

    @classmethod
    def load(cls, path: Path) -> Results:
        """None yet where there is no file. Raises LabError for one that is damaged or something else."""
        try:
            seen = _stamp(path)
            kept = path.read_bytes()
            told = json.loads(gzip.decompress(kept) if path.suffix == ".gz" else kept)
            if told["format"] != FORMAT:
                raise ValueError(f"format {told['format']}, not {FORMAT}")
            return cls(path, [Row(**row) for row in told["rows"]], seen)
        except FileNotFoundError:
            return cls(path)
        except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
            raise LabError(f"{path} is no file of `lab evaluate` ({error}); give another -o") from None

    def save(self) -> None:
        """Raises LabError where it cannot be written, and where another run wrote to it: the old file stays."""
        if _stamp(self.path) != self._seen:
            raise LabError(f"another run writes to {self.path}; give another -o, this run's last sample is not kept")
        rows = [_plain(asdict(row)) for row in self.rows if row.samples]
        made(self.path.parent)
        with replacing(self.path) as part:
            text = json.dumps({"format": FORMAT, "rows": rows}, separators=(",", ":"), allow_nan=False) + "\n"
            part.write_bytes(gzip.compress(text.encode(), mtime=0) if part.suffix == ".gz" else text.encode())
        self._seen = _stamp(self.path)

    def row(self, asked: Row) -> Row:
        """The one that `asked` goes on, or `asked`, added. Raises LabError where the old one was measured otherwise."""
        for row in self.rows:
            if row.key == asked.key:
                changed = next((name for name in _SETTINGS if getattr(row, name) != getattr(asked, name)), None)
                if changed:
                    raise LabError(f"{self.path} has {row.system} with other {changed}; give another file with -o")
                return row
        self.rows.append(asked)
        return asked

    def find(self, system: str, temperature: float | None, like: Row) -> Row | None:
        """The row of a system at a temperature over the set and length of another row."""
        key = system, like.set, like.seconds, temperature
        return next((row for row in self.rows if row.key == key), None)


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


def _plain(value: Any) -> Any:
    """For JSON: numbers to five digits, none where they are not finite."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if isinstance(value, float):
        return float(f"{value:.5g}") if math.isfinite(value) else None
    return value
