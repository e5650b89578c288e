"""What every system here offers: a prompt in, its continuation out, up to a length of its own or by restarts."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
from torch import Tensor

from lab.audio import SAMPLE_RATE, Waveform
from lab.errors import LabError
from lab.nn.sampling import check_scale
from lab.protocols import LanguageModel


class Continued(NamedTuple):
    waveform: Waveform  # (N,) float32 at 16 kHz, the continuation alone
    tokens: Tensor  # (T,) of the system's own kind, the prompt's first
    prompt_tokens: int


class Continues(Protocol):
    """A system that goes on from speech. `language` decides on its tokens; `temperature` is that of its paper."""

    name: str
    language: LanguageModel
    temperature: float

    @property
    def longest(self) -> float:
        """Seconds of prompt and continuation that it was trained to."""

    def read(self, prompt: Waveform) -> Tensor:
        """What `language` reads of a prompt (N,): tokens (T,)."""

    def go_on(
        self,
        prompt: Waveform,
        seconds: float,
        *,
        seed: int = 0,
        temperature: float | None = None,
        slide: float | None = None,
    ) -> Continued:
        """`seconds` of new speech after a prompt (N,) at 16 kHz. The same seed gives the same samples.

        temperature: by default that of its paper. slide: slide-and-prompt (paper section 7): where `longest` is
        reached it starts again from the newest `slide` seconds. Raises LabError for a continuation beyond `longest`
        without it.
        """


def check_length(name: str, prompt: np.ndarray, seconds: float, longest: float, slide: float | None) -> None:
    """Raise LabError for a length that makes no sense, or as `check_total` does."""
    check_scale("seconds", seconds)
    if seconds <= 0:
        raise LabError(f"cannot continue for {seconds:g} seconds; give more than 0")
    check_total(name, len(prompt) / SAMPLE_RATE + seconds, longest, slide)


def check_total(name: str, total: float, longest: float, slide: float | None) -> None:
    """Raise LabError for seconds of prompt and continuation that `name` reaches by slide-and-prompt alone, and for a
    slide that it has not."""
    if slide is None and total > longest:
        raise LabError(
            f"{name} learnt from {longest:.0f} s at most, and prompt and continuation last {total:.1f} s; "
            f"ask for less, or for {name}+3s, which restarts from the newest 3 s"
        )
    if slide is not None and not 0 < slide < longest:
        raise LabError(f"{name} restarts from the newest seconds, above 0 and below {longest:.0f}, not {slide:g}")


def lasting(waveform: Waveform, seconds: float) -> Waveform:
    """A waveform (N,) cut or completed with silence to so many seconds."""
    samples = round(seconds * SAMPLE_RATE)
    return np.pad(waveform[:samples], (0, max(0, samples - len(waveform))))
