"""Speech models of transformers: two recognizers, and who speaks."""

from __future__ import annotations

from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import (
    AutoFeatureExtractor,
    Wav2Vec2ForCTC,
    Wav2Vec2Processor,
    WavLMForXVector,
    WhisperForConditionalGeneration,
    WhisperProcessor,
)

from lab.audio import SAMPLE_RATE
from lab.judges.checkpoints import provenance
from lab.judges.hub import loading, pretrained
from lab.judges.waveforms import audible

_LEAST = 0.1  # seconds to recognize words in


class _SpeechModel:
    kind: str  # of its spec
    model_class: Any
    processor_class: Any

    def __init__(self, checkpoint: str):
        """checkpoint: an id of the hub or a folder. Raises LabError for one that cannot be loaded."""
        with loading(self.model_class.__name__, checkpoint):
            self._processor = self.processor_class.from_pretrained(checkpoint)
            self._model = pretrained(self.model_class, checkpoint)
        self._checkpoint, self._weights = checkpoint, Path(checkpoint) if Path(checkpoint).exists() else None
        self.name = f"{self.kind}:{self._weights.name if self._weights else checkpoint}"

    def provenance(self) -> dict[str, str]:
        revision = getattr(self._model.config, "_commit_hash", None)
        return provenance(
            "transformers", self._checkpoint, self._weights, **({"revision": revision} if revision else {})
        )

    def _inputs(self, waveform: np.ndarray, **options: Any) -> Any:
        found = self._processor(waveform, sampling_rate=SAMPLE_RATE, return_tensors="pt", **options)
        return found.to(self._model.device)


class Wav2Vec2(_SpeechModel):
    """CTC (Baevski et al. 2006.11477), in windows of 180 s as in the paper; in lower case, since the vocabulary of
    wav2vec2-base-960h has capitals alone, which a language model finds unlikely."""

    kind, model_class, processor_class = "wav2vec2", Wav2Vec2ForCTC, Wav2Vec2Processor
    window = 180 * SAMPLE_RATE

    def transcribe(self, waveform: np.ndarray) -> str:
        """Raises LabError for silence and less than 0.1 s."""
        waveform = audible(waveform, _LEAST)
        starts = range(0, len(waveform) - round(_LEAST * SAMPLE_RATE) + 1, self.window)
        texts = (self._read(waveform[start : start + self.window]) for start in starts)
        return " ".join(text for text in texts if text)

    @torch.inference_mode()
    def _read(self, waveform: np.ndarray) -> str:
        logits = self._model(self._inputs(waveform).input_values).logits
        return self._processor.batch_decode(logits.argmax(-1))[0].strip().lower()


class Whisper(_SpeechModel):
    """Greedy, in English; beyond 30 s in windows by Whisper's own timestamps, each for itself."""

    kind, model_class, processor_class = "hf-whisper", WhisperForConditionalGeneration, WhisperProcessor

    @torch.inference_mode()
    def transcribe(self, waveform: np.ndarray) -> str:
        """Raises LabError for silence and less than 0.1 s."""
        waveform = audible(waveform, _LEAST)
        long = len(waveform) > 30 * SAMPLE_RATE
        inputs = self._inputs(
            waveform, truncation=False, padding="longest" if long else "max_length", return_attention_mask=True
        )
        options: dict[str, Any] = {"return_timestamps": long, "do_sample": False, "num_beams": 1}
        if getattr(self._model.generation_config, "is_multilingual", False):  # not base.en
            options |= {"language": "en", "task": "transcribe"}
        tokens = self._model.generate(**inputs, **options)
        return self._processor.batch_decode(tokens, skip_special_tokens=True)[0].strip()


class WavLM(_SpeechModel):
    """x-vector (Chen et al. 2110.13900), the mean over pieces of at most 30 s: memory is quadratic in their length."""

    kind, model_class, processor_class = "wavlm", WavLMForXVector, AutoFeatureExtractor
    piece = 30 * SAMPLE_RATE

    @torch.inference_mode()
    def embed_speaker(self, waveform: np.ndarray) -> np.ndarray:
        """Raises LabError for silence and less than 0.5 s."""
        waveform = audible(waveform, 0.5)
        pieces = np.array_split(waveform, ceil(len(waveform) / self.piece))
        found: list[Tensor] = [self._model(self._inputs(piece).input_values).embeddings[0] for piece in pieces]
        mean = torch.nn.functional.normalize(torch.stack(found), dim=-1).mean(0)
        return torch.nn.functional.normalize(mean, dim=0).cpu().numpy()
