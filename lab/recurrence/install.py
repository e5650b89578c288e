"""`make cuda`: causal-conv1d and mamba-ssm from source, for the GPU of this machine.

    python -m lab.recurrence.install [FOLDER]

FOLDER holds their sdists, and wheels of what they need where that is missing: then no network is used.
There are no wheels on PyPI, and the sdists' setup.py compiles for up to nine architectures whatever
TORCH_CUDA_ARCH_LIST says: it is edited to compile for one, minutes instead of an hour.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import tempfile
from importlib import invalidate_caches, metadata
from pathlib import Path

import psutil
import torch

from lab.errors import LabError
from lab.files import unpack
from lab.recurrence.probe import backends, capability

FLAGS = {"causal-conv1d": "CAUSAL_CONV1D", "mamba-ssm": "MAMBA"}  # the prefixes of their environment variables
# To build them, and what `import mamba_ssm` imports. Only Mamba-3 needs its tilelang, quack-kernels and tvm-ffi.
NEEDED = ("setuptools", "wheel", "packaging", "ninja", "einops", "transformers", "huggingface_hub", "triton")
# the lines of both setup.py that list the architectures, each with the nvcc it takes
ARCHITECTURES = re.compile(
    r"(?:^ +(?:cc_flag\.append\(\"(?:-gencode|arch=compute_\d+,code=sm_\d+)\"\)"
    r"|if bare_metal_version >= Version\(\"[\d.]+\"\):)\n)+",
    re.MULTILINE,
)


def check() -> str:
    """The architecture to compile for, as sm_90. Raises LabError where something is missing."""
    if torch.version.cuda is None:
        raise LabError(f"torch {torch.__version__} is built without CUDA; install PyPI's torch for Linux first")
    if not torch.cuda.is_available():
        raise LabError("torch finds no GPU to compile for; see what nvidia-smi reports")
    from torch.utils.cpp_extension import CUDA_HOME  # looks for nvcc when imported

    nvcc = Path(CUDA_HOME or "") / "bin" / "nvcc"
    if not nvcc.is_file():
        raise LabError(
            f"there is no nvcc; install the CUDA toolkit {torch.version.cuda} or set CUDA_HOME to its folder"
        )
    version = subprocess.run([nvcc, "--version"], capture_output=True, text=True).stdout
    found = re.search(r"release (\d+)\.\d+", version)
    if not found or found[1] != torch.version.cuda.split(".")[0]:
        is_of = f"is of CUDA {found[0].split()[1]}" if found else "does not say its version"
        raise LabError(f"{nvcc} {is_of} and torch of {torch.version.cuda}; set CUDA_HOME to a toolkit of torch's")
    return capability()


def for_one(setup: str, architecture: str) -> str:
    """The text of a setup.py, its list of architectures replaced by that one."""
    if len(ARCHITECTURES.findall(setup)) != 1:
        raise LabError("its setup.py does not list architectures as known here; report the version that was fetched")
    number = architecture.removeprefix("sm_")
    flags = ("-gencode", f"arch=compute_{number},code=sm_{number}")
    return ARCHITECTURES.sub("".join(f'        cc_flag.append("{flag}")\n' for flag in flags), setup)


def _pip(*words: str | Path, env: dict[str, str] | None = None) -> None:
    command = [sys.executable, "-m", "pip", *map(str, words)]
    if subprocess.run(command, env={**os.environ, **(env or {})}).returncode:
        raise LabError(f"pip {words[0]} failed, for the reason above")


def _sdist(requirement: str, folder: Path | None, work: Path) -> Path:
    name = re.split(r"[^\w-]", requirement)[0]
    if folder is None:
        # pip runs setup.py to learn the version: that fails where it looks for nvcc or for a wheel
        env = {f"{FLAGS[name]}_{flag}": "TRUE" for flag in ("SKIP_CUDA_BUILD", "FORCE_BUILD")}
        _pip("download", "--no-deps", "--no-build-isolation", "--no-binary", name, "-d", work, requirement, env=env)
    found = list((folder or work).glob(name.replace("-", "[-_]") + "-*.tar.gz"))
    if not found:
        raise LabError(f"no sdist of {name} in {folder}; put its .tar.gz from PyPI there")
    return max(found, key=lambda path: [int(digits) for digits in re.findall(r"\d+", path.name.removeprefix(name))])


def _build(sdist: Path, architecture: str, work: Path) -> None:
    with tarfile.open(sdist) as archive:
        for member in archive:
            unpack(archive, member, work)
    root = work / sdist.name.removesuffix(".tar.gz")
    setup = root / "setup.py"
    setup.write_text(for_one(setup.read_text(), architecture))
    # Later versions of mamba-ssm build only with KEEP; without FORCE a wheel is looked for, which fails offline.
    env = {f"{prefix}_{flag}_BUILD": "TRUE" for prefix in FLAGS.values() for flag in ("FORCE", "KEEP_CUDA")}
    env |= {f"{prefix}_SKIP_CUDA_BUILD": "FALSE" for prefix in FLAGS.values()}
    jobs = min(os.cpu_count() or 1, psutil.virtual_memory().available // (4 << 30))  # 4 GB for each compiler
    env["MAX_JOBS"] = os.environ.get("MAX_JOBS") or str(max(1, jobs))
    _pip("install", "--no-build-isolation", "--no-deps", "--force-reinstall", root, env=env)


def install(folder: Path | None = None) -> None:
    """Build and install both, then try them. Raises LabError where anything fails, before all if it can be known."""
    architecture = check()
    if folder is not None and not folder.is_dir():
        raise LabError(f"there is no folder {folder}; give one with the sdists of {' and '.join(FLAGS)}")
    required = metadata.requires("speechssm-lab") or ()
    with tempfile.TemporaryDirectory() as temporary:
        _pip("install", *(("--no-index", "--find-links", folder) if folder else ()), *NEEDED)
        for requirement in sorted(
            line.split(";")[0].strip() for line in required if re.search("extra == ['\"]cuda", line)
        ):
            _build(_sdist(requirement, folder, Path(temporary)), architecture, Path(temporary))
    invalidate_caches()
    rows = [row for row in backends() if row.command == "make cuda"]
    for row in rows:
        print(f"{row.op}: {row.name} {row.reason}")
    if not all(row.usable for row in rows):
        raise LabError("they were built, but do not all work; `lab doctor` tells the reasons again")


if __name__ == "__main__":
    try:
        install(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
    except LabError as error:
        print("lab:", error, file=sys.stderr)
        sys.exit(2)
