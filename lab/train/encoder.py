"""Recipe of the tokenizer's encoder alone: on with the words, while the tokens stay what they were.

What people read is learnt by CTC, through the quantizer and the CTC head, and by a second head straight from the
encoder, which is thrown away: a gradient that no codebook stands in the way of. Of what narrators read the encoder is
also asked for the tokens that it gave at first. The codebook stays, so codes keep what they stand for, and what has
learnt from them needs little more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.progress import track
from torch import Tensor, nn
from torch.nn import functional as F

from lab.console import console
from lab.corpora import Utterance
from lab.corpora.utterance import int16
from lab.tokens import TOKEN_HOP, Tokenizer, TokenizerConfig, ctc
from lab.train.augment import augmented, perturb
from lab.train.batches import by_source, neighbours, padded, positive, random_of, seed_of
from lab.train.ctc_head import ctc_losses, loss_of
from lab.train.loop import Schedule, fit, learning

SCHEDULE = Schedule(5000, learning_rate=1e-3, warmup=50, weight_decay=0.02)
SECONDS = 100.0  # of a batch, all together
_PERTURBED = 0.4  # share of rows that come from another speaker and room
SHARPNESS = 15.0  # of logits over the codes: cosines of 0.2 apart are 20 to 1
_STRAIGHT, _NEAR = 0.5, 0.1  # weights: of the head before the quantizer, of the distance from a vector to its code
_PADDING = -100  # no target here

Labelled = tuple[Utterance, Tensor | None]


class Batch(NamedTuple):
    """Speech, its text, and of narrators what its tokens should stay."""

    waveform: Tensor  # (B, N)
    tokens: Tensor  # (B,) tokens of speech in each row, the rest is padding
    text: Tensor  # (sum of lengths,)
    text_lengths: Tensor  # (B,)
    kept: Tensor  # (B, T), _PADDING where there is none
    through: bool  # whether CTC goes through quantizer and head as well; they cost as much as the encoder


class Learner(nn.Module):
    """The tokenizer with the head that only its training needs; its codebook and centre stay."""

    def __init__(self, tokenizer: Tokenizer):
        super().__init__()
        self.tokenizer = tokenizer
        self.straight = nn.Linear(tokenizer.config.width, ctc.CLASSES)

    def train(self, mode: bool = True) -> Learner:
        super().train(mode)
        self.tokenizer.centre.eval()
        self.tokenizer.quantizer.eval()
        return self

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        tokenizer = self.tokenizer
        with torch.no_grad():
            frames = tokenizer.mel(batch.waveform).float()
            rows = torch.rand(len(frames), device=frames.device) < _PERTURBED
            frames[rows] = perturb(frames[rows])
        features = tokenizer.features(frames)
        narrow = tokenizer.narrow(features)
        speech = torch.arange(narrow.shape[1], device=narrow.device) < batch.tokens[:, None]  # (B, T)
        quantized, codes = tokenizer.quantizer(narrow)
        asked = batch.tokens, batch.text, batch.text_lengths
        straight = ctc_losses(self.straight(features), *asked).mean()
        vectors = tokenizer.quantizer.on_sphere(narrow)
        near = (vectors - tokenizer.quantizer.codebook[codes])[speech].square().sum(-1).mean()
        loss, logs = _STRAIGHT * straight + _NEAR * near, {"straight": straight}
        if batch.through:
            logs["ctc"] = ctc_losses(tokenizer.ctc_head(quantized), *asked).mean()
            loss = loss + logs["ctc"]
        if (kept := batch.kept != _PADDING).any():
            logits = tokenizer.quantizer.scores(narrow[kept]) * SHARPNESS
            logs["kept"] = F.cross_entropy(logits, batch.kept[kept])
            logs["same"] = (logits.argmax(-1) == batch.kept[kept]).float().mean()
            loss = loss + logs["kept"]
        return loss, logs


@torch.inference_mode()
def labelled(tokenizer: Tokenizer, utterance: Utterance) -> Labelled:
    """An utterance with the tokens to stay by, if a narrator reads it."""
    if utterance.source != "narrated":
        return utterance, None
    samples = torch.from_numpy(utterance.samples()[: len(utterance.waveform) // TOKEN_HOP * TOKEN_HOP])
    return utterance, tokenizer.tokenize(samples[None])[0].clone()


def batches(corpus: Sequence[Labelled], seconds: float, seed: int) -> Callable[[int], Batch]:
    """Step -> batch of utterances of about one length, of so many seconds in all, two of them at least; every source
    has an equal share. What people read is augmented; what narrators read begins up to a token late."""
    positive(utterances=len(corpus), seconds=seconds)
    sources = by_source(sorted(corpus, key=lambda both: len(both[0].waveform)), lambda both: both[0])

    def batch(step: int) -> Batch:
        random = random_of(seed, step)
        group = sources[step % len(sources)]
        chosen = neighbours(group, 2 * max(1, int(seconds / group[len(group) // 2][0].seconds)), random)
        chosen = [chosen[at] for at in random.permutation(len(chosen))]
        chosen = chosen[: max(2, int(seconds / max(utterance.seconds for utterance, _ in chosen)))]
        heard, kept = [], []
        for utterance, tokens in chosen:
            if tokens is None:
                utterance = replace(utterance, waveform=int16(augmented(utterance.samples(), random)))
            late = 0 if tokens is None else int(random.integers(TOKEN_HOP))
            samples = torch.from_numpy(utterance.samples()[late:])
            heard.append(samples[: len(samples) // TOKEN_HOP * TOKEN_HOP])
            length = len(heard[-1]) // TOKEN_HOP
            asked = torch.full((0,), _PADDING) if tokens is None else tokens[round(late / TOKEN_HOP) :]
            kept.append(F.pad(asked, (0, length), value=_PADDING)[:length])
        texts = [torch.tensor(ctc.labels(utterance.text)) for utterance, _ in chosen]
        lengths = torch.tensor([len(samples) // TOKEN_HOP for samples in heard])
        text_lengths = torch.tensor([len(text) for text in texts])
        through = step // len(sources) % 2 == 0  # of every source in turn
        return Batch(padded(heard), lengths, torch.cat(texts), text_lengths, padded(kept, _PADDING), through)

    return batch


def widened(tokenizer: Tokenizer) -> Tokenizer:
    """With an encoder whose blocks expand as those of the preset "lab", where it is of that width and they expand less:
    the channels that are new say nothing until they learn."""
    preset = TokenizerConfig.preset("lab")
    if tokenizer.config.width != preset.width or tokenizer.config.expansion >= preset.expansion:
        return tokenizer
    wide = Tokenizer(replace(tokenizer.config, expansion=preset.expansion))
    weights = wide.state_dict()
    for name, value in tokenizer.state_dict().items():
        if value.shape == weights[name].shape:
            weights[name] = value
        else:  # of `up` the first rows, of `down` the first columns
            place = tuple(slice(size) for size in value.shape)
            if name.endswith("down.weight"):
                weights[name].zero_()
            weights[name][place] = value
    wide.load_state_dict(weights)
    return wide


def train(
    tokenizer: Tokenizer,
    corpus: Sequence[Utterance],
    folder: Path,
    *,
    steps: int = SCHEDULE.steps,
    seconds: float = SECONDS,
    seed: int = 0,
    **options: Any,
) -> dict[str, float]:
    """Train the encoder and the CTC head of `tokenizer` in place. `options` are `fit`'s."""
    known = [labelled(tokenizer, each) for each in track(corpus, "listening", console=console)]
    made = batches(known, seconds, seed)
    torch.manual_seed(seed_of(seed))
    learner = Learner(tokenizer)
    with learning(tokenizer, (*Tokenizer.ENCODER, *Tokenizer.CTC_HEAD)):
        return fit(
            learner, loss_of, made, schedule=SCHEDULE.lasting(steps), folder=folder, seed=seed, mixed=True, **options
        )
