"""The command `lab`: what it makes, and what Ctrl-C leaves."""

from __future__ import annotations

import inspect
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
import torch

from lab import audio, recurrence, speech
from lab.cli.story import story
from lab.corpora import narrators
from lab.measure import figures
from lab.recurrence import Row
from lab.speech import SpeechSSM, Stream
from lab.tokens import TOKEN_HOP
from tests.commands import RATE, SECOND, lab

pytestmark = pytest.mark.usefixtures("desk")


def test_a_story_of_a_file(desk: Path) -> None:
    result = lab("story", "prompt.wav", "--minutes", "0.05", "--seed", "3")
    assert result.exit_code == 0, result.output
    waveform, rate = sf.read("story.wav")
    assert rate == RATE and len(waveform) == TOKEN_HOP * (100 + 75)
    assert "story.wav: 7.0 s of speech" in result.stderr and "seed 3" in result.stderr
    assert {path.name for path in desk.iterdir()} == {"prompt.wav", "story.wav"}


def test_a_story_of_standard_input_in_another_voice() -> None:
    audio.save(
        "boaz.flac",
        narrators.named("Boaz").read("the queen gave the owl some bread, and the owl was glad and thankful."),
    )
    assert lab("story", "prompt.wav", "--minutes", SECOND).exit_code == 0
    told = sf.read("story.wav")[0]
    piped = Path("prompt.wav").read_bytes()
    assert lab("story", "-", "--minutes", SECOND, "-o", "same.flac", stdin=piped).exit_code == 0
    np.testing.assert_allclose(sf.read("same.flac")[0], told, atol=2e-4)
    result = lab("story", "-", "--minutes", SECOND, "--speaker", "boaz.flac", "-o", "other.wav", stdin=piped)
    assert result.exit_code == 0
    other = sf.read("other.wav")[0]
    assert len(other) == len(told) and np.abs(other - told).max() > 0.01


def test_any_integer_is_a_seed() -> None:
    for seed in (-1, 99999999999999999999):
        assert lab("story", "prompt.wav", "--minutes", SECOND, "--seed", str(seed)).exit_code == 0


def test_a_story_by_the_baseline_is_another() -> None:
    options = ("--minutes", SECOND, "--temperature", "1")  # at less, untrained models repeat the last token
    assert lab("story", "prompt.wav", *options).exit_code == 0
    assert lab("story", "prompt.wav", *options, "--baseline", "transformer", "-o", "b.wav").exit_code == 0
    assert Path("b.wav").stat().st_size == Path("story.wav").stat().st_size
    assert Path("b.wav").read_bytes() != Path("story.wav").read_bytes()


def test_a_story_is_sampled_as_the_measures_sample() -> None:
    assert inspect.signature(story).parameters["temperature"].default == speech.TEMPERATURE


def test_names_are_told_as_they_are() -> None:
    """Rich would take [bold] for its own."""
    result = lab("story", "prompt.wav", "--minutes", SECOND, "-o", "[bold]:owl:.wav")
    assert "[bold]:owl:.wav: 5.0 s" in result.stderr and Path("[bold]:owl:.wav").exists()


def test_tokens_and_back(tiny_bundle: Path) -> None:
    expected = SpeechSSM.load(tiny_bundle).tokenizer.encode(audio.set_level(audio.load("prompt.wav"))).tolist()
    printed = lab("tokens", "prompt.wav")
    assert printed.exit_code == 0 and [int(token) for token in printed.stdout.split()] == expected
    assert "100 tokens, 25 a second" in printed.stderr
    saved = lab("tokens", "-", "-o", "said.npz", stdin=Path("prompt.wav").read_bytes())
    assert saved.exit_code == 0 and saved.stdout == ""
    with np.load("said.npz") as file:
        assert file["tokens"].tolist() == expected and file["codes"] == 32
    result = lab("speak", "said.npz", "--speaker", "prompt.wav")
    assert result.exit_code == 0, result.output
    assert sf.info("speech.wav").frames == TOKEN_HOP * 100
    assert {path.name for path in Path().iterdir()} == {"prompt.wav", "said.npz", "speech.wav"}


