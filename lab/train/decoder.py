"""The recipe of the codec's decoder alone: against discriminators.

Distances are least where what cannot be known is blurred, which is heard as buzz and mumbling. Encoder, codebooks and
refiner stay, and with them what codes stand for, so that SoundStorm may learn from the codes meanwhile. Half of the
rows are decoded from all levels, half, where the codec has a refiner, from what that estimates, as a voice's are. In
the end the weights are an average over the last steps.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lab.train import codec as codec_recipe
from lab.train.batches import seed_of
from lab.train.joint import LEARNING, Batch, Example, batches, cut, estimated
from lab.train.loop import Losses, Schedule, fit, learning
from lab.voice.codec import FRAME_HOP, Codec, Reconstruction
from lab.voice.discriminators import Discriminators, adversary_loss, feature_distance, generator_loss

SCHEDULE = Schedule(4000, learning_rate=4e-4, warmup=100, weight_decay=0.01, betas=(0.8, 0.99), clip=20.0)
AVERAGED = 0.998  # decay of the average of the decoder's weights, some 500 steps
DISTANCES, FEATURES = 4.0, 2.0  # weights of all distances and of the features, beside 1 for the scores
ASKED = (2, 1)  # discriminators of periods and of resolutions that a step asks
MARGIN = 2 * FRAME_HOP  # samples at each end of a crop that no discriminator sees: the decoder knew no neighbours


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

    def forward(self, batch: Batch) -> Reconstruction:
        codec = self.codec
        with torch.no_grad():
            for average, now in zip(self.average.parameters(), codec.parameters(), strict=True):
                average.lerp_(now, 1 - AVERAGED)
            vectors = codec.quantizer.decode(batch.codes)
            if codec.refiner is not None:
                vectors[1::2] = estimated(codec, batch)[1::2]
            vectors = cut(vectors, batch.start)
        waveform, tones = codec.synthesize(vectors, batch.timbre)
        return Reconstruction(waveform, tones, vectors, vectors, batch.codes, waveform.new_zeros(()))


class Game:
    """The losses of decoder and discriminators; one reconstruction serves both, as the decoder does not move between
    them."""

    def __init__(self, width: int):
        self.distances, self.adversary = codec_recipe.Game(), Discriminators(width)
        self.made: tuple[Reconstruction, list[int]] | None = None

    def loss_of_adversary(self, adversary: nn.Module, model: nn.Module, batch: Batch | tuple[Tensor, ...]) -> Losses:
        batch = Batch(*batch)
        made = model(batch)
        periods, sizes = len(Discriminators.PERIODS), len(Discriminators.SIZES)
        chosen = torch.randperm(periods)[: ASKED[0]].tolist()
        chosen += (periods + torch.randperm(sizes)[: ASKED[1]]).tolist()
        self.made = made, chosen
        real, fake = (each[:, MARGIN:-MARGIN] for each in (batch.waveform, made.waveform.detach()))
        loss = adversary_loss(adversary(real, chosen), adversary(fake, chosen))
        return loss, {"adversary": loss}

    def loss_of(self, _: nn.Module, batch: Batch | tuple[Tensor, ...]) -> Losses:
        batch = Batch(*batch)
        assert self.made is not None
        made, chosen = self.made
        loss, logs = self.distances.distances(made, batch.speech())
        real, fake = (each[:, MARGIN:-MARGIN] for each in (batch.waveform, made.waveform))
        with torch.no_grad():
            wanted = self.adversary(real, chosen)
        found = self.adversary(fake, chosen)
        features, fooled = feature_distance(wanted, found), generator_loss(found)
        return DISTANCES * loss + fooled + FEATURES * features, logs | {"features": features, "fooled": fooled}


def train(
    codec: Codec,
    corpus: Sequence[Sequence[Example]],
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
    with learning(codec, LEARNING[:-1]):
        figures = fit(
            decoder,
            game.loss_of,
            batches(corpus, batch, seed),
            schedule=SCHEDULE.lasting(steps),
            folder=folder,
            adversary=(game.adversary, game.loss_of_adversary),
            seed=seed,
            mixed=True,
            **options,
        )
    codec.load_state_dict(decoder.average.state_dict())
    return figures
