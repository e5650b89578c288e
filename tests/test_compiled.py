"""lab.recurrence.compiled: kernels leave torch's threads alone, survive a fork, and need no place to write."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from lab.recurrence import causal_conv1d, compiled, cpu, rg_lru
from tests.test_recurrence import assert_parity

ROOT = Path(__file__).parents[1]
SCAN = """
import multiprocessing, os, torch
from lab.recurrence import causal_conv1d, rg_lru
def scan(_=None):
    x = torch.rand(2, 256, 256)  # more than one thread's work
    reset = torch.zeros(2, 256, dtype=torch.bool)
    with torch.inference_mode():
        y, _ = rg_lru(x, x, x, x[0, 0], reset=reset, backend="numba")
        y, _ = causal_conv1d(y, x[0, :256, :4], x[0, 0], backend="numba")
    return float((y @ y.transpose(1, 2)).sum())
"""


def run(program: str, **env: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, env=os.environ | env, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


MAKEFILE = (ROOT / "Makefile").read_text()
ONE = dict(word.split("=") for word in re.findall(r"^ONE := (.*?) *#", MAKEFILE, re.M)[0].split())


def test_notebooks_have_one_thread_each() -> None:
    """Under `make lab`, as where they are run and tested: ONE is what the next test runs with."""
    started = r"^\t(?!\t).*(?:jupyter lab|nbval|tests\.notebooks\.execute|tests/browser).*$"
    commands = re.findall(started, MAKEFILE, re.M)
    assert len(commands) >= 4 and all("$(ONE) " in command for command in commands if "--ignore" not in command)


@pytest.mark.parametrize(("threads", "given"), [(1, ONE), (2, {"OMP_NUM_THREADS": "2"})])
def test_kernels_have_no_threads_beside_torchs(threads: int, given: dict[str, str]) -> None:
    """In a fresh process: torch has as many as before, and all together work at most so many times as long as one.

    CPU time over CPU time: other processes, which take wall time, change nothing.
    """
    program = f"""{SCAN}
import time
scan(); print(torch.get_num_threads())
one, every = time.thread_time(), time.process_time()
for _ in range(30):
    scan()
print((time.process_time() - every) / (time.thread_time() - one), torch.get_num_threads())
"""
    before, busy, after = run(program, **given).split()
    assert (before, after) == (str(threads), str(threads)) and float(busy) < {1: 1.1, 2: 2.4}[threads]


@pytest.mark.skipif(sys.platform != "linux", reason="torch brings GNU's OpenMP on Linux alone")
@pytest.mark.parametrize(("given", "wanted"), [({}, "1000"), ({"GOMP_SPINCOUNT": "7"}, "7")])
def test_torchs_threads_wait_asleep(given: dict[str, str], wanted: str) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("GOMP", "OMP_WAIT"))}
    done = subprocess.run(
        [sys.executable, "-c", "from lab import LabError; import torch"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment | {"OMP_DISPLAY_ENV": "verbose"} | given,
        timeout=300,
    )
    assert done.returncode == 0 and f"GOMP_SPINCOUNT = '{wanted}'" in done.stderr, done.stderr


@pytest.mark.parametrize("name", ["rg_lru", "causal_conv1d"])
def test_threads_divide_sequences_and_channels(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    workers: list[int] = []

    def in_threads(kernel: Any, count: int, *arguments: Any) -> None:
        workers.append(count)
        compiled.in_threads(kernel, count, *arguments)

    monkeypatch.setattr(cpu, "in_threads", in_threads)
    monkeypatch.setattr(cpu, "SMALL", 0)
    monkeypatch.setattr(cpu, "MIN_CHANNELS", 64)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        for shape in ((1, 40, 130), (2, 20, 200), (5, 20, 64)):
            assert_parity(name, "numba", "middle", shape)
    finally:
        torch.set_num_threads(before)
    assert set(workers) == {3}


def test_a_forked_process_goes_on_alone() -> None:
    """OpenMP's threads are not there in the child: torch would wait for them, and numba would end the process."""
    program = f"""{SCAN}
torch.set_num_threads(2)
scan()
with multiprocessing.get_context("fork").Pool(1) as pool:
    print(len(pool.map_async(scan, range(2)).get(120)))
"""
    assert run(program).strip() == "2"


def test_a_fork_waits_until_nothing_is_being_compiled() -> None:
    """The thread that compiles is not there in the child, which would find numba at work for ever."""
    program = """import multiprocessing, threading, time
import numba
from numba.extending import overload
import lab.recurrence.compiled

begun = threading.Event()

def more(x):
    pass

@overload(more)
def _more(x):
    begun.set()
    time.sleep(1)
    return lambda x: x + 1

@numba.njit
def kernel(x):
    return more(x)

def told(x):
    return kernel(x)

threading.Thread(target=kernel, args=(1,)).start()
begun.wait()
with multiprocessing.get_context("fork").Pool(1) as pool:
    print(pool.map_async(told, [2]).get(60))
"""
    assert run(program).strip() == "[3]"


def test_where_nothing_can_be_written(tmp_path: Path) -> None:
    """No place for numba's cache beside the source, in the home or where NUMBA_CACHE_DIR says."""
    shutil.copytree(ROOT / "lab", tmp_path / "lab", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("recurrence", "language"):  # a file where the folder would be: not even root can write there
        (tmp_path / "lab" / name / "__pycache__").touch()
    (tmp_path / "home").touch()
    program = SCAN + "scan(); import lab; print(lab.__file__)"
    env = {"PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1", "NUMBA_CACHE_DIR": str(tmp_path / "home" / "x")}
    out = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | env | {"HOME": str(tmp_path / "home"), "XDG_CACHE_HOME": str(tmp_path / "home")},
    )
    assert out.returncode == 0, out.stderr
    assert out.stdout.strip() == str(tmp_path / "lab" / "__init__.py")


def test_a_kept_kernel_is_not_taken_when_another_source_has_changed(tmp_path: Path, monkeypatch) -> None:
    source = tmp_path / "kernel.py"
    source.write_text("from lab.recurrence.compiled import jit\n\n\n@jit()\ndef one_more(x):\n    return x + 1\n")

    def compiled_anew() -> bool:
        spec = importlib.util.spec_from_file_location("kernel", source)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        assert module.one_more(1) == 2
        return not module.one_more.stats.cache_hits

    assert {"lean.py", "integers.py", "cpu.py", "fused.py"} < {name for name, *_ in compiled._STAMP}
    assert compiled_anew() and not compiled_anew()
    monkeypatch.setattr(compiled, "_STAMP", (*compiled._STAMP[1:], ("cpu.py", 0.0, 0)))
    assert compiled_anew() and not compiled_anew()


@pytest.mark.parametrize("op", ["rg_lru", "causal_conv1d"])
def test_a_gradient_of_a_gradient_is_refused(op: str) -> None:
    """The kernels' backward is no graph: a second derivative through it would miss most of its terms."""
    x = torch.rand(1, 6, 8, requires_grad=True)
    if op == "rg_lru":
        y, _ = rg_lru(x, x.sigmoid(), x.sigmoid(), torch.rand(8), backend="numba")
    else:
        y, _ = causal_conv1d(x, torch.rand(8, 4, requires_grad=True), torch.rand(8), backend="numba")
    (gradient,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="cannot be differentiated again"):
        gradient.square().sum().backward()
