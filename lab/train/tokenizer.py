"""Recipes of the tokenizer: all of it, its encoder alone, its CTC head alone.

Three losses train it as a whole. BEST-RQ (Chiu et al. 2022, 2202.01855) asks the encoder for the frozen
random-projection code of frames that were hidden from it. CTC after the quantizer asks the tokens for the text. And of
two readings of the same text (`narration.pair`, `narration.beside`) each encoder output is asked for the tokens of the
other reading, aligned by dynamic time warping: tokens should tell neither who speaks nor when a frame began.

Then the encoder goes on alone, towards pseudo-labels: the tokens that the tokenizer, as it was, gives the reference
narrator for the same text, aligned with each reading. Codes keep what they stand for, so that what has learnt from
them needs little more. The CTC head goes on alone with tokens as they are.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import librosa
import numpy as np
import torch
from rich.progress import track
from torch import Tensor, nn
from torch.nn import functional as F

from lab.console import console
from lab.corpora import Utterance
from lab.corpora.utterance import int16
from lab.tokens import TOKEN_HOP, Tokenizer, TokenizerConfig, ctc, mel
from lab.train.augment import augmented
from lab.train.batches import neighbours, positive, random_of, seed_of
from lab.train.loop import Losses, Schedule, fit, learning, take_over

Pair = tuple[Utterance, Utterance]

STACK = 4  # log-mel frames a token
SCHEDULE = Schedule(8000, learning_rate=1.6e-3, warmup=100, weight_decay=0.02)
ENCODER_SCHEDULE = Schedule(5000, learning_rate=5e-4, warmup=100, weight_decay=0.02)
CTC_HEAD_SCHEDULE = Schedule(3000, learning_rate=1e-3, warmup=100, weight_decay=0.05)
SECONDS = 100.0  # of a batch's first readings, all together
_MASKED_ROWS, _SPAN = 0.25, 10  # share of rows that learn by masked prediction; tokens a span, 400 ms (BEST-RQ)
_AGREEMENT = 2.0  # weight of the agreement loss
_SHARPNESS = 15.0  # of logits over the codes: cosines of 0.2 apart are 20 to 1
_OFF_DIAGONAL = 0.02  # what a token of distance from even tempo costs an alignment, in cosines
_PERTURBED = 0.4  # share of rows that the encoder alone gets from another speaker and room
_REPLACED, _NEAREST = 0.06, 8  # share of tokens that the CTC head alone gets replaced, by one of so many nearest
_PADDING = -100  # no target here


# All of it


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
            logits_of_codes = tokenizer.quantizer.scores(narrow.flatten(0, 1)) * _SHARPNESS  # (B T, codes)
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


def loss_of(learner: nn.Module, batch: Any) -> Losses:
    """Of the three learners here, which return their losses."""
    return learner(batch)


def ctc_losses(logits: Tensor, tokens: Tensor, text: Tensor, text_lengths: Tensor) -> Tensor:
    """Logits (B, T, characters), tokens of speech (B,), texts end to end and their lengths (B,) -> nats a character
    (B,); 0 where a text is too long for its tokens."""
    logs = logits.float().log_softmax(-1).transpose(0, 1)
    return F.ctc_loss(logs, text, tokens, text_lengths, zero_infinity=True, reduction="none") / text_lengths


def align(first: Tensor, second: Tensor) -> np.ndarray:
    """Two readings of one text as unit vectors (T, C) and (S, C) -> which say the same (M, 2), ascending.

    Dynamic time warping near an even tempo: every vector of either has a match.
    """
    here, there = (each.float().cpu().numpy() for each in (first, second))
    even = np.arange(len(here))[:, None] * len(there) / len(here)
    costs = 1 - here @ there.T + _OFF_DIAGONAL * np.abs(even - np.arange(len(there)))
    _, path = librosa.sequence.dtw(C=costs.astype(np.float64))
    return path[::-1]


@torch.no_grad()
def aligned(directions: Tensor, lengths: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Which tokens of rows 2k and 2k + 1 say the same: unit vectors (B, T, C), tokens of speech in each row (B,), rows
    to align (B,) bool -> indices into (B T): two (M,)."""
    length, paths = directions.shape[1], [np.zeros((0, 2), np.int64)]
    for row in range(0, len(directions), 2):
        # Of NaN librosa would raise an error, where the step is to be rejected.
        if rows[row] and rows[row + 1] and directions[row : row + 2].isfinite().all():
            path = align(*(directions[each, : lengths[each]] for each in (row, row + 1)))
            paths.append(path + length * np.array([row, row + 1]))
    first, second = torch.from_numpy(np.concatenate(paths)).to(directions.device).unbind(1)
    return first, second


