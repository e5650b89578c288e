"""Recipes of the codec: all of it, and its decoder alone.

All of it learns from crops of narrators and of real readers, by mel distances; discriminators on request.

The decoder goes on alone with resynthesized codes. When in its 20 ms a voice pulses, the levels behind the first tell.
SoundStorm reads those off for all frames at once, neighbours do not agree, and low voices end at two pulses a frame,
100 Hz, whatever their pitch. As a vocoder is fitted to what its acoustic model predicts (HiFi-GAN, 2010.05646, section
4.4), the decoder learns to turn such codes into the recording that their first level is of. Two thirds of its rows are
codes as the encoder makes them, lest it forget those. In the end a share of the weights that it began with is mixed in
(WiSE-FT, 2109.01903). Encoder and codebooks stay, and with them what codes stand for.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from pystoi import stoi
from torch import Tensor, nn

from lab.audio import SAMPLE_RATE
from lab.corpora import Utterance, shards
from lab.errors import LabError
from lab.nn.sampling import generator_of
from lab.tokens import TOKEN_HOP, Tokenizer
from lab.train.batches import by_source, crop, positive, random_of, seed_of
from lab.train.loop import Losses, Schedule, fit, learning, take_over
from lab.train.soundstorm import PROMPT
from lab.voice.codec import FRAME_HOP, Codec, CodecConfig
from lab.voice.discriminators import Discriminators, feature_distance, hinge_of_adversary, hinge_of_generator
from lab.voice.losses import Harmonics, MultiScaleMel
from lab.voice.soundstorm import FRAMES, VoicePrompt
from lab.voice.synthesis import Synthesizer

SCHEDULE = Schedule(steps=12000, learning_rate=1e-3, warmup=200, weight_decay=0.01, betas=(0.8, 0.99), clip=1.0)
COMMITMENT = 0.25
FREE = 200  # steps before the quantizer; begun on an untrained encoder, 25 of 1024 codes lived at step 250
START = 8  # batches in the one step that starts all levels by k-means: more vectors than codes
ADVERSARIAL, FEATURES = 1.0, 100.0  # SoundStream's weights, beside 1 for the reconstruction
DECODER_STEPS = 2500
ORIGIN = 0.2  # share of the decoder's first weights in its last
HARMONICS = 3.0  # weight, beside 1 for both distances of mel
LONGEST = 10  # seconds of a recording that is resynthesized


# All of it


def train(
    corpus: Sequence[Utterance],
    folder: Path,
    *,
    preset: str = "lab",
    steps: int = SCHEDULE.steps,
    batch: int = 12,
    seconds: float = 1.0,
    seed: int = 0,
    held_out: Sequence[Utterance] = (),
    discriminators: int = 0,
    begin: Codec | None = None,
    **options: Any,
) -> tuple[Codec, dict[str, float]]:
    """Train a codec on `corpus` in `folder`, or go on where the folder left off.

    `held_out` is measured by STOI as training goes. `discriminators` is their width, 0 for none (SoundStream:
    32); they pay off in long runs, after the mel distances have settled. `begin` gives the weights to begin with.
    `options` are `fit`'s.
    """
    positive(batch=batch, seconds=seconds)
    torch.manual_seed(seed_of(seed))
    codec = Codec(CodecConfig.preset(preset))
    free = min(FREE, steps // 4)
    if begin is not None:
        take_over(codec, begin)
        free = -1
    game = Game(discriminators)
    figures = fit(
        codec,
        game.loss_of,
        crops(corpus, batch, int(seconds * SAMPLE_RATE), codec.config.levels, seed, free),
        schedule=replace(SCHEDULE, steps=steps, warmup=min(SCHEDULE.warmup, steps // 4)),
        folder=folder,
        evaluate=(lambda _: intelligibility(codec, held_out)) if held_out else None,
        evaluate_every=1000,
        adversary=(game.adversary, game.loss_of_adversary) if game.adversary is not None else None,
        seed=seed,
        mixed=True,
        **options,
    )
    return codec, figures


class Game:
    """The losses of both players. One reconstruction serves both: the codec does not move between them."""

    def __init__(self, width: int):
        self.distance = MultiScaleMel(SAMPLE_RATE)
        self.adversary = Discriminators(width) if width else None
        self.forward: tuple[Tensor, Tensor] | None = None

    def loss_of_adversary(self, adversary: nn.Module, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Losses:
        _check(*batch)
        reconstruction, commitment, _ = model(*batch)
        self.forward = reconstruction, commitment
        loss = hinge_of_adversary(adversary(batch[0]), adversary(reconstruction.detach()))
        return loss, {"adversary": loss}

    def loss_of(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Losses:
        waveform, depth = batch
        _check(waveform, depth)
        if self.adversary is None:
            reconstruction, commitment, _ = model(waveform, depth)
        else:
            assert self.forward is not None
            reconstruction, commitment = self.forward
        logarithmic, linear = self.distance.to(waveform.device)(reconstruction, waveform)
        loss = logarithmic + linear + COMMITMENT * commitment
        logs = {"log-mel": logarithmic, "mel": linear, "commitment": commitment}
        if self.adversary is not None:
            with torch.no_grad():
                real = self.adversary(waveform)
            fake = self.adversary(reconstruction)
            features, fooled = feature_distance(real, fake), hinge_of_generator(fake)
            loss = loss + ADVERSARIAL * fooled + FEATURES * features
            logs |= {"features": features, "fooled": fooled}
        return loss, logs


def _check(waveform: Tensor, depth: Tensor) -> None:
    if waveform.dtype != torch.float32 or waveform.ndim != 2 or depth.dtype != torch.int64 or depth.ndim != 1:
        found = f"{tuple(waveform.shape)} {waveform.dtype} and {tuple(depth.shape)} {depth.dtype}"
        raise LabError(f"a batch is a waveform (B, N) of float32 and levels to use (B,) of int64, not {found}")


def crops(
    corpus: Sequence[Utterance], batch: int, length: int, levels: int, seed: int, free: int = FREE
) -> Callable[[int], tuple[Tensor, Tensor]]:
    """Batches (waveform (B, length), depth (B,)) as a function of the step; every source has an equal share.

    Loudness is random, +-6 dB, since a user's recording has any. Half of the rows use all levels, the others 1 or more
    (DAC, 2306.06546: dropout on every row costs quality at full depth).
    """
    positive(batch=batch, length=length)
    groups = by_source(corpus)
    if not groups:
        raise LabError("the corpus is empty: nothing to train the codec on")

    def batch_of(step: int) -> tuple[Tensor, Tensor]:
        random = random_of(seed, step)
        rows = []
        for row in range(batch if step != free else START * batch):
            group = groups[(row + step) % len(groups)]
            gain = 10 ** random.uniform(-0.3, 0.3)
            rows.append(gain * crop(group[random.integers(len(group))].samples(), length, random))
        depth = random.integers(1, levels + 1, len(rows))
        depth[: len(rows) // 2] = levels
        if step <= free:
            depth[:] = levels if step == free else 0
        return torch.from_numpy(np.stack(rows).clip(-1, 1).astype(np.float32)), torch.from_numpy(depth)

    return batch_of


def intelligibility(codec: Codec, corpus: Sequence[Utterance], count: int = 12) -> dict[str, float]:
    """Mean STOI of the first `count` utterances of each source after the codec: all levels, first 4."""
    scores: dict[str, list[float]] = {}
    device = next(codec.parameters()).device
    for utterance in (utterance for group in by_source(corpus) for utterance in group[:count]):
        waveform = utterance.samples()
        codes = codec.encode(torch.from_numpy(waveform)[None].to(device))
        for levels in {codes.shape[-1], 4}:
            decoded = codec.decode(codes[..., :levels])[0, : len(waveform)].cpu().numpy()
            scores.setdefault(f"stoi {utterance.source} {levels}", []).append(stoi(waveform, decoded, SAMPLE_RATE))
    return {name: float(np.mean(values)) for name, values in scores.items()}


# The decoder alone


class Resynthesized(NamedTuple):
    """A recording, its codes, and those that the voice predicts from their first level."""

    waveform: np.ndarray  # (320 F,) int16
    codes: Tensor  # (F, Q)
    predicted: Tensor  # (F, q)
    source: str


def resynthesize(
    tokenizer: Tokenizer, voice: Synthesizer, pairs: Iterable[tuple[Utterance, Utterance]]
) -> list[Resynthesized]:
    """Both of two utterances of a speaker, each with the other as the prompt where that lasts 3 s."""
    made: list[Resynthesized] = []
    for pair in pairs:
        encoded = []
        for utterance in pair:
            samples = utterance.samples()[: LONGEST * SAMPLE_RATE]
            parts = shards.encode(samples[: len(samples) // TOKEN_HOP * TOKEN_HOP], tokenizer, voice.codec)
            encoded.append(VoicePrompt(*(torch.from_numpy(part).long() for part in parts)))
        for speaker, said, utterance in zip(encoded[::-1], encoded, pair, strict=True):
            if len(speaker.tokens) < PROMPT:
                continue
            prompt = VoicePrompt(speaker.tokens[:PROMPT], speaker.codes[: FRAMES * PROMPT])
            random = generator_of(0, len(made))
            predicted = voice.soundstorm.generate(said.tokens, prompt, random, known=said.codes[:, :1])
            waveform = utterance.waveform[: TOKEN_HOP * len(said.tokens)]
            made.append(Resynthesized(waveform, said.codes, predicted.cpu(), utterance.source))
    return made


class DecoderBatch(NamedTuple):
    """Codes and what they should sound like."""

    codes: Tensor  # (B, F, Q)
    depth: Tensor  # (B,) levels that are known
    waveform: Tensor  # (B, 320 F)


class Decoder(nn.Module):
    """The codec, to learn to turn codes into sound, and what it was at the beginning."""

    def __init__(self, codec: Codec):
        super().__init__()
        self.codec = codec
        self.mel, self.harmonics = MultiScaleMel(SAMPLE_RATE), Harmonics()
        self.origin = copy.deepcopy(codec).requires_grad_(False)  # a run that goes on finds it in its checkpoint

    def forward(self, batch: DecoderBatch) -> Losses:
        decoded = self.codec.synthesize(self.codec.quantizer.decode(batch.codes, batch.depth))
        logarithmic, linear = self.mel(decoded, batch.waveform)
        harmonics = self.harmonics(decoded, batch.waveform)
        logs = {"log-mel": logarithmic, "mel": linear, "harmonics": harmonics}
        return logarithmic + linear + HARMONICS * harmonics, logs

    @torch.no_grad()
    def mixed(self) -> Codec:
        """The codec with the share of `origin` that it keeps."""
        codec = copy.deepcopy(self.codec).requires_grad_(True)
        for layer in Codec.DECODER:  # the others stay to the bit: -0 mixed with itself would be +0
            now, before = (getattr(each, layer).parameters() for each in (codec, self.origin))
            for weights, former in zip(now, before, strict=True):
                weights.lerp_(former, ORIGIN)
        return codec.eval()


def decoder_batches(
    corpus: Sequence[Resynthesized], size: int, frames: int, seed: int
) -> Callable[[int], DecoderBatch]:
    """Step -> batch of `size` crops of `frames`; every source has an equal share. Every third row has predicted codes;
    of the others seven in ten have all levels, and the rest 1 or more."""
    positive(size=size, frames=frames)
    groups = by_source(each for each in corpus if len(each.codes) >= frames)
    if not groups:
        raise LabError(
            f"no recording lasts {FRAME_HOP * frames / SAMPLE_RATE:g} s beside 3 s of the same speaker: nothing to "
            "learn from"
        )

    def batch(step: int) -> DecoderBatch:
        random = random_of(seed, step)
        rows = []
        for row in range(size):
            group = groups[(row // 3 + step) % len(groups)]
            each = group[int(random.integers(len(group)))]
            start = int(random.integers(len(each.codes) - frames + 1))
            codes = each.codes[start : start + frames].clone()
            levels = codes.shape[1]
            depth = levels if random.random() < 0.7 else int(random.integers(1, levels + 1))
            if row % 3 == 2:
                depth = each.predicted.shape[1]
                codes[:, :depth] = each.predicted[start : start + frames]
            waveform = each.waveform[FRAME_HOP * start : FRAME_HOP * (start + frames)].astype(np.float32) / 32768
            rows.append((codes, torch.tensor(depth), torch.from_numpy(waveform)))
        return DecoderBatch(*(torch.stack(column) for column in zip(*rows, strict=True)))

    return batch


def train_decoder(
    codec: Codec,
    corpus: Sequence[Resynthesized],
    folder: Path,
    *,
    steps: int = DECODER_STEPS,
    size: int = 12,
    frames: int = 75,
    seed: int = 0,
    held_out: Sequence[Utterance] = (),
    **options: Any,
) -> dict[str, float]:
    """Train the decoder of `codec` in place; `held_out` is measured by STOI as training goes. `options` are `fit`'s."""
    decoder = Decoder(codec)
    schedule = Schedule(steps, learning_rate=6e-4, warmup=min(100, steps // 4), weight_decay=0.01, betas=(0.8, 0.99))
    with learning(codec, Codec.DECODER):
        figures = fit(
            decoder,
            lambda decoder, batch: decoder(batch),
            decoder_batches(corpus, size, frames, seed),
            schedule=schedule,
            folder=folder,
            evaluate=(lambda _: intelligibility(decoder.mixed(), held_out)) if held_out else None,
            seed=seed,
            mixed=True,
            **options,
        )
    codec.load_state_dict(decoder.mixed().state_dict())
    return figures
