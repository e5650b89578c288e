"""The machine: its name, what it can, whether it is fast in bfloat16, how malloc treats freed memory."""

from __future__ import annotations

import ctypes
import os
import platform
from contextlib import suppress
from pathlib import Path

import torch

GPUS = {"a100": (312e12, 80e9), "h100": (989e12, 80e9), "h200": (989e12, 141e9)}  # bfloat16 FLOP/s without sparsity; B
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # malloc.h


def processor() -> str:
    """The processor's name, from the operating system."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def name() -> str:
    """The GPU, or the processor and its number of cores."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else f"{processor()}, {os.cpu_count()} cores"


def peak() -> float | None:
    """The maker's bfloat16 FLOP/s of the GPU, if there is one of GPUS."""
    if not torch.cuda.is_available():
        return None
    found = torch.cuda.get_device_name().lower()
    return next((rate for gpu, (rate, _) in GPUS.items() if gpu in found), None)


def fast_bf16(device: str = "") -> bool:
    """Whether matrix products in bfloat16 are faster than in float32, and not emulated.

    device: its type, by default that of the GPU where there is one.
    """
    on_gpu = device != "cpu" and torch.cuda.is_available()
    return torch.cuda.is_bf16_supported(False) if on_gpu else torch.cpu._is_avx512_bf16_supported()


def keep_freed_memory() -> bool:
    """Have malloc keep freed memory instead of returning it to the system; False where that cannot be set.

    A training step allocates what the step before freed, and memory from the system costs a page fault every 4 kB:
    469,000 faults without, 26,000 with. It holds for the whole process, and needs glibc.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    kept = libc.mallopt(M_MMAP_MAX, 0) and libc.mallopt(M_TRIM_THRESHOLD, -1)
    for _ in range(64):  # before glibc 2.38 the first few aligned blocks, which torch allocates, are not reused
        torch.empty(1 << 18)
    return bool(kept)


def return_freed_memory() -> None:
    """Have malloc return all pages that hold nothing to the system, kept ones too; needs glibc.

    What lasts from one window of a story to the next lies between the pages of what does not: in an hour where no page
    goes back resident memory grows by 23 MB, with this by 5 (`lab bench story`).
    """
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)
