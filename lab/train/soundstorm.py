"""The voice's recipe: 3 s of a speaker saying one thing, then the same speaker saying another, to fill in.

Windows of 30 s are spoken with what crops of a few seconds taught. Two things make them alike: the target
stands at a random distance behind the prompt (position skipping: PoSE, 2309.10400), so that all 27 s of
distances are seen, and attention is local beside the prompt, so that the number of keys is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lab import windows
from lab.errors import LabError
from lab.train.batches import positive, random_of, seed_of
from lab.train.loop import Losses, Schedule, fit, take_over
from lab.voice import SoundStorm, SoundStormConfig, VoicePrompt
from lab.voice.soundstorm import FRAMES, mask_codes

PROMPT = windows.SPEAKER_PROMPT  # tokens
TARGET = (50, 125)  # tokens: 2 to 5 s, so that most frames have all of their +-2 s


class Batch(NamedTuple):
    """B rows of prompt and target, and what to hide of it (`mask_codes`)."""

    tokens: Tensor  # (B, T)
    codes: Tensor  # (B, F, Q)
    positions: Tensor  # (B, F)
    level: Tensor  # (B,)
    masked: Tensor  # (B, F) bool, at that level


def train(
    utterances: Sequence[Sequence[VoicePrompt]],
    folder: Path,
    *,
    preset: str = "lab",
    vocabulary: int | None = None,
    steps: int = 3000,
    batch: int = 8,
    seed: int = 0,
    held_out: Sequence[Sequence[VoicePrompt]] = (),
    begin: SoundStorm | None = None,
    **options: Any,
) -> tuple[SoundStorm, dict[str, float]]:
    """A voice that learnt from `utterances`: for each speaker two or more (see `Shard.utterances`).

    `vocabulary` is the tokenizer's. Those `held_out` are measured by cross-entropy as training goes. `begin` gives the
    weights to begin with. `options` are `fit`'s.
    """
    torch.manual_seed(seed_of(seed))
    sizes = {} if vocabulary is None else {"tokens": vocabulary}
    soundstorm = SoundStorm(SoundStormConfig.preset(preset, **sizes))
    if begin is not None:
        take_over(soundstorm, begin)
    levels = soundstorm.config.levels
    test = batches(held_out, 32, levels, seed) if held_out else None
    figures = fit(
        soundstorm,
        loss_of,
        batches(utterances, batch, levels, seed),
        schedule=Schedule(steps, learning_rate=1e-3, warmup=min(200, steps // 4), weight_decay=0.05),
        folder=folder,
        evaluate=(lambda model: cross_entropies(model, test(0))) if test else None,
        seed=seed,
        mixed=True,
        **options,
    )
    return soundstorm, figures


def batches(utterances: Sequence[Sequence[VoicePrompt]], size: int, levels: int, seed: int) -> Callable[[int], Batch]:
    """Step -> batch of `size` rows of one length. Low levels are asked for more often: 1 / level.

    The first level holds what is said and is filled in 16 passes, and the first two who says it; each but the first is
    read off in a single pass, so that it is hidden whole. Codes of its own level around it would tell little more.
    """
    positive(size=size)
    pairs = [
        (voice, target)
        for speaker in utterances
        for voice in speaker
        for target in speaker
        if target is not voice and len(voice.tokens) >= PROMPT and len(target.tokens) >= TARGET[0]
    ]
    if not pairs:
        raise LabError("no speaker has two utterances of 3 s or more: nothing to train the voice on")
    pairs.sort(key=lambda pair: len(pair[1].tokens))
    lengths = np.array([len(target.tokens) for _, target in pairs])
    odds = 1 / np.arange(1, levels + 1)

    def batch_of(step: int) -> Batch:
        random = random_of(seed, step)
        length = min(int(random.integers(TARGET[0], TARGET[1] + 1)), int(lengths[-1]))
        first = int(np.searchsorted(lengths, length))  # pairs from here on are long enough
        rows = []
        for number in random.integers(first, len(pairs), size):
            voice, target = (crop(t, n, random) for t, n in zip(pairs[number], (PROMPT, length), strict=True))
            rows.append((torch.cat([voice.tokens, target.tokens]), torch.cat([voice.codes, target.codes])[:, :levels]))
        tokens, codes = (torch.stack(column).long() for column in zip(*rows, strict=True))
        skipped = random.integers(0, FRAMES * (windows.SYNTHESIS.window - length) + 1, (size, 1))
        positions = np.arange(codes.shape[1]) + skipped * (np.arange(codes.shape[1]) >= FRAMES * PROMPT)
        level = random.choice(levels, size, p=odds / odds.sum())
        share = np.where(level == 0, np.cos(random.uniform(0, np.pi / 2, size)), 1)
        masked = random.random(positions.shape) < share[:, None]
        return Batch(tokens, codes, *(torch.from_numpy(x) for x in (positions, level, masked)))

    return batch_of


def crop(said: VoicePrompt, length: int, random: np.random.Generator) -> VoicePrompt:
    """`length` tokens from anywhere in an utterance, with their frames."""
    start = int(random.integers(len(said.tokens) - length + 1))
    return VoicePrompt(said.tokens[start : start + length], said.codes[FRAMES * start : FRAMES * (start + length)])


def loss_of(model: nn.Module, batch: Batch) -> Losses:
    errors, masked = errors_of(model, batch)
    loss = errors.sum() / masked.sum().clamp(min=1)
    logs = {"loss": loss}
    for level in batch.level.unique().tolist():
        rows = batch.level == level
        if masked[rows].any():
            logs[f"level {level + 1}"] = errors[rows].sum() / masked[rows].sum()
    return loss, logs


def errors_of(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    """Nats of each frame of the target that was hidden, 0 elsewhere; and which were, both (B, F - prompt)."""
    ahead = FRAMES * PROMPT
    codes = mask_codes(batch.codes, batch.masked, batch.level, ahead, model.config.codes)  # type: ignore[union-attr, arg-type]
    logits = model(batch.tokens, codes, batch.level, ahead, batch.positions)
    index = batch.level[:, None, None].expand(-1, codes.shape[1], 1)
    truth = batch.codes.gather(2, index)[:, ahead:, 0]
    masked = batch.masked[:, ahead:]
    return F.cross_entropy(logits.transpose(1, 2), truth, reduction="none") * masked, masked


@torch.no_grad()
def cross_entropies(model: nn.Module, batch: Batch) -> dict[str, float]:
    """Nats a code of each level, the level all hidden and those below it known."""
    batch = Batch(*(x.to(next(model.parameters()).device) for x in batch))
    figures = {}
    for level in range(batch.codes.shape[-1]):
        whole = batch._replace(level=torch.full_like(batch.level, level), masked=torch.ones_like(batch.masked))
        errors, masked = errors_of(model, whole)
        figures[f"cross-entropy {level + 1}"] = float(errors.sum() / masked.sum())
    return figures
