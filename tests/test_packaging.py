"""What is installed, and by which names: pyproject.toml, the Makefile, environment.yml, the wheel."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import tomllib
import venv
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

import lab
from lab import extras, paths

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = {name: list(map(Requirement, lines)) for name, lines in PROJECT["optional-dependencies"].items()}
CORE = list(map(Requirement, PROJECT["dependencies"]))
CONDA = yaml.safe_load((ROOT / "environment.yml").read_text())
MAKEFILE = (ROOT / "Makefile").read_text()
TORCH = re.findall(r"^TORCH \?= (.+)$", MAKEFILE, re.MULTILINE)[0]
CI = yaml.safe_load((ROOT / ".github" / "workflows" / "tests.yml").read_text())
PYTHONS = ["3.11", "3.12", "3.13"]


def closure(extra: str) -> list[Requirement]:
    """What an extra installs, with the extras it names."""
    named = EXTRAS[extra]
    return [line for line in named if line.name != PROJECT["name"]] + [
        line for own in named if own.name == PROJECT["name"] for inner in own.extras for line in closure(inner)
    ]


def run(*words: str | Path, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(list(map(str, words)), capture_output=True, text=True, **options)  # type: ignore[call-overload]


def test_what_is_installed_suits_the_project() -> None:
    unmet = []
    for requirement in {str(line): line for line in [*CORE, *closure("test")]}.values():
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            if requirement in CORE:
                unmet.append(f"{requirement} is missing")
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            unmet.append(f"{requirement}: {version} is installed")
    assert not unmet


def test_the_makefile_conda_and_ci_install_the_same() -> None:
    (pin,) = Requirement(TORCH).specifier
    assert pin.operator == "==" and Requirement(CORE[0].name + str(CORE[0].specifier)).specifier.contains(pin.version)
    torch, editable = next(entry["pip"] for entry in CONDA["dependencies"] if isinstance(entry, dict))
    assert torch == TORCH and CONDA["name"] == PROJECT["name"]
    assert editable == "-e .[test]" and '-e ".[test]"' in MAKEFILE and '-e ".[notebooks]"' in MAKEFILE
    python = next(line for line in CONDA["dependencies"] if str(line).startswith("python=")).split("=")[1]
    supported = SpecifierSet(PROJECT["requires-python"])
    assert python in PYTHONS and [f"3.{n}" for n in range(8, 20) if supported.contains(f"3.{n}")] == PYTHONS
    assert [line.split()[-1] for line in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", line)] == PYTHONS
    matrix = CI["jobs"]["test"]["strategy"]["matrix"]
    assert matrix["python"] == PYTHONS and {system.split("-")[0] for system in matrix["os"]} == {"ubuntu", "macos"}


def test_extras_know_what_they_bring() -> None:
    """lab.extras names modules, pyproject.toml distributions."""
    assert set(extras.MODULES) <= set(EXTRAS) and {"numba", "librosa", "torch"} <= {line.name for line in CORE}
    known = metadata.packages_distributions()
    for extra, modules in extras.MODULES.items():
        brought = {re.sub(r"[-_.]+", "-", line.name).lower() for line in closure(extra)}
        for module in modules:
            names = {re.sub(r"[-_.]+", "-", name).lower() for name in known.get(module, [module])}
            assert names & brought, f"[{extra}] does not bring {module}"


def test_every_target_says_what_it_does() -> None:
    phony = re.findall(r"^\.PHONY: (.+)$", MAKEFILE, re.MULTILINE)[0].split()
    shown = run("make", "--no-print-directory", "help", cwd=ROOT).stdout.splitlines()
    assert [line.split()[0] for line in shown] == phony and all(len(line.split()) > 2 for line in shown)
    for target, needs in {"lab": "setup", "test": r"\.venv/\.test", "story": "setup"}.items():
        assert re.search(rf"^{target}: {needs} ", MAKEFILE, re.MULTILINE)


def test_ci_calls_make_test() -> None:
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111 and script.read_text().rstrip().endswith("\nmake test")
    subprocess.run(["bash", "-n", str(script)], check=True)


def test_papers_of_the_project() -> None:
    licence = (ROOT / "LICENSE").read_text()
    assert PROJECT["license"] == "Apache-2.0" and "END OF TERMS AND CONDITIONS" in licence
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == lab.__version__ and citation["license"] == PROJECT["license"]
    assert citation["references"][0]["url"] == PROJECT["urls"]["Paper"]
    assert f"## [{lab.__version__}]" in (ROOT / "CHANGELOG.md").read_text()


# Imports


def test_everything_named_is_there_and_imported_late() -> None:
    """In modules, since a clock on a busy machine tells nothing: nothing but the standard library comes along."""
    code = (
        "import sys; before = set(sys.modules); import lab; "
        "print(*{name.partition('.')[0] for name in {*sys.modules} - before} - sys.stdlib_module_names)"
    )
    assert run(sys.executable, "-c", code, cwd=ROOT).stdout.split() == ["lab"]
    assert set(lab.__all__) == {name for names in lab._ROOMS.values() for name in names} <= set(dir(lab))
    for name in lab.__all__:
        assert getattr(lab, name).__module__.startswith("lab.")
    with pytest.raises(AttributeError, match="no attribute 'Mamba'"):
        lab.Mamba  # noqa: B018


BLOCK = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {modules}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Blocked())
"""
OPTIONAL = {module for modules in extras.MODULES.values() for module in modules} - {"psutil", "sklearn"}


