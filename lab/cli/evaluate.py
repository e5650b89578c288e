"""lab evaluate: systems over sets of prompts, judged by outside ears."""

from __future__ import annotations

import hashlib
import shlex
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import typer

from lab.cli.app import answer, command
from lab.console import console
from lab.errors import LabError

Set = Literal["stories", "development", "narrated", "narrated-development", "librispeech", "librispeech-long"]


class Table(StrEnum):
    SHORT = "2"
    MINUTES_4 = "3"
    MINUTES_16 = "4"


class Figure(StrEnum):
    REACH = "1"
    LIKENESS = "5"


@command
def evaluate(
    source: Annotated[
        Path | None, typer.Argument(help="prompts/, continuations/, references/, texts/ in a folder, or JSON lines.")
    ] = None,
    system: Annotated[
        str | None,
        typer.Option(help="In place of a source: griffin, transformer+3s, codec, voice+4, ...; more with commas."),
    ] = None,
    set_: Annotated[Set, typer.Option("--set", help="The prompts that it goes on from.")] = "stories",
    minutes: Annotated[
        float | None, typer.Option(min=0, help="Of prompt and continuation together; 4, or 10 s for librispeech.")
    ] = None,
    count: Annotated[int, typer.Option("--count", "-n", help="How many samples of the set.")] = 16,
    ears: Annotated[
        str, typer.Option(help="Judges: whisper:PATH,ge2e:PATH,distillmos,lm:PATH,minilm,...; ctc: ours.")
    ] = "ctc",
    judge: Annotated[
        str | None,
        typer.Option(help="Who wins, by the texts: chat:MODEL@URL,likelihood:lm:PATH; also of rows that are there."),
    ] = None,
    pairs: Annotated[
        int, typer.Option(min=0, help="Of words and of sentences: is what is right likelier to the system?")
    ] = 100,
    temperature: Annotated[
        float | None,
        typer.Option(min=0, help="Of sampling; by default that of the system's paper, SpeechSSM's is 1."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the first sample; the next one's is one more.")] = 0,
    speech: Annotated[
        Path | None,
        typer.Option(help="A folder like LibriSpeech or LibriSpeech-Long, or of `lab narrate`."),
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, mps: where the system computes.")] = None,
    keep: Annotated[Path | None, typer.Option(help="A folder for all that is heard, for listening tests.")] = None,
    table: Annotated[list[Table] | None, typer.Option(help="Print this table of the paper with our rows.")] = None,
    figure: Annotated[list[Figure] | None, typer.Option(help="Print this figure of the paper as a table.")] = None,
    findings: Annotated[
        bool, typer.Option("--findings", help="Print what the paper found, (a) to (f), and what is found here.")
    ] = False,
    agreement: Annotated[
        bool, typer.Option("--agreement", help="Print whether our cheap measures rank as the outside ones do.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The file of results, which more runs add to; evaluation.json."),
    ] = None,
) -> None:
    """Score continuations of spoken prompts: recognized text, speaker, naturalness, coherence, by minute.

    Without a source or a system it judges and prints what the file holds, or prints what ships with the lab where there
    is none. A run that was stopped goes on.
    """
    from lab import bundle, machine
    from lab.corpora import librispeech, narrated_folder
    from lab.evaluate import contest, examples, likelihood, report, run, sets, systems, tables
    from lab.evaluate import ears as judges
    from lab.evaluate import findings as said
    from lab.evaluate.results import Results, Row
    from lab.evaluate.summary import summarize_all

    if source and system:
        raise LabError(f"both {source} and --system {system} are given; a source has its continuations already")
    names = [name for each in (system or "").split(",") if (name := each.strip())]
    if keep and len(names) > 1:
        raise LabError(f"--keep holds what one system says, and {len(names)} are asked; give one --system at a time")
    reads = not (source or names or judge) and (table or figure or findings or agreement)
    if output is None:
        output = Path("evaluation.json")
        if reads and not output.exists():
            console.print(f"there is no {output} here, so this is of {report.RESULTS}")
            output = report.RESULTS
    results = Results.load(output)
    compare = contest.load(judge) if judge else []
    shown: list[str] = []
    if source or names:
        machine.keep_freed_memory()
        root, seconds = bundle.folder(), None
        if names:
            seconds = sets.SECONDS[set_] if minutes is None else round(60 * minutes, 1)
            if set_ in sets.MADE:
                speech = None
            else:
                speech = speech or (narrated_folder.find() if set_.startswith("narrated") else librispeech.find())
            samples = sets.examples(set_, count, seconds, speech, seed)
        else:
            samples = examples.read(cast(Path, source))
        speakers: list[systems.System | None] = [
            systems.load(name, root, temperature, device, seconds) for name in names
        ]
        listens = judges.load(ears, root)
        if lacking := listens.lacking():
            console.print(f"nobody judges {'; '.join(lacking)}: give more --ears, `pip install speechssm-lab[judges]`")
        rows = []
        for speaks in speakers or [None]:
            sampled = 1.0 if speaks is None or speaks.temperature is None else speaks.temperature
            asked = Row(
                speaks.name if speaks else "continuations",
                samples.name,
                seconds,
                speaks.temperature if speaks else None,
                seed,
                speaks.weights if speaks else {},
                listens.provenance(),
                _command(
                    source, speaks.name if speaks else None, set_, seconds, count, ears,
                    sampled if temperature is None else temperature, seed, pairs, speech, device,
                ),
                hashlib.sha256(str(source.resolve()).encode()).hexdigest()[:12] if source else "",
                trained=speaks.trained if speaks else None,
            )  # fmt: skip
            rows.append(run.run(results, listens, samples, asked, speaks, keep))
            if speaks and pairs:
                likelihood.hold(results, rows[-1], speaks, pairs)
    elif not results.rows:
        raise LabError(f"there are no results in {output}; give another -o, a folder, a manifest or --system")
    else:
        rows = results.rows if judge else []
        if judge and not any(contest.opponents(results, row) for row in rows):
            opponents = " or ".join(contest.OPPONENTS)
            raise LabError(f"{output} has no row whose texts can be held against {opponents}, of the same prompts")
    for row in rows:
        for each in compare:
            contest.hold(results, row, each)
    summarize_all(results)  # a run that was stopped left none
    if rows:
        results.save()
    shown += [tables.by_minute(row) for row in rows]
    shown += [tables.table(results, number) for number in table or ()]
    shown += [said.order(results)] if Table.MINUTES_4 in (table or ()) else []
    shown += [tables.figure(results) if each is Figure.LIKENESS else said.reach(results) for each in figure or ()]
    shown += [said.findings(results)] if findings else []
    shown += [report.agreement(results.rows) or "four rows with both measures are needed"] if agreement else []
    keys = ("system", "set", "seconds", "temperature")
    every = [
        {key: getattr(each, key) for key in keys} | {"n": len(each.samples)} | each.summary for each in results.rows
    ]
    found: Any = {"path": str(output), "rows": every}
    answer(found, "\n\n".join(shown))


def _command(
    source: Path | None,
    system: str | None,
    set_: str,
    seconds: float | None,
    count: int,
    ears: str,
    temperature: float,
    seed: int,
    pairs: int,
    speech: Path | None,
    device: str | None,
) -> str:
    """What was asked with all that was left out but the device, which each machine has its own of, and without the
    folders of this machine: of those the last name."""
    from lab.evaluate.ears import shown

    if source:
        words = [source.name]
    else:
        words = ["--system", str(system), "--set", set_, "--minutes", f"{(seconds or 0) / 60:g}", "--count", str(count)]
        words += ["--temperature", f"{temperature:g}", "--seed", str(seed), "--pairs", str(pairs)]
        words += ["--speech", speech.resolve().name] if speech else []
        words += ["--device", device] if device else []
    return shlex.join(["lab", "evaluate", *words, "--ears", shown(ears)])
