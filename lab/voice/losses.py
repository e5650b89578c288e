"""How far a reconstruction is from the original: by mel spectra at six time scales, and by harmonics."""

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
        return magnitudes(frames) @ self.get_buffer(f"filters{size}")


class Harmonics(nn.Module):
    """The L1 of the logarithm of spectra from 0 to an eighth of the rate, windows of 1024 and 2048 samples, the mean.

    At 16 kHz 64 and 128 ms, in which the harmonics of the lowest voice stand apart, as bands of mel do not let them:
    this hears a wrong pitch. A bin of less than a third of the frame's mean counts as that.
    """

    def __init__(self, windows: tuple[int, ...] = (1024, 2048)):
        super().__init__()
        self.windows = windows
        for size in windows:
            self.register_buffer(f"taper{size}", torch.hann_window(size), persistent=False)

    def forward(self, waveform: Tensor, target: Tensor) -> Tensor:
        """(B, N), (B, N) -> ()."""
        distances = []
        for size in self.windows:
            with torch.no_grad():
                wanted = self.bins(target, size)
                floor = 0.3 * wanted.mean(-1, keepdim=True).clamp(min=3 * FLOOR)
            found = self.bins(waveform, size)
            distances.append(((found + floor).log() - (wanted + floor).log()).abs().mean())
        return torch.stack(distances).mean()

    def bins(self, waveform: Tensor, size: int) -> Tensor:
        """(B, N) -> magnitudes (B, N / hop, size / 8 - 1)."""
        frames = waveform.unfold(-1, size, size // 4) * self.get_buffer(f"taper{size}")
        return magnitudes(frames)[..., 1 : size // 8]


def magnitudes(frames: Tensor) -> Tensor:
    """(..., size) -> (..., size / 2 + 1); its gradient is finite where it is 0."""
    return (torch.view_as_real(torch.fft.rfft(frames, norm="ortho")).square().sum(-1) + 1e-9).sqrt()
