"""The command `lab`. Errors of the user are one line on stderr and exit code 2; Ctrl-C keeps what was spoken so far."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from lab import audio
from lab.errors import LabError
from lab.files import replacing

# torch and the models are imported by the commands that need them, so that `lab --help` answers at once.


class Commands(typer.core.TyperGroup):
    def invoke(self, *context: Any, **named: Any) -> Any:
        try:
            return super().invoke(*context, **named)
        except LabError as error:
            print("lab:", " ".join(str(error).split()), file=sys.stderr)
            raise SystemExit(2) from None


app = typer.Typer(cls=Commands, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
told = Console(stderr=True, highlight=False, markup=False, emoji=False)  # [x] and :x: may be in a name

Speaker = Annotated[
    Path | None, typer.Option(help="3 s or more of the voice to tell it in; the prompt's own if left out.")
]
Seed = Annotated[int, typer.Option(help="The same seed gives the same story.")]


@app.command()
def story(
    prompt: Annotated[
        str, typer.Argument(help="An audio file, 3 s to 60 s, any rate; - reads WAV from standard input.")
    ],
    minutes: Annotated[float, typer.Option(help="Minutes of new speech.")] = 4.0,
    speaker: Speaker = None,
    seed: Seed = 0,
    temperature: Annotated[float, typer.Option(help="Of sampling; the paper's is 1, 0 is greedy.")] = 0.5,
    baseline: Annotated[str | None, typer.Option(help="transformer or griffin30, in place of Griffin.")] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help=".wav, .flac or .ogg")] = Path("story.wav"),
) -> None:
    """Continue a spoken prompt, in its own voice or another."""
    if not 0 < minutes < float("inf"):
        raise LabError(f"cannot tell a story of {minutes:g} minutes; give a positive number")
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[speed]}"),
        TimeElapsedColumn(),
    )
    stopped = False
    with audio.Writer(output) as writer:  # first of all: an hour of speech that cannot be written is an hour lost
        from lab.speech import SpeechSSM

        ssm = SpeechSSM.load(baseline=baseline)
        began = time.perf_counter()
        stream = ssm.stream(prompt, 60 * minutes, speaker=speaker, seed=seed, temperature=temperature)
        total = stream.prompt_tokens / 25 + 60 * minutes
        try:
            with Progress(*columns, console=told) as progress:
                bar = progress.add_task("listening", total=total, speed="")
                for chunk in stream:
                    writer.append(chunk.waveform)
                    speed = writer.seconds / (time.perf_counter() - began)
                    described = f"{writer.seconds:.0f} of {total:.0f} s of speech"
                    progress.update(
                        bar, completed=writer.seconds, description=described, speed=f"{speed:.1f} x real time"
                    )
        except KeyboardInterrupt:
            stopped = True
    took = time.perf_counter() - began
    if not writer.samples:
        told.print("stopped before the first window was spoken: nothing was written")
        raise typer.Exit(130)
    import torch

    tokens = torch.tensor(stream.tokens)
    heard = ssm.tokenizer.transcribe(tokens[: stream.prompt_tokens])
    went_on = ssm.tokenizer.transcribe(tokens[stream.prompt_tokens :]) if len(tokens) > stream.prompt_tokens else ""
    told.print(f"prompt     {heard}")
    told.print(f"went on    {_shortened(went_on)}")
    told.print(
        f"{'stopped: ' if stopped else ''}{output}: {writer.seconds:.1f} s of speech in {took:.1f} s, "
        f"{writer.seconds / took:.2f} x real time (language model {stream.language_seconds:.1f} s), seed {seed}"
    )
    if stopped:
        raise typer.Exit(130)


@app.command()
def tokens(
    file: Annotated[str, typer.Argument(help="An audio file of any length; - reads WAV from standard input.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="A .npz for `lab speak`.")] = None,
) -> None:
    """Speech to semantic tokens, and the text that they spell."""
    from lab import bundle
    from lab.tokens import TOKEN_RATE, Tokenizer

    tokenizer = bundle.load(bundle.folder(), "tokenizer")
    assert isinstance(tokenizer, Tokenizer)
    waveform = audio.load(file)
    audio.check_prompt(waveform, min_seconds=0.2, name="standard input" if file == "-" else file)
    sequence = tokenizer.encode(audio.set_level(waveform))
    if output is None:
        print(" ".join(map(str, sequence.tolist())))
    else:
        _save_tokens(output, sequence.numpy(), tokenizer.config.codes)
    told.print(f"{len(sequence)} tokens, {TOKEN_RATE} a second, {len(sequence.unique())} different")
    told.print(_shortened(tokenizer.transcribe(sequence)))


@app.command()
def speak(
    tokens: Annotated[Path, typer.Argument(help="A .npz of `lab tokens`.")],
    speaker: Annotated[Path, typer.Option(help="3 s or more of the voice to speak in.")],
    seed: Seed = 0,
    output: Annotated[Path, typer.Option("--output", "-o", help=".wav, .flac or .ogg")] = Path("speech.wav"),
) -> None:
    """Semantic tokens to speech, in anyone's voice."""
    import torch

    with audio.Writer(output) as writer:
        from lab.speech import SpeechSSM

        ssm = SpeechSSM.load()
        sequence = torch.from_numpy(_load_tokens(tokens, ssm.tokenizer.config.codes))
        told_by = ssm.prepare_prompt(speaker, "the speaker")
        voice = ssm.voice.prompt(told_by, ssm.tokenizer.encode(told_by))
        for waveform in ssm.voice.stream(iter(sequence.tolist()), voice, seed=seed):
            writer.append(waveform)
    told.print(f"{output}: {writer.seconds:.1f} s of speech")


