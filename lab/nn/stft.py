"""Short-time Fourier transform: cut into frames, windowed, transformed."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class STFT(nn.Module):
    """Frames of `size` samples, `hop` apart, under a Hann window; the transform is scaled by `norm` as in torch.fft.

    centred: pad by (size - hop) / 2 zeros on both sides, so that frame f is centred on samples [hop f, hop (f + 1))
    and N samples, a multiple of hop, give N / hop frames. Otherwise frames lie within the waveform.
    """

    window: Tensor

    def __init__(self, size: int, hop: int, *, centred: bool = False, norm: str = "ortho"):
        super().__init__()
        self.size, self.hop, self.norm = size, hop, norm
        self.margin = (size - hop) // 2 if centred else 0
        self.register_buffer("window", torch.hann_window(size), persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        """(B, N) -> (B, F, size / 2 + 1) complex."""
        frames = F.pad(waveform, (self.margin, self.margin)).unfold(-1, self.size, self.hop)  # (B, F, size)
        return torch.fft.rfft(frames * self.window, norm=self.norm)

    def magnitude(self, waveform: Tensor) -> Tensor:
        """(B, N) -> (B, F, size / 2 + 1); its gradient is finite where it is 0."""
        return (torch.view_as_real(self(waveform)).square().sum(-1) + 1e-9).sqrt()

    def inverse(self, spectrum: Tensor) -> Tensor:
        """(B, F, size / 2 + 1) complex, centred, hop a divisor of size -> (B, F * hop).

        Overlap-add over the sum of squared windows.
        """
        frames = torch.fft.irfft(spectrum, self.size, norm=self.norm) * self.window  # (B, F, size)
        weights = self.window.square().expand(1, frames.shape[1], -1)
        return self._overlap(frames) / self._overlap(weights).clamp(min=1e-3)

    def _overlap(self, frames: Tensor) -> Tensor:
        count = frames.shape[1]
        parts = frames.unflatten(-1, (-1, self.hop)).unbind(2)  # size / hop parts of (B, F, hop)
        late = len(parts) - 1
        summed = torch.stack([F.pad(part, (0, 0, n, late - n)) for n, part in enumerate(parts)]).sum(0)
        return summed.flatten(1)[:, self.margin : self.margin + count * self.hop]
