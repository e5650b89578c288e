"""lab corpus, shard, narrate, plan and fetch: what models learn from."""

from __future__ import annotations

import math
import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from lab.cli.app import answer, command
from lab.console import console
from lab.errors import LabError

Split = StrEnum("Split", ["dev-clean", "dev-other", "test-clean", "test-other"])  # typer has no lists of Literals


@command
def corpus(
    source: Annotated[
        str,
        typer.Argument(
            help='A folder of audio, LibriSpeech, lhotse\'s cuts (.jsonl.gz) or Shar, tars of WebDataset ("a-*.tar"), '
            "or an address: s3://..., gs://..., https://..."
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The manifest, .jsonl or .parquet; one there grows.")],
    cut: Annotated[
        float | None, typer.Option(help="Cut longer files into pieces of so many seconds: LibriLight, 240.")
    ] = None,
    shortest: Annotated[float, typer.Option(help="Leave out what is shorter, in seconds.")] = 0.2,
    longest: Annotated[float, typer.Option(help="Leave out what is longer, in seconds.")] = math.inf,
    texts: Annotated[bool, typer.Option("--texts", help="Leave out what has no text.")] = False,
    listen: Annotated[
        bool,
        typer.Option(
            "--listen",
            help="Read every file: leave out silent, clipped and damaged ones, and what sounds as another does.",
        ),
    ] = False,
    speech: Annotated[
        float,
        typer.Option(help="Leave out what holds speech in a smaller share of its time. This and the next listen."),
    ] = 0.0,
    within: Annotated[
        float, typer.Option(help="What speech is: frames of 20 ms so many dB below the loudest twentieth, at most.")
    ] = 30.0,
    quietest: Annotated[float, typer.Option(help="Leave out what has a lower peak, in dBFS.")] = -60.0,
    clipped: Annotated[
        float, typer.Option(help="Leave out what has a larger share of its samples at full scale.")
    ] = 0.01,
    language: Annotated[
        str | None, typer.Option(help="Leave out what is spoken in another, by its code: en. Reads every file.")
    ] = None,
    listener: Annotated[str, typer.Option(help="With --language: who tells it, of all languages.")] = "whisper:base",
    split: Annotated[
        Literal["train", "dev", "test"],
        typer.Option(help="What it is for: models learn from train, and of dev they tell the held-out loss."),
    ] = "train",
) -> None:
    """List the speech of a corpus in a manifest, a row a file or piece. What is left out, such as copies of files, is
    named, with the reason."""
    from dataclasses import replace

    from lab import judges
    from lab.corpora import filters, manifest, scan

    left_out: list[str] = []
    sound = filters.Sound(speech, within, quietest, clipped)
    listed = {each.id: each for each in manifest.read(output)} if output.exists() else {}
    found = scan.documents(source, left_out, listed)
    if cut is not None:
        found = filters.cut(found, cut, left_out)
    new = [each for each in found if each.id not in listed]
    new = filters.between(new, shortest, longest, left_out)
    if texts:
        left_out += [f"{each.id} has no text" for each in new if not each.text]
        new = [each for each in new if each.text]
    if listen or sound != filters.Sound():
        new = list(filters.heard(new, sound, left_out, listed.values()))
    if language is not None:
        judge = judges.load(listener)
        if not hasattr(judge, "language"):
            raise LabError(f"{listener} cannot tell a language; give a Whisper, such as whisper:base")
        new = list(filters.spoken_in(new, language, judge.language, left_out))
    there = [each for each in found if each.id in listed]
    listing = there + [replace(each, split=split) for each in new]
    documents = manifest.grow(output, listing, left_out) if listing else []
    for line in left_out:
        console.print("left out:", line)
    if not listing:
        raise LabError(f"nothing of {source} can be listed, {len(left_out)} left out; {output} is as it was")
    hours = sum(each.seconds for each in documents) / 3600
    console.print(f"{output}: {len(documents)} documents, {hours:.2f} h of speech, {len(left_out)} left out")
    answer({"path": output, "documents": len(documents), "hours": hours, "left_out": left_out})


@command
def shard(
    source: Annotated[str, typer.Argument(help="stories, voices, a manifest, or anything that `lab corpus` reads")],
    into: Annotated[Path, typer.Option(help="Where to put it; what was stopped there, or grew, goes on.")],
    hours: Annotated[
        float | None, typer.Option(help="Of speech. Left out: 60 of stories, 7 of voices, all of recordings.")
    ] = None,
    codes: Annotated[
        bool, typer.Option("--codes", help="Keep the codec's codes too: the voice learns from them.")
    ] = False,
    workers: Annotated[
        int | None, typer.Option(help="Processes. Left out: one a core, or two that share a GPU.")
    ] = None,
    engine: Annotated[
        Literal["local", "ray"], typer.Option(help="ray: the cluster at RAY_ADDRESS, or Ray on this machine.")
    ] = "local",
    device: Annotated[
        str, typer.Option(help="cuda: a GPU, which gets windows of several recordings at once; of Ray, one a worker.")
    ] = "cpu",
    part: Annotated[
        str | None,
        typer.Option(help="3/8: the third of eight workers, such as a Slurm array's; then once without puts all in."),
    ] = None,
    skip_unreachable: Annotated[
        bool,
        typer.Option(
            "--skip-unreachable", help="Leave out for good what a network or storage does not give, or is not there."
        ),
    ] = False,
    status: Annotated[bool, typer.Option("--status", help="Only tell how far it is.")] = False,
) -> None:
    """Tokenize a corpus once, for training to read. Files that cannot serve are named, counted and left out.

    What cannot be reached is tried again. If that does not help its part fails, as one does of which a file is missing,
    and the same command makes it later.
    """
    from lab import bundle
    from lab.corpora import shards

    options: dict[str, Any] = {"codes": codes, "hours": hours, "workers": workers, "device": device}
    options |= {"skip_unreachable": skip_unreachable}
    if status:
        found = shards.status(into, shards.Source.of(source))
        of = f" of {found['of']}" if found["of"] else ""
        left = "" if found["minutes_left"] is None else f", {found['minutes_left']:.0f} minutes left"
        console.print(
            f"{into}: {found['parts']}{of} parts, {found['hours']:.2f} of {found['hours_in_all']:.2f} h; "
            f"{found['running']} workers at {found['speed']:.0f} seconds of speech per second, "
            f"{found['failed']} failed{left}"
        )
        for reason in found["reasons"]:
            console.print("failed:", reason)
        answer(found)
    elif part is not None:
        if not (turn := re.fullmatch(r"(\d+)/(\d+)", part)) or engine != "local":
            raise LabError(
                f"cannot make part {part!r} by {engine}; give --part 3/8 for the third of eight, or an engine"
            )
        turns, given = (int(turn[1]), int(turn[2])), shards.Source.of(source)
        seconds = shards.share(into, given, bundle.folder(), *turns, **options)
        console.print(f"{into}: {seconds / 3600:.2f} h of speech in part {part}; without --part puts all parts in")
        answer({"path": into, "seconds": seconds})
    else:
        given = shards.Source.of(source)
        made = shards.make(into, given, bundle.folder(), engine=engine, **options)
        count = {"documents": len(made.starts), "tokens": len(made.tokens), "seconds": made.seconds}
        answer({"path": into, **count, "skipped": made.skipped})


@command
def narrate(
    into: Annotated[Path, typer.Argument(help="Where to put the documents; a folder that was begun goes on.")],
    documents: Annotated[int, typer.Option(help="How many, each by a narrator of its own.")] = 100,
    sentences: Annotated[int, typer.Option(help="Of each document.")] = 12,
    narrators: Annotated[
        Literal["kokoro", "piper"], typer.Option(help="Where their models are, LAB_KOKORO and LAB_PIPER say.")
    ] = "kokoro",
    texts: Annotated[Path | None, typer.Option(help="A text to read, in place of stories of the story world.")] = None,
    held_out: Annotated[
        bool, typer.Option("--held-out", help="Held-out stories by held-out voices, for `lab evaluate --set narrated`.")
    ] = False,
    development: Annotated[
        bool, typer.Option("--development", help="Others such, for choices: no figure is of them.")
    ] = False,
    voice: Annotated[str, typer.Option(help="All by this voice of Kokoro's, such as af_heart.")] = "",
    workers: Annotated[int | None, typer.Option(help="Processes; as many as there are cores if left out.")] = None,
) -> None:
    """Have stories read aloud by human-like narrators, for `lab train --narration` to learn from."""
    from rich.progress import track

    from lab.corpora import narrate

    told = narrate.narrate(into, documents, narrators, sentences, texts, workers, held_out, voice, development)
    made = list(track(told, "narrating", documents, console=console))
    answer({"path": into, "documents": len(made)})


@command
def plan(
    source: Annotated[str, typer.Argument(help="Hours of speech, such as 60000, or what `lab corpus` reads")],
    preset: Annotated[Literal["tiny", "laptop", "gpu", "paper-2b", "paper-9b"], typer.Option()] = "paper-2b",
    codes: Annotated[bool, typer.Option("--codes", help="With the codec's codes.")] = False,
    speed: Annotated[
        float | None, typer.Option(help="Seconds of speech per second of one worker. Left out: measured here.")
    ] = None,
    machine: Annotated[
        str | None, typer.Option(help="Or as `lab bench shard` measured there: amd-epyc-2-cores, of data/bench.")
    ] = None,
    gpu: Annotated[Literal["a100", "h100", "h200"], typer.Option(help="What is trained on.")] = "h100",
    share: Annotated[float, typer.Option(help="Of the GPU's peak that training reaches (MFU).")] = 0.4,
    price: Annotated[float | None, typer.Option(help="Of an hour of one GPU.")] = None,
    worker_price: Annotated[float | None, typer.Option(help="Of an hour of one worker.")] = None,
) -> None:
    """What it takes to tokenize a corpus, and to train Griffin with a preset's steps: hours, bytes, GPUs and money.

    For the presets tiny and laptop also what this machine takes, measured.
    """
    from lab import bundle
    from lab.corpora import scan
    from lab.train import estimate

    try:
        hours = float(source)
    except ValueError:
        hours = sum(each.seconds for each in scan.documents(source, [])) / 3600
    numbers = {"hours": hours, "--speed": speed, "--share": share, "--price": price, "--worker-price": worker_price}
    for name, value in numbers.items():
        if value is not None and not 0 < value < math.inf:
            raise LabError(f"cannot plan with {name} {value:g}; give a positive number")
    if machine is not None:
        speed = _measured(machine)
    measured, density = estimate.tokenization(bundle.folder(), codes, 10.0 if speed else 60.0)
    speed = measured if speed is None else speed
    alone, size = hours / speed, hours * 3600 * density
    paid = None if worker_price is None else worker_price * alone
    console.print(
        f"{_number(hours)} h of speech: {_number(size / 1e9)} GB; {_number(alone)} hours of one worker at {speed:.0f} "
        f"seconds of speech per second, {_number(alone / 100)} of a hundred" + _cost(paid)
    )
    count, _ = estimate.parameters(preset)
    here, rows = None, []
    if preset in ("tiny", "laptop"):
        rate, days = estimate.training(preset)
        here = {"tokens_per_second": rate, "days": days}
        console.print(f"{preset} on this machine: {_number(rate)} tokens/s, {_number(24 * days)} hours")
    for gpus in (1, 8, 64):
        each, days = estimate.memory(preset, gpus), estimate.days(preset, gpus, gpu, share)
        fits = each.total < estimate.GPUS[gpu][1]
        cost = None if price is None else price * days * 24 * gpus
        rows.append({"gpus": gpus, "bytes": each.total, "fits": fits, "days": days, "cost": cost})
        console.print(
            f"{preset}, {count / 1e6:,.0f} M parameters, on {gpus} {gpu}: {_number(each.total / 1e9)} GB on each"
            f"{'' if fits else ', which is too much'}; {_number(days)} days at {share:.0%} of the peak" + _cost(cost)
        )
    told = {"hours": hours, "bytes": size, "worker_hours": alone, "speed": speed, "worker_cost": paid}
    answer(told | {"parameters": count, "here": here, "train": rows})


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}"


def _cost(value: float | None) -> str:
    return "" if value is None else f", {value:,.0f} in all"


def _measured(machine: str) -> float:
    """Seconds of speech per second of one process, as stored."""
    from lab import bench

    known = {path.stem.removeprefix("shard-"): path for path in sorted(bench.FOLDER.glob("shard-*.json"))}
    if machine not in known:
        there = f"there are {', '.join(known)}; " if known else ""
        raise LabError(f"no bench of sharding is stored of {machine!r}; {there}`lab bench shard` makes one of its own")
    found = bench.Report.load(known[machine]).rows[0].ours
    if found is None:
        raise LabError(f"{known[machine]} tells no speed; make it again with `lab bench shard`")
    return found.median


@command
def fetch(
    what: Annotated[Literal["librispeech-long"], typer.Argument(help="LibriSpeech-Long is 3 GB.")],
    into: Annotated[Path, typer.Option(help="Where to put it; a download that was cut goes on.")] = Path(
        "runs/corpora"
    ),
    split: Annotated[list[Split] | None, typer.Option(help="May be given several times; all if left out.")] = None,
) -> None:
    """Download a corpus."""
    from lab.corpora import librispeech_long

    folder = librispeech_long.fetch(into, split or librispeech_long.SPLITS)
    console.print(f"{folder} is complete")
    answer({"path": folder})
