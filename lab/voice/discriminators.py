"""SoundStream's discriminators (2107.03312, III-D): three of the waveform, one of its complex spectrum.

The published width is 32 for the spectrum and 16 for the waveform; `width` scales both.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lab.nn.stft import STFT

Activations = list[list[Tensor]]  # of every layer of each discriminator; the last layer's are its logits


class Discriminators(nn.Module):
    """Waveform (B, N) -> activations: of the waveform at 1, 1/2 and 1/4 of its rate, and of its spectrum."""

    def __init__(self, width: int = 32):
        super().__init__()
        self.waves = nn.ModuleList(Layers(wave_layers(max(4, width // 2))) for _ in range(3))
        self.stft = STFT(1024, 256)
        self.spectrum = Layers(spectrum_layers(width))

    def forward(self, waveform: Tensor) -> Activations:
        activations = []
        x = waveform[:, None]  # (B, 1, N)
        for wave in self.waves:
            activations.append(wave(x))
            x = F.avg_pool1d(x, 4, 2, padding=1)
        spectrum = torch.view_as_real(self.stft(waveform))[:, :, 1:]  # (B, F, 512, 2): six halvings want 512 bins
        # Contiguous: on channels-last input the strided 1 x 1 of torch 2.13 writes past its buffer going backward.
        return [*activations, self.spectrum(spectrum.permute(0, 3, 1, 2).contiguous())]


class Layers(nn.Module):
    """Layers with leaky ReLUs between them -> the activations of each."""

    def __init__(self, layers: list[nn.Module]):
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> list[Tensor]:
        activations: list[Tensor] = []
        for layer in self.layers:
            x = layer(F.leaky_relu(x, 0.2) if activations else x)
            activations.append(x)
        return activations


def wave_layers(width: int) -> list[nn.Module]:
    """A plain convolution, four grouped ones of stride 4 that widen by 4 (to 64 x width), two plain ones."""
    widths = [width, 4 * width, 16 * width, 64 * width, 64 * width]
    grouped = [
        nn.Conv1d(narrow, wide, 41, stride=4, padding=20, groups=max(1, narrow // 4))
        for narrow, wide in zip(widths, widths[1:], strict=False)
    ]
    plain = [nn.Conv1d(widths[-1], widths[-1], 5, padding=2), nn.Conv1d(widths[-1], 1, 3, padding=1)]
    return [nn.Conv1d(1, width, 15, padding=7), *grouped, *plain]


def spectrum_layers(width: int) -> list[nn.Module]:
    """A 7 x 7 convolution, six residual blocks of strides (1, 2), (2, 2), ..., a logit a time step."""
    widths = [width, 2 * width, 4 * width, 4 * width, 8 * width, 8 * width, 8 * width]
    blocks = [
        SpectrumBlock(narrow, wide, (1, 2) if number % 2 == 0 else (2, 2))
        for number, (narrow, wide) in enumerate(zip(widths, widths[1:], strict=False))
    ]
    return [nn.Conv2d(2, width, 7, padding=3), *blocks, nn.Conv2d(widths[-1], 1, (1, 8))]


class SpectrumBlock(nn.Module):
    """3 x 3, then a strided convolution, around a strided 1 x 1; on (B, C, time, bins)."""

    def __init__(self, narrow: int, wide: int, stride: tuple[int, int]):
        super().__init__()
        self.first = nn.Conv2d(narrow, narrow, 3, padding=1)
        self.second = nn.Conv2d(narrow, wide, (stride[0] + 2, stride[1] + 2), stride=stride, padding=1)
        self.around = nn.Conv2d(narrow, wide, 1, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(F.elu(self.first(F.elu(x))))
        return y + self.around(x)[..., : y.shape[-2], : y.shape[-1]]


def hinge_of_adversary(real: Activations, fake: Activations) -> Tensor:
    """Mean over discriminators and time of max(0, 1 - D(x)) + max(0, 1 + D(G(x)))."""
    pairs = zip(real, fake, strict=True)
    return torch.stack([F.relu(1 - r[-1]).mean() + F.relu(1 + f[-1]).mean() for r, f in pairs]).mean()


def hinge_of_generator(fake: Activations) -> Tensor:
    """Mean over discriminators and time of max(0, 1 - D(G(x)))."""
    return torch.stack([F.relu(1 - f[-1]).mean() for f in fake]).mean()


def feature_distance(real: Activations, fake: Activations) -> Tensor:
    """Mean L1 of the activations before the logits, over layers and discriminators."""
    pairs = [(r, f) for rs, fs in zip(real, fake, strict=True) for r, f in zip(rs[:-1], fs[:-1], strict=True)]
    return torch.stack([(r - f).abs().mean() for r, f in pairs]).mean()