@app.command()
def shard(
    source: Annotated[str, typer.Argument(help="stories, voices, or a folder of audio such as LibriSpeech")],
    into: Annotated[Path, typer.Option(help="Where to put it; what was stopped there goes on.")],
    hours: Annotated[
        float | None, typer.Option(help="Of speech. Left out: 60 of stories, 7 of voices, all of a folder.")
    ] = None,
    codes: Annotated[
        bool, typer.Option("--codes", help="Keep the codec's codes too: the voice learns from them.")
    ] = False,
    workers: Annotated[int | None, typer.Option(help="Processes; as many as there are cores if left out.")] = None,
) -> None:
    """Tokenize a corpus once, for training to read. Files that cannot serve are named, counted and left out."""
    from lab import bundle
    from lab.corpora import shards

    shards.make(into, shards.Source.of(source), bundle.folder(), codes=codes, hours=hours, workers=workers)


@app.command()
def fetch(
    what: Annotated[str, typer.Argument(help="librispeech-long")],
    into: Annotated[Path, typer.Option(help="Where to put it; a download that was cut goes on.")] = Path(
        "runs/corpora"
    ),
    split: Annotated[
        list[str] | None, typer.Option(help="dev-clean, dev-other, test-clean or test-other; all if left out.")
    ] = None,
) -> None:
    """Download a corpus: LibriSpeech-Long, 3 GB."""
    from lab.corpora import librispeech_long

    if what != "librispeech-long":
        raise LabError(f"there is no corpus {what!r} to fetch; there is librispeech-long")
    told.print(f"{librispeech_long.fetch(into, split or librispeech_long.SPLITS)} is complete")


