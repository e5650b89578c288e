"""Speech units: clusters of the features of an encoder that learnt from speech alone (GSLM, 2102.01192).

    log-mel 100 Hz -> strided convolution, 50 Hz -> blocks -> what block `layer` gives -> nearest of k clusters

In HuBERT's role is an encoder trained by BEST-RQ (`lab.train.units`): no text, no pairs of readers, so that units tell
of who speaks, too. `stack` frames of 50 Hz make a unit: GSLM has 1, TWIST and Spirit LM have 2, which is 25 Hz.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lab import windows
from lab.audio import SAMPLE_RATE
from lab.errors import LabError
from lab.nn.convnext import convnext_blocks
from lab.presets import Presets
from lab.tokens.mel import BANDS, LogMel
from lab.tokens.windowed import in_windows

FRAME_HOP = 320  # samples of a frame of the encoder


@dataclass(frozen=True)
class UnitsConfig(Presets):
    """Shapes: `width` of the `blocks`, `kernel` of their convolutions in frames, odd; `units` clusters.

    Presets: "gslm" has 200 units at 50 Hz (the original 50, 100 or 200), "twist" 500 at 25 Hz; "tiny" is for tests.
    """

    width: int = 160
    kernel: int = 15
    blocks: int = 6
    layer: int = 4  # of 6, as HuBERT's 6th of 12 and mHuBERT's 11th: behind it features tell of the targets
    units: int = 200
    stack: int = 1

    PRESETS = {
        "gslm": {},
        "twist": dict(units=500, stack=2),
        "tiny": dict(width=16, kernel=5, blocks=2, layer=1, units=12),
    }

    def __post_init__(self) -> None:
        if not 1 <= self.layer <= self.blocks:
            raise LabError(f"UnitsConfig: layer must be 1 to {self.blocks}, the blocks, not {self.layer}")
        if self.stack not in (1, 2):
            raise LabError(f"UnitsConfig: stack must be 1 (50 Hz) or 2 (25 Hz), not {self.stack}")


class Units(nn.Module):
    """Waveform -> units; `encode` is that of `protocols.Tokenizer`, at `rate`."""

    centres: Tensor

    def __init__(self, config: UnitsConfig):
        super().__init__()
        self.config, self.vocabulary = config, config.units
        self.hop = FRAME_HOP * config.stack  # samples of a unit
        self.rate = SAMPLE_RATE // self.hop
        self.mel = LogMel()
        self.down = nn.Conv1d(BANDS, config.width, 5, stride=2, padding=2)
        self.blocks = convnext_blocks(config.blocks, config.width, config.kernel)
        self.register_buffer("centres", torch.zeros(config.units, config.width))

    def features(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Log-mel (B, 2 T, 80) -> what is clustered, and what predicts the targets, (B, T, width).

        What is clustered has mean 0 and variance 1 in every channel over the window, which takes off much of what tells
        speakers apart (van Niekerk et al. 2108.00917).
        """
        x = F.gelu(self.down(frames.transpose(1, 2))).transpose(1, 2)
        middle = self.blocks[: self.config.layer](x)
        normal = F.layer_norm(middle, middle.shape[-1:])
        normal = (normal - normal.mean(1, keepdim=True)) / (normal.std(1, keepdim=True, unbiased=False) + 0.1)
        return normal, self.blocks[self.config.layer :](middle)

    def stacked(self, waveform: Tensor) -> Tensor:
        """(B, N), N a multiple of `hop` -> what is clustered (B, N / hop, width)."""
        middle, _ = self.features(self.mel(waveform.to(self.device)))
        return middle.unflatten(1, (-1, self.config.stack)).mean(2)

    @torch.inference_mode()
    def tokenize(self, waveform: Tensor) -> Tensor:
        """One window: (B, N), N a multiple of `hop` -> units (B, N / hop)."""
        features = self.stacked(waveform)
        return (features @ self.centres.T - 0.5 * self.centres.square().sum(-1)).argmax(-1)

    def encode(self, waveform: np.ndarray) -> Tensor:
        """Waveform (N,) float32 at 16 kHz -> units (ceil(N / hop),) int64, in windows of 30 s that overlap by 4 s.

        Raises LabError for what is no waveform, is empty or not finite.
        """
        reach = self.config.layer * (self.config.kernel // 2) + 3  # 3: the strided convolution and the spectrum
        scale = self.rate // windows.TOKEN_RATE
        return in_windows(self.tokenize, waveform, self.hop, reach, *(scale * size for size in windows.TOKENIZATION))

    @property
    def device(self) -> torch.device:
        return self.down.weight.device


def without_repeats(units: Tensor) -> tuple[Tensor, Tensor]:
    """Units (T,) -> those that differ from the one before (U,), and how long each lasts (U,)."""
    return torch.unique_consecutive(units, return_counts=True)
