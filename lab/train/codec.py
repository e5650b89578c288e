"""The codec's recipe: all of it but the refiner, by distances. Its decoder goes on against discriminators (`decoder`).

It learns from crops of speakers, beside other speech of the same speaker. Three things beside the reconstruction
make codes that can be predicted: the first level has to tell the tokenizer's vector of the frame (distillation, as in
SpeechTokenizer, 2308.16692, and Mimi, 2410.00037); the latent of a sound must not change when the sound comes up to
4 ms later; and the decoder reads the pitch off the codes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lab.audio import SAMPLE_RATE
from lab.corpora import Utterance
from lab.errors import LabError
from lab.tokens import TOKEN_HOP, Tokenizer
from lab.train import pitch
from lab.train.batches import positive, random_of, seed_of
from lab.train.loop import Losses, Schedule, fit, take_over
from lab.voice import excitation
from lab.voice.codec import FRAME_HOP, HALF, Codec, CodecConfig, Reconstruction
from lab.voice.losses import Harmonics, MultiScaleMel

SCHEDULE = Schedule(steps=5000, learning_rate=1.5e-3, warmup=200, weight_decay=0.01, betas=(0.8, 0.99), clip=1.0)
GUIDED = 400  # steps; with wrong pulses at first the decoder learns to leave them out for noise
FREE = 250  # steps before the quantizer; begun on an untrained encoder, 25 of 1024 codes lived at step 250
START = 8  # batches in the one step that starts all levels by k-means: more vectors than codes
REFERENCE = 3 * SAMPLE_RATE  # samples of other speech of the speaker
COMMITMENT, HARMONICS, PITCH, SHIFT, SEMANTIC = 0.25, 0.5, 0.1, 1.0, 0.5  # weights, beside 1 for the distances of mel
SHIFTED = 64  # samples, 4 ms, that a sound may come later or earlier


class Example(NamedTuple):
    """Speech with what the codec should tell of it."""

    utterance: Utterance
    pitch: np.ndarray  # (N // 320,) int16, of `pitch.track`
    semantic: np.ndarray  # (N // 640, C) float16, the tokenizer's unit vectors


class Batch(NamedTuple):
    """B rows; what is left out is not asked for."""

    waveform: Tensor  # (B, N)
    depth: Tensor  # (B,) levels to use
    reference: Tensor | None = None  # (B, M) other speech of the same speaker
    pitch: Tensor | None = None  # (B, N / 320) int64, -1 where unvoiced
    semantic: Tensor | None = None  # (B, N / 640, C)
    guided: bool = False  # the decoder is given the pitch, and does not have to read it off the codes


@torch.inference_mode()
def examples(utterances: Iterable[Utterance], tokenizer: Tokenizer) -> list[Example]:
    """Each utterance with its pitch and the vectors that `tokenizer` quantizes."""
    found = []
    for utterance in utterances:
        samples = utterance.samples()[: len(utterance.waveform) // TOKEN_HOP * TOKEN_HOP]
        frames = tokenizer.mel(torch.from_numpy(samples)[None].to(tokenizer.device))
        vectors = tokenizer.quantizer.on_sphere(tokenizer.narrow(tokenizer.features(frames))[0])
        found.append(Example(utterance, pitch.track(samples), vectors.cpu().numpy().astype(np.float16)))
    return found


def crops(
    corpus: Sequence[Example], size: int, length: int, levels: int, seed: int, free: int = FREE
) -> Callable[[int], Batch]:
    """Step -> batch of `size` crops of `length` samples, a multiple of 640. A speaker is drawn with the square root of
    how long he speaks, as the voice's are, and of a speaker an utterance with its length.

    Loudness is random, -8 to +6 dB, since a user's recording has any. Half of the rows use all levels and a quarter the
    first alone. Steps before `free` use none.
    """
    positive(size=size, length=length)
    speakers: defaultdict[str, list[Example]] = defaultdict(list)
    for example in corpus:
        if len(example.utterance.waveform) >= length:
            speakers[example.utterance.narrator].append(example)
    if not speakers:
        raise LabError(f"no utterance lasts {length / SAMPLE_RATE:g} s: nothing to train the codec on")
    groups = [speakers[name] for name in sorted(speakers)]
    weights = [np.array([each.utterance.seconds for each in group]) for group in groups]
    shares = np.array([seconds.sum() for seconds in weights]) ** 0.5
    shares /= shares.sum()

    def row(random: np.random.Generator) -> tuple[Tensor, ...]:
        number = int(random.choice(len(groups), p=shares))
        group, odds = groups[number], weights[number] / weights[number].sum()
        here, there = random.choice(len(group), 2, p=odds)
        for _ in range(10):  # some crops are silent
            example = group[here]
            frame = int(random.integers((len(example.utterance.waveform) - length) // FRAME_HOP + 1))
            tones = example.pitch[2 * frame :][: length // HALF]
            if (tones >= 0).mean() > 0.1:
                break
        gains = 10 ** random.uniform(-0.4, 0.3, 2)
        start = frame * FRAME_HOP
        waveform = example.utterance.waveform[start : start + length].astype(np.float32) / 32768
        other = group[there].utterance.waveform
        late = int(random.integers(max(1, len(other) - REFERENCE)))
        reference = np.resize(other[late : late + REFERENCE], REFERENCE).astype(np.float32) / 32768
        semantic = example.semantic[frame : frame + length // FRAME_HOP].astype(np.float32)
        loud, heard = (gain * each for gain, each in zip(gains, (waveform, reference), strict=True))
        parts = loud.clip(-1, 1), heard.clip(-1, 1), tones.astype(np.int64), semantic
        return tuple(torch.from_numpy(part) for part in parts)

    def batch_of(step: int) -> Batch:
        random = random_of(seed, step)
        rows = [row(random) for _ in range(size if step != free else START * size)]
        depth = random.integers(1, levels + 1, len(rows))
        depth[::2], depth[1::4] = levels, 1
        if step <= free:
            depth[:] = levels if step == free else 0
        waveform, reference, tones, semantic = (torch.stack(column) for column in zip(*rows, strict=True))
        guided = 0 <= step < GUIDED and free >= 0
        return Batch(waveform.float(), torch.from_numpy(depth), reference.float(), tones, semantic, guided)

    return batch_of


class Game:
    """The losses of the codec."""

    def __init__(self) -> None:
        self.mel, self.harmonics = MultiScaleMel(SAMPLE_RATE), Harmonics()

    def loss_of(self, model: nn.Module, batch: Batch | tuple[Tensor, ...]) -> Losses:
        batch = Batch(*batch)
        _check(batch)
        hertz = None
        if batch.guided and batch.pitch is not None:
            tones = excitation.frequencies(batch.pitch.device)[batch.pitch.clamp(min=0)]
            hertz = tones * (batch.pitch != pitch.UNVOICED)
        made = model(batch.waveform, batch.depth, batch.reference, hertz)
        loss, logs = self.distances(made, batch)
        shift, moved = self.shift(model, made, batch)
        return loss + COMMITMENT * made.commitment + SHIFT * shift, logs | {"commitment": made.commitment} | moved

    def distances(self, made: Reconstruction, batch: Batch) -> Losses:
        """How far the reconstruction is from the speech, and what it tells from what it should."""
        device = batch.waveform.device
        logarithmic, linear = self.mel.to(device)(made.waveform, batch.waveform)
        harmonics = self.harmonics.to(device)(made.waveform, batch.waveform)
        loss = logarithmic + linear + HARMONICS * harmonics
        logs = {"log-mel": logarithmic, "mel": linear, "harmonics": harmonics}
        if batch.pitch is not None:
            voiced = batch.pitch != pitch.UNVOICED
            tone = F.cross_entropy(made.pitch[..., :-1][voiced], batch.pitch[voiced]) if voiced.any() else 0 * loss
            voicing = F.binary_cross_entropy_with_logits(made.pitch[..., -1], voiced.float())
            loss = loss + PITCH * (tone + voicing)
            logs |= {"pitch": tone, "voicing": voicing}
        if batch.semantic is not None:
            semantic = 1 - F.cosine_similarity(made.semantic.float(), batch.semantic, dim=-1).mean()
            loss = loss + SEMANTIC * semantic
            logs["semantic"] = semantic
        return loss, logs

    def shift(self, model: nn.Module, made: Reconstruction, batch: Batch) -> Losses:
        """Square distance of latents of the same sound up to 4 ms apart, of half of the rows.

        In shares of their variance over time, which learns too: else all latents would become one.
        """
        if not (batch.depth > 0).any():
            return made.commitment * 0, {}
        half = batch.waveform[: len(batch.waveform) // 2]
        late = int(torch.randint(-SHIFTED, SHIFTED + 1, ()))
        moved = model.latent(torch.roll(half, late, 1))  # type: ignore[operator]
        distance = (moved - made.latent[: len(half)])[:, 2:-2].square().mean()
        variance = made.latent.var(1).mean().clamp(min=1e-3)
        return distance / variance, {"shift": distance / variance}


def _check(batch: Batch) -> None:
    waveform, depth = batch.waveform, batch.depth
    if waveform.dtype != torch.float32 or waveform.ndim != 2 or depth.dtype != torch.int64 or depth.ndim != 1:
        found = f"{tuple(waveform.shape)} {waveform.dtype} and {tuple(depth.shape)} {depth.dtype}"
        raise LabError(f"a batch is a waveform (B, N) of float32 and levels to use (B,) of int64, not {found}")


def train(
    corpus: Sequence[Example],
    folder: Path,
    *,
    preset: str = "lab",
    vocabulary: int = 512,
    steps: int = SCHEDULE.steps,
    batch: int = 8,
    seed: int = 0,
    begin: Codec | None = None,
    **options: Any,
) -> tuple[Codec, dict[str, float]]:
    """Train a codec on crops of 1 s of `corpus` in `folder`, or go on where the folder left off.

    `vocabulary` is the tokenizer's. `begin` gives the weights to begin with. `options` are `fit`'s.
    """
    positive(batch=batch)
    torch.manual_seed(seed_of(seed))
    semantic = corpus[0].semantic.shape[1] if corpus else 16
    codec = Codec(CodecConfig.preset(preset, semantic=semantic, vocabulary=vocabulary))
    free = min(FREE, steps // 4)
    if begin is not None:
        take_over(codec, begin)
        free = -1
    figures = fit(
        codec,
        Game().loss_of,
        crops(corpus, batch, 25 * FRAME_HOP, codec.config.levels, seed, free),
        schedule=SCHEDULE.lasting(steps),
        folder=folder,
        seed=seed,
        mixed=True,
        **options,
    )
    return codec, figures