def perturb(frames: Tensor) -> Tensor:
    """Another speaker, room and level, in step: frequency warped by 0.88 to 1.14, tilted, gained, noised, bands hidden.

    Log-mel (B, M, 80) -> the same shape. Numbers below are in nats.
    """
    rows, _, bands = frames.shape
    device = frames.device

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(rows, 1, 1, device=device)

    place = torch.arange(bands, device=device, dtype=frames.dtype)
    # Bands are near linear in log-frequency above 1 kHz (about 23 bands an octave) and near linear below.
    source = (place + uniform(-1, 1) * 4.5 * (place / bands).clamp(min=0.05).sqrt()).clamp(0, bands - 1)  # (B, 1, 80)
    low = source.floor().long().clamp(max=bands - 2)
    part = source - low
    index = low.expand(frames.shape)
    warped = frames.gather(2, index) * (1 - part) + frames.gather(2, index + 1) * part
    centred = (place - bands / 2) / bands
    shaped = (
        warped * mel.SPREAD
        + mel.MEAN
        + uniform(-1.8, 1.8)
        + uniform(-3.0, 3.0) * centred
        + uniform(-1.2, 1.2) * torch.cos(torch.pi * (centred * 4 + uniform(0, 2)))
    )
    floor = uniform(-11.6, -7.4) + 0.9 * torch.randn_like(shaped)
    noisy = torch.logaddexp(shaped, floor)  # powers add
    start = uniform(0, bands)
    band = (place >= start) & (place < start + uniform(0, 12))
    return (torch.where(band, floor, noisy) - mel.MEAN) / mel.SPREAD


def batches(pairs: Sequence[Pair], size: int, seed: int, agreement: Callable[[int], float]) -> Callable[[int], Batch]:
    """Step -> batch of up to `size` pairs of about one length, `SECONDS` at most; every source has an equal share.

    Of what people read (all but "narrated") the waveform is augmented. Each reading begins up to a token late, so that
    tokens learn not to tell where their frame began.
    """
    positive(pairs=len(pairs), size=size)
    groups: defaultdict[str, list[Pair]] = defaultdict(list)
    for pair in sorted(pairs, key=lambda both: len(both[0].waveform)):
        groups[pair[0].source].append(pair)
    sources = sorted(groups)

    def batch(step: int) -> Batch:
        random = random_of(seed, step)
        source = sources[step % len(sources)]
        chosen = neighbours(groups[source], size, random)
        chosen = chosen[: max(1, int(SECONDS / chosen[-1][0].seconds))]
        rows: list[Utterance] = []
        for first, second in chosen:
            if source != "narrated":
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
    return Batch(_padded(heard)[:, : TOKEN_HOP * int(tokens.max())], tokens, torch.cat(texts), text_lengths, agreement)


def _padded(rows: list[Tensor], padding: float = 0.0) -> Tensor:
    return nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=padding)


