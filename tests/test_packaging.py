"""pyproject.toml holds the versions; the Makefile, environment.yml and this environment follow it."""

from __future__ import annotations

import re
import subprocess
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = {name: list(map(Requirement, lines)) for name, lines in PROJECT["optional-dependencies"].items()}
CORE = list(map(Requirement, PROJECT["dependencies"]))
NAMED = {requirement.name: requirement for requirement in sum(EXTRAS.values(), CORE)}
CONDA = yaml.safe_load((ROOT / "environment.yml").read_text())
MAKEFILE = (ROOT / "Makefile").read_text()


def pip_lines() -> list[str]:
    return next(entry["pip"] for entry in CONDA["dependencies"] if isinstance(entry, dict))


def makefile_torch() -> str:
    return re.findall(r"^TORCH \?= (.+)$", MAKEFILE, re.MULTILINE)[0]


def test_conda_python_is_one_of_the_projects() -> None:
    version = next(line for line in CONDA["dependencies"] if str(line).startswith("python=")).split("=")[1]
    assert SpecifierSet(PROJECT["requires-python"]).contains(version)


def test_conda_installs_the_makefiles_torch_and_then_the_project() -> None:
    torch, editable = pip_lines()
    assert torch == makefile_torch()
    assert "pip" in CONDA["dependencies"] and CONDA["name"] == PROJECT["name"]
    path, extras = re.fullmatch(r"-e (\.)\[([\w,]+)\]", editable).groups()  # type: ignore[union-attr]
    assert (ROOT / path / "pyproject.toml").exists()
    assert set(extras.split(",")) <= set(EXTRAS)
    assert f'-e ".[{extras}]"' in MAKEFILE


def test_the_makefiles_torch_suits_the_project() -> None:
    (pin,) = Requirement(makefile_torch()).specifier
    assert pin.operator == "==" and NAMED["torch"].specifier.contains(pin.version)


def test_every_package_of_the_lab_is_named() -> None:
    assert {"torch", "librosa", "plotly", "ipython", "jupyterlab"} <= {line.name for line in CORE}
    assert {"mamba-ssm", "causal-conv1d"} == {line.name for line in EXTRAS["cuda"]}
    assert str(NAMED["nbval"].specifier) == "==0.11.0"


@pytest.mark.parametrize("requirement", [*CORE, *EXTRAS["test"]], ids=lambda requirement: requirement.name)
def test_what_is_installed_suits_the_project(requirement: Requirement) -> None:
    try:
        version = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        if requirement in CORE:
            raise
        pytest.skip(f"{requirement.name} is not installed")
    assert requirement.specifier.contains(version, prereleases=True)


def test_every_target_says_what_it_does() -> None:
    phony = re.findall(r"^\.PHONY: (.+)$", MAKEFILE, re.MULTILINE)[0].split()
    shown = subprocess.run(
        ["make", "--no-print-directory", "help"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert [line.split()[0] for line in shown.splitlines()] == phony
    assert all(len(line.split()) > 2 for line in shown.splitlines())


@pytest.mark.parametrize("target", ["lab", "test", "story"])
def test_targets_begin_with_setup(target: str) -> None:
    assert re.search(rf"^{target}: setup ", MAKEFILE, re.MULTILINE)


def test_ci_calls_make_test() -> None:
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111
    assert script.read_text().rstrip().endswith("\nmake test")
    subprocess.run(["bash", "-n", str(script)], check=True)


def test_licence() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert PROJECT["license"] == "Apache-2.0"
    assert "Apache License" in text and "END OF TERMS AND CONDITIONS" in text