def test_the_core_needs_no_extra(tiny_bundle: Path) -> None:
    """librosa brings scikit-learn, and psutil may come with numba's friends; all else is blocked here."""
    code = BLOCK.format(modules=OPTIONAL) + (
        "import lab.audio, lab.bundle, lab.cli, lab.language, lab.recurrence, lab.speech, lab.tokens, lab.voice\n"
        "from lab.errors import LabError\n"
        "for room in ('train', 'measure', 'view', 'corpora.narration'):\n"
        "    try: __import__(f'lab.{room}')\n"
        "    except LabError as error: print(error)\n"
        "sys.argv = ['lab', 'train', 'griffin']\n"
        "lab.cli.app()\n"
    )
    done = run(sys.executable, "-c", code, cwd=ROOT, env={**os.environ, "LAB_BUNDLE": str(tiny_bundle)})
    lines = done.stdout.splitlines()
    hints = [re.search(r"speechssm-lab\[(\w+)\]", line) for line in lines]
    assert [hint and hint[1] for hint in hints] == ["train", "train", "notebooks", "narrators"], done.stderr
    assert done.returncode == 2 and "this needs `pip install speechssm-lab[train]`" in done.stderr
    assert done.stderr.count("\n") == 1


def test_data_lies_inside_the_package_or_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "_PACKAGE", tmp_path / "lab")
    assert paths.data_folder() == tmp_path / "data"
    (tmp_path / "lab" / "data").mkdir(parents=True)
    assert paths.data_folder() == tmp_path / "lab" / "data"


def test_a_wheel_tells_a_story_wherever_it_is_installed(tmp_path: Path) -> None:
    """Built and installed without a network: what it depends on is lent by this environment."""
    pytest.importorskip("hatchling")
    quiet = {**os.environ, "PYTHONPATH": "", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    built = run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path, cwd=ROOT, env=quiet)
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.stat().st_size < 45e6
    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv" / "bin" / "python"
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").stdout.strip())
    installed = run(
        sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", site, wheel, cwd=tmp_path, env=quiet
    )
    assert installed.returncode == 0, installed.stderr
    (site / "lent.pth").write_text(sysconfig.get_path("purelib") + "\n")
    slow = {"librosa", "scipy"}  # a story waits for no import of these
    (site / "sitecustomize.py").write_text(BLOCK.format(modules=OPTIONAL | slow))  # the core alone
    desk = tmp_path / "desk"
    desk.mkdir()
    speak = {key: value for key, value in quiet.items() if key not in ("LAB_BUNDLE", "PYTHONPATH")}
    where = run(python, "-c", "import lab.paths; print(lab.__version__, lab.paths.data_folder())", cwd=desk, env=speak)
    assert where.stdout.split() == [lab.__version__, str(site / "lab" / "data")]
    prompt = site / "lab" / "data" / "prompts" / "clara_by_heart.flac"
    told = run(python, "-m", "lab", "story", prompt, "--minutes", str(1 / 6), cwd=desk, env=speak)
    assert told.returncode == 0, told.stderr
    doctor = run(python, "-m", "lab", "doctor", cwd=desk, env=speak)
    assert doctor.returncode == 0 and "[train] lacks lightning_fabric" in doctor.stdout, doctor.stderr
    assert [path.name for path in desk.iterdir()] == ["story.wav"]
    # 16 kHz, 16 bits: 10 s of prompt and 10 s of new speech
    assert (desk / "story.wav").stat().st_size > 32_000 * 19
