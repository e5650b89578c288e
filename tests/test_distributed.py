"""lab.train in several processes, on CPUs (gloo): they learn together what one process would."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lab import bundle
from lab.language import Griffin, GriffinConfig
from lab.train import shares
from tests import processes
from tests.conftest import ROOT

MEASURED = ("memory_gb", "tokens_per_second", "mfu")
LAUNCHED = [sys.executable, "-m", "tests.processes"]
TORCHRUN = [
    sys.executable,
    "-m",
    "torch.distributed.run",
    "--standalone",
    "--nproc-per-node=2",
    "-m",
    "tests.processes",
]


def run(*words: str | Path, command: list[str] = LAUNCHED) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in ("LOCAL_RANK", "WORLD_SIZE")}
    environment |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(
        [*command, *map(str, words)], cwd=ROOT, env=environment, text=True, capture_output=True, timeout=240
    )  # fmt: skip


def curve(folder: Path) -> dict[tuple[int, str], float]:
    with (folder / "log.csv").open(newline="") as file:
        rows = [(int(step), name, float(value)) for step, _, name, value in csv.reader(file)]
    assert len({row[:2] for row in rows}) == len(rows)  # of several processes one writes
    return {(step, name): value for step, name, value in rows if name not in MEASURED}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One process that sees the whole batch."""
    folder = tmp_path_factory.mktemp("alone")
    processes.main([str(folder)])
    assert sorted(curve(folder)) == sorted(
        [(step, name) for step in range(1, 9) for name in ("loss", "gradient_norm", "learning_rate")]
        + [(4, "held_out_loss"), (8, "held_out_loss")]
    )
    return folder


def same(folder: Path, alone: Path) -> None:
    """The loss curve, and the weights at its end."""
    theirs, ours = curve(alone), curve(folder)
    assert ours.keys() == theirs.keys()
    assert [ours[key] for key in theirs] == pytest.approx(list(theirs.values()), rel=1e-4)
    expected = torch.load(alone / "weights.pt", weights_only=True)
    for name, value in torch.load(folder / "weights.pt", weights_only=True).items():
        torch.testing.assert_close(value, expected[name], rtol=1e-3, atol=1e-4, msg=name)


def test_two_processes_learn_what_one_does(alone: Path, tmp_path: Path) -> None:
    """Each has half of the batch that the one has, in two passes: its loss curve is that of one process."""
    said = run(tmp_path, "--accumulate", "2", command=TORCHRUN)
    assert said.returncode == 0, said.stderr
    same(tmp_path, alone)


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_processes_stop_together_and_one_goes_on(strategy: str, alone: Path, tmp_path: Path) -> None:
    """A signal to one of them ends both after the same step; the checkpoint is one that a single process reads."""
    said = run(tmp_path, "--devices", "2", "--strategy", strategy, "--signal", "6")
    assert said.returncode != 0 and "KeyboardInterrupt" in said.stderr, said.stderr
    path = tmp_path / ("checkpoint-7/rest.pt" if strategy == "fsdp" and shares.USABLE else "checkpoint.pt")
    state = torch.load(path, weights_only=True)
    assert state["step"] == 7 and len(state["random"]) == 2
    processes.main([str(tmp_path)])
    same(tmp_path, alone)
    assert not list(tmp_path.glob("checkpoint-*"))  # that of one process took its place


def test_weights_to_begin_with_are_read_by_one_process(tmp_path: Path) -> None:
    """The others get their share of them."""
    torch.manual_seed(5)
    bundle.save(tmp_path / "b", "griffin", Griffin(GriffinConfig.preset("tiny", vocabulary=16)), {})
    alone, both = tmp_path / "alone", tmp_path / "both"
    for folder in (alone, both):
        folder.mkdir()
    processes.main([str(alone), "--init", str(tmp_path / "b")])
    said = run(both, "--devices", "2", "--strategy", "fsdp", "--init", tmp_path / "b")
    assert said.returncode == 0, said.stderr
    same(both, alone)
    assert [(both / f"begun-{rank}").read_text() for rank in range(2)] == ["cpu", "meta"]
    (tmp_path / "b/griffin.safetensors").write_bytes(b"half")
    said = run(both, "--devices", "2", "--strategy", "fsdp", "--init", tmp_path / "b")
    assert said.returncode != 0
    assert sum("griffin.safetensors is damaged" in line for line in said.stderr.splitlines()) == 2, said.stderr


def test_a_full_disk_ends_all_processes(tmp_path: Path) -> None:
    """The first one writes; the other must not wait for it."""
    said = run(tmp_path, "--devices", "2", "--full", "3")
    assert said.returncode != 0
    lines = [line for line in said.stderr.splitlines() if "LabError: cannot write" in line and "File too large" in line]
    assert len(lines) == 2 and "; the last good checkpoint is that of step 3" in lines[0], said.stderr
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"] == 3
    assert not [*tmp_path.glob("*part*"), *tmp_path.glob(".*part*")]