@app.command()
def train(
    model: Annotated[
        str,
        typer.Argument(
            help="tokenizer, codec, griffin, griffin30, transformer, soundstorm, decoder (the codec's part that speaks "
            "codes), or all of these; encoder: the tokenizer's part that makes tokens; reader: its part that reads them"
        ),
    ],
    work: Annotated[Path, typer.Option(help="Checkpoints and logs; a run that was stopped goes on from here.")] = Path(
        "runs"
    ),
    into: Annotated[Path | None, typer.Option(help="The bundle to put the model in.")] = None,
    speech: Annotated[
        Path | None, typer.Option(help="A folder in the layout of LibriSpeech, to learn from as well.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Steps of training, in place of the recipe's own.")] = None,
    hours: Annotated[float | None, typer.Option(help="Hours of narrated speech, in place of the recipe's own.")] = None,
    seed: Annotated[int, typer.Option()] = 0,
    preset: Annotated[
        str, typer.Option(help="Of the language models: tiny, laptop, gpu, paper-2b or paper-9b.")
    ] = "laptop",
    length: Annotated[
        str | None, typer.Option(help="Of the pieces they learn from: 30s, 1min, 2min, 4min or 16min.")
    ] = None,
    warm: Annotated[
        bool, typer.Option("--warm", help="Begin with the weights that the bundle has: go on, or fit them to new data.")
    ] = False,
    devices: Annotated[
        int, typer.Option(help="GPUs of this machine, or processes.", envvar="LOCAL_WORLD_SIZE", show_envvar=False)
    ] = 1,
    nodes: Annotated[
        int, typer.Option(help="Machines, when torchrun starts them.", envvar="GROUP_WORLD_SIZE", show_envvar=False)
    ] = 1,
    strategy: Annotated[str, typer.Option(help="ddp, or fsdp for a model that one device cannot hold.")] = "ddp",
    accumulate: Annotated[int, typer.Option(help="Parts that a batch is divided into, to save memory.")] = 1,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Write curves for TensorBoard, too.")] = False,
) -> None:
    """Train a model of the bundle by its recipe, or all of them. Ctrl-C saves; the same command goes on."""
    from lab import bundle
    from lab.corpora import librispeech
    from lab.train import recipes  # isort: skip
    from lightning_fabric.utilities import rank_zero_only  # isort: skip
    from lab.train.loop import Compute

    plan = recipes.Plan(
        work,
        into or bundle.folder(),
        speech or librispeech.find(),
        steps,
        hours,
        seed,
        preset,
        length,
        warm,
        Compute(devices, nodes, strategy, accumulate, tensorboard),
    )
    say = rank_zero_only(told.print)
    for name in recipes.WHOLE if model == "all" else [model]:
        if model == "all" and recipes.complete(name, plan):
            say(f"{name}: complete in {plan.bundle}")
            continue
        card = recipes.train(name, plan)
        say(f"{name}: {card['steps']} steps in {card['minutes']} min, {card['at_the_end']}")


@app.command()
def measure(
    what: Annotated[
        str,
        typer.Argument(
            help="tokens, narrator, phones, codec, voice, speaker, stories, coherence, seams, making, speed, memory "
            "or all"
        ),
    ] = "all",
    save: Annotated[bool, typer.Option(help="Put the figures into the cards of bundle.json.")] = False,
    count: Annotated[int | None, typer.Option(help="How many held-out stories; fewer are faster.")] = None,
    speech: Annotated[
        Path | None, typer.Option(help="A folder in the layout of LibriSpeech, for the figures that need it.")
    ] = None,
) -> None:
    """The figures of the bundle, on held-out stories by held-out narrators."""
    from lab import bundle, machine
    from lab.corpora import librispeech
    from lab.measure import figures

    rows = figures.measure(what, bundle.folder(), speech or librispeech.find(), count)
    table = Table("model", "figure", "value")
    for row in rows:
        table.add_row(row.model, row.name, f"{row.value:.3g}")
    Console().print(table)
    if save:
        command = what if count is None else f"{what} --count {count}"
        figures.record(bundle.folder(), command, rows, machine.name())


