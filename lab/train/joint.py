"""The recipe of the codec's refiner and decoder together: by what is heard of the refiner's estimates.

The refiner alone learns the mean of all vectors that fit, which is none that speech has, and the decoder never saw such
a mean. Here the estimate is decoded, and both learn from the distance between what is heard and the speech: in mel
spectra, harmonics and pitch as in the codec's recipe, and in the features of the tokenizer, which tell one phone from
another. Codes stay, and what they stand for.
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

from lab.corpora import Utterance
from lab.errors import LabError
from lab.tokens import TOKEN_HOP, Tokenizer
from lab.train import codec as codec_recipe
from lab.train import pitch
from lab.train.batches import of_speakers, positive, random_of, seed_of
from lab.train.loop import Losses, Schedule, fit, learning
from lab.train.refiner import HIDDEN
from lab.train.soundstorm import spoken
from lab.voice import Codec, VoicePrompt
from lab.voice.codec import Reconstruction

SCHEDULE = Schedule(1000, learning_rate=4e-4, warmup=50, weight_decay=0.01, betas=(0.8, 0.99), clip=2.0)
LENGTH, CROP = 150, 30  # frames that the refiner reads, and of them those that are decoded: 6 and 1.2 s
EDGE = 20  # frames that the refiner sees at least to each side of those
LEARNING = (*(part for part in Codec.DECODER if part != "speaker"), "refiner")  # timbres are taken beforehand
HEARD, VECTORS = 4.0, 1.0  # weights of the tokenizer's features and of the vectors, beside 1 for the codec's distances


class Example(NamedTuple):
    """Speech, its pitch of `pitch.track`, and its tokens, codes and timbre."""

    waveform: np.ndarray  # (N,) int16
    pitch: np.ndarray  # (N // 320,) int16
    said: VoicePrompt


class Batch(NamedTuple):
    waveform: Tensor  # (B, 640 CROP)
    pitch: Tensor  # (B, 2 CROP) int64, -1 where unvoiced
    tokens: Tensor  # (B, LENGTH)
    codes: Tensor  # (B, LENGTH, Q)
    timbre: Tensor  # (B, C) of other speech of the same speaker
    start: Tensor  # (B,) the first frame that is decoded
    known: Tensor  # (B,) bool: whether the refiner sees the codes of the first level

    def speech(self) -> codec_recipe.Batch:
        """What the codec's distances want of it."""
        return codec_recipe.Batch(self.waveform, torch.zeros(len(self.waveform), dtype=torch.int64), pitch=self.pitch)


