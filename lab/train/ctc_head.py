"""Recipe of the tokenizer's CTC head alone: it learns to spell tokens as they are, some replaced by near ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lab.corpora import Utterance
from lab.tokens import Tokenizer, ctc
from lab.train.batches import neighbours, padded, positive, random_of
from lab.train.loop import Losses, Schedule, fit, learning

SCHEDULE = Schedule(3000, learning_rate=1e-3, warmup=100, weight_decay=0.05)
_REPLACED, _NEAREST = 0.06, 8  # share of tokens that are replaced, by one of so many nearest


def loss_of(learner: nn.Module, batch: Any) -> Losses:
    """Of the learners of the tokenizer and of its parts, which return their losses."""
    return learner(batch)


def ctc_losses(logits: Tensor, tokens: Tensor, text: Tensor, text_lengths: Tensor) -> Tensor:
    """Logits (B, T, characters), tokens of speech (B,), texts end to end and their lengths (B,) -> nats a character
    (B,); 0 where a text is too long for its tokens."""
    logs = logits.float().log_softmax(-1).transpose(0, 1)
    return F.ctc_loss(logs, text, tokens, text_lengths, zero_infinity=True, reduction="none") / text_lengths


class Batch(NamedTuple):
    """Tokens and their text."""

    tokens: Tensor  # (B, T)
    lengths: Tensor  # (B,) tokens of speech in each row, the rest is padding
    text: Tensor  # (sum of lengths,)
    text_lengths: Tensor  # (B,)


class CTCHead(nn.Module):
    """The tokenizer, to learn to spell its tokens, some of which are replaced by near ones."""

    nearest: Tensor

    def __init__(self, tokenizer: Tokenizer):
        super().__init__()
        self.tokenizer, quantizer = tokenizer, tokenizer.quantizer
        nearest = quantizer.scores(quantizer.codebook).topk(min(_NEAREST, tokenizer.config.codes)).indices
        self.register_buffer("nearest", nearest, persistent=False)

    def forward(self, batch: Batch) -> Losses:
        replaced = torch.rand(batch.tokens.shape, device=batch.tokens.device) < _REPLACED
        other = torch.randint(self.nearest.shape[1], batch.tokens.shape, device=batch.tokens.device)
        tokens = torch.where(replaced, self.nearest[batch.tokens, other], batch.tokens)
        logits = self.tokenizer.ctc_head(self.tokenizer.quantizer.codebook[tokens])
        loss = ctc_losses(logits, batch.lengths, batch.text, batch.text_lengths).mean()
        return loss, {"ctc": loss}


def batches(corpus: list[tuple[Tensor, Tensor]], size: int, seed: int) -> Callable[[int], Batch]:
    """Step -> batch of `size` passages of about one length, out of (tokens (T,), text) each."""
    positive(passages=len(corpus), size=size)
    corpus = sorted(corpus, key=lambda both: len(both[0]))

    def batch(step: int) -> Batch:
        tokens, texts = zip(*neighbours(corpus, size, random_of(seed, step)), strict=True)
        lengths, text_lengths = (torch.tensor([len(row) for row in rows]) for rows in (tokens, texts))
        return Batch(padded(list(tokens)), lengths, torch.cat(texts), text_lengths)

    return batch


def train(
    tokenizer: Tokenizer,
    corpus: Sequence[Utterance],
    folder: Path,
    *,
    steps: int = SCHEDULE.steps,
    size: int = 48,
    seed: int = 0,
    **options: Any,
) -> dict[str, float]:
    """Train the CTC head of `tokenizer` in place, on the tokens and texts of a corpus. `options` are `fit`'s."""
    spelled = [(tokenizer.encode(u.samples()).clone(), torch.tensor(ctc.labels(u.text))) for u in corpus]
    schedule = SCHEDULE.lasting(steps)
    made = batches(spelled, size, seed)
    with learning(tokenizer, Tokenizer.CTC_HEAD):
        return fit(
            CTCHead(tokenizer), loss_of, made, schedule=schedule, folder=folder, seed=seed, mixed=True, **options
        )