@app.command()
def bench(
    what: Annotated[
        str, typer.Argument(help="flat, scan, step, prefill, train, throughput, latency, gpu, all but gpu, or card")
    ] = "all",
    quick: Annotated[bool, typer.Option("--quick", help="Tiny sizes: whether it runs, not how fast.")] = False,
    tokens: Annotated[int | None, typer.Option(help="How far flat and latency go; 1,000,000 and 16,384.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="For gpu: tiny sizes on the CPU.")] = False,
    save: Annotated[bool, typer.Option(help="Write JSON; after --quick and --dry-run only where -o says.")] = True,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The folder for it, data/bench.")] = None,
) -> None:
    """Speed and memory, beside the peers and the limits of this machine, measured in the same run.

    card prints what was saved as a table in markdown: the one that stands in the README.
    """
    from lab import bench as benches

    if what == "card":
        print(benches.card(output or benches.FOLDER))
        return
    folder = output if output or quick or dry_run else benches.FOLDER
    if not save:
        folder = None
    elif folder:
        benches.check_folder(folder)
    for report in benches.run(what, quick=quick, tokens=tokens, dry_run=dry_run):
        Console(markup=False, emoji=False).print(benches.table(report))
        if folder:
            told.print(f"saved {report.save(folder)}")


@app.command()
def card() -> None:
    """The figures in bundle.json as a table in markdown: the one that stands in the README."""
    from lab import bundle

    print(bundle.table(bundle.index(bundle.folder())))


@app.command()
def doctor() -> None:
    """What this machine has, which backends are on or why they are off, and which bundle is in use."""
    import torch

    from lab import bundle
    from lab.recurrence import backends
    from lab.recurrence.probe import capability

    out = Console(highlight=False, markup=False, emoji=False)
    out.print(f"python {sys.version.split()[0]}, torch {torch.__version__}, {torch.get_num_threads()} threads")
    gpu = "none that torch can use"
    if torch.cuda.is_available():
        gpu = f"{torch.cuda.get_device_name()}, {capability()}"
    out.print(f"CUDA {torch.version.cuda or 'not in this build of torch'}, GPU: {gpu}")
    table = Table("op", "backend", "usable", "reason")
    for row in backends():
        hint = f"; to install it: {row.command}" if row.command and not row.usable else ""
        table.add_row(row.op, row.name, "yes" if row.usable else "no", row.reason + hint)
    out.print(table)
    root = bundle.folder()
    table = Table("model", "parameters", "learnt from")
    for name, parameters, data in bundle.describe(bundle.index(root)):
        table.add_row(name, f"{parameters / 1e6:.2f} M", data)
    out.print(f"bundle {root}, {bundle.size(root) / 1e6:.1f} MB", table)


def _shortened(text: str, most: int = 700) -> str:
    return text if len(text) <= most else text[:most].rsplit(" ", 1)[0] + " ..."


def _save_tokens(path: Path, sequence: np.ndarray, codes: int) -> None:
    if path.suffix != ".npz":
        raise LabError(f"cannot write {path}: its name must end in .npz")
    with replacing(path) as part:
        np.savez_compressed(part, tokens=sequence.astype(np.int32), codes=codes)


def _load_tokens(path: Path, codes: int) -> np.ndarray:
    try:
        with np.load(path, allow_pickle=False) as file:
            sequence, theirs = file["tokens"], int(file["codes"])
    except FileNotFoundError:
        raise LabError(f"there is no file {path}; `lab tokens FILE -o {path}` makes one") from None
    except Exception as error:  # numpy, zipfile and zlib each have their own for a damaged file
        raise LabError(f"{path} is no file of `lab tokens` ({str(error)[:80]}); make one with -o") from None
    if theirs != codes:
        raise LabError(
            f"{path} was made by a tokenizer of {theirs} codes, and this bundle's has {codes}; tokenize again"
        )
    if (
        sequence.ndim != 1
        or not len(sequence)
        or sequence.dtype.kind not in "iu"
        or sequence.min() < 0
        or sequence.max() >= codes
    ):
        raise LabError(f"{path} does not hold a sequence of tokens from 0 to {codes - 1}; make it again")
    return sequence.astype(np.int64)
