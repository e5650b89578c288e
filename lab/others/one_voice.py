"""Units to speech in one voice: how long each unit lasts, and whose 3 s stand before every window of a SoundStorm.

GSLM's Tacotron 2 and TWIST's unit HiFi-GAN are trained on one reader and say nothing of the prompt's. So is the
SoundStorm here, on units in place of semantic tokens; the duration predictor is that of the unit HiFi-GAN (Kreuk et al.
2111.07402): mean squared error of log(1 + duration), here without the prompt's rate.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lab.nn.convnext import convnext_blocks
from lab.presets import Presets
from lab.voice import VoicePrompt
from lab.windows import SPEAKER_PROMPT, TOKEN_RATE


@dataclass(frozen=True)
class OneVoiceConfig(Presets):
    """Shapes: `units` of the vocabulary at `rate` Hz; `width`, `kernel` and `blocks` of the predictor.

    Of the speaker's prompt: `frames` of `levels` codes, and the size of the codec's `timbre`. `pace`: units a second
    without repeats, the mean of what was learnt from.
    """

    units: int
    rate: int
    frames: int
    levels: int
    timbre: int
    pace: float
    width: int = 96
    kernel: int = 5
    blocks: int = 3

    PRESETS = {"lab": {}, "tiny": dict(width=16, blocks=1)}


class OneVoice(nn.Module):
    """Durations of units, and a prompt for the voice that says them."""

    speaker_tokens: Tensor
    speaker_codes: Tensor
    speaker_timbre: Tensor

    def __init__(self, config: OneVoiceConfig):
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.units, config.width)
        self.blocks = convnext_blocks(config.blocks, config.width, config.kernel)
        self.out = nn.Linear(config.width, 1)
        self.register_buffer("speaker_tokens", torch.zeros(SPEAKER_PROMPT, dtype=torch.int64))
        self.register_buffer("speaker_codes", torch.zeros(config.frames, config.levels, dtype=torch.int64))
        self.register_buffer("speaker_timbre", torch.zeros(config.timbre))

    def forward(self, units: Tensor) -> Tensor:
        """Units without repeats (B, U) -> log(1 + duration) of each (B, U)."""
        return self.out(self.blocks(self.embedding(units)))[..., 0]

    @torch.inference_mode()
    def durations(self, units: Tensor) -> Tensor:
        """Units without repeats (U,) -> how long each lasts (U,), 1 or more, in units of `rate` Hz."""
        logarithms = self(units[None].to(self.out.weight.device))[0].cpu()
        return logarithms.exp().sub(1).round().clamp(1, self.config.rate).long()  # a second at most

    @property
    def speaker(self) -> VoicePrompt:
        codec = (self.speaker_codes, self.speaker_timbre)[: 2 if self.config.timbre else 1]
        return VoicePrompt(self.speaker_tokens, *codec)


def at_token_rate(units: Tensor, rate: int) -> Tensor:
    """Units (T,) at 50 or 25 Hz -> at 25 Hz: of two the first. A codec frame, 40 ms, is spoken for each."""
    return units[:: rate // TOKEN_RATE]
