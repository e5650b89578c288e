"""Recipes of speech units: their encoder by BEST-RQ, clusters by k-means, and the one voice that says them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.cluster import MiniBatchKMeans
from torch import Tensor, nn
from torch.nn import functional as F

from lab.errors import LabError
from lab.others.one_voice import OneVoice
from lab.others.units import Units, without_repeats
from lab.tokens.mel import BANDS
from lab.train.batches import crop, positive, random_of, seed_of
from lab.train.loop import Losses, Schedule, fit

SCHEDULE = Schedule(2500, learning_rate=1e-3, warmup=200, weight_decay=0.02)
VOICE_SCHEDULE = Schedule(5000, learning_rate=1.5e-3, warmup=200, weight_decay=0.01)
FRAMES = 150  # of the codec in a crop of the one voice, 6 s
STACK = 2  # log-mel frames of a frame of the encoder
SECONDS = 8  # of a crop
_TARGETS, _WIDTH = 1024, 16  # of the frozen codebook
_START, _SPAN = 0.02, 20  # chance of a frame to begin a masked span, of 400 ms (BEST-RQ: 0.01 of 10 ms)
_FRAMES = 200_000  # that clusters are made of: more than an hour at 50 Hz


class Learner(nn.Module):
    """The encoder with the frozen targets of BEST-RQ (Chiu et al. 2202.01855) and the layer that predicts them."""

    projection: Tensor
    codebook: Tensor

    def __init__(self, units: Units):
        super().__init__()
        self.units = units
        frozen = torch.Generator().manual_seed(0)
        self.register_buffer("projection", torch.randn(STACK * BANDS, _WIDTH, generator=frozen))
        self.register_buffer("codebook", F.normalize(torch.randn(_TARGETS, _WIDTH, generator=frozen), dim=-1))
        self.predict = nn.Linear(units.config.width, _TARGETS)

    def forward(self, waveform: Tensor) -> Losses:
        """(B, N) -> cross-entropy of the targets of frames that were hidden."""
        with torch.no_grad():
            frames = self.units.mel(waveform)
            stacked = frames.unflatten(1, (-1, STACK)).flatten(2)  # (B, T, 160)
            targets = (F.normalize(stacked @ self.projection, dim=-1) @ self.codebook.T).argmax(-1)
            starts = (torch.rand(targets.shape, device=frames.device) < _START).float()
            masked = F.max_pool1d(starts[:, None], _SPAN, 1, _SPAN // 2)[:, 0, : targets.shape[1]].bool()
            hidden = masked.repeat_interleave(STACK, 1)[..., None]
            frames = torch.where(hidden, 0.1 * torch.randn_like(frames), frames)
        logits = self.predict(self.units.features(frames)[1])
        loss = F.cross_entropy(logits[masked], targets[masked]) if masked.any() else logits.sum() * 0
        return loss, {"masked": loss}


def train_encoder(
    units: Units,
    speech: Sequence[np.ndarray],
    folder: Path,
    *,
    steps: int = SCHEDULE.steps,
    size: int = 16,
    seed: int = 0,
    **options: Any,
) -> dict[str, float]:
    """Train the encoder of `units` in place, on waveforms (N,) of 16 kHz. `options` are `fit`'s."""
    positive(recordings=len(speech), size=size)

    def batch(step: int) -> Tensor:
        random = random_of(seed, step)
        rows = random.integers(0, len(speech), size)
        return torch.from_numpy(np.stack([crop(_float(speech[row]), SECONDS * 16_000, random) for row in rows]))

    torch.manual_seed(seed_of(seed))
    learner = Learner(units)
    return fit(
        learner,
        lambda model, x: model(x),
        batch,
        schedule=SCHEDULE.lasting(steps),
        folder=folder,
        seed=seed,
        mixed=True,
        **options,
    )


