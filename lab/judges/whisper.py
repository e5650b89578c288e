"""Whisper (Radford et al. 2212.04356) by faster-whisper, that is by CTranslate2, in int8."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from faster_whisper import WhisperModel, download_model

from lab.errors import LabError
from lab.judges.checkpoints import provenance
from lab.judges.waveforms import audible

_FILES = ("model.bin", "tokenizer.json")  # without the second faster-whisper asks the hub for one


class FasterWhisper:
    """Greedy, in English, each window of 30 s for itself: what was misheard does not go on."""

    def __init__(self, checkpoint: str):
        """checkpoint: a size such as base.en, an id of the hub, or a folder. Raises LabError for one that cannot be
        loaded."""
        folder = Path(checkpoint)
        try:
            self._weights = folder if folder.exists() else Path(download_model(checkpoint))
            if lacking := [name for name in _FILES if not (self._weights / name).is_file()]:
                raise ValueError(f"{', '.join(lacking)} not found in it")
            threads = torch.get_num_threads()
            self._model = WhisperModel(str(self._weights), compute_type="int8", cpu_threads=threads)
        except (OSError, ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise LabError(f"there is no Whisper of CTranslate2 {checkpoint!r} to be had: {reason}") from error
        self._checkpoint = checkpoint
        self.name = f"whisper:{folder.name}"

    def provenance(self) -> dict[str, str]:
        return provenance("faster-whisper", self._checkpoint, self._weights, decoding="int8, greedy")

    def transcribe(self, waveform: np.ndarray) -> str:
        """Raises LabError for silence and less than 0.1 s."""
        segments, _ = self._model.transcribe(
            audible(waveform, 0.1), language="en", beam_size=1, temperature=0.0, condition_on_previous_text=False
        )
        return " ".join(segment.text.strip() for segment in segments)

    def language(self, waveform: np.ndarray) -> tuple[str, float]:
        """What is spoken in the first 30 s, as a code such as en, and its probability. Raises LabError for silence, and
        for a checkpoint that knows English alone."""
        if not self._model.model.is_multilingual:
            raise LabError(f"{self.name} knows English alone; give one of all languages, such as whisper:base")
        code, probability, _ = self._model.detect_language(audible(waveform, 0.1))
        return code, float(probability)
