"""Discriminators of waveforms, narrow enough for a CPU, with the losses of least squares (Mao et al., 1611.04076).

Of several periods (HiFi-GAN, 2010.05646), and of complex spectra at several resolutions (UnivNet, 2106.07889).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from lab.nn.stft import STFT

Activations = list[list[Tensor]]  # of every layer of each discriminator; the last layer's are its scores


class Discriminator(nn.Module):
    """2-D convolutions with leaky ReLUs between them, on what `image` makes of a waveform (B, N)."""

    def __init__(self, layers: Sequence[nn.Module]):
        super().__init__()
        self.layers = nn.ModuleList(weight_norm(layer) for layer in layers)

    def image(self, waveform: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, waveform: Tensor) -> list[Tensor]:
        """Activations of every layer."""
        activations: list[Tensor] = []
        x = self.image(waveform)
        for layer in self.layers:
            x = layer(F.leaky_relu(x, 0.1) if activations else x)
            activations.append(x)
        return activations


class Period(Discriminator):
    """Sees every `period`-th sample as a row: (B, N) -> (B, 1, N / period, period)."""

    def __init__(self, period: int, widths: tuple[int, ...]):
        self.period = period
        steps = zip((1, *widths), widths, strict=False)
        layers = [nn.Conv2d(narrow, wide, (5, 1), (3, 1), (2, 0)) for narrow, wide in steps]
        layers.append(nn.Conv2d(widths[-1], widths[-1], (5, 1), 1, (2, 0)))
        super().__init__([*layers, nn.Conv2d(widths[-1], 1, (3, 1), 1, (1, 0))])

    def image(self, waveform: Tensor) -> Tensor:
        padded = F.pad(waveform, (0, -waveform.shape[-1] % self.period), mode="reflect")
        return padded.unflatten(-1, (-1, self.period))[:, None]


class Resolution(Discriminator):
    """Sees a complex spectrum: (B, N) -> (B, 2, frames, bins), windows of `size` samples, a quarter apart."""

    def __init__(self, size: int, width: int):
        def strided(narrow: int, wide: int, stride: int) -> nn.Module:
            return nn.Conv2d(narrow, wide, (3, 9), (1, stride), (1, 4))

        wide = 2 * width
        layers = [strided(2, width, 1), strided(width, width, 2), strided(width, wide, 2), strided(wide, wide, 2)]
        super().__init__([*layers, nn.Conv2d(wide, wide, 3, 1, 1), nn.Conv2d(wide, 1, 3, 1, 1)])
        self.stft = STFT(size, size // 4)

    def image(self, waveform: Tensor) -> Tensor:
        # Contiguous: on channels-last input a strided convolution of torch 2.13 writes past its buffer going backward.
        return torch.view_as_real(self.stft(waveform)).permute(0, 3, 1, 2).contiguous()


class Discriminators(nn.Module):
    """Waveform (B, N) -> activations of five periods and three resolutions. `width` scales all (published: 32)."""

    PERIODS, SIZES = (2, 3, 5, 7, 11), (256, 512, 1024)

    def __init__(self, width: int = 16):
        super().__init__()
        widths = (width, 3 * width, 8 * width, 16 * width)
        periods = [Period(period, widths) for period in self.PERIODS]
        self.parts = nn.ModuleList([*periods, *(Resolution(size, width) for size in self.SIZES)])

    def forward(self, waveform: Tensor, chosen: Sequence[int] | None = None) -> Activations:
        """`chosen`: numbers of the discriminators to ask, all by default."""
        return [self.parts[number](waveform) for number in (range(len(self.parts)) if chosen is None else chosen)]


def adversary_loss(real: Activations, fake: Activations) -> Tensor:
    """Mean over discriminators of the squares of 1 - D(x) and of D(G(x))."""
    pairs = zip(real, fake, strict=True)
    return torch.stack([(1 - r[-1]).square().mean() + f[-1].square().mean() for r, f in pairs]).mean()


def generator_loss(fake: Activations) -> Tensor:
    """Mean over discriminators of the square of 1 - D(G(x))."""
    return torch.stack([(1 - f[-1]).square().mean() for f in fake]).mean()


def feature_distance(real: Activations, fake: Activations) -> Tensor:
    """L1 of the activations before the scores, in shares of the mean activation of the real; the mean over layers."""
    pairs = [(r, f) for rs, fs in zip(real, fake, strict=True) for r, f in zip(rs[:-1], fs[:-1], strict=True)]
    return torch.stack([(r - f).abs().mean() / r.abs().mean().clamp(min=1e-3) for r, f in pairs]).mean()
