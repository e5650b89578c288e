"""The command `lab`: how it answers and how it ends. Signals, pipes, full disks, names, JSON."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest
import soundfile as sf

import lab as package
from lab import bundle
from lab.cli import corpora, measure, train
from lab.cli.app import app
from lab.console import console
from lab.corpora import librispeech_long
from lab.measure import figures
from lab.recurrence import probe
from lab.speech import SpeechSSM, Stream
from lab.tokens import TOKEN_HOP as HOP
from lab.train import language, others, recipes
from lab.train.plan import RECIPES
from tests.commands import SECOND, lab, refused

pytestmark = pytest.mark.usefixtures("desk")


def shell(line: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """A line of bash in which `lab` is the command."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1", **variables}
    script = f'lab() {{ "{sys.executable}" -m lab "$@"; }}\n{line}'
    return subprocess.run(["bash", "-c", script], capture_output=True, text=True, env=environment)


# Signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("command", ["story", "speak"])
def test_a_signal_keeps_what_was_spoken(
    number: signal.Signals, command: str, desk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert lab("tokens", "prompt.wav", "-o", "said.npz").exit_code == 0
    chunks: list[int] = []

    def append(writer: Any, waveform: np.ndarray, whole: Any = package.audio.Writer.append) -> None:
        whole(writer, waveform)
        chunks.append(len(waveform))
        os.kill(os.getpid(), number)
        os.kill(os.getpid(), number if number != signal.SIGINT else signal.SIGTERM)  # a terminal sends several

    monkeypatch.setattr(package.audio.Writer, "append", append)
    before = signal.getsignal(number)
    words = {"story": ("prompt.wav", "--minutes", SECOND), "speak": ("said.npz", "--speaker", "prompt.wav")}[command]
    result = lab(command, *words, "-o", "s.wav")
    assert result.exit_code == 128 + number and "Traceback" not in result.output
    assert len(chunks) == 1 and sf.info("s.wav").frames == chunks[0] > 0
    assert {path.name for path in desk.iterdir()} == {"prompt.wav", "said.npz", "s.wav"}
    assert signal.getsignal(number) == before


def test_a_signal_that_is_ignored_stays_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """nohup lab story ...: the closing terminal is no reason to stop."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        whole = Stream.__next__
        monkeypatch.setattr(Stream, "__next__", lambda self: (os.kill(os.getpid(), signal.SIGHUP), whole(self))[1])
        assert lab("story", "prompt.wav", "--minutes", SECOND).exit_code == 0
    finally:
        signal.signal(signal.SIGHUP, before)


# Standard output and standard error


def ended(monkeypatch: pytest.MonkeyPatch, stdout: IO[str], *words: str) -> tuple[Any, str]:
    """Exit code and standard error of `lab`, which writes to `stdout`."""
    with monkeypatch.context() as patch, pytest.raises(SystemExit) as end:
        patch.setattr(sys, "stdout", stdout)
        patch.setattr(sys, "stderr", io.StringIO())
        try:
            app(list(words))
        finally:
            said = sys.stderr.getvalue()  # type: ignore[attr-defined]
    return end.value.code, said


@pytest.mark.parametrize(
    "command", ["card", "card --json", "tokens prompt.wav", "story prompt.wav --minutes 0.02 -o -"]
)
def test_a_full_standard_output(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with open("/dev/full", "w") as full:
        code, said = ended(monkeypatch, full, "-q", *command.split())
    assert code == 2 and said == "lab: cannot write to standard output: No space left on device\n"


def test_streams_that_are_full_or_closed_as_a_process() -> None:
    done = shell("for to in '> /dev/full' '>&-'; do eval lab --help $to; echo $? >&2; done; lab --version 2>&-")
    full, first, closed, second = done.stderr.splitlines()
    assert full.startswith("lab: ") and full.endswith("No space left on device") and first == second == "2"
    assert closed.startswith("lab: ") and closed.endswith("Bad file descriptor")
    assert done.stdout == f"speechssm-lab {package.__version__}\n" and done.returncode == 0


def test_a_full_standard_error_costs_messages_only(monkeypatch: pytest.MonkeyPatch) -> None:
    full = io.TextIOWrapper(io.FileIO("/dev/full", "w"), write_through=True)
    with monkeypatch.context() as patch, pytest.raises(SystemExit) as end:
        patch.setattr(sys, "stderr", full)
        app(["story", "prompt.wav", "--minutes", SECOND])
    assert end.value.code == 0 and sf.info("story.wav").frames == 125 * HOP


@pytest.mark.parametrize("command", ["card", "story prompt.wav --minutes 0.02 -o -"])
def test_whoever_has_read_enough_ends_it_quietly(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with io.TextIOWrapper(io.FileIO(writer, "w"), write_through=True) as pipe:
        assert ended(monkeypatch, pipe, "-q", *command.split()) == (128 + signal.SIGPIPE, "")


def test_audio_through_a_pipe_is_what_a_file_holds() -> None:
    assert lab("story", "prompt.wav", "--minutes", SECOND).exit_code == 0
    piped = lab("story", "prompt.wav", "--minutes", SECOND, "-o", "-")
    assert piped.exit_code == 0 and piped.stdout_bytes == Path("story.wav").read_bytes() and not Path("-").exists()
    spoken = lab("speak", "-", "--speaker", "prompt.wav", "-o", "-", stdin=lab("tokens", "prompt.wav").stdout_bytes)
    assert spoken.exit_code == 0, spoken.stderr
    assert sf.info(io.BytesIO(spoken.stdout_bytes)).frames == 100 * HOP
    refused("cannot carry the audio and JSON", "story", "prompt.wav", "-o", "-", "--json")


def test_lines_are_not_cut_where_there_is_no_window() -> None:
    name = "x" * 150 + " [red] :owl:"
    result = lab("story", "prompt.wav", "--minutes", SECOND, "-o", f"{name}.wav")
    assert f"{name}.wav: 5.0 s of speech" in result.stderr
    assert "1.0 s of speech" not in result.stderr and "…" not in result.stderr


def test_names_that_cannot_be_encoded() -> None:
    """Bytes that are no text, and a terminal of ASCII."""
    os.rename("prompt.wav", b"\xff\xe9.wav")
    told = lab("story", "\udcff\udce9.wav", "--minutes", SECOND, "-o", "\udcff.wav", "--json")
    assert json.loads(told.stdout)["path"] == "\udcff.wav" and Path("\udcff.wav").exists()
    done = shell("lab card --bundle $'n\\xc3\\xa9'", LC_ALL="C", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert done.returncode == 2 and done.stderr.startswith("lab: there is no bundle in n") and done.stderr.isascii()


# What it says


def test_results_as_json(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def found(*words: str) -> Any:
        result = lab(*words)
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    story = found("story", "prompt.wav", "--minutes", SECOND, "--seed", "3", "--json")
    assert story["path"] == "story.wav" and story["seconds"] == 5 and story["seed"] == 3 and not story["stopped"]
    assert len(story["tokens"]) == 125 and story["prompt_tokens"] == 100 and story["seams"] == [1.76]
    assert story["timings"].keys() == {"prompt", "language", "voice"}
    assert found("--json", "tokens", "prompt.wav")["tokens"] == story["tokens"][:100]
    doctor = found("doctor", "--json")
    assert (
        doctor["version"] == package.__version__
        and doctor["bundle"]["models"].keys() == bundle.index(tiny_bundle).keys()
    )
    assert {row["op"] for row in doctor["backends"]} == set(probe.BACKENDS)
    monkeypatch.setitem(figures.MEASURES, "codec", (lambda *_: [figures.Figure("codec", "STOI", 0.9)], 1, ()))
    (told,) = found("measure", "codec", "--json")
    assert (told["model"], told["figure"], told["value"]) == ("codec", "STOI", 0.9)


def test_quiet_and_verbose(monkeypatch: pytest.MonkeyPatch) -> None:
    assert lab("story", "prompt.wav", "--minutes", SECOND, "-q").output == ""
    assert lab("-q", "tokens", "nowhere.wav").stderr.startswith("lab: cannot read nowhere.wav") and not console.quiet

    def fail(*args: Any, **options: Any) -> None:
        raise KeyError("owl")

    monkeypatch.setattr(SpeechSSM, "stream", fail)
    refused("internal error, KeyError: 'owl'; -v shows where", "story", "prompt.wav")
    result = lab("-v", "story", "prompt.wav")
    assert result.exit_code == 2 and "Traceback" in result.stderr and "raise KeyError" in result.stderr


def test_another_bundle_for_one_command(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAB_BUNDLE", "nowhere")
    asked = ("--bundle", str(tiny_bundle))
    assert lab(*asked, "card").exit_code == lab("card", *asked).exit_code == 0
    assert os.environ["LAB_BUNDLE"] == "nowhere"


def test_version_and_completion() -> None:
    assert lab("--version").stdout == f"speechssm-lab {package.__version__}\n"
    done = shell("_LAB_COMPLETE=complete_bash COMP_WORDS='lab train gri' COMP_CWORD=2 lab")
    assert done.stdout.split() == ["griffin", "griffin30", "griffin-text", "griffin-4min", "griffin-16min"]


def test_choices_are_those_of_the_rooms() -> None:
    from lab import bench

    assert set(train.Model.__args__) == {*RECIPES, *others.SYSTEMS, "all"}
    assert [each.value for each in corpora.Split] == list(librispeech_long.SPLITS)
    assert set(measure.Measure.__args__) == {*figures.MEASURES, "all"}
    assert set(measure.Bench.__args__) == {*bench.BENCHES, "all", "card", "headlines"}
    assert train.Length.__args__ == tuple(language.LENGTHS)
    assert train.Preset.__args__ == tuple(language.PRESETS)


# What it leaves alone


@pytest.mark.parametrize("kind", ["the same name", "symbolic link", "hard link", "standard input"])
def test_an_output_that_is_read(kind: str, desk: Path) -> None:
    other = Path("other.wav")
    other.write_bytes(Path("prompt.wav").read_bytes())
    make = {"symbolic link": other.symlink_to, "hard link": other.hardlink_to}.get(kind)
    if make:
        other.unlink()
        make(Path("prompt.wav"))
    output = "prompt.wav" if kind in ("the same name", "standard input") else "other.wav"
    if kind == "standard input":
        before = Path(output).read_bytes()
        done = shell(f"lab story - --minutes {SECOND} -o {output} < {output}")
        assert done.returncode == 2 and "would be written over" in done.stderr and Path(output).read_bytes() == before
        return
    assert lab("tokens", "prompt.wav", "-o", "said.npz").exit_code == 0
    refused(f"{output} is what is read, and would be written over", "story", "prompt.wav", "-o", output)
    refused("would be written over", "story", "said.npz", "--speaker", "prompt.wav", "-o", output)
    refused("would be written over", "speak", "said.npz", "--speaker", "prompt.wav", "-o", output)
    Path("sound.npz").hardlink_to("prompt.wav")
    refused("would be written over", "tokens", "prompt.wav", "-o", "sound.npz")


@pytest.mark.parametrize(
    ("words", "kept"), [(("griffin",), False), (("griffin", "--warm"), True), (("decoder",), True)]
)
def test_training_leaves_the_bundle_in_use_alone(
    words: list[str], kept: bool, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def learn(name: str, plan: recipes.Plan) -> dict[str, Any]:
        assert plan.bundle == Path("runs/bundle")
        entries = bundle.index(plan.bundle)
        assert ("griffin" in entries) == (kept or name != "griffin") and {"tokenizer", "codec"} <= set(entries)
        assert isinstance(bundle.load(plan.bundle, "tokenizer"), package.Tokenizer)
        return {"steps": 1, "minutes": 0, "at_the_end": "", "bundle": str(plan.bundle)}

    monkeypatch.setattr(recipes, "train", learn)
    before = {path.name: path.read_bytes() for path in tiny_bundle.iterdir()}
    result = lab("train", *words)
    assert result.exit_code == 0 and "--bundle runs/bundle` speaks with it" in result.stderr
    assert {path.name: path.read_bytes() for path in tiny_bundle.iterdir()} == before
