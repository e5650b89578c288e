"""Recipe of the tokenizer as a whole; after it its encoder goes on alone (`encoder`), then its CTC head (`ctc_head`).

Three losses train it. BEST-RQ (Chiu et al. 2022, 2202.01855) asks the encoder for the frozen random-projection code of
frames that were hidden from it. CTC after the quantizer asks the tokens for the text. And of two readings of the same
text (`narration.pair`, `narration.beside`) each encoder output is asked for the tokens of the other reading, aligned by
dynamic time warping: tokens should tell neither who speaks nor when a frame began.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lab.corpora import Utterance
from lab.corpora.utterance import int16
from lab.tokens import TOKEN_HOP, Tokenizer, TokenizerConfig, ctc, mel
from lab.train import ctc_head, encoder
from lab.train.alignment import aligned
from lab.train.augment import augmented, perturb
from lab.train.batches import by_source, neighbours, padded, positive, random_of, seed_of
from lab.train.ctc_head import ctc_losses, loss_of
from lab.train.encoder import SHARPNESS
from lab.train.loop import Losses, Schedule, fit, take_over

Pair = tuple[Utterance, Utterance]

STACK = 4  # log-mel frames a token
SCHEDULE = Schedule(8000, learning_rate=1.6e-3, warmup=100, weight_decay=0.02)
SECONDS = 100.0  # of a batch's first readings, all together
_MASKED_ROWS, _SPAN = 0.25, 10  # share of rows that learn by masked prediction; tokens a span, 400 ms (BEST-RQ)
_AGREEMENT = 2.0  # weight of the agreement loss


class Batch(NamedTuple):
    """Rows 2k and 2k + 1 say the same."""

    waveform: Tensor  # (B, N)
    tokens: Tensor  # (B,) tokens of speech in each row, the rest is padding
    text: Tensor  # (sum of lengths,)
    text_lengths: Tensor  # (B,)
    agreement: float  # weight of the agreement loss: asked of codes that mean nothing yet, it makes them all one


class Learner(nn.Module):
    """The tokenizer with what only its training needs: the frozen targets and the head that predicts them."""

    projection: Tensor
    targets: Tensor

    def __init__(self, tokenizer: Tokenizer, codes: int = 1024, width: int = 16):
        super().__init__()
        self.tokenizer = tokenizer
        frozen = torch.Generator().manual_seed(0)
        self.register_buffer("projection", torch.randn(STACK * mel.BANDS, width, generator=frozen))
        self.register_buffer("targets", F.normalize(torch.randn(codes, width, generator=frozen), dim=-1))
        self.predict = nn.Linear(tokenizer.config.width, codes)

    def random_projection_codes(self, frames: Tensor) -> Tensor:
        """Log-mel (B, 4 T, 80) -> target of each token (B, T)."""
        stacked = frames.unflatten(1, (-1, STACK)).flatten(2)  # (B, T, 320)
        return (F.normalize(stacked @ self.projection, dim=-1) @ self.targets.T).argmax(-1)

    def forward(self, batch: Batch) -> Losses:
        """The sum of the three losses and what to log; everything in one forward, which is what Fabric distributes."""
        tokenizer = self.tokenizer
        with torch.no_grad():
            frames = tokenizer.mel(batch.waveform)
            rows, length = len(frames), frames.shape[1] // STACK
            speech = torch.arange(length, device=frames.device) < batch.tokens[:, None]  # (B, T)
            targets = self.random_projection_codes(frames)
            perturbed = perturb(frames)
            masked_rows = torch.rand(rows, device=frames.device) < _MASKED_ROWS
            starts = (torch.rand(rows, 1, length, device=frames.device) < 0.04).float()
            masked = F.max_pool1d(starts, _SPAN, 1, _SPAN // 2)[:, 0, :length].bool() & masked_rows[:, None]  # (B, T)
            noise = 0.1 * torch.randn_like(perturbed)
            perturbed = torch.where(masked.repeat_interleave(STACK, 1)[..., None], noise, perturbed)
        features = tokenizer.features(perturbed)
        narrow = tokenizer.narrow(features, speech)
        quantized, codes = tokenizer.quantizer(narrow, speech)
        logits = tokenizer.ctc_head(quantized)

        asked, none = masked & speech, narrow.sum() * 0
        prediction = F.cross_entropy(self.predict(features[asked]), targets[asked]) if asked.any() else none
        read = ~masked_rows
        each = ctc_losses(logits, batch.tokens, batch.text, batch.text_lengths)
        spelled = each[read].mean() if read.any() else none
        first, second = aligned(tokenizer.quantizer.on_sphere(narrow.detach()), batch.tokens, read)
        agreement, same = none, narrow.new_zeros(())
        if len(first):
            logits_of_codes = tokenizer.quantizer.scores(narrow.flatten(0, 1)) * SHARPNESS  # (B T, codes)
            code = codes.flatten()
            agreement = 0.5 * (
                F.cross_entropy(logits_of_codes[first], code[second])
                + F.cross_entropy(logits_of_codes[second], code[first])
            )
            same = (code[first] == code[second]).float().mean()
        used = torch.bincount(codes[speech], minlength=tokenizer.config.codes)
        logs = {
            "ctc": spelled,
            "masked": prediction,
            "agreement": agreement,
            "same": same,
            "used": (used > 0).float().mean(),
        }
        return spelled + 0.15 * prediction + batch.agreement * agreement, logs


def batches(pairs: Sequence[Pair], size: int, seed: int, agreement: Callable[[int], float]) -> Callable[[int], Batch]:
    """Step -> batch of up to `size` pairs of about one length, `SECONDS` at most; every source has an equal share.

    Of what people read (all but "narrated") the waveform is augmented. Each reading begins up to a token late, so that
    tokens learn not to tell where their frame began.
    """
    positive(pairs=len(pairs), size=size)
    sources = by_source(sorted(pairs, key=lambda both: len(both[0].waveform)), lambda both: both[0])

    def batch(step: int) -> Batch:
        random = random_of(seed, step)
        chosen = neighbours(sources[step % len(sources)], size, random)
        chosen = chosen[: max(1, int(SECONDS / chosen[-1][0].seconds))]
        rows: list[Utterance] = []
        for first, second in chosen:
            if first.source != "narrated":
                first = replace(first, waveform=int16(augmented(first.samples(), random)))
            rows += [first, second]
        return collate(rows, agreement(step), random.integers(TOKEN_HOP, size=len(rows)))

    return batch


def collate(utterances: list[Utterance], agreement: float = 0.0, late: np.ndarray | None = None) -> Batch:
    """Utterances as rows, the first `late` (B,) samples of each left out."""
    starts = np.zeros(len(utterances), int) if late is None else late
    heard = [torch.from_numpy(u.samples()[start:]) for u, start in zip(utterances, starts, strict=True)]
    tokens = torch.tensor([len(samples) // TOKEN_HOP for samples in heard])
    texts = [torch.tensor(ctc.labels(u.text)) for u in utterances]
    text_lengths = torch.tensor([len(text) for text in texts])
    return Batch(padded(heard)[:, : TOKEN_HOP * int(tokens.max())], tokens, torch.cat(texts), text_lengths, agreement)


def train(
    pairs: Sequence[Pair],
    folder: Path,
    *,
    preset: str = "lab",
    steps: int = SCHEDULE.steps,
    size: int = 10,
    seed: int = 0,
    evaluate: Callable[[Tokenizer], dict[str, float]] | None = None,
    begin: Tokenizer | None = None,
    **options: Any,
) -> tuple[Tokenizer, dict[str, float]]:
    """A tokenizer that learnt from `pairs`, two readings of a text each: of narrators, and of people beside a narrator.

    After that the encoder alone and the CTC head alone: each for as large a share of its own schedule as `steps` are of
    the first. `begin` gives the weights to begin with. `options` are `fit`'s.
    """
    torch.manual_seed(seed_of(seed))
    share = steps / SCHEDULE.steps
    encoder_steps, ctc_head_steps = (math.ceil(share * each.SCHEDULE.steps) for each in (encoder, ctc_head))
    tokenizer = Tokenizer(TokenizerConfig.preset(preset))
    if begin is not None:
        take_over(tokenizer, begin)
    learner = Learner(tokenizer)
    options |= {"seed": seed, "evaluate": (lambda _: evaluate(tokenizer)) if evaluate else None}
    schedule = SCHEDULE.lasting(steps)
    ramp = 400 if begin else 2000
    made = batches(pairs, size, seed, lambda step: _AGREEMENT * min(1.0, step / ramp) ** 2)
    phases = [fit(learner, loss_of, made, schedule=schedule, folder=folder / "whole", mixed=True, **options)]
    corpus = [utterance for pair in pairs for utterance in pair]
    phases.append(encoder.train(tokenizer, corpus, folder / "encoder", steps=encoder_steps, **options))
    phases.append(ctc_head.train(tokenizer, corpus, folder / "ctc-head", steps=ctc_head_steps, **options))
    figures = {name: value for phase in phases[1:] for name, value in phase.items()}
    minutes = sum(phase["minutes"] for phase in phases)
    return tokenizer, figures | {"steps": float(steps), "minutes": minutes}
