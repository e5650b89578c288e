"""lab story, tokens and speak: speech in, speech out."""

from __future__ import annotations

import io
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import IO, Annotated, Any, cast

import numpy as np
import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from lab import audio
from lab.audio.writing import WavStream
from lab.cli.app import answer, command, printing, settings, stopped
from lab.console import console
from lab.errors import LabError
from lab.files import replacing, same_file

Seed = Annotated[int, typer.Option(help="Any integer; the same one gives the same story.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, mps: where the models compute.")]
Output = Annotated[Path, typer.Option("--output", "-o", help=".wav, .flac or .ogg; - writes WAV to a pipe")]
PIPE = Path("-")


@command
def story(
    prompt: Annotated[str, typer.Argument(help="An audio file of 3 s or more, any rate; - reads standard input.")],
    minutes: Annotated[float, typer.Option(min=0, help="Minutes of new speech.")] = 4.0,
    speaker: Annotated[
        str | None, typer.Option(help="3 s or more of the voice to tell it in; the prompt's own if left out.")
    ] = None,
    seed: Seed = 0,
    temperature: Annotated[float, typer.Option(min=0, help="Of sampling; the paper's is 1, 0 is greedy.")] = 0.5,
    language: Annotated[
        str,
        typer.Option("--language", "--baseline", help="A language model of the bundle: transformer, griffin30, ..."),
    ] = "griffin",
    device: Device = None,
    output: Output = Path("story.wav"),
) -> None:
    """Continue a spoken prompt, in its own voice or another."""
    check_apart(output, prompt, speaker)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[speed]}"), TimeElapsedColumn())
    interrupt: KeyboardInterrupt | None = None
    with writer_of(output) as writer:  # first of all: an hour of speech that cannot be written is an hour lost
        import torch

        from lab import machine
        from lab.speech import SpeechSSM

        machine.keep_freed_memory()
        ssm = SpeechSSM.load(language=language, device=device)
        stream = ssm.stream(prompt, 60 * minutes, speaker=speaker, seed=seed, temperature=temperature)
        total = stream.prompt_tokens / 25 + 60 * minutes
        try:
            with Progress(*columns, console=console) as progress:
                bar = progress.add_task("the first window", total=total, speed="")
                for chunk in stream:
                    writer.append(chunk.waveform)
                    progress.update(
                        bar,
                        completed=writer.seconds,
                        description=f"{writer.seconds:.0f} of {total:.0f} s of speech",
                        speed=f"{writer.seconds / sum(stream.timings.values()):.1f} x real time",
                    )
        except KeyboardInterrupt as error:
            interrupt = error
    if interrupt and not writer.samples:
        console.print("stopped before the first window was spoken: nothing was written")
        raise typer.Exit(stopped(interrupt))
    made = torch.tensor(stream.tokens)
    heard = ssm.tokenizer.transcribe(made[: stream.prompt_tokens])
    spoken = ssm.tokenizer.transcribe(made[stream.prompt_tokens :]) if len(made) > stream.prompt_tokens else ""
    took = sum(stream.timings.values())
    console.print(f"prompt     {heard}")
    console.print(f"went on    {shortened(spoken)}")
    console.print(
        f"{'stopped: ' if interrupt else ''}{output}: {writer.seconds:.1f} s of speech in {took:.1f} s, "
        f"{writer.seconds / took:.2f} x real time (language model {stream.timings['language']:.1f} s), seed {seed}"
    )
    if output != PIPE:
        found = {"path": str(output), "seconds": writer.seconds, "seed": seed, "stopped": interrupt is not None}
        found |= {"prompt_tokens": stream.prompt_tokens, "tokens": stream.tokens, "timings": stream.timings}
        answer(found | {"seams": stream.seams, "prompt_text": heard, "text": spoken})
    if interrupt:
        raise typer.Exit(stopped(interrupt))


