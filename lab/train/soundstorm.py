"""The voice's recipe: 3 s of a speaker saying one thing, then the same speaker saying another, to fill in.

Windows of 30 s are spoken with what crops of a few seconds taught. Two things make them alike: the target
stands at a random distance behind the prompt (position skipping: PoSE, 2309.10400), so that all 27 s of
distances are seen, and attention is local beside the prompt, so that the number of keys is the same.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lab import audio, windows
from lab.corpora import Utterance
from lab.corpora.encoding import encode
from lab.errors import LabError
from lab.tokens import TOKEN_HOP, Tokenizer
from lab.train.batches import positive, random_of, seed_of
from lab.train.loop import Losses, Schedule, fit, take_over
from lab.voice import Codec, SoundStorm, SoundStormConfig, VoicePrompt
from lab.voice.soundstorm import mask_codes

SCHEDULE = Schedule(3000, learning_rate=2e-3, warmup=200, weight_decay=0.05)
PROMPT = windows.SPEAKER_PROMPT  # tokens
TARGET = (125, 250)  # tokens: 5 to 10 s, so that most of what a step computes is asked for, and not the prompt


class Batch(NamedTuple):
    """B rows of prompt and target, and what to hide of it (`mask_codes`)."""

    tokens: Tensor  # (B, T)
    codes: Tensor  # (B, T, Q)
    positions: Tensor  # (B, T)
    level: Tensor  # (B,)
    masked: Tensor  # (B, T) bool, at that level


class Codebooks(NamedTuple):
    """The vectors that tokens and codes stand for: (V, width) of the tokenizer, and (codes, width) of each level."""

    tokens: Tensor
    levels: Sequence[Tensor]

    @classmethod
    def of(cls, tokenizer: Tokenizer, codec: Codec) -> Codebooks:
        return cls(tokenizer.quantizer.codebook, [level.codebook for level in codec.quantizer.levels])


def train(
    utterances: Sequence[Sequence[VoicePrompt]],
    folder: Path,
    *,
    preset: str = "lab",
    vocabulary: int | None = None,
    levels: int | None = None,
    steps: int = SCHEDULE.steps,
    batch: int = 5,
    seed: int = 0,
    held_out: Sequence[Sequence[VoicePrompt]] = (),
    begin: SoundStorm | Codebooks | None = None,
    **options: Any,
) -> tuple[SoundStorm, dict[str, float]]:
    """A voice that learnt from `utterances`: for each speaker two or more (`spoken`).

    `vocabulary` is the tokenizer's, `levels` are those that the codec wants guessed. Those `held_out` are measured by
    cross-entropy as training goes. `begin` gives the weights to begin with, or the codebooks. `options` are `fit`'s.
    """
    torch.manual_seed(seed_of(seed))
    sizes = {name: size for name, size in (("tokens", vocabulary), ("levels", levels)) if size is not None}
    soundstorm = SoundStorm(SoundStormConfig.preset(preset, **sizes))
    if isinstance(begin, Codebooks):
        embed(soundstorm, begin)
    elif begin is not None:
        take_over(soundstorm, first_levels(begin, soundstorm.config.levels))
    levels = soundstorm.config.levels
    test = batches(held_out, 32, levels, seed) if held_out else None
    figures = fit(
        soundstorm,
        loss_of,
        batches(utterances, batch, levels, seed),
        schedule=SCHEDULE.lasting(steps),
        folder=folder,
        evaluate=(lambda model: cross_entropies(model, test(0))) if test else None,
        seed=seed,
        mixed=True,
        **options,
    )
    return soundstorm, figures


def first_levels(soundstorm: SoundStorm, levels: int) -> SoundStorm:
    """The same model of the first levels alone; it answers as if those above were masked, in the prompt too."""
    if soundstorm.config.levels <= levels:
        return soundstorm
    made, weights = SoundStorm(replace(soundstorm.config, levels=levels)), soundstorm.state_dict()
    above = [table.weight[soundstorm.mask] for table in soundstorm.acoustic_embeddings[levels:]]  # type: ignore[index]
    weights["semantic_embedding.weight"] = weights["semantic_embedding.weight"] + torch.stack(above).sum(0)
    weights |= {name: weights[name][:levels] for name in ("output_weight", "output_bias")}
    made.load_state_dict({name: weights[name] for name in made.state_dict()})
    return made


@torch.no_grad()
def embed(soundstorm: SoundStorm, codebooks: Codebooks) -> None:
    """Give embeddings and output weights the geometry of the codebooks, so that what sounds alike begins alike."""
    width = soundstorm.config.width
    books = [codebooks.tokens, *codebooks.levels[: soundstorm.config.levels]]
    embeddings = [soundstorm.semantic_embedding, *cast(Iterable[nn.Embedding], soundstorm.acoustic_embeddings)]
    for embedding, book in zip(embeddings, books, strict=True):
        embedding.weight[: len(book)] = turned(book, width) * embedding.weight.std()
    for weight, book in zip(soundstorm.output_weight, books[1:], strict=True):
        weight[:] = turned(book, width) * 0.06


def turned(book: Tensor, width: int) -> Tensor:
    """(codes, n) -> (codes, width) of mean 0 and variance 1, by a random matrix that keeps distances if width >= n."""
    x = (book - book.mean(0)) @ nn.init.orthogonal_(torch.empty(book.shape[1], width))
    return x / x.std()


def spoken(utterances: Iterable[Utterance], tokenizer: Tokenizer, codec: Codec) -> list[list[VoicePrompt]]:
    """For each speaker, by name, what was said in utterances of 3 s or more: tokens, codes, the timbre of 3 s of it."""
    found: defaultdict[str, list[VoicePrompt]] = defaultdict(list)
    for utterance in utterances:
        samples = utterance.samples()
        tokens, codes = (torch.from_numpy(part) for part in encode(samples, tokenizer, codec))
        if len(tokens) >= PROMPT:
            first = audio.speech_span(samples, PROMPT / windows.TOKEN_RATE, TOKEN_HOP)
            speaker = torch.from_numpy(samples[first : first + PROMPT * TOKEN_HOP])[None]
            found[utterance.narrator].append(VoicePrompt(tokens, codes, codec.timbre(speaker)[0]))
    return [found[name] for name in sorted(found)]


def batches(utterances: Sequence[Sequence[VoicePrompt]], size: int, levels: int, seed: int) -> Callable[[int], Batch]:
    """Step -> batch of `size` rows of one length. Low levels are asked for more often: 1 / level^2.

    The first level holds what is said and is filled in several passes. Each other one is read off in a single pass, so
    that it is hidden whole. Codes of its own level around it would tell little more.

    A speaker is drawn with the square root of how long he speaks: many speakers with a minute each teach how voices
    differ, and few with an hour how one speaks.
    """
    positive(size=size)
    heard = [[said for said in speaker if len(said.tokens) >= PROMPT] for speaker in utterances]
    speakers = [sorted(speaker, key=_length) for speaker in heard if len(speaker) > 1]
    if not speakers:
        raise LabError("no speaker has two utterances of 3 s or more: nothing to train the voice on")
    longest = np.array([_length(speaker[-1]) for speaker in speakers])
    shares = np.array([sum(map(_length, speaker)) for speaker in speakers]) ** 0.5
    odds = 1 / np.arange(1, levels + 1) ** 2

    def row(length: int, random: np.random.Generator) -> tuple[Tensor, Tensor]:
        able = shares * (longest >= length)
        speaker = speakers[int(random.choice(len(speakers), p=able / able.sum()))]
        first = int(np.searchsorted([_length(said) for said in speaker], length))  # long enough from here on
        target = int(random.integers(first, len(speaker)))
        voice = int(random.integers(len(speaker) - 1))
        voice += voice >= target
        said, other = crop(speaker[voice], PROMPT, random), crop(speaker[target], length, random)
        return torch.cat([said.tokens, other.tokens]), torch.cat([said.codes, other.codes])[:, :levels]

    def batch_of(step: int) -> Batch:
        random = random_of(seed, step)
        length = min(int(random.integers(TARGET[0], TARGET[1] + 1)), int(longest.max()))
        rows = [row(length, random) for _ in range(size)]
        tokens, codes = (torch.stack(column).long() for column in zip(*rows, strict=True))
        skipped = random.integers(0, windows.SYNTHESIS.window - length + 1, (size, 1))
        positions = np.arange(codes.shape[1]) + skipped * (np.arange(codes.shape[1]) >= PROMPT)
        level = random.choice(levels, size, p=odds / odds.sum())
        share = np.where(level == 0, np.cos(random.uniform(0, np.pi / 2, size)), 1)
        masked = random.random(positions.shape) < share[:, None]
        return Batch(tokens, codes, *(torch.from_numpy(x) for x in (positions, level, masked)))

    return batch_of


def _length(said: VoicePrompt) -> int:
    return len(said.tokens)


def crop(said: VoicePrompt, length: int, random: np.random.Generator) -> VoicePrompt:
    """`length` tokens from anywhere in an utterance, with their codes."""
    start = int(random.integers(len(said.tokens) - length + 1))
    part = slice(start, start + length)
    return VoicePrompt(said.tokens[part], said.codes[part], said.timbre)


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
    """Nats of each frame of the target that was hidden, 0 elsewhere; and which were, both (B, T - prompt)."""
    codes = mask_codes(batch.codes, batch.masked, batch.level, PROMPT, model.config.codes)  # type: ignore[union-attr, arg-type]
    logits = model(batch.tokens, codes, batch.level, PROMPT, batch.positions)
    index = batch.level[:, None, None].expand(-1, codes.shape[1], 1)
    truth = batch.codes.gather(2, index)[:, PROMPT:, 0]
    masked = batch.masked[:, PROMPT:]
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
