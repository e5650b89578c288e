"""How far a reconstruction is from the original: the distance of their log-mel spectra at six time scales."""

from __future__ import annotations

import librosa
import torch
from torch import Tensor, nn


class MultiScaleMel(nn.Module):
    """Mean L1 between log-mel spectra, windows of 64 to 2048 samples, hop a quarter (SoundStream, III-E).

    SoundStream sums L1(mel) and sqrt(s / 2) L2(log mel) over 64 bands at every scale; this is the plain mean L1 of the
    logarithm, which reads as an error in nepers. A window of s samples has s / 2 + 1 bins, hence min(64, s / 8) bands.
    """

    def __init__(self, rate: int = 16000, scales: tuple[int, ...] = (64, 128, 256, 512, 1024, 2048), bands: int = 64):
        super().__init__()
        self.scales = scales
        for size in scales:
            filters = librosa.filters.mel(sr=rate, n_fft=size, n_mels=min(bands, size // 8), norm=None)
            self.register_buffer(f"filters{size}", torch.from_numpy(filters).T, persistent=False)
            self.register_buffer(f"taper{size}", torch.hann_window(size), persistent=False)

    def forward(self, waveform: Tensor, target: Tensor) -> Tensor:
        """(B, N), (B, N) -> ()."""
        with torch.no_grad():
            targets = [self.log_mel(target, size) for size in self.scales]
        distances = [(self.log_mel(waveform, s) - t).abs().mean() for s, t in zip(self.scales, targets, strict=True)]
        return torch.stack(distances).mean()

    def log_mel(self, waveform: Tensor, size: int) -> Tensor:
        """(B, N) -> (B, N / hop, bands)."""
        taper = self.get_buffer(f"taper{size}")
        frames = waveform.unfold(-1, size, size // 4) * taper  # (B, frames, size)
        power = torch.view_as_real(torch.fft.rfft(frames, norm="ortho")).square().sum(-1)
        mel = (power + 1e-9).sqrt() @ self.get_buffer(f"filters{size}")
        return (mel + 1e-3).log()
