"""lab.recurrence.install: `make cuda`, without compiling anything."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.utils.cpp_extension
from packaging.version import Version

from lab.errors import LabError
from lab.recurrence import install
from lab.recurrence.probe import Row

# from setup.py of causal-conv1d 1.7.0; that of mamba-ssm 2.3.2.post1 has the same lines
SETUP = """\
if not SKIP_CUDA_BUILD:
    cc_flag = []
    if HIP_BUILD:
        cc_flag.append("-DBUILD_PYTHON_PACKAGE")

    else:
        check_if_cuda_home_none(PACKAGE_NAME)
        # Check, if CUDA11 is installed for compute capability 8.0

        if CUDA_HOME is not None:
            _, bare_metal_version = get_cuda_bare_metal_version(CUDA_HOME)
            if bare_metal_version < Version("11.6"):
                raise RuntimeError(
                    f"{PACKAGE_NAME} is only supported on CUDA 11.6 and above.  "
                    "Note: make sure nvcc has a supported version by running nvcc -V."
                )

        cc_flag.append("-gencode")
        cc_flag.append("arch=compute_75,code=sm_75")
        cc_flag.append("-gencode")
        cc_flag.append("arch=compute_80,code=sm_80")
        cc_flag.append("-gencode")
        cc_flag.append("arch=compute_87,code=sm_87")
        if bare_metal_version >= Version("11.8"):
            cc_flag.append("-gencode")
            cc_flag.append("arch=compute_90,code=sm_90")
        if bare_metal_version >= Version("12.8"):
            cc_flag.append("-gencode")
            cc_flag.append("arch=compute_100,code=sm_100")
            cc_flag.append("-gencode")
            cc_flag.append("arch=compute_120,code=sm_120")
        if bare_metal_version >= Version("13.0"):
            cc_flag.append("-gencode")
            cc_flag.append("arch=compute_103,code=sm_103")
            cc_flag.append("-gencode")
            cc_flag.append("arch=compute_110,code=sm_110")
            cc_flag.append("-gencode")
            cc_flag.append("arch=compute_121,code=sm_121")

    # HACK: The compiler flag -D_GLIBCXX_USE_CXX11_ABI is set to be the same as
    # torch._C._GLIBCXX_USE_CXX11_ABI
    if FORCE_CXX11_ABI:
        torch._C._GLIBCXX_USE_CXX11_ABI = True
"""


def flags(setup: str) -> list[str]:
    """What it hands to nvcc, of CUDA 13."""
    names: dict[str, Any] = {
        "SKIP_CUDA_BUILD": False,
        "HIP_BUILD": False,
        "FORCE_CXX11_ABI": False,
        "PACKAGE_NAME": "causal_conv1d",
        "CUDA_HOME": "/usr/local/cuda",
        "Version": Version,
        "check_if_cuda_home_none": lambda name: None,
        "get_cuda_bare_metal_version": lambda home: ("", Version("13.0")),
    }
    exec(setup, names)
    return names["cc_flag"]


def test_one_architecture_instead_of_nine() -> None:
    assert len(flags(SETUP)) == 18
    assert flags(install.for_one(SETUP, "sm_86")) == ["-gencode", "arch=compute_86,code=sm_86"]
    before, after = SETUP.index('        cc_flag.append("-gencode")'), SETUP.index("\n    # HACK")
    edited = install.for_one(SETUP, "sm_86")
    assert edited.startswith(SETUP[:before]) and edited.endswith(SETUP[after:])


@pytest.mark.parametrize("setup", ["", SETUP.replace("cc_flag.append", "flags.append"), SETUP + SETUP])
def test_another_setup_is_not_guessed_at(setup: str) -> None:
    with pytest.raises(LabError, match="does not list architectures as known"):
        install.for_one(setup, "sm_90")


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An H200 with CUDA 13.0, on which nothing may be run but that nvcc. Its CUDA_HOME."""
    nvcc = tmp_path / "cuda" / "bin" / "nvcc"
    nvcc.parent.mkdir(parents=True)
    nvcc.write_text("#!/bin/sh\necho Cuda compilation tools, release 13.0, V13.0.88\n")
    nvcc.chmod(0o755)
    run = subprocess.run

    def only_nvcc(command: list[Any], **options: Any) -> Any:
        assert command[0] == nvcc, command
        return run(command, **options)

    monkeypatch.setattr(install.subprocess, "run", only_nvcc)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    monkeypatch.setattr(torch.utils.cpp_extension, "CUDA_HOME", str(tmp_path / "cuda"))
    return tmp_path / "cuda"


def test_the_architecture_of_this_machine(machine: Path) -> None:
    assert install.check() == "sm_90"


