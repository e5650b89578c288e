"""Who speaks, by GE2E (Wan et al. 1710.10467) with Resemblyzer's weights: its package needs a compiler to install."""

from __future__ import annotations

import pickle
from pathlib import Path

import librosa
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from lab.audio import SAMPLE_RATE
from lab.errors import LabError
from lab.judges.checkpoints import provenance
from lab.judges.waveforms import audible

_WINDOW, _HOP = 160, 77  # frames of 10 ms: 1.6 s, and Resemblyzer's 1.3 of them a second
_QUIETEST = 10 ** (-30 / 20)  # RMS: what is softer is raised to it
_BATCH = 64  # windows


class GE2E(nn.Module):
    """Three LSTM layers of 256 over 40 mel bands; the mean of unit vectors of windows of 1.6 s, however many."""

    def __init__(self, checkpoint: str):
        """checkpoint: Resemblyzer's pretrained.pt. Raises LabError for one that is not there or another model's."""
        super().__init__()
        self._path = Path(checkpoint)
        if not self._path.is_file():
            raise LabError(f"there is no file {checkpoint!r}; give ge2e:PATH of Resemblyzer's pretrained.pt")
        self.lstm = nn.LSTM(40, 256, 3, batch_first=True)
        self.linear = nn.Linear(256, 256)
        try:
            weights = torch.load(self._path, map_location="cpu", weights_only=True)["model_state"]
            self.load_state_dict({key: weights[key] for key in self.state_dict()})
        except (OSError, RuntimeError, LookupError, TypeError, EOFError, pickle.UnpicklingError) as error:
            reason = " ".join(str(error).split())[:200]
            raise LabError(f"{self._path.name} does not hold Resemblyzer's weights: {reason}") from error
        self.eval().requires_grad_(False)
        self.name = "ge2e"

    def provenance(self) -> dict[str, str]:
        return provenance("torch", self._path.name, self._path)

    @torch.inference_mode()
    def embed_speaker(self, waveform: np.ndarray) -> np.ndarray:
        """Raises LabError for silence and less than 0.5 s."""
        waveform = audible(waveform, 0.5)
        rms = float(np.sqrt(np.square(waveform, dtype=np.float64).mean()))
        mel = librosa.feature.melspectrogram(
            y=waveform * np.float32(max(1, _QUIETEST / rms)), sr=SAMPLE_RATE, n_fft=400, hop_length=160, n_mels=40
        )
        frames = torch.from_numpy(mel).T  # (F, 40)
        windows = frames.unfold(0, min(_WINDOW, len(frames)), _HOP).mT  # (W, 160, 40)
        each = torch.cat([self._of(batch) for batch in windows.split(_BATCH)])
        return F.normalize(each.mean(0), dim=0).numpy()

    def _of(self, windows: torch.Tensor) -> torch.Tensor:
        """(W, 160, 40) -> unit vectors (W, 256)."""
        _, (hidden, _) = self.lstm(windows)
        return F.normalize(F.relu(self.linear(hidden[-1])), dim=-1)
