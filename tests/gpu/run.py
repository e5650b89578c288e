"""All that is to be run on a GPU that is there for minutes: its tests, its benches, then training of codec and voice.

    python -m tests.gpu.run OUT --part checks [--sources DIR] [--dry-run]
    python -m tests.gpu.run OUT --part training [--narration DIR] [--speech DIR] [--minutes 1.5] [--dry-run]

Without --part both, in this order. The checks end within 8 minutes; each of four models learns for --minutes, which
count the reading of the corpus, twice.

mamba-ssm and causal-conv1d are built from the sdists in --sources; without, Triton scans, and summary.json says so.
Nothing that fails stops what comes after it. OUT holds at the end log.txt, summary.json, the bench's JSON, and the
weights in parts of 15 MiB; `cat codec.? > codec.safetensors` joins them, and a later call goes on from them when they
are the bundle's. Each model learns from those before it, in one bundle: the voice and the refiner from the codec that
has just gone on, whose codes are no longer the same. A piece of training is a schedule of its own, of as many steps as
its minutes hold: what comes back has seen its learning rate fall. `--dry-run` does it all on the CPU with tiny sizes
and a few steps.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

PART = 15 * 2**20  # bytes: what brings files back may take no larger ones
LIMITS = 150, 150, 180  # seconds of building the kernels, of the tests and of the benches: 8 minutes in all
TRIED = 60  # steps to measure the speed with
# And whose file of the bundle they are in.
MODELS = {"codec": "codec", "soundstorm": "soundstorm", "refiner": "codec", "joint": "codec"}


class Session:
    """Runs commands one after the other, and writes down at once how each ended."""

    def __init__(self, out: Path):
        out.mkdir(parents=True, exist_ok=True)
        gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
        machine = {"gpu": gpu, "torch": torch.__version__, "python": sys.version.split()[0]}
        self.out, self.summary = out, {"machine": machine, "runs": list[dict[str, Any]]()}

    def run(self, name: str, words: list[str], limit: float) -> bool:
        """`python -m` those words; its output goes to log.txt. True where it ended well within `limit` seconds."""
        began = time.monotonic()
        with (self.out / "log.txt").open("a") as log:
            print(f"\n# {name}: {' '.join(words)}", file=log, flush=True)
            try:
                command = [sys.executable, "-m", *words]
                code: int | str = subprocess.run(command, stdout=log, stderr=log, timeout=limit).returncode
            except subprocess.TimeoutExpired:
                code = f"over {limit:.0f} s"
        self.note(name, code=code, seconds=round(time.monotonic() - began, 1))
        return code == 0

    def note(self, name: str, **found: object) -> None:
        print(name, found, flush=True)
        self.summary["runs"].append({"name": name, **found})  # type: ignore[union-attr]
        (self.out / "summary.json").write_text(json.dumps(self.summary, indent=1) + "\n")

    def train(self, model: str, work: Path, given: list[str], minutes: float, tried: int) -> None:
        """Measure the speed with so many steps, train as many as the minutes hold, both from what the bundle of `work`
        has, at first the one in use, and pack what came of it."""
        began, into, trial = time.monotonic(), work / "bundle", work / "trial"
        words = ["lab", "train", model, "--warm", *given]
        source = ["--bundle", str(into)] if into.exists() else []
        into_trial = ["--into", str(trial / "bundle"), "--work", str(trial), "--steps", str(tried)]
        into_trial += ["--set", f"log_every={max(1, tried // 3)}"]  # the pace is read from the log
        if not self.run(f"{model}, {tried} steps", [*words, *source, *into_trial], 60 * minutes):
            return
        pace = seconds_a_step(trial / model)
        prepared = time.monotonic() - began - tried * pace  # reading and encoding the corpus, which comes once more
        steps = max(tried, int((60 * minutes - prepared) / pace))
        self.note(f"{model}, pace", seconds_a_step=round(pace, 4), prepared=round(prepared, 1))
        shutil.rmtree(trial)
        whole = [*words, "--into", str(into), "--work", str(work), "--steps", str(steps)]
        if self.run(f"{model}, {steps} steps", whole, 60 * minutes + 90):
            data = (into / f"{MODELS[model]}.safetensors").read_bytes()
            for number in range(0, len(data), PART):
                (self.out / f"{MODELS[model]}.{number // PART}").write_bytes(data[number : number + PART])


def seconds_a_step(folder: Path) -> float:
    """By the log of a run, without its first lines, in which all is compiled and cached."""
    with (folder / "log.csv").open(newline="") as file:
        seconds = {int(step): float(at) for step, at, *_ in csv.reader(file)}
    steps = sorted(seconds)
    early = steps[0] if len(steps) > 1 else 0
    return (seconds[steps[-1]] - seconds.get(early, 0.0)) / (steps[-1] - early)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--part", choices=("checks", "training"), help="the other is left out")
    parser.add_argument("--sources", type=Path, help="sdists of mamba-ssm and causal-conv1d")
    parser.add_argument("--narration", type=Path)
    parser.add_argument("--speech", type=Path)
    parser.add_argument("--minutes", type=float, default=1.5, help="for each model")
    parser.add_argument("--dry-run", action="store_true", help="tiny sizes on the CPU")
    asked = parser.parse_args()
    session = Session(asked.out)
    if asked.part != "training":
        check(session, asked.sources, asked.dry_run)
    if asked.part == "checks":
        return
    given = ["--hours", "0.01"] if asked.dry_run else []
    for option in ("narration", "speech"):
        if folder := getattr(asked, option):
            given += [f"--{option}", str(folder)]
    for model in MODELS:
        work = asked.out.parent / f"{asked.out.name}-work"
        session.train(model, work, given, asked.minutes, 4 if asked.dry_run else TRIED)


def check(session: Session, sources: Path | None, dry_run: bool) -> None:
    """Build the kernels, run the tests and the benches, each within its limit."""
    build, tests, bench = LIMITS
    if sources:
        session.run("build", ["lab.recurrence.install", str(sources)], build)
    else:
        session.note("build", skipped="no --sources were given: Triton scans, and torch convolves")
    session.run("tests", ["pytest", "-q", "-p", "no:cacheprovider", "tests/gpu"], tests)
    dry = ["--dry-run"] if dry_run else []
    session.run("bench", ["lab", "bench", "gpu", "-o", str(session.out), *dry], bench)


if __name__ == "__main__":
    main()