@command
def tokens(
    file: Annotated[str, typer.Argument(help="An audio file of any length; - reads standard input.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="A .npz for `lab speak`.")] = None,
) -> None:
    """Speech to semantic tokens, and the text that they spell."""
    from lab import bundle
    from lab.tokens import TOKEN_RATE, Tokenizer

    if output is not None:
        check_apart(output, file)
        if output.suffix != ".npz":
            raise LabError(f"cannot write {output}: its name must end in .npz")
    tokenizer = bundle.load(bundle.folder(), "tokenizer")
    assert isinstance(tokenizer, Tokenizer)
    waveform = audio.load(file)
    audio.check_prompt(waveform, min_seconds=0.2, name="standard input" if file == "-" else file)
    sequence = tokenizer.encode(audio.set_level(waveform))
    text = tokenizer.transcribe(sequence)
    if output is not None:
        with replacing(output) as part:
            np.savez_compressed(part, tokens=sequence.numpy().astype(np.int32), codes=tokenizer.config.codes)
    found = {"tokens": sequence.tolist(), "seconds": len(sequence) / TOKEN_RATE, "text": text, "path": output}
    answer(found, *([] if output else [" ".join(map(str, sequence.tolist()))]))
    console.print(f"{len(sequence)} tokens, {TOKEN_RATE} a second, {len(sequence.unique())} different")
    console.print(shortened(text))


@command
def speak(
    tokens: Annotated[str, typer.Argument(help="A .npz of `lab tokens`; - reads one, or tokens as text, from a pipe.")],
    speaker: Annotated[str, typer.Option(help="3 s or more of the voice to speak in.")],
    seed: Seed = 0,
    device: Device = None,
    output: Output = Path("speech.wav"),
) -> None:
    """Semantic tokens to speech, in anyone's voice."""
    check_apart(output, tokens, speaker)
    with writer_of(output) as writer:
        from lab import machine
        from lab.speech import SpeechSSM

        machine.keep_freed_memory()
        ssm = SpeechSSM.load(device=device)
        sequence = load_tokens(tokens, ssm.tokenizer.vocabulary)
        reference = ssm.prepare_prompt(speaker, "the speaker")
        voice = ssm.voice.prompt(reference, ssm.tokenizer.encode(reference))
        for waveform in ssm.voice.stream(iter(sequence.tolist()), voice, seed=seed):
            writer.append(waveform)
    console.print(f"{output}: {writer.seconds:.1f} s of speech")
    if output != PIPE:
        answer({"path": output, "seconds": writer.seconds, "tokens": len(sequence), "seed": seed})


class Pipe:
    """WAV on standard output as it is spoken, in place of an `audio.Writer`."""

    def __init__(self) -> None:
        if sys.stdout.isatty():
            raise LabError("standard output is a terminal; pipe the audio into a player or a file, or name one with -o")
        if settings.json:
            raise LabError("standard output cannot carry the audio and JSON; name a file with -o")
        self.samples, self.seconds, self._wav = 0, 0.0, cast(WavStream, None)

    def append(self, waveform: np.ndarray) -> None:
        with printing():
            self._wav = self._wav or WavStream(cast(IO[bytes], sys.stdout.buffer))
            self._wav.write(waveform)
        self.samples += len(waveform)
        self.seconds = self.samples / audio.SAMPLE_RATE


def writer_of(output: Path) -> AbstractContextManager[Pipe | audio.Writer]:
    return nullcontext(Pipe()) if output == PIPE else audio.Writer(output)


def check_apart(output: Path, *sources: str | None) -> None:
    """Raises LabError where the output is one of the files that are read, by whatever name."""
    if any(source and same_file(output, "/dev/stdin" if source == "-" else source) for source in sources):
        raise LabError(f"{output} is what is read, and would be written over; name another file with -o")


def shortened(text: str, most: int = 700) -> str:
    return text if len(text) <= most else text[:most].rsplit(" ", 1)[0] + " ..."


def load_tokens(path: str, codes: int) -> np.ndarray:
    """(T,) int64 from a file of `lab tokens`, or from standard input. LabError unless each is from 0 to codes - 1."""
    name, theirs = "standard input" if path == "-" else path, codes
    sequence: Any
    try:
        data = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
        if path == "-" and not data.startswith(b"PK"):
            sequence = np.array([int(word) for word in data.split()])
        else:
            with np.load(io.BytesIO(data), allow_pickle=False) as file:
                sequence, theirs = file["tokens"], int(file["codes"])
    except FileNotFoundError:
        raise LabError(f"there is no file {path}; `lab tokens FILE -o {path}` makes one") from None
    except Exception as error:  # numpy, zipfile and zlib each have their own for a damaged file
        raise LabError(f"{name} is no file of `lab tokens` ({str(error)[:80]}); make one with -o") from None
    if theirs != codes:
        raise LabError(f"{name} is of a tokenizer of {theirs} codes, and this bundle's has {codes}; tokenize again")
    fits = sequence.ndim == 1 and len(sequence) and sequence.dtype.kind in "iu"
    if not fits or sequence.min() < 0 or sequence.max() >= codes:
        raise LabError(f"{name} does not hold a sequence of tokens from 0 to {codes - 1}; make it again")
    return sequence.astype(np.int64)