@torch.inference_mode()
def cluster(units: Units, speech: Sequence[np.ndarray], seed: int = 0) -> float:
    """Make the clusters of `units` anew, by k-means on some of the speech; returns the share of variance they explain.

    Raises LabError for fewer frames than units.
    """
    found, count = [], 0
    for number in np.random.default_rng(seed_of(seed)).permutation(len(speech)):
        waveform = _float(speech[number])[: len(speech[number]) // units.hop * units.hop]
        if count < _FRAMES and len(waveform):
            found.append(units.stacked(torch.from_numpy(waveform)[None])[0].cpu().numpy())
            count += len(found[-1])
    if count < units.vocabulary:
        raise LabError(f"{count} frames of speech make no {units.vocabulary} clusters; give more speech")
    features = np.concatenate(found)
    means = MiniBatchKMeans(units.vocabulary, batch_size=4096, n_init=3, random_state=seed % 2**32).fit(features)
    units.centres.copy_(torch.from_numpy(means.cluster_centers_))
    return float(1 - means.inertia_ / np.square(features - features.mean(0)).sum())


class Batch(NamedTuple):
    """Crops of what one reader said, and their units without repeats with how long each lasts, 0 where that is not
    known: a crop cuts its first and last."""

    units: Tensor  # (B, T) at their rate
    vectors: Tensor  # (B, F, code_width) of the codec
    kept: Tensor  # (B, U)
    lasts: Tensor  # (B, U)


def train_voice(
    one_voice: OneVoice,
    units: Tensor,
    vectors: Tensor,
    folder: Path,
    *,
    steps: int = VOICE_SCHEDULE.steps,
    size: int = 16,
    seed: int = 0,
    **options: Any,
) -> dict[str, float]:
    """Train `one_voice` in place, on units (T,) and the codec's vectors (F, code_width) of one reader. `options` are
    `fit`'s."""
    schedule, made = VOICE_SCHEDULE.lasting(steps), voice_batches(units, vectors, size, seed)
    return fit(one_voice, voice_loss, made, schedule=schedule, folder=folder, seed=seed, mixed=True, **options)


def voice_batches(units: Tensor, vectors: Tensor, size: int, seed: int) -> Callable[[int], Batch]:
    """Step -> `size` crops. Raises LabError for less speech than a crop."""
    positive(size=size)
    frames, stack = len(vectors), len(units) // max(1, len(vectors))
    if frames < FRAMES:
        raise LabError(f"the reader speaks for {frames / 25:.1f} s, less than a crop of {FRAMES / 25:g} s; give more")

    def batch(step: int) -> Batch:
        starts = random_of(seed, step).integers(0, frames - FRAMES + 1, size).tolist()
        said = [units[stack * start : stack * (start + FRAMES)] for start in starts]
        kept, lasts = zip(*map(without_repeats, said), strict=True)
        known = [torch.cat([each.new_zeros(1), each[1:-1], each.new_zeros(1)])[: len(each)] for each in lasts]
        padded = (nn.utils.rnn.pad_sequence(list(each), batch_first=True) for each in (kept, known))
        return Batch(torch.stack(said), torch.stack([vectors[start : start + FRAMES] for start in starts]), *padded)

    return batch


def voice_loss(model: nn.Module, batch: Batch | tuple[Tensor, ...]) -> Losses:
    """Mean square error of the vectors in shares of their variance, and of log(1 + duration) where it is known."""
    batch = Batch(*batch)
    vectors, logarithms = model(batch.units, batch.kept)
    error = (vectors - batch.vectors).square().mean() / batch.vectors.var((0, 1)).mean()
    known = batch.lasts > 0
    timing = ((logarithms - batch.lasts.float().log1p()).square() * known).sum() / known.sum().clamp(min=1)
    return error + timing, {"error": error, "timing": timing}


def _float(waveform: np.ndarray) -> np.ndarray:
    return waveform.astype(np.float32) / 32768 if waveform.dtype == np.int16 else waveform.astype(np.float32)
