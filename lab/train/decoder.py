"""The recipe of the codec's decoder alone: against discriminators.

Distances are least where what cannot be known is blurred, which is heard as buzz and mumbling. Encoder and codebooks
stay, and with them what codes stand for, so that SoundStorm may learn from the codes meanwhile. In the end the weights
are an average over the last steps.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lab.train.batches import seed_of
from lab.train.codec import Example, Game, crops
from lab.train.loop import Schedule, fit, learning
from lab.voice.codec import FRAME_HOP, Codec, Reconstruction

SCHEDULE = Schedule(4000, learning_rate=4e-4, warmup=100, weight_decay=0.01, betas=(0.8, 0.99), clip=20.0)
AVERAGED = 0.998  # decay of the average of the decoder's weights, some 500 steps


class Decoder(nn.Module):
    """The codec, of which the decoder alone learns, and the average of its weights."""

    def __init__(self, codec: Codec):
        super().__init__()
        self.codec = codec
        self.average = copy.deepcopy(codec).requires_grad_(False)  # a run that goes on finds it in its checkpoint

    def train(self, mode: bool = True) -> Decoder:
        super().train(mode)
        self.codec.quantizer.eval()  # codebooks stay
        return self

    def forward(self, waveform: Tensor, depth: Tensor, reference: Tensor | None = None) -> Reconstruction:
        with torch.no_grad():
            for average, now in zip(self.average.parameters(), self.codec.parameters(), strict=True):
                average.lerp_(now, 1 - AVERAGED)
        return self.codec(waveform, depth, reference)


def train(
    codec: Codec,
    corpus: Sequence[Example],
    folder: Path,
    *,
    steps: int = SCHEDULE.steps,
    batch: int = 8,
    width: int = 16,
    seed: int = 0,
    **options: Any,
) -> dict[str, float]:
    """Train the decoder of `codec` in place against discriminators of some `width`. `options` are `fit`'s."""
    torch.manual_seed(seed_of(seed))
    decoder, game = Decoder(codec), Game(width)
    assert game.adversary is not None
    with learning(codec, Codec.DECODER):
        figures = fit(
            decoder,
            game.loss_of,
            crops(corpus, batch, 20 * FRAME_HOP, codec.config.levels, seed, free=-1),
            schedule=SCHEDULE.lasting(steps),
            folder=folder,
            adversary=(game.adversary, game.loss_of_adversary),
            seed=seed,
            mixed=True,
            **options,
        )
    codec.load_state_dict(decoder.average.state_dict())
    return figures
