"""Log-mel spectrogram, 80 bands at 100 Hz: four frames a semantic token."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lab.audio import SAMPLE_RATE
from lab.nn.mel import mel_bands
from lab.nn.stft import STFT

MEL_HOP = 160  # samples
BANDS = 80
LOWEST, HIGHEST = 20.0, 7600.0  # Hz
_FFT = 512
# Of speech at -23 dBFS, in nats. Fixed, so that a level means the same in every file: BEST-RQ needs inputs of about
# zero mean and unit variance.
MEAN, SPREAD = -9.0, 4.5


class LogMel(nn.Module):
    """Waveform (B, N), N a multiple of 160 -> (B, N / 160, 80); frame m is centred on samples [160 m, 160 (m + 1))."""

    bands: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.spectrum = STFT(_FFT, MEL_HOP, centred=True, norm="backward")
        bands = mel_bands(SAMPLE_RATE, _FFT, BANDS, LOWEST, HIGHEST, equal_area=True)
        self.register_buffer("bands", torch.from_numpy(bands).T.contiguous(), persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        power = self.spectrum(waveform).abs().square()  # (B, M, 257)
        return ((power @ self.bands).clamp(min=1e-8).log() - MEAN) / SPREAD
