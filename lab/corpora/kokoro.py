"""Human-like narrators: Kokoro-82M (Apache-2.0) by the package `kokoro-onnx`, 1.3 seconds of speech a second and core.

A narrator is a voice or a blend of two, and a speed. The folder with the model (`kokoro-v1.0.int8.onnx`, or another
precision) and the voices (`voices-v1.0.bin`) is given or named by the environment variable LAB_KOKORO.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from lab import audio
from lab.errors import LabError
from lab.extras import require

# Kokoro's names: a (American) or b (British), f or m, then the speaker.
TRAINING = (
    "af_alloy af_aoede af_bella af_heart af_kore af_nicole af_nova af_river af_sarah "
    "am_adam am_echo am_fenrir am_liam am_michael am_onyx am_puck "
    "bf_alice bf_emma bf_isabella bm_fable bm_george bm_lewis"
).split()
# Read nothing in training, and are in no blend that is drawn: choices are made on the first, figures of the others.
DEVELOPMENT, FIGURES = ("bf_lily", "am_eric"), ("bm_daniel", "af_sky", "af_jessica", "am_santa")
HELD_OUT = DEVELOPMENT + FIGURES
SPEEDS = (0.92, 1.12)


@dataclass(frozen=True)
class KokoroNarrator:
    """A voice, or a blend: `share` (0 to 1) is that of `other`'s vector. `speed` (0.5 to 2) is against the voice's own.

    As `narrators.Narrator` it has a `name` and `read`.
    """

    voice: str
    other: str = ""
    share: float = 0.0
    speed: float = 1.0

    @property
    def name(self) -> str:
        blend = f"{self.voice}+{self.share:.2f} {self.other}" if self.other else self.voice
        return blend if self.speed == 1 else f"{blend}, speed {self.speed:.2f}"

    def read(self, text: str, folder: Path | None = None) -> np.ndarray:
        """Text -> waveform (N,) float32 at 16 kHz, levelled to -23 dBFS.

        Raises LabError for a model that is not there, an unknown voice, a speed or share out of range, and a text in
        which there is nothing to say.
        """
        if not 0.5 <= self.speed <= 2 or not 0 <= self.share <= 1:
            raise LabError(f"Kokoro's speed is 0.5 to 2 and a share 0 to 1, not {self.speed} and {self.share}")
        model = _model(_folder(folder))
        for voice in filter(None, (self.voice, self.other)):
            if voice not in model.voices:
                raise LabError(f"Kokoro has no voice {voice!r}; there are {', '.join(sorted(model.voices))}")
        style = model.voices[self.voice]  # (510, 1, 256), a row for each number of phonemes
        if self.other:
            style = (1 - self.share) * style + self.share * model.voices[self.other]
        language = "en-gb" if self.voice.startswith("b") else "en-us"
        try:
            spoken, rate = model.create(text, style.astype(np.float32), self.speed, language)
        except ValueError as error:
            raise LabError(f"Kokoro cannot read {text[:60]!r}: {error}") from error
        return audio.set_level(audio.resample(spoken, rate, audio.SAMPLE_RATE))


def random_narrator(rng: np.random.Generator) -> KokoroNarrator:
    """A training narrator: every other one a blend of two training voices of one accent, which is a new speaker."""
    voice, share, speed = str(rng.choice(TRAINING)), float(rng.uniform(0.2, 0.5)), float(rng.uniform(*SPEEDS))
    others = [other for other in TRAINING if other[0] == voice[0] and other != voice]
    other = str(rng.choice(others))
    return KokoroNarrator(voice, other, share, speed) if rng.random() < 0.5 else KokoroNarrator(voice, speed=speed)


def _folder(given: Path | None) -> Path:
    folder = given or os.environ.get("LAB_KOKORO")
    if not folder:
        raise LabError("Kokoro's model is in no known place; set LAB_KOKORO to the folder of its .onnx and voices .bin")
    return Path(folder).resolve()


@cache
def _model(folder: Path) -> Any:
    """The model on one thread: it is run by one process a core, and the same text gives the same samples."""
    require("kokoro")
    import kokoro_onnx
    import onnxruntime

    models, voices = sorted(folder.glob("kokoro*.onnx")), sorted(folder.glob("voices*.bin"))
    if not models or not voices:
        raise LabError(
            f"there is no kokoro*.onnx with its voices*.bin in {folder}; both are among the releases of "
            "github.com/thewh1teagle/kokoro-onnx (model-files-v1.0)"
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(str(models[0]), options, providers=["CPUExecutionProvider"])
        return kokoro_onnx.Kokoro.from_session(session, str(voices[0]))
    except Exception as error:  # onnxruntime's errors have no common class
        line = " ".join(str(error).split())[:200]
        raise LabError(f"Kokoro cannot be loaded from {folder}: {line}; fetch its files anew") from error