def test_what_is_missing_is_said_before_anything_is_fetched(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(torch.version, "cuda", None)
        with pytest.raises(LabError, match="is built without CUDA; install"):
            install.install()
    with monkeypatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: False)
        with pytest.raises(LabError, match="no GPU to compile for"):
            install.install()
    for home in (None, str(machine.parent)):
        with monkeypatch.context() as patch:
            patch.setattr(torch.utils.cpp_extension, "CUDA_HOME", home)
            with pytest.raises(LabError, match="there is no nvcc; install the CUDA toolkit 13.0"):
                install.install()
    with monkeypatch.context() as patch:
        patch.setattr(torch.version, "cuda", "12.8")
        with pytest.raises(LabError, match="nvcc is of CUDA 13.0 and torch of 12.8"):
            install.install()
    with pytest.raises(LabError, match="there is no folder nowhere"):
        install.install(Path("nowhere"))


def sdist(folder: Path, name: str) -> None:
    folder.mkdir(exist_ok=True)
    with tarfile.open(folder / f"{name}.tar.gz", "w:gz") as archive:
        entry = tarfile.TarInfo(f"{name}/setup.py")
        entry.size = len(SETUP)
        archive.addfile(entry, io.BytesIO(SETUP.encode()))


class Pip:
    """Stands in for subprocess: keeps the words and variables of each pip, and the flags of what it was to build."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[SimpleNamespace] = []
        monkeypatch.setattr(install, "check", lambda: "sm_90")
        monkeypatch.setattr(install.subprocess, "run", self.run)

    def run(self, command: list[str], env: dict[str, str]) -> Any:
        assert command[:3] == [sys.executable, "-m", "pip"]
        words, last = command[3:], Path(command[-1])
        built = flags((last / "setup.py").read_text()) if last.is_dir() else None
        if words[0] == "download":
            sdist(Path(words[words.index("-d") + 1]), words[-1].split(">")[0].replace("-", "_") + "-9.0")
        self.calls.append(SimpleNamespace(words=words, env=env, built=built))
        return SimpleNamespace(returncode=0)


def works(name: str, usable: bool = True) -> Row:
    return Row("op", name, usable, "works" if usable else "undefined symbol", "make cuda")


@pytest.mark.parametrize("offline", [True, False])
def test_both_are_built_from_sdists(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str], offline: bool
) -> None:
    pip, folder = Pip(monkeypatch), tmp_path / "sdists"
    monkeypatch.setattr(install, "backends", lambda: [works("mamba-ssm"), works("causal-conv1d")])
    monkeypatch.setenv("MAX_JOBS", "3")
    monkeypatch.setenv("MAMBA_SKIP_CUDA_BUILD", "TRUE")
    for name in ("causal_conv1d-1.9.0", "causal_conv1d-1.10.0", "mamba_ssm-2.3.2.post1"):
        sdist(folder, name)
    install.install(folder if offline else None)
    needed, *others = pip.calls
    assert needed.words[0] == "install" and {"ninja", "einops", "transformers", "triton"} <= set(needed.words)
    assert ("--no-index" in needed.words) == offline
    downloads = [call for call in others if call.words[0] == "download"]
    assert len(downloads) == (0 if offline else 2)
    for call in downloads:
        assert {"--no-deps", "--no-build-isolation", "--no-binary"} <= set(call.words)
        prefix = "MAMBA" if "mamba-ssm" in call.words else "CAUSAL_CONV1D"
        assert call.env[f"{prefix}_SKIP_CUDA_BUILD"] == call.env[f"{prefix}_FORCE_BUILD"] == "TRUE"
    builds = [call for call in others if call.words[0] == "install"]
    names = ["causal_conv1d-1.10.0", "mamba_ssm-2.3.2.post1"] if offline else ["causal_conv1d-9.0", "mamba_ssm-9.0"]
    assert [Path(call.words[-1]).name for call in builds] == names
    for call in builds:
        assert call.built == ["-gencode", "arch=compute_90,code=sm_90"]
        assert {"--no-deps", "--no-build-isolation"} <= set(call.words)
        for flag in ("MAMBA_FORCE_BUILD", "MAMBA_KEEP_CUDA_BUILD", "CAUSAL_CONV1D_FORCE_BUILD"):
            assert call.env[flag] == "TRUE"
        assert call.env["MAMBA_SKIP_CUDA_BUILD"] == "FALSE" and call.env["MAX_JOBS"] == "3"
        assert not Path(call.words[-1]).exists()  # nothing is left behind
    assert capsys.readouterr().out == "op: mamba-ssm works\nop: causal-conv1d works\n"


def test_a_folder_without_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    Pip(monkeypatch)
    sdist(tmp_path, "causal_conv1d-1.7.0")
    with pytest.raises(LabError, match=r"no sdist of mamba-ssm in .*; put its \.tar\.gz from PyPI there"):
        install.install(tmp_path)


def test_a_build_that_fails_and_one_that_does_not_work(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    Pip(monkeypatch)
    monkeypatch.setattr(install, "backends", lambda: [works("mamba-ssm", usable=False), works("causal-conv1d")])
    with pytest.raises(LabError, match="were built, but do not all work"):
        install.install()
    monkeypatch.setattr(install.subprocess, "run", lambda *args, **options: SimpleNamespace(returncode=1))
    with pytest.raises(LabError, match="pip install failed"):
        install.install()
