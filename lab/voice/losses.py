"""How far a reconstruction is from the original: the distance of their mel spectra at six time scales."""

from __future__ import annotations

import librosa
import torch
from torch import Tensor, nn

FLOOR = 1e-3  # of a band, some 60 dB under speech: softer than that is silence


class MultiScaleMel(nn.Module):
    """Two distances of mel spectra, windows of 64 to 2048 samples, hop a quarter, the mean over the scales.

    The L1 of the logarithm, which reads as an error in nepers and hears what is soft; and the L1 itself in shares of
    the mean magnitude of the target, which hears what is loud (SoundStream, III-E, has L1 and the logarithm's L2).
    A window of s samples has s / 2 + 1 bins, hence min(64, s / 8) bands.
    """

    def __init__(self, rate: int = 16000, scales: tuple[int, ...] = (64, 128, 256, 512, 1024, 2048), bands: int = 64):
        super().__init__()
        self.scales = scales
        for size in scales:
            filters = librosa.filters.mel(sr=rate, n_fft=size, n_mels=min(bands, size // 8), norm=None)
            self.register_buffer(f"filters{size}", torch.from_numpy(filters).T, persistent=False)
            self.register_buffer(f"taper{size}", torch.hann_window(size), persistent=False)

    def forward(self, waveform: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """(B, N), (B, N) -> both distances, ()."""
        logarithmic, linear = [], []
        for size in self.scales:
            with torch.no_grad():
                wanted = self.mel(target, size)
                scale = wanted.mean((1, 2), keepdim=True).clamp(min=FLOOR)
            found = self.mel(waveform, size)
            logarithmic.append(((found + FLOOR).log() - (wanted + FLOOR).log()).abs().mean())
            linear.append(((found - wanted).abs() / scale).mean())
        return torch.stack(logarithmic).mean(), torch.stack(linear).mean()

    def mel(self, waveform: Tensor, size: int) -> Tensor:
        """(B, N) -> magnitudes (B, N / hop, bands)."""
        taper = self.get_buffer(f"taper{size}")
        frames = waveform.unfold(-1, size, size // 4) * taper  # (B, frames, size)
        power = torch.view_as_real(torch.fft.rfft(frames, norm="ortho")).square().sum(-1)
        return (power + 1e-9).sqrt() @ self.get_buffer(f"filters{size}")
