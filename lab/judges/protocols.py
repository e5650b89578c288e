"""What an outside judge offers. Each has a name, one method, and says which weights it judges by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol

import numpy as np


class Outside(Protocol):
    name: str

    def provenance(self) -> dict[str, str]:
        """Backend and its version, checkpoint and the start of its hash: it goes into every result."""


class Recognizer(Outside, Protocol):
    def transcribe(self, waveform: np.ndarray, /) -> str:
        """Waveform (N,) float32 at 16 kHz, of any length -> what is said."""


class SpeakerEncoder(Outside, Protocol):
    def embed_speaker(self, waveform: np.ndarray, /) -> np.ndarray:
        """Waveform (N,) float32 at 16 kHz -> who speaks, (D,) of unit length."""


class MOSPredictor(Outside, Protocol):
    def predict_mos(self, waveform: np.ndarray, /) -> float:
        """Waveform (N,) float32 at 16 kHz -> how people would rate it, 1 to 5."""


class CausalLM(Outside, Protocol):
    def log_likelihood(self, text: str, context: str = "") -> tuple[float, int]:
        """Nats of the text after the context, 0 or less, and how many tokens they are of."""


class TextEncoder(Outside, Protocol):
    def embed_text(self, texts: Sequence[str], /) -> np.ndarray:
        """n texts -> what each is about, (n, D) of unit length."""


class Verdict(NamedTuple):
    """Who wins, None where the judge answered in another form; `strong` where it is much better; its own words."""

    winner: Literal["first", "second", "tie"] | None
    text: str
    strong: bool = False


GAP = "[...]"  # at the end of a prompt: what was said between it and the continuations is left out


class Judge(Outside, Protocol):
    def judge(self, prompt: str, first: str, second: str) -> Verdict:
        """Which of two continuations of the prompt is better."""
