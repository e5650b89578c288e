"""The contracts of the notebooks see a wrong constant in the lab: with one, nbval must fail, and say where."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("file", "constant", "mutant", "notebook", "contract"),
    [
        (
            "windows.py",
            "SYNTHESIS = Windowing(675, 100)",
            "SYNTHESIS = Windowing(675, 60)",
            "02_window_stitching",
            "seams in 4 minutes",
        ),
    ],
)
def test_nbval_sees_a_mutant(tmp_path: Path, file: str, constant: str, mutant: str, notebook: str, contract: str):
    shutil.copytree(ROOT / "lab", tmp_path / "lab", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "data").symlink_to(ROOT / "data")
    (tmp_path / "notebooks").mkdir()
    copy = nbformat.read(ROOT / "notebooks" / f"{notebook}.ipynb", as_version=4)
    imports = next(cell for cell in copy.cells if cell.cell_type == "code")
    printing = next(cell for cell in copy.cells if contract in str(cell.get("outputs")))
    copy.cells = [imports, printing]  # the others take time and prove nothing
    nbformat.write(copy, tmp_path / "notebooks" / f"{notebook}.ipynb")
    source = (tmp_path / "lab" / file).read_text()
    assert source.count(constant) == 1
    (tmp_path / "lab" / file).write_text(source.replace(constant, mutant))

    options = [f"--rootdir={tmp_path}", f"--nbval-sanitize-with={ROOT}/tests/notebooks/sanitize.cfg"]
    # -rN: the short summary repeats a mismatch where CI is set and not elsewhere, and mismatches are counted below.
    options += ["-q", "-rN", "--color=no", "--nbval-lax", "--nbval-current-env"]
    command = [sys.executable, "-m", "pytest", *options, "notebooks"]
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "LAB_PROFILE": "smoke", "OMP_NUM_THREADS": "1"}
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert run.returncode == 1, run.stdout  # 1: tests failed; 0: nobody noticed; above: nbval could not run
    assert "mismatch 'stdout'" in run.stdout and contract in run.stdout, run.stdout
    failed = int(re.findall(r"(\d+) failed", run.stdout)[-1])
    assert run.stdout.count("mismatch 'stdout'") == failed, run.stdout  # a mutant that cannot run proves nothing