def examples(utterances: Iterable[Utterance], tokenizer: Tokenizer, codec: Codec) -> list[list[Example]]:
    """Utterances of 6 s and more, by speaker."""
    found: defaultdict[str, list[Example]] = defaultdict(list)
    for utterance in utterances:
        waveform = utterance.waveform[: len(utterance.waveform) // TOKEN_HOP * TOKEN_HOP]
        if len(waveform) >= LENGTH * TOKEN_HOP:
            ((said,),) = spoken([utterance], tokenizer, codec)
            tones = pitch.track(utterance.samples()[: len(waveform)])
            found[utterance.narrator].append(Example(waveform, tones, said))
    return [found[name] for name in sorted(found)]


def batches(corpus: Sequence[Sequence[Example]], size: int, seed: int) -> Callable[[int], Batch]:
    """Step -> batch of `size` rows, drawn by `of_speakers`; the timbre is that of any utterance of the speaker. Raises
    LabError where there is nothing to learn from."""
    positive(size=size)
    if not corpus:
        raise LabError(f"no utterance lasts {LENGTH / 25:g} s: nothing to train refiner and decoder on")
    drawn = of_speakers([[len(each.said.tokens) for each in speaker] for speaker in corpus])

    def row(random: np.random.Generator) -> tuple[Tensor, ...]:
        number, utterance = drawn(random)
        speaker = corpus[number]
        example = speaker[utterance]
        timbre = speaker[int(random.integers(len(speaker)))].said.timbre
        assert timbre is not None
        for _ in range(10):  # some crops are silent
            first = int(random.integers(len(example.said.tokens) - LENGTH + 1))
            start = int(random.integers(EDGE, LENGTH - CROP - EDGE + 1))
            tones = example.pitch[2 * (first + start) :][: 2 * CROP]
            if (tones != pitch.UNVOICED).mean() > 0.1:
                break
        waveform = example.waveform[(first + start) * TOKEN_HOP :][: CROP * TOKEN_HOP].astype(np.float32) / 32768
        part = slice(first, first + LENGTH)
        said = example.said.tokens[part].long(), example.said.codes[part].long()
        return torch.from_numpy(waveform), torch.from_numpy(tones.astype(np.int64)), *said, timbre, torch.tensor(start)

    def batch_of(step: int) -> Batch:
        random = random_of(seed, step)
        waveform, tones, tokens, codes, timbre, start = (
            torch.stack(column) for column in zip(*(row(random) for _ in range(size)), strict=True)
        )
        known = torch.from_numpy(random.random(size) >= HIDDEN)
        return Batch(waveform, tones, tokens, codes, timbre, start, known)

    return batch_of


class Speaking(nn.Module):
    """The codec, that decodes what its refiner estimates."""

    def __init__(self, codec: Codec):
        super().__init__()
        self.codec = codec

    def train(self, mode: bool = True) -> Speaking:
        super().train(mode)
        self.codec.quantizer.eval()  # codebooks stay
        return self

    def forward(self, batch: Batch) -> tuple[Reconstruction, Tensor]:
        """What is decoded, and the error of the vectors over their variance ()."""
        codec = self.codec
        target, found = codec.quantizer.decode(batch.codes), estimated(codec, batch)
        error = (found - target).square().mean() / target.var((0, 1)).mean()
        vectors = cut(found, batch.start)
        waveform, tones = codec.synthesize(vectors, batch.timbre)
        return Reconstruction(waveform, tones, vectors, vectors, batch.codes, error * 0), error


def estimated(codec: Codec, batch: Batch) -> Tensor:
    """What the refiner makes of the codes of the first level (B, LENGTH, code_width)."""
    assert codec.refiner is not None
    guess = codec.quantizer.decode(batch.codes[..., :1])
    return codec.refiner(batch.tokens, guess, batch.timbre, batch.known)


def cut(vectors: Tensor, start: Tensor) -> Tensor:
    """CROP frames of each row (B, LENGTH, C), from `start` (B,) on."""
    rows = start[:, None] + torch.arange(CROP, device=vectors.device)
    return vectors.gather(1, rows[..., None].expand(-1, -1, vectors.shape[-1]))


class Heard:
    """How far apart two sounds are to the tokenizer: in its features, over their variance, and in what it quantizes."""

    def __init__(self, tokenizer: Tokenizer):
        self.tokenizer = tokenizer.eval().requires_grad_(False)
        self.edge = 3  # tokens at each end of a crop, which look beyond it

    def __call__(self, waveform: Tensor, target: Tensor) -> Tensor:
        """(B, N), (B, N) -> ()."""
        self.tokenizer.to(waveform.device)
        inner = slice(self.edge, -self.edge)
        found, wanted = (self.tokenizer.features(self.tokenizer.mel(each)) for each in (waveform, target))
        apart = (found - wanted)[:, inner].square().mean() / wanted.var((0, 1)).mean()
        here, there = (self.tokenizer.narrow(each)[:, inner] for each in (found, wanted))
        return apart + 1 - F.cosine_similarity(here, there, dim=-1).mean()


def train(
    codec: Codec,
    corpus: Sequence[Sequence[Example]],
    tokenizer: Tokenizer,
    folder: Path,
    *,
    steps: int = SCHEDULE.steps,
    batch: int = 8,
    seed: int = 0,
    **options: Any,
) -> dict[str, float]:
    """Train refiner and decoder of `codec` in place. `options` are `fit`'s. Raises LabError without a refiner."""
    if codec.refiner is None:
        raise LabError("this codec has no refiner to train with its decoder; make one by `lab train refiner`")
    torch.manual_seed(seed_of(seed))
    game, heard = codec_recipe.Game(), Heard(tokenizer)

    def loss_of(model: nn.Module, batch: Batch | tuple[Tensor, ...]) -> Losses:
        batch = Batch(*batch)
        made, vectors = model(batch)
        loss, logs = game.distances(made, batch.speech())
        told = heard(made.waveform, batch.waveform)
        return loss + HEARD * told + VECTORS * vectors, logs | {"heard": told, "vectors": vectors}

    with learning(codec, LEARNING):
        if codec.refiner.context is not None:
            codec.refiner.context.keep()
        return fit(
            Speaking(codec),
            loss_of,
            batches(corpus, batch, seed),
            schedule=SCHEDULE.lasting(steps),
            folder=folder,
            seed=seed,
            mixed=True,
            **options,
        )
