"""Compile what stories need, ahead of the first one: `python -m lab.language.compile`, a part of `make setup`."""

from __future__ import annotations

import time

import torch

from lab.console import console
from lab.language.config import GriffinConfig
from lab.language.griffin import Griffin
from lab.language.lean import Stepper
from lab.language.packed import pack


def main() -> None:
    """A step of a tiny Griffin: what is compiled depends on types alone, which all Griffins share."""
    began = time.perf_counter()
    griffin, token = Griffin(GriffinConfig.preset("tiny")).eval(), torch.zeros(1, dtype=torch.int64)
    with torch.inference_mode():
        Stepper(pack(griffin), griffin(token[None])[1]).step(token)
    if (seconds := time.perf_counter() - began) > 1:
        console.print(f"compiled what stories need in {seconds:.0f} s")


if __name__ == "__main__":
    # Compiled as they are imported: two processes that do so at once spoil numba's cache.
    import librosa.core.audio
    import librosa.core.pitch  # noqa: F401

    main()
