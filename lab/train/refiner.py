"""The recipe of the codec's refiner: from tokens, codes of the first level and the timbre of other speech of the same
speaker, the vector that all levels add up to.

In part of the rows the codes are hidden, so that it learns as well what the tokens alone tell (`lab.voice.refiner`).
All else of the codec stays. The error is in shares of the vectors' variance: 1 is as good as their mean.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from lab.errors import LabError
from lab.tokens import Tokenizer
from lab.train.batches import of_speakers, positive, random_of, seed_of
from lab.train.loop import Losses, Schedule, fit
from lab.train.soundstorm import crop
from lab.voice import Codec, CodecConfig, VoicePrompt

SCHEDULE = Schedule(3500, learning_rate=1.5e-3, warmup=200, weight_decay=0.01)
LENGTH = 150  # frames of a row, 6 s
HIDDEN = 0.45  # share of the rows without codes


class Batch(NamedTuple):
    tokens: Tensor  # (B, F)
    codes: Tensor  # (B, F, Q)
    timbre: Tensor  # (B, C) of other speech of the same speaker
    known: Tensor  # (B,) bool: whether the codes of the first level are seen


def train(
    codec: Codec,
    utterances: Sequence[Sequence[VoicePrompt]],
    folder: Path,
    *,
    steps: int = SCHEDULE.steps,
    batch: int = 16,
    seed: int = 0,
    **options: Any,
) -> dict[str, float]:
    """Train the refiner of `codec` in place on utterances by speaker (`soundstorm.spoken`). `options` are `fit`'s."""
    torch.manual_seed(seed_of(seed))
    return fit(
        Refining(codec),
        loss_of,
        batches(utterances, batch, seed),
        schedule=SCHEDULE.lasting(steps),
        folder=folder,
        seed=seed,
        mixed=True,
        **options,
    )


def with_refiner(codec: Codec, tokenizer: Tokenizer) -> Codec:
    """The same codec with a refiner that reads as this tokenizer does: its own or, where that is of other shapes, one
    that has learnt nothing."""
    layers = codec.config.refiner_layers or CodecConfig.preset("lab").refiner_layers
    head = tokenizer.config
    shapes: dict[str, int] = {
        "refiner_layers": layers,
        "vocabulary": head.codes,
        "context_layers": head.blocks_after,
        "context_width": head.width,
        "context_kernel": head.kernel,
    }
    made = codec if (config := replace(codec.config, **shapes)) == codec.config else Codec(config)
    if made is not codec:
        others = {name: value for name, value in codec.state_dict().items() if name.partition(".")[0] != "refiner"}
        made.load_state_dict(others, strict=False)
    assert made.refiner is not None
    if (context := made.refiner.context) is not None:
        first, *blocks, _ = tokenizer.ctc_head
        with torch.no_grad():
            context.embedding.weight.copy_(first(tokenizer.quantizer.codebook))
        context.blocks.load_state_dict(nn.Sequential(*blocks).state_dict())
    return made


def batches(utterances: Sequence[Sequence[VoicePrompt]], size: int, seed: int) -> Callable[[int], Batch]:
    """Step -> batch of `size` rows, drawn by `of_speakers`; the timbre is that of any utterance of the speaker."""
    positive(size=size)
    heard = [[said for said in speaker if len(said.tokens) >= LENGTH] for speaker in utterances]
    speakers = [speaker for speaker in heard if speaker]
    if not speakers:
        raise LabError(f"no utterance lasts {LENGTH / 25:g} s: nothing to train the refiner on")
    drawn = of_speakers([[len(said.tokens) for said in speaker] for speaker in speakers])

    def row(random: np.random.Generator) -> tuple[Tensor, ...]:
        number, utterance = drawn(random)
        speaker = speakers[number]
        said = crop(speaker[utterance], LENGTH, random)
        timbre = speaker[int(random.integers(len(speaker)))].timbre
        assert timbre is not None
        return said.tokens.long(), said.codes.long(), timbre

    def batch_of(step: int) -> Batch:
        random = random_of(seed, step)
        tokens, codes, timbre = (
            torch.stack(column) for column in zip(*(row(random) for _ in range(size)), strict=True)
        )
        return Batch(tokens, codes, timbre, torch.from_numpy(random.random(size) >= HIDDEN))

    return batch_of


class Refining(nn.Module):
    """The refiner beside the codebooks that its targets are made of."""

    def __init__(self, codec: Codec):
        super().__init__()
        assert codec.refiner is not None
        self.refiner, self.quantizer = codec.refiner.requires_grad_(), codec.quantizer  # a bundle's learns nothing
        if self.refiner.context is not None:
            self.refiner.context.keep()

    def forward(self, tokens: Tensor, codes: Tensor, timbre: Tensor, known: Tensor) -> Tensor:
        """The mean square error of each row, over the variance of the batch (B,)."""
        target, vectors = self.quantizer.decode(codes), self.quantizer.decode(codes[..., :1])
        found = self.refiner(tokens, vectors, timbre, known)
        return (found - target).square().mean((1, 2)) / target.var((0, 1)).mean()


def loss_of(model: nn.Module, batch: Batch | tuple[Tensor, ...]) -> Losses:
    batch = Batch(*batch)
    errors = model(*batch)
    logs = {"error": errors.mean()}
    for name, rows in (("guided", batch.known), ("alone", ~batch.known)):
        if rows.any():
            logs[name] = errors[rows].mean()
    return errors.mean(), logs
