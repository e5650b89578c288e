"""Piper's narrators (VITS, Kim et al. 2021, 2106.06103), 7 seconds of speech a second and core, by onnxruntime.

A voice is a `.onnx` with its `.onnx.json` beside it, as rhasspy/piper-voices has them, given or named by the
environment variable LAB_PIPER. Phonemes are espeak-ng's, which `kokoro-onnx` brings.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from lab import audio
from lab.errors import LabError
from lab.extras import require

SPEEDS = (0.85, 1.15)
NOISE, RHYTHM = 0.667, 0.8  # deviation of what is drawn for the sound and for the durations: Piper's own


@dataclass(frozen=True)
class PiperNarrator:
    """As `narrators.Narrator` it has a `name` and `read`. `speed` is against the voice's own. Each reading has another
    rhythm: Piper draws it."""

    speed: float = 1.0

    @property
    def name(self) -> str:
        return f"{_voice().stem}, speed {self.speed:.2f}"

    def read(self, text: str) -> np.ndarray:
        """Text -> waveform (N,) float32 at 16 kHz, levelled to -23 dBFS, without silence before and after.

        Raises LabError for a voice that is not there and a text in which there is nothing to say.
        """
        session, config, phonemes = _model(_voice())
        known = config["phoneme_id_map"]
        said = [known[symbol] for symbol in phonemes(text.strip()).strip() if symbol in known]
        if not said:
            raise LabError(f"there is nothing to say in {text[:60]!r}")
        numbers = [*known["^"], *known["_"], *(number for symbol in said for number in (*symbol, *known["_"]))]
        numbers += known["$"]
        inputs = {
            "input": np.array([numbers], np.int64),
            "input_lengths": np.array([len(numbers)], np.int64),
            "scales": np.array([NOISE, 1 / self.speed, RHYTHM], np.float32),
        }
        spoken = audio.resample(
            session.run(None, inputs)[0].squeeze(), config["audio"]["sample_rate"], audio.SAMPLE_RATE
        )
        loud = np.flatnonzero(np.abs(spoken) > 0.01 * np.abs(spoken).max())
        return audio.set_level(spoken[max(0, loud[0] - 320) : loud[-1] + 800])


def random_narrator(rng: np.random.Generator) -> PiperNarrator:
    return PiperNarrator(float(rng.uniform(*SPEEDS)))


def _voice() -> Path:
    voice = os.environ.get("LAB_PIPER")
    if not voice:
        raise LabError("Piper's voice is in no known place; set LAB_PIPER to its .onnx")
    return Path(voice).resolve()


@cache
def _model(path: Path) -> tuple[Any, dict[str, Any], Any]:
    """The session on one thread, the voice's configuration, and what makes phonemes of a text."""
    require("kokoro")
    import kokoro_onnx.tokenizer
    import onnxruntime
    import phonemizer

    kokoro_onnx.tokenizer.Tokenizer()  # shows phonemizer where espeak-ng is

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    try:
        config = json.loads(path.with_name(path.name + ".json").read_bytes())
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors have no common class
        line = " ".join(str(error).split())[:200]
        raise LabError(f"Piper's voice cannot be loaded from {path}: {line}") from error
    language = config["espeak"]["voice"]
    return (
        session,
        config,
        partial(phonemizer.phonemize, language=language, preserve_punctuation=True, with_stress=True),
    )
