"""Recipes of a tokenizer's two parts, each alone, with the other as it is and the codebook too.

The encoder goes on to hear one narrator in all: of each reading it asks the tokens that the tokenizer, as it was, gives
the reference narrator for the same text, warped to the time of that reading. Codes keep what they stand for, so
that what has learnt from them needs little more. The reader goes on with tokens as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import track
from torch import Tensor, nn
from torch.nn import functional as F

from lab.corpora import Utterance
from lab.tokens import TOKEN_HOP, Tokenizer, ctc
from lab.train.batches import random_of
from lab.train.loop import Losses, Schedule
from lab.train.parts import Part, fit_part
from lab.train.speakers import SHARPNESS, in_step, perturb

Pair = tuple[Utterance, Utterance]

HEARING, READING = 5000, 3000  # steps of the encoder, of the reader
_VARIED = 0.4  # share of rows from another speaker and room yet
_PADDING = -100
_MISHEARD, _NEAR = 0.06, 8  # share of tokens that a reader meets as another one, out of so many that are nearest


@dataclass
class Hearing:
    """Speech and what its tokens should be."""

    waveform: Tensor  # (B, N)
    tokens: Tensor  # (B, T), _PADDING where there is no speech


class Encoder(Part[Tokenizer]):
    """The part of a tokenizer that makes its tokens."""

    def __init__(self, tokenizer: Tokenizer):
        super().__init__(tokenizer, Tokenizer.ENCODER)

    def train(self, mode: bool = True) -> Encoder:
        super().train(mode)
        self.model.centre.eval()  # what the codebook was made for
        return self

    def forward(self, batch: Hearing) -> Losses:
        tokenizer = self.model
        with torch.no_grad():
            frames = tokenizer.mel(batch.waveform).float()
            varied = torch.rand(len(frames), device=frames.device) < _VARIED
            frames[varied] = perturb(frames[varied])
        speech = batch.tokens != _PADDING
        scores = tokenizer.quantizer.scores(tokenizer.narrow(tokenizer.features(frames))[speech]) * SHARPNESS
        loss = F.cross_entropy(scores, batch.tokens[speech])
        return loss, {"agreement": loss, "same": (scores.argmax(-1) == batch.tokens[speech]).float().mean()}


@torch.inference_mode()
def in_the_time_of(tokenizer: Tokenizer, reading: Utterance, reference: Utterance) -> Tensor:
    """The tokens of `reference`, each where `reading`, of the same text, says the same: (T,), T whole tokens of it."""

    def directions(utterance: Utterance) -> Tensor:
        samples = torch.from_numpy(utterance.samples()[: len(utterance.waveform) // TOKEN_HOP * TOKEN_HOP]).to(device)
        return tokenizer.quantizer.on_sphere(tokenizer.narrow(tokenizer.features(tokenizer.mel(samples[None])))[0])

    device = tokenizer.device
    here, there = directions(reading), directions(reference)
    path = in_step(here, there)
    first, behind = (np.searchsorted(path[:, 0], np.arange(len(here)), side) for side in ("left", "right"))
    return tokenizer.quantizer.nearest(there).cpu()[path[(first + behind - 1) // 2, 1]]


def hearings(
    narrated: list[tuple[Utterance, Tensor]], read: list[tuple[Utterance, Tensor]], size: int, seed: int
) -> Callable[[int], Hearing]:
    """Step -> batch of `size` readings of about one length with the tokens asked of them; each eighth step a third as
    many that people `read`. Each begins up to a token late."""
    told = [sorted(source, key=lambda both: len(both[1])) for source in (narrated, read)]

    def batch(step: int) -> Hearing:
        rng = random_of(seed, step)
        source, rows = (told[1], max(1, size // 3)) if told[1] and step % 8 == 0 else (told[0], size)
        start = int(rng.integers(max(1, len(source) - rows + 1)))
        heard, asked = [], []
        for utterance, tokens in source[start : start + rows]:
            late = int(rng.integers(TOKEN_HOP))
            tokens = tokens[round(late / TOKEN_HOP) :]
            samples = torch.from_numpy(utterance.samples()[late : late + TOKEN_HOP * len(tokens)])
            heard.append(samples[: len(samples) // TOKEN_HOP * TOKEN_HOP])
            asked.append(tokens[: len(samples) // TOKEN_HOP])
        return Hearing(
            nn.utils.rnn.pad_sequence(heard, batch_first=True),
            nn.utils.rnn.pad_sequence(asked, batch_first=True, padding_value=_PADDING),
        )

    return batch


def hear(
    tokenizer: Tokenizer,
    pairs: list[Pair],
    speech: list[Utterance],
    folder: Path,
    *,
    steps: int = HEARING,
    size: int = 32,
    **options: Any,
) -> dict[str, float]:
    """Train the encoder of `tokenizer` in place, on readings beside that of the reference narrator
    (`narration.beside_reference`), and on real `speech` as it is heard now. `options` as in `fit_part`."""
    short = [(utterance, utterance) for utterance in speech if utterance.seconds < 16]
    narrated, read = (
        [(reading, in_the_time_of(tokenizer, reading, reference)) for reading, reference in track(each, "listening")]
        for each in (pairs, short)
    )
    batches = hearings(narrated, read, size, options["seed"])
    schedule = Schedule(steps, learning_rate=5e-4, warmup=min(100, steps // 4), weight_decay=0.02)
    return fit_part(Encoder(tokenizer), batches, folder, schedule, **options)


@dataclass
class Reading:
    """Tokens and what they spell."""

    tokens: Tensor  # (B, T)
    lengths: Tensor  # (B,) tokens of speech in each row, the rest is padding
    text: Tensor  # (sum of lengths,)
    text_lengths: Tensor  # (B,)


class Reader(Part[Tokenizer]):
    """The part of a tokenizer that reads its tokens."""

    near: Tensor

    def __init__(self, tokenizer: Tokenizer):
        super().__init__(tokenizer, Tokenizer.CTC_HEAD)
        quantizer = tokenizer.quantizer
        nearest = quantizer.scores(quantizer.codebook).topk(min(_NEAR, tokenizer.config.codes)).indices
        self.register_buffer("near", nearest, persistent=False)

    def forward(self, batch: Reading) -> Losses:
        misheard = torch.rand(batch.tokens.shape, device=batch.tokens.device) < _MISHEARD
        another = torch.randint(self.near.shape[1], batch.tokens.shape, device=batch.tokens.device)
        tokens = torch.where(misheard, self.near[batch.tokens, another], batch.tokens)
        logits = self.model.ctc_head(self.model.quantizer.codebook[tokens])
        spelled = logits.float().log_softmax(-1).transpose(0, 1)
        each = F.ctc_loss(spelled, batch.text, batch.lengths, batch.text_lengths, zero_infinity=True, reduction="none")
        ctc = (each / batch.text_lengths).mean()
        return ctc, {"ctc": ctc}


def readings(told: list[tuple[Tensor, Tensor]], size: int, seed: int) -> Callable[[int], Reading]:
    """Step -> batch of `size` passages of about one length, out of (tokens (T,), text) each."""
    told = sorted(told, key=lambda both: len(both[0]))

    def batch(step: int) -> Reading:
        rng = random_of(seed, step)
        start = int(rng.integers(max(1, len(told) - size + 1)))
        tokens, texts = zip(*told[start : start + size], strict=True)
        return Reading(
            nn.utils.rnn.pad_sequence(list(tokens), batch_first=True),
            torch.tensor([len(row) for row in tokens]),
            torch.cat(texts),
            torch.tensor([len(text) for text in texts]),
        )

    return batch


def read(
    tokenizer: Tokenizer,
    heard: list[Utterance],
    folder: Path,
    *,
    steps: int = READING,
    size: int = 48,
    **options: Any,
) -> dict[str, float]:
    """Train the reader of `tokenizer` in place, on the tokens of what is `heard` and its text. `options` as in
    `fit_part`."""
    told = [(tokenizer.encode(u.samples()).clone(), torch.tensor(ctc.labels(u.text))) for u in heard]
    schedule = Schedule(steps, learning_rate=1e-3, warmup=min(100, steps // 4), weight_decay=0.05)
    return fit_part(Reader(tokenizer), readings(told, size, options["seed"]), folder, schedule, **options)
