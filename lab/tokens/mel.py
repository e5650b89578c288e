"""Log-mel spectrogram, 80 bands at 100 Hz: four frames a semantic token."""

from __future__ import annotations

import librosa
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lab.audio import SAMPLE_RATE

MEL_HOP = 160
BANDS = 80
_FFT = 512
# Of speech at -23 dBFS, in nats. Fixed, so that a level means the same in every file: BEST-RQ needs inputs of about
# zero mean and unit variance.
MEAN, SPREAD = -9.0, 4.5


class LogMel(nn.Module):
    """Waveform (B, N), N a multiple of 160 -> (B, N / 160, 80); frame m is centred on samples [160 m, 160 (m + 1))."""

    window: Tensor
    bands: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("window", torch.hann_window(_FFT), persistent=False)
        bands = librosa.filters.mel(sr=SAMPLE_RATE, n_fft=_FFT, n_mels=BANDS, fmin=20, fmax=7600)
        self.register_buffer("bands", torch.from_numpy(bands).T.contiguous(), persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        edge = (_FFT - MEL_HOP) // 2
        padded = F.pad(waveform, (edge, edge))
        spectrum = torch.stft(padded, _FFT, MEL_HOP, window=self.window, center=False, return_complex=True)
        power = spectrum.abs().square().transpose(1, 2)  # (B, M, 257)
        return ((power @ self.bands).clamp(min=1e-8).log() - MEAN) / SPREAD
