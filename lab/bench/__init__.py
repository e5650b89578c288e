"""Speed and memory, beside the peers and the limits of the machine, each measured in the same run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch

from lab import machine
from lab.bench import flat, gpu, learn, passes, scan, shard, step, story, throughput
from lab.bench.report import HEADLINES, Asked, Report, Row, card, check_folder, report, table
from lab.bench.timing import Spread
from lab.errors import LabError
from lab.language import compile as compilation
from lab.paths import data_folder

__all__ = ["BENCHES", "FOLDER", "HEADLINES", "Asked", "Report", "Row", "Spread", "check_folder", "card", "run", "table"]

FOLDER = data_folder() / "bench"

# The rows of each bench, of gpu in parts, and arguments that make it small. flat is first: malloc is left alone for it.
BENCHES: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "flat": (flat.rows, dict(preset="tiny", tokens=200, window=8, rounds=3, every=50)),
    "scan": (scan.rows, dict(T=256, widths=(64,), rounds=3, slow=3)),
    "step": (
        step.rows,
        dict(preset="tiny", larger="tiny", tokens=8, rounds=3, batches=(1, 2), stories=1, most=40, evicted=1 << 20),
    ),
    "prefill": (passes.prefill, dict(preset="tiny", T=64, rounds=3)),
    "train": (passes.train, dict(preset="tiny", B=2, T=32, rounds=3)),
    "throughput": (throughput.rows, dict(preset="tiny", lengths=(128, 256), budget=4e5, steps=2, rounds=3, product=64)),
    "latency": (throughput.latency, dict(preset="tiny", tokens=200)),
    "learn": (learn.rows, dict(preset="tiny", lengths=(32,), rounds=2, steps=4)),
    "shard": (shard.rows, dict(minutes=0.1, workers=(1,), ray=False)),
    "story": (story.rows, dict(seconds=2, rounds=1, processes=1, tokens=200, cold=False)),
    "gpu": (gpu.parts, gpu.DRY),
}


def run(what: str, *, quick: bool = False, tokens: int | None = None, dry_run: bool = False) -> Iterator[Report]:
    """The benches called `what`, or all but gpu, one after the other; of gpu a report after each part, of all so far.

    quick: small enough for seconds; the figures mean nothing. tokens: how far `flat`, `latency` and `story` go.
    dry_run: of gpu, on the CPU. Raises LabError for an unknown bench, and for options it does not have.
    """
    if what != "all" and what not in BENCHES:
        raise LabError(f"there is no bench {what!r}; there are {', '.join(BENCHES)} and all")
    if tokens is not None and what not in ("flat", "latency", "story"):
        raise LabError(f"{what} has no --tokens; flat, latency and story have")
    if tokens is not None and tokens < 20:
        raise LabError(f"{tokens} tokens are too few to see anything; give 20 or more")
    if what != "gpu" and dry_run:
        raise LabError(f"{what} has no --dry-run; gpu has, and --quick is for the others")
    if what == "gpu" and quick:
        raise LabError("gpu has no --quick, but --dry-run")
    if what == "gpu" and not dry_run and not torch.cuda.is_available():
        raise LabError("torch has no GPU here; `lab bench gpu --dry-run` runs the same at tiny sizes on the CPU")
    compilation.main()  # else the first steps would be those of `decode.Early`
    for name in [name for name in BENCHES if name != "gpu"] if what == "all" else [what]:
        kept = name != "flat" and machine.keep_freed_memory()
        rows, small = BENCHES[name]
        given = small if quick or dry_run else gpu.FULL if name == "gpu" else {}
        given = given | ({} if tokens is None else {"tokens": tokens})
        asked = " --quick" * quick + " --dry-run" * dry_run + (f" --tokens {tokens}" if tokens else "")
        device = "cuda" if name == "gpu" and not dry_run else "cpu"
        malloc = "keeps what is freed" if kept else "as it comes"
        found: list[Row] = []
        for part in rows(**given) if name == "gpu" else [rows(**given)]:
            found += part
            yield report(name, f"lab bench {name}{asked}", found, device, malloc=malloc)
