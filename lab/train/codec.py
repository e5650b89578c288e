"""The codec's recipe: crops of narrators and of real readers, mel distances; discriminators on request."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from pystoi import stoi
from torch import Tensor, nn

from lab.audio import SAMPLE_RATE
from lab.corpora import Utterance
from lab.errors import LabError
from lab.train.batches import check_batch, random_of, seed_of
from lab.train.loop import Compute, Losses, Schedule, fit, take_over
from lab.voice.codec import Codec, CodecConfig
from lab.voice.discriminators import Discriminators, feature_distance, hinge_of_adversary, hinge_of_generator
from lab.voice.losses import MultiScaleMel

SCHEDULE = Schedule(steps=12000, learning_rate=1e-3, warmup=200, weight_decay=0.01, betas=(0.8, 0.99), clip=1.0)
COMMITMENT = 0.25
FREE = 200  # steps before the quantizer; begun on an untrained encoder, 25 of 1024 codes lived at step 250
START = 8  # batches in the one step that starts all levels by k-means: more vectors than codes
ADVERSARIAL, FEATURES = 1.0, 100.0  # SoundStream's weights, beside 1 for the reconstruction


def train(
    corpus: Sequence[Utterance],
    folder: Path,
    *,
    preset: str = "lab",
    steps: int = SCHEDULE.steps,
    batch: int = 12,
    seconds: float = 1.0,
    seed: int = 0,
    held_out: Sequence[Utterance] | None = None,
    discriminators: int = 0,
    begin: Codec | None = None,
    inputs: Mapping[str, str] | None = None,
    compute: Compute | None = None,
) -> tuple[Codec, dict[str, float]]:
    """Train a codec on `corpus` in `folder`, or go on where the folder left off.

    `held_out` is measured by STOI as training goes. `discriminators` is their width, 0 for none (SoundStream:
    32); they pay off in long runs, after the mel distances have settled. `begin` gives the weights to begin with.
    """
    torch.manual_seed(seed_of(seed))
    codec = Codec(CodecConfig.preset(preset))
    free = min(FREE, steps // 4)
    if begin is not None:
        take_over(codec, begin)
        free = -1
    batches = crops(corpus, batch, int(seconds * SAMPLE_RATE), codec.config.levels, seed, free)
    schedule = replace(SCHEDULE, steps=steps, warmup=min(SCHEDULE.warmup, steps // 4))
    evaluate = (lambda model: intelligibility(model, held_out)) if held_out is not None else None
    game = Game(discriminators)
    adversary = (game.adversary, game.loss_of_adversary) if game.adversary is not None else None
    figures = fit(
        codec,
        game.loss_of,
        batches,
        schedule=schedule,
        folder=folder,
        evaluate=evaluate,
        evaluate_every=1000,
        adversary=adversary,
        seed=seed,
        mixed=True,
        inputs=inputs,
        compute=compute,
    )
    return codec, figures


class Game:
    """The losses of both players. One reconstruction serves both: the codec does not move between them."""

    def __init__(self, width: int):
        self.distance = MultiScaleMel(SAMPLE_RATE)
        self.adversary = Discriminators(width) if width else None
        self.forward: tuple[Tensor, Tensor] | None = None

    def loss_of_adversary(self, adversary: nn.Module, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Losses:
        check_batch("the waveform", batch[0], "float", 2)
        check_batch("the depth", batch[1], "int", 1)
        reconstruction, commitment, _ = model(*batch)
        self.forward = reconstruction, commitment
        loss = hinge_of_adversary(adversary(batch[0]), adversary(reconstruction.detach()))
        return loss, {"adversary": loss}

    def loss_of(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Losses:
        waveform, depth = batch
        check_batch("the waveform", waveform, "float", 2)
        check_batch("the depth", depth, "int", 1)
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


def crops(
    corpus: Sequence[Utterance], batch: int, length: int, levels: int, seed: int, free: int = FREE
) -> Callable[[int], tuple[Tensor, Tensor]]:
    """Batches (waveform (B, length), depth (B,)) as a function of the step; every source has an equal share.

    Loudness is random, +-6 dB, since a user's recording has any. Half of the rows use all levels, the others 1 or more
    (DAC, 2306.06546: dropout on every row costs quality at full depth).
    """
    sources: dict[str, list[int]] = {}
    for number, utterance in enumerate(corpus):
        sources.setdefault(utterance.source, []).append(number)
    if not sources:
        raise LabError("the corpus is empty: nothing to train the codec on")
    groups = [sources[name] for name in sorted(sources)]

    def batch_of(step: int) -> tuple[Tensor, Tensor]:
        random = random_of(seed, step)
        rows = []
        for row in range(batch if step != free else START * batch):
            group = groups[(row + step) % len(groups)]
            gain = 10 ** random.uniform(-0.3, 0.3)
            rows.append(gain * crop(corpus[group[random.integers(len(group))]].samples(), length, random))
        depth = random.integers(1, levels + 1, len(rows))
        depth[: len(rows) // 2] = levels
        if step <= free:
            depth[:] = levels if step == free else 0
        return torch.from_numpy(np.stack(rows).clip(-1, 1).astype(np.float32)), torch.from_numpy(depth)

    return batch_of


def crop(waveform: np.ndarray, length: int, random: np.random.Generator) -> np.ndarray:
    """`length` samples from anywhere in the waveform (N,), completed with silence."""
    start = int(random.integers(max(1, len(waveform) - length + 1)))
    piece = waveform[start : start + length]
    return np.pad(piece, (0, length - len(piece)))


def intelligibility(codec: Codec, corpus: Sequence[Utterance], count: int = 12) -> dict[str, float]:
    """Mean STOI of the first `count` utterances of each source after the codec: all levels, first 4."""
    scores: dict[str, list[float]] = {}
    done: dict[str, int] = {}
    device = next(codec.parameters()).device
    for utterance in corpus:
        done[utterance.source] = done.get(utterance.source, 0) + 1
        if done[utterance.source] > count:
            continue
        waveform = utterance.samples()
        codes = codec.encode(torch.from_numpy(waveform)[None].to(device))
        for levels in {codes.shape[-1], 4}:
            decoded = codec.decode(codes[..., :levels])[0, : len(waveform)].cpu().numpy()
            scores.setdefault(f"stoi {utterance.source} {levels}", []).append(stoi(waveform, decoded, SAMPLE_RATE))
    return {name: float(np.mean(values)) for name, values in scores.items()}
