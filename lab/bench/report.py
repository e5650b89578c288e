"""What a bench found: rows, the machine and the versions, as a table and as JSON."""

from __future__ import annotations

import json
import os
import platform
import re
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, NamedTuple

import psutil
import torch
from rich.console import Group
from rich.table import Table

from lab.bench.timing import Spread
from lab.errors import LabError
from lab.files import made, replacing
from lab.machine import processor

# Rows of the README, by how they begin.
HEADLINES = (
    "seconds to the first piece",
    "`lab story` in a new process",
    "speech of",
    "resident memory, most above that at minute 1",
    "Griffin, token 1000000",
    "decode, batch 1, int8",
    "prefill",
    "scan forward, T=16384, L=2560",
    "throughput, 128 tokens",
    "throughput, 16384 tokens",
    "latency, 16384 tokens, both by torch",
    "steps of `lab train griffin`, 1 pieces",
    "`lab shard`, 2 processes",
)
PACKAGES = "torch", "numba", "transformers", "triton", "mamba-ssm", "causal-conv1d"


class Asked(NamedTuple):
    """What a row's ratio, or ours where there is no peer, should be. bar: the least that is asked for, if any."""

    sense: Literal["at least", "at most"]
    bar: float | None
    goal: float

    def __str__(self) -> str:
        bar = "" if self.bar is None else f"{self.sense} {self.bar:g}, "
        return f"{bar}goal {self.goal:g}"


@dataclass(frozen=True)
class Row:
    """One figure. ours and theirs: in `unit`, None where it could not be measured, and then `note` says why.

    predicted: ours by the roofline (Williams et al. 2009), from bytes or flops and limits measured in the same run.
    """

    name: str
    unit: str
    ours: Spread | None
    peer: str = ""
    theirs: Spread | None = None
    asked: Asked | None = None
    predicted: float | None = None
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """Ours over theirs."""
        return self.ours.median / self.theirs.median if self.ours and self.theirs else None

    @property
    def off(self) -> float | None:
        """Measured over predicted."""
        return self.ours.median / self.predicted if self.ours and self.predicted else None

    @property
    def met(self) -> str:
        figure = self.ratio if self.peer else self.ours and self.ours.median
        if self.asked is None or figure is None:
            return ""
        sign = 1 if self.asked.sense == "at least" else -1
        if sign * figure >= sign * self.asked.goal:
            return "goal"
        if self.asked.bar is None:
            return ""
        return "yes" if sign * figure >= sign * self.asked.bar else "no"


@dataclass(frozen=True)
class Report:
    """All rows of one bench on one machine."""

    bench: str
    command: str
    date: str
    machine: dict[str, Any]
    versions: dict[str, str]
    settings: dict[str, Any]
    rows: tuple[Row, ...]

    @property
    def file(self) -> str:
        chip = self.machine["chip"] + ("" if self.machine["gpu"] else f" {self.machine['cores']} cores")
        return f"{self.bench}-{re.sub('[^a-z0-9]+', '-', chip.lower()).strip('-')}.json"

    def save(self, folder: Path) -> Path:
        """Into `folder`, by the bench's and the chip's name. Raises LabError where it cannot."""
        rows = [asdict(row) | {"ratio": row.ratio, "met": row.met} for row in self.rows]
        path = made(folder) / self.file
        with replacing(path) as part:
            part.write_text(json.dumps(asdict(self) | {"rows": rows}, indent=1, allow_nan=False) + "\n")
        return path

    @classmethod
    def load(cls, path: Path) -> Report:
        """As saved. Raises LabError for a file that is none."""
        try:
            raw = json.loads(path.read_text())
            return cls(**raw | {"rows": tuple(_row(row) for row in raw["rows"])})
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise LabError(f"{path} is no report of `lab bench` ({error}); make it again") from None


def _row(raw: dict[str, Any]) -> Row:
    known = {field.name: raw[field.name] for field in fields(Row)}
    for name, kind in (("ours", Spread), ("theirs", Spread), ("asked", Asked)):
        known[name] = None if known[name] is None else kind(*known[name])
    return Row(**known)


def report(bench: str, command: str, rows: list[Row], device: str = "cpu", **settings: Any) -> Report:
    """The rows with where and when they were measured."""
    settings |= {"threads": torch.get_num_threads()}
    date = datetime.now(UTC).isoformat(timespec="seconds")
    return Report(bench, command, date, machine(device), versions(), settings, tuple(rows))


def check_folder(folder: Path) -> None:
    """Raise LabError for a folder that reports cannot be written to: better before a bench of an hour than after it."""
    try:
        there = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
        writable = there.is_dir() and os.access(there, os.W_OK)
    except (OSError, ValueError):  # a name that is too long or cannot be encoded
        writable = False
    if not writable:
        raise LabError(f"cannot write to {str(folder)!r}; give another with -o")


def machine(device: str = "cpu") -> dict[str, Any]:
    gpu = device == "cuda"
    return {
        "chip": torch.cuda.get_device_name() if gpu else processor(),
        "gpu": gpu,
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9),
        "system": f"{platform.system()} {platform.machine()}",
    }


def versions() -> dict[str, str]:
    """Of Python, CUDA and the packages that are installed."""
    found = {"python": sys.version.split()[0]} | ({"cuda": torch.version.cuda} if torch.version.cuda else {})
    for package in PACKAGES:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def table(report: Report) -> Group:
    """For a terminal: the rows, and their notes below."""
    machine = report.machine
    title = f"{report.command} on {machine['chip']}, {machine['cores']} cores, {machine['memory_gb']} GB"
    caption = ", ".join(f"{name} {value}" for name, value in (report.settings | report.versions).items())
    grid = Table(title=title, caption=caption)
    for column in ("figure", "measured", "beside", "measured", "ratio", "asked", "roofline"):
        grid.add_column(column)
    notes = []
    for row in report.rows:
        grid.add_row(
            row.name,
            _shown(row.ours, row.unit),
            row.peer,
            _shown(row.theirs, row.unit),
            _number(row.ratio),
            "" if row.asked is None else f"{row.asked}: {row.met or '-'}",
            "" if row.off is None else f"{_number(row.predicted)} (x {_number(row.off)})",
        )
        notes += [f"{row.name}: {row.note}"] if row.note else []
    return Group(grid, *dict.fromkeys(notes))


def card(folder: Path, rows: tuple[str, ...] = ("",)) -> str:
    """What is asked for of the reports in `folder`, as a table in markdown: rows that begin so (README: HEADLINES).

    Raises LabError where there are none.
    """
    paths = sorted(folder.glob("*.json"))
    if not paths:
        raise LabError(f"there are no reports in {folder}; `lab bench all` makes them")
    columns = ("figure", "measured", "against", "ratio", "asked", "met", "command")
    lines = [_line(*columns), _line(*["---"] * len(columns))]
    for found in map(Report.load, paths):
        for row in found.rows:
            if row.asked is not None and row.ours is not None and row.name.startswith(rows):
                peer = f"{row.peer}: {_number(row.theirs.median)}" if row.theirs else ""
                ours, met = f"{_number(row.ours.median)} {row.unit}", row.met or "-"
                lines.append(_line(row.name, ours, peer, _number(row.ratio), str(row.asked), met, f"`{found.command}`"))
    return "\n".join(lines)


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _shown(found: Spread | None, unit: str) -> str:
    if found is None:
        return "-"
    around = f" ({_number(found.low)} to {_number(found.high)})" if found.low != found.high else ""
    return f"{_number(found.median)} {unit}{around}"
