"""lab measure, bench, card and doctor: figures of the bundle and of this machine."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.table import Table

from lab import __version__
from lab.cli.app import answer, command
from lab.console import console
from lab.errors import LabError

Measure = Literal[
    "tokens", "abx", "likelihood", "narrator", "phones", "codec", "voice", "speaker", "loss", "stories", "coherence",
    "recall", "seams", "making", "speed", "memory", "all",
]  # fmt: skip
Card = Literal["figures", "headlines", "stages", "differences", "page"]
Bench = Literal[
    "flat", "scan", "step", "prefill", "train", "throughput", "latency", "learn", "shard", "story", "gpu", "all",
    "card", "headlines",
]  # fmt: skip


@command
def measure(
    what: Annotated[Measure, typer.Argument()] = "all",
    save: Annotated[bool, typer.Option(help="Put the figures into the cards of bundle.json.")] = False,
    count: Annotated[int | None, typer.Option(help="How many held-out stories; fewer are faster.")] = None,
    speech: Annotated[
        Path | None, typer.Option(help="A folder in the layout of LibriSpeech, for the figures that need it.")
    ] = None,
    pairs: Annotated[
        Path | None,
        typer.Option(
            help="For likelihood: sWUGGY or sBLIMP (a folder with gold.csv) or StoryCloze (0_*.wav, 1_*.wav, ...), in "
            "place of the story world's pairs."
        ),
    ] = None,
    narration: Annotated[
        Path | None,
        typer.Option(help="A folder of `lab narrate --held-out`: loss hears it, too; coherence goes on from it."),
    ] = None,
    development: Annotated[
        bool, typer.Option("--development", help="Of loss and coherence: on stories that choices are made on.")
    ] = False,
    temperature: Annotated[
        float | None, typer.Option(min=0, help="Of coherence; that of `lab story` and 1 if left out.")
    ] = None,
    minutes: Annotated[int | None, typer.Option(min=1, help="Of coherence's stories; 16 if left out.")] = None,
) -> None:
    """The figures of the bundle, on held-out stories by held-out narrators."""
    from lab import bundle, cards, machine
    from lab.corpora import librispeech
    from lab.measure import figures, of_language

    if pairs and (what != "likelihood" or save):
        raise LabError("--pairs is for `lab measure likelihood`, without --save: the bundle's cards have its own sets")
    asked = {"narrated": narration, "development": development or None, "temperature": temperature, "minutes": minutes}
    options = {name: value for name, value in asked.items() if value is not None}
    if save and (development or what == "coherence" and options):
        raise LabError("what --development, --temperature and --minutes tell is for choices; leave out --save")
    if pairs:
        rows = of_language.of_pairs(pairs, count)
    else:
        rows = figures.measure(what, bundle.folder(), speech or librispeech.find(), count, **options)
    entries = bundle.index(bundle.folder())
    told = ("value", "low", "high", "n", "of", "temperature")
    found = [{"model": row.model, "figure": row.name} | {name: getattr(row, name) for name in told} for row in rows]
    table = Table("model", "figure", "value", "95 %", "n", "temperature")
    for row in rows:
        interval = "" if row.low is None else f"{row.low:.3g} to {row.high:.3g}"
        counted = " in ".join(str(each) for each in (row.of, row.n) if each is not None)
        drawn = "" if row.temperature is None else f"{row.temperature:g}"
        model = cards.whose(row.model, entries[row.model], row.command)
        table.add_row(model, row.name, f"{row.value:.3g}", interval, counted, drawn)
    if save:
        figures.record(bundle.folder(), rows, machine.name())
    answer(found, table)


@command
def bench(
    what: Annotated[Bench, typer.Argument(help="all is all but gpu; card and headlines print what was saved.")] = "all",
    quick: Annotated[bool, typer.Option("--quick", help="Tiny sizes: whether it runs, not how fast.")] = False,
    tokens: Annotated[int | None, typer.Option(help="How far flat, latency and story go; 1e6, 16,384, 90,000.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="For gpu: tiny sizes on the CPU.")] = False,
    save: Annotated[bool, typer.Option(help="Write JSON; after --quick and --dry-run only where -o says.")] = True,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The folder for it, data/bench.")] = None,
) -> None:
    """Speed and memory, beside the peers and the limits of this machine, measured in the same run.

    card is a table in markdown, data/bench/FIGURES.md; headlines those of its rows that stand in the README.
    """
    from lab import bench as benches

    if what in ("card", "headlines"):
        rows = benches.HEADLINES if what == "headlines" else ("",)
        card = benches.card(output or benches.FOLDER, rows)
        answer({"card": card}, card)
        return
    folder = output if output or quick or dry_run else benches.FOLDER
    if not save:
        folder = None
    elif folder:
        benches.check_folder(folder)
    for report in benches.run(what, quick=quick, tokens=tokens, dry_run=dry_run):
        answer(asdict(report), benches.table(report))
        if folder:
            console.print(f"saved {report.save(folder)}")


@command
def card(
    what: Annotated[
        Card, typer.Argument(help="figures: by `lab measure`; the others stand in the README.")
    ] = "figures",
) -> None:
    """What was measured on this bundle, in markdown, but nothing that was measured with other weights.

    headlines, stages and differences stand in the README; page is all there is: data/measured/FIGURES.md.
    """
    from lab import bundle, cards

    digests = bundle.digests(bundle.folder())
    entries = cards.checked(bundle.index(bundle.folder()), digests)
    if what == "figures":
        answer(entries, cards.table(entries))
        return
    from lab.evaluate import passes, report
    from lab.evaluate.results import Results
    from lab.evaluate.summary import summarize_all

    results, stale = report.fresh(Results.load(report.RESULTS), digests)
    summarize_all(results)
    shown = {
        "headlines": lambda: report.headlines(results),
        "stages": lambda: report.stages(results),
        "differences": lambda: report.differences(entries),
        "page": lambda: report.page(entries, results, stale, passes.page(digests)),
    }[what]()
    answer({what: shown}, shown)


@command
def doctor() -> None:
    """What this machine has, which backends are on or why they are off, and which bundle is in use."""
    import torch

    from lab import bundle, cards, extras
    from lab.recurrence import backends
    from lab.recurrence.probe import capability

    gpu = f"{torch.cuda.get_device_name()}, {capability()}" if torch.cuda.is_available() else None
    rows, lacking = backends(), {extra: extras.missing(extra) for extra in extras.MODULES}
    found: dict[str, Any] = {"version": __version__, "python": sys.version.split()[0], "torch": torch.__version__}
    found |= {"threads": torch.get_num_threads(), "cuda": torch.version.cuda, "gpu": gpu, "missing": lacking}
    found["backends"] = [row._asdict() for row in rows]
    table = Table("op", "backend", "usable", "reason")
    for row in rows:
        hint = f"; to install it: {row.command}" if row.command and not row.usable else ""
        table.add_row(row.op, row.name, "yes" if row.usable else "no", row.reason + hint)
    shown: list[Any] = [
        f"speechssm-lab {__version__}, python {found['python']}, torch {torch.__version__}, {found['threads']} threads",
        f"CUDA {torch.version.cuda or 'not in this build of torch'}, GPU: {gpu or 'none that torch can use'}",
        *(f"[{extra}] lacks {', '.join(modules)}" for extra, modules in lacking.items() if modules),
        table,
    ]
    root, failure = bundle.folder(), None
    try:
        models = cards.describe(bundle.index(root))
        found["bundle"] = {"path": root, "bytes": bundle.size(root), "models": {name: n for name, n, _ in models}}
        table = Table("model", "parameters", "learnt from")
        for name, parameters, data in models:
            table.add_row(name, f"{parameters / 1e6:.2f} M", data)
        shown += [f"bundle {root}, {bundle.size(root) / 1e6:.1f} MB", table]
    except LabError as error:
        found["bundle"], failure = {"path": root, "error": str(error)}, error
    answer(found, *shown)
    if failure:
        raise failure
