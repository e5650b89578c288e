"""Units to speech in one voice: how long each unit lasts, and what the codec's decoder makes sound of.

GSLM's Tacotron 2 and TWIST's unit HiFi-GAN are trained on one reader and draw nothing: so is this. Where one voice says
it, a unit among its neighbours is taken to leave little open: the vector that all levels of the codec add up to is
estimated in one pass of convolutions, as the refiner does for the voice of the bundle (`lab.voice.refiner`). The
duration predictor is that of the unit HiFi-GAN (Kreuk et al. 2111.07402), without the prompt's rate: mean squared error
of log(1 + duration).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from lab import audio, windows
from lab.audio import Waveform
from lab.nn import RMSNorm
from lab.nn.convnext import convnext_blocks
from lab.nn.sampling import generator_of
from lab.presets import Presets
from lab.voice import Codec
from lab.voice.codec import CONTRAST
from lab.voice.synthesis import FADE
from lab.windows import TOKEN_HOP, TOKEN_RATE


@dataclass(frozen=True)
class OneVoiceConfig(Presets):
    """Shapes: `units` of the vocabulary at `rate` Hz, 25 or 50; `code_width` and `timbre` of the codec's vectors.

    `width`, `kernel` and `blocks` of the speech at 25 Hz; `duration_width` and `duration_blocks` of the predictor.
    `pace`: units a second without repeats, the mean of what was learnt from.
    """

    units: int
    rate: int
    code_width: int
    timbre: int
    pace: float
    width: int = 256
    kernel: int = 7
    blocks: int = 6
    duration_width: int = 96
    duration_blocks: int = 3

    PRESETS = {"lab": {}, "tiny": dict(width=16, blocks=1, duration_width=16, duration_blocks=1)}


class OneVoice(nn.Module):
    """Durations of units, and the codec's vectors of a voice that says them."""

    timbre: Tensor

    def __init__(self, config: OneVoiceConfig):
        super().__init__()
        self.config, self.stack = config, config.rate // TOKEN_RATE  # units of a frame
        self.timed = nn.Embedding(config.units, config.duration_width)
        self.timing = convnext_blocks(config.duration_blocks, config.duration_width, 5)
        self.duration = nn.Linear(config.duration_width, 1)
        self.embedding = nn.Embedding(config.units, config.width)
        self.join = nn.Linear(self.stack * config.width, config.width)
        self.blocks = convnext_blocks(config.blocks, config.width, config.kernel)
        self.out = nn.Sequential(RMSNorm(config.width), nn.Linear(config.width, config.code_width))
        self.register_buffer("timbre", torch.zeros(config.timbre))

    def forward(self, units: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
        """For training: `vectors` of units (B, T), and `logarithms` of units without repeats (B, U)."""
        return self.vectors(units), self.logarithms(kept)

    def logarithms(self, units: Tensor) -> Tensor:
        """Units without repeats (B, U) -> log(1 + duration) of each (B, U)."""
        return self.duration(self.timing(self.timed(units)))[..., 0].float()

    def vectors(self, units: Tensor) -> Tensor:
        """Units as long as they last (B, T) at `rate` -> the codec's vectors (B, ceil(T / stack), code_width)."""
        units = torch.cat([units, units[:, -1:].expand(-1, -units.shape[1] % self.stack)], 1)
        frames = self.embedding(units).unflatten(1, (-1, self.stack)).flatten(2)
        return self.out(self.blocks(self.join(frames))).float()

    @torch.inference_mode()
    def durations(self, units: Tensor) -> Tensor:
        """Units without repeats (U,) -> how long each lasts (U,), 1 or more, in units of `rate` Hz."""
        return durations(self.logarithms(units[None].to(self.device))[0], self.config.rate)

    @torch.inference_mode()
    def speak(self, units: Tensor, codec: Codec) -> Waveform:
        """Units as long as they last (T,) -> waveform (640 ceil(T / stack),), decoded in windows of 30 s."""
        if not len(units):
            return np.zeros(0, np.float32)
        vectors = self.vectors(units[None].to(self.device))

        def sound(start: int, stop: int) -> Tensor:
            noise = generator_of(0, start, device=self.device)
            return codec.synthesize(vectors[:, start:stop], self.timbre[None], noise, contrast=CONTRAST)[0][0]

        return joined(vectors.shape[1], sound)

    @property
    def device(self) -> torch.device:
        return self.duration.weight.device


def durations(logarithms: Tensor, rate: int) -> Tensor:
    """log(1 + duration) of units (U,) -> how long each lasts (U,), from 1 to a second, in units of `rate` Hz."""
    return logarithms.cpu().exp().sub(1).round().clamp(1, rate).long()


def joined(frames: int, sound: Callable[[int, int], Tensor]) -> Waveform:
    """`sound` of frames [start, stop) at 25 Hz (640 (stop - start),), in windows of 30 s -> waveform (640 frames,)."""
    pieces = []
    for part in windows.plan(frames, *windows.TOKENIZATION):
        samples = sound(part.start, part.stop).clamp(-1, 1).cpu().numpy()
        pieces.append(samples[part.scaled(TOKEN_HOP).kept(FADE // 2)])
    return np.concatenate(list(audio.stitch(pieces, FADE)))
