"""Log-mel spectrogram, 80 bands at 100 Hz: four frames a semantic token."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from lab.audio import SAMPLE_RATE
from lab.nn.stft import STFT

MEL_HOP = 160  # samples
BANDS = 80
LOWEST, HIGHEST = 20.0, 7600.0  # Hz
_FFT = 512
# Of speech at -23 dBFS, in nats. Fixed, so that a level means the same in every file: BEST-RQ needs inputs of about
# zero mean and unit variance.
MEAN, SPREAD = -9.0, 4.5
# Slaney's mel scale: linear to 1000 Hz, 15 mel, above it 27 mel for a factor of 6.4.
_LINEAR, _KNEE, _STEP = 200 / 3, 1000.0, np.log(6.4) / 27


def mel_bands() -> np.ndarray:
    """Triangles of equal area over the Fourier bins, (80, 257) float32: those of librosa.filters.mel, to the bit.

    Not by librosa, whose import is 1.1 s of the 4.9 s of work until a new process speaks.
    """
    knee = _KNEE / _LINEAR
    mels = np.linspace(LOWEST / _LINEAR, knee + np.log(HIGHEST / _KNEE) / _STEP, BANDS + 2)
    edges = _LINEAR * mels
    edges[mels >= knee] = _KNEE * np.exp(_STEP * (mels[mels >= knee] - knee))  # (82,), Hz
    ramps, widths = np.subtract.outer(edges, np.fft.rfftfreq(_FFT, 1 / SAMPLE_RATE)), np.diff(edges)[:, None]
    bands = np.maximum(0, np.minimum(-ramps[:-2] / widths[:-1], ramps[2:] / widths[1:])).astype(np.float32)
    bands *= (2 / (edges[2:] - edges[:-2]))[:, None]
    return bands


class LogMel(nn.Module):
    """Waveform (B, N), N a multiple of 160 -> (B, N / 160, 80); frame m is centred on samples [160 m, 160 (m + 1))."""

    bands: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.spectrum = STFT(_FFT, MEL_HOP, centred=True, norm="backward")
        self.register_buffer("bands", torch.from_numpy(mel_bands()).T.contiguous(), persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        power = self.spectrum(waveform).abs().square()  # (B, M, 257)
        return ((power @ self.bands).clamp(min=1e-8).log() - MEAN) / SPREAD
