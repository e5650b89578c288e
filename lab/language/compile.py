"""Compile what stories need, ahead of the first one: `python -m lab.language.compile`, a part of `make setup`."""

from __future__ import annotations

import time

import torch

from lab.console import console
from lab.language.config import GriffinConfig
from lab.language.griffin import Griffin
from lab.language.sampling import generate


def main() -> None:
    """A few tokens of a tiny Griffin: types decide what is compiled, and they are those of any other."""
    began = time.perf_counter()
    griffin = Griffin(GriffinConfig.preset("tiny", width=128, vocabulary=32)).eval()
    prompt = torch.zeros(256, dtype=torch.int64)  # long enough for kernels with threads
    list(generate(griffin, prompt, generator=torch.Generator().manual_seed(0), max_tokens=2))
    if (seconds := time.perf_counter() - began) > 1:
        console.print(f"compiled what stories need in {seconds:.0f} s")


if __name__ == "__main__":
    main()