def train(
    pairs: Sequence[Pair],
    references: Sequence[Pair],
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

    After that the encoder alone, on `references`, pairs of a reading and the reference narrator's, and the CTC head
    alone: each for as large a share of its own schedule as `steps` are of the first. `begin` gives the weights to begin
    with. `options` are `fit`'s.
    """
    torch.manual_seed(seed_of(seed))
    share = steps / SCHEDULE.steps
    encoder_steps, ctc_head_steps = (math.ceil(share * each.steps) for each in (ENCODER_SCHEDULE, CTC_HEAD_SCHEDULE))
    tokenizer = Tokenizer(TokenizerConfig.preset(preset))
    if begin is not None:
        take_over(tokenizer, begin)
    learner = Learner(tokenizer)
    options |= {"seed": seed, "evaluate": (lambda _: evaluate(tokenizer)) if evaluate else None}
    schedule = SCHEDULE.lasting(steps)
    ramp = 400 if begin else 2000
    made = batches(pairs, size, seed, lambda step: _AGREEMENT * min(1.0, step / ramp) ** 2)
    phases = [fit(learner, loss_of, made, schedule=schedule, folder=folder / "whole", mixed=True, **options)]
    phases.append(train_encoder(tokenizer, references, folder / "encoder", steps=encoder_steps, **options))
    everything = [utterance for pair in (*pairs, *references) for utterance in pair]
    phases.append(train_ctc_head(tokenizer, everything, folder / "ctc-head", steps=ctc_head_steps, **options))
    figures = {name: value for phase in phases[1:] for name, value in phase.items()}
    minutes = sum(phase["minutes"] for phase in phases)
    return tokenizer, figures | {"steps": float(steps), "minutes": minutes}


# The encoder alone


class EncoderBatch(NamedTuple):
    """Speech and what its tokens should be."""

    waveform: Tensor  # (B, N)
    tokens: Tensor  # (B, T), _PADDING where there is no speech


class Encoder(nn.Module):
    """The tokenizer, to learn to give the tokens that it is asked for; its codebook and centre stay."""

    def __init__(self, tokenizer: Tokenizer):
        super().__init__()
        self.tokenizer = tokenizer

    def train(self, mode: bool = True) -> Encoder:
        super().train(mode)
        self.tokenizer.centre.eval()
        return self

    def forward(self, batch: EncoderBatch) -> Losses:
        tokenizer = self.tokenizer
        with torch.no_grad():
            frames = tokenizer.mel(batch.waveform).float()
            rows = torch.rand(len(frames), device=frames.device) < _PERTURBED
            frames[rows] = perturb(frames[rows])
        speech = batch.tokens != _PADDING
        logits = tokenizer.quantizer.scores(tokenizer.narrow(tokenizer.features(frames))[speech]) * _SHARPNESS
        loss = F.cross_entropy(logits, batch.tokens[speech])
        return loss, {"agreement": loss, "same": (logits.argmax(-1) == batch.tokens[speech]).float().mean()}


def pseudo_labels(tokenizer: Tokenizer, reading: Utterance, reference: Utterance) -> Tensor:
    """The tokens of `reference`, aligned with `reading`, of the same text: (T,), T whole tokens of the reading."""
    matches, there = beside(tokenizer, reading, reference)
    return tokenizer.quantizer.nearest(there).cpu()[matches]


@torch.inference_mode()
def beside(tokenizer: Tokenizer, reading: Utterance, reference: Utterance) -> tuple[np.ndarray, Tensor]:
    """For each whole token of a reading the one of another reading of the same text that says the same (T,), and what
    the tokens of that are made of (S, C)."""

    def directions(utterance: Utterance) -> Tensor:
        samples = torch.from_numpy(utterance.samples()[: len(utterance.waveform) // TOKEN_HOP * TOKEN_HOP])
        frames = tokenizer.mel(samples[None].to(tokenizer.device))
        return tokenizer.quantizer.on_sphere(tokenizer.narrow(tokenizer.features(frames))[0])

    here, there = directions(reading), directions(reference)
    path = align(here, there)
    first, behind = (np.searchsorted(path[:, 0], np.arange(len(here)), side) for side in ("left", "right"))
    return path[(first + behind - 1) // 2, 1], there


def encoder_batches(
    labelled: Sequence[tuple[Utterance, Tensor]], size: int, seed: int
) -> Callable[[int], EncoderBatch]:
    """Step -> batch of up to `size` readings of about one length with their pseudo-labels, 3 `SECONDS` at most; every
    source has an equal share. Each begins up to a token late."""
    positive(readings=len(labelled), size=size)
    groups: defaultdict[str, list[tuple[Utterance, Tensor]]] = defaultdict(list)
    for reading in sorted(labelled, key=lambda both: len(both[1])):
        groups[reading[0].source].append(reading)
    sources = sorted(groups)

    def batch(step: int) -> EncoderBatch:
        random = random_of(seed, step)
        chosen = neighbours(groups[sources[step % len(sources)]], size, random)
        heard, labels = [], []
        for utterance, tokens in chosen[: max(1, int(3 * SECONDS / chosen[-1][0].seconds))]:
            late = int(random.integers(TOKEN_HOP))
            tokens = tokens[round(late / TOKEN_HOP) :]
            samples = torch.from_numpy(utterance.samples()[late : late + TOKEN_HOP * len(tokens)])
            heard.append(samples[: len(samples) // TOKEN_HOP * TOKEN_HOP])
            labels.append(tokens[: len(samples) // TOKEN_HOP])
        return EncoderBatch(_padded(heard), _padded(labels, _PADDING))

    return batch


def train_encoder(
    tokenizer: Tokenizer,
    pairs: Sequence[Pair],
    folder: Path,
    *,
    steps: int = ENCODER_SCHEDULE.steps,
    size: int = 32,
    seed: int = 0,
    **options: Any,
) -> dict[str, float]:
    """Train the encoder of `tokenizer` in place, on readings beside those of the reference narrator. `options` are
    `fit`'s."""
    aligning = track(pairs, "aligning", console=console)
    labelled = [(one, pseudo_labels(tokenizer, one, other)) for one, other in aligning]
    made = encoder_batches(labelled, size, seed)
    schedule = ENCODER_SCHEDULE.lasting(steps)
    with learning(tokenizer, Tokenizer.ENCODER):
        return fit(
            Encoder(tokenizer), loss_of, made, schedule=schedule, folder=folder, seed=seed, mixed=True, **options
        )


# The CTC head alone


class CTCBatch(NamedTuple):
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

    def forward(self, batch: CTCBatch) -> Losses:
        replaced = torch.rand(batch.tokens.shape, device=batch.tokens.device) < _REPLACED
        other = torch.randint(self.nearest.shape[1], batch.tokens.shape, device=batch.tokens.device)
        tokens = torch.where(replaced, self.nearest[batch.tokens, other], batch.tokens)
        logits = self.tokenizer.ctc_head(self.tokenizer.quantizer.codebook[tokens])
        loss = ctc_losses(logits, batch.lengths, batch.text, batch.text_lengths).mean()
        return loss, {"ctc": loss}


def ctc_batches(corpus: list[tuple[Tensor, Tensor]], size: int, seed: int) -> Callable[[int], CTCBatch]:
    """Step -> batch of `size` passages of about one length, out of (tokens (T,), text) each."""
    positive(passages=len(corpus), size=size)
    corpus = sorted(corpus, key=lambda both: len(both[0]))

    def batch(step: int) -> CTCBatch:
        tokens, texts = zip(*neighbours(corpus, size, random_of(seed, step)), strict=True)
        lengths, text_lengths = (torch.tensor([len(row) for row in rows]) for rows in (tokens, texts))
        return CTCBatch(_padded(list(tokens)), lengths, torch.cat(texts), text_lengths)

    return batch


def train_ctc_head(
    tokenizer: Tokenizer,
    corpus: Sequence[Utterance],
    folder: Path,
    *,
    steps: int = CTC_HEAD_SCHEDULE.steps,
    size: int = 48,
    seed: int = 0,
    **options: Any,
) -> dict[str, float]:
    """Train the CTC head of `tokenizer` in place, on the tokens and texts of a corpus. `options` are `fit`'s."""
    spelled = [(tokenizer.encode(u.samples()).clone(), torch.tensor(ctc.labels(u.text))) for u in corpus]
    schedule = CTC_HEAD_SCHEDULE.lasting(steps)
    made = ctc_batches(spelled, size, seed)
    with learning(tokenizer, Tokenizer.CTC_HEAD):
        return fit(
            CTCHead(tokenizer), loss_of, made, schedule=schedule, folder=folder, seed=seed, mixed=True, **options
        )
