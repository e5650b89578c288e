"""How far a reconstruction is from the original: by mel spectra at six time scales, and by harmonics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from lab.nn.mel import mel_bands
from lab.nn.stft import STFT

FLOOR = 1e-3  # of a band, some 60 dB under speech: softer than that is silence


class MultiScaleMel(nn.Module):
    """Two distances of mel spectra, windows of 64 to 2048 samples, hop a quarter, the mean over the scales.

    The L1 of the logarithm, an error in nepers, which weighs soft bands as much as loud ones; and the L1 itself in
    shares of the mean magnitude of the target, which weighs the loud ones (SoundStream, III-E, has L1 and the
    logarithm's L2). A window of s samples has s / 2 + 1 bins, hence min(64, s / 8) bands.
    """

    spectra: Mapping[str, STFT]

    def __init__(self, rate: int = 16000, scales: tuple[int, ...] = (64, 128, 256, 512, 1024, 2048), bands: int = 64):
        super().__init__()
        self.scales = scales
        self.spectra = cast(Mapping[str, STFT], nn.ModuleDict({str(size): STFT(size, size // 4) for size in scales}))
        for size in scales:
            filters = mel_bands(rate, size, min(bands, size // 8))
            self.register_buffer(f"filters{size}", torch.from_numpy(filters).T, persistent=False)

    def forward(self, waveform: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """(B, N), (B, N) -> both distances, ()."""
        logarithmic, linear = [], []
        for size in self.scales:
            found, wanted = self.mel(waveform, size), self.mel(target, size)
            scale = wanted.mean((1, 2), keepdim=True).clamp(min=FLOOR)
            logarithmic.append(((found + FLOOR).log() - (wanted + FLOOR).log()).abs().mean())
            linear.append(((found - wanted).abs() / scale).mean())
        return torch.stack(logarithmic).mean(), torch.stack(linear).mean()

    def mel(self, waveform: Tensor, size: int) -> Tensor:
        """(B, N) -> magnitudes (B, F, bands) of the scale `size`, F = 1 + (N - size) // (size / 4)."""
        return self.spectra[str(size)].magnitude(waveform) @ self.get_buffer(f"filters{size}")


class Harmonics(nn.Module):
    """The L1 of the logarithm of spectra from 0 to an eighth of the rate, windows of 1024 and 2048 samples, the mean.

    At 16 kHz 64 and 128 ms, in which the harmonics of the lowest voice are resolved, as bands of mel do not resolve
    them: it is sensitive to a wrong pitch. A bin of less than a third of the frame's mean counts as that.
    """

    spectra: Sequence[STFT]

    def __init__(self, sizes: tuple[int, ...] = (1024, 2048)):
        super().__init__()
        self.spectra = cast(Sequence[STFT], nn.ModuleList(STFT(size, size // 4) for size in sizes))

    def forward(self, waveform: Tensor, target: Tensor) -> Tensor:
        """(B, N), (B, N) -> ()."""
        distances = []
        for spectrum in self.spectra:
            found, wanted = (spectrum.magnitude(each)[..., 1 : spectrum.size // 8] for each in (waveform, target))
            floor = 0.3 * wanted.mean(-1, keepdim=True).clamp(min=3 * FLOOR)
            distances.append(((found + floor).log() - (wanted + floor).log()).abs().mean())
        return torch.stack(distances).mean()