def test_doctor_tells_of_backends_and_bundle(tiny_bundle: Path) -> None:
    result = lab("doctor")
    assert result.exit_code == 0, result.output
    for word in ("torch", "rg_lru", "causal_conv1d", "numba", "reference", "griffin", "soundstorm", "0.0"):
        assert word in result.stdout
    assert str(tiny_bundle) in result.stdout.replace("\n", "")


def test_doctor_tells_of_the_gpu_and_how_to_install_what_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    off = Row("rg_lru", "mamba-ssm", False, "mamba_ssm is not installed", "make cuda")
    monkeypatch.setattr(recurrence, "backends", lambda: [off, Row("rg_lru", "triton", True, "works", "pip install")])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "GPU: none that torch can use" in lab("doctor").stdout
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H200")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    text = " ".join(lab("doctor").stdout.replace("│", " ").split())
    assert "GPU: NVIDIA H200, sm_90" in text and "pip install" not in text
    assert "rg_lru mamba-ssm no mamba_ssm is not installed; to install it: make cuda" in text


def test_figures_are_printed_and_saved(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAB_BUNDLE", str(shutil.copytree(tiny_bundle, "bundle")))
    told = figures.Figure("codec", "heard", 0.5, low=0.25, high=0.75, n=16, of=31, temperature=0.7, kept=False)
    rows = [figures.Figure("codec", "STOI", 0.9123), told]
    monkeypatch.setitem(figures.MEASURES, "codec", (lambda ssm, speech, count: rows * count, 1, ()))
    result = lab("measure", "codec", "--count", "2", "--save")
    assert result.exit_code == 0, result.output
    assert result.stdout.count("STOI") == 2 and "0.912" in result.stdout
    card = json.loads(Path("bundle/bundle.json").read_text())["codec"]["card"]
    figure = card["figures"]["STOI"]
    assert (figure["command"], figure["n"]) == ("lab measure codec --count 2", 2)
    assert "| codec | STOI | 0.9123 |" in lab("card").stdout and list(card["figures"]) == ["STOI"]
    cells = next(line for line in result.stdout.splitlines() if "heard" in line).replace("│", " ").split()
    assert cells == "codec heard 0.5 0.25 to 0.75 31 in 16 0.7".split()


def test_help_names_the_commands() -> None:
    result = lab("--help")
    assert all(word in result.stdout for word in ("story", "tokens", "speak", "train", "measure", "doctor"))


# As a process


def process(*words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", "from lab.cli import app; app()", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"},
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # a shell's background job ignores it
    )


def test_ctrl_c_keeps_what_was_spoken(desk: Path) -> None:
    with process("story", "prompt.wav", "--minutes", "60") as running:
        patience = time.monotonic() + 300
        while not any(path.stat().st_size > 700_000 for path in desk.glob(".story.*")):
            assert running.poll() is None and time.monotonic() < patience, running.communicate()
            time.sleep(0.1)
        running.send_signal(signal.SIGINT)
        _, errors = running.communicate(timeout=120)
    assert running.returncode == 130, errors
    assert "Traceback" not in errors and "stopped: story.wav" in errors
    assert 20 * RATE < sf.info("story.wav").frames < 600 * RATE
    assert np.isfinite(sf.read("story.wav")[0]).all()
    assert {path.name for path in desk.iterdir()} == {"prompt.wav", "story.wav"}


@pytest.mark.parametrize("where", [Stream, SpeechSSM], ids=lambda where: where.__name__)
def test_ctrl_c_before_anything_was_spoken(monkeypatch: pytest.MonkeyPatch, where: type) -> None:
    def stop(*args: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(where, {Stream: "__next__", SpeechSSM: "stream"}[where], stop)
    result = lab("story", "prompt.wav")
    assert result.exit_code == 130, result.output
    assert "Traceback" not in result.output
    assert ("nothing was written" in result.stderr) == (where is Stream)
    assert [path.name for path in Path().iterdir()] == ["prompt.wav"]


def test_a_process_that_is_refused() -> None:
    with process("story", "nowhere.wav") as refusal:
        output, errors = refusal.communicate(timeout=300)
    assert refusal.returncode == 2 and output == ""
    assert errors == "lab: cannot read nowhere.wav: No such file or directory; give an audio file\n"
