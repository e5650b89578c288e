"""The recipe of the codec's decoder alone: it goes on with codes as the voice fills them in.

When in its 20 ms a voice pulses, the levels behind the first tell. SoundStorm reads those off for all frames at once,
neighbours do not agree, and low voices end at two pulses a frame, 100 Hz, whatever their pitch. As a vocoder is fitted
to what its acoustic model says (HiFi-GAN, 2010.05646, section 4.4), the decoder learns to speak such codes like the
recording that their first level is of. Two thirds of what it meets are codes as the encoder makes them, lest it forget
those. In the end a share of the weights that it began with is mixed in (WiSE-FT, 2109.01903), for what it
could do before. Encoder and codebooks stay, and with them what codes stand for.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lab.audio import SAMPLE_RATE
from lab.corpora import Utterance, shards
from lab.errors import LabError
from lab.nn.sampling import generator_of
from lab.tokens import TOKEN_HOP, Tokenizer
from lab.train.batches import random_of
from lab.train.codec import intelligibility
from lab.train.loop import Losses, Schedule
from lab.train.parts import Part, fit_part
from lab.train.soundstorm import PROMPT
from lab.voice import Codec, Synthesizer, VoicePrompt
from lab.voice.losses import Harmonics, MultiScaleMel
from lab.voice.soundstorm import FRAMES

STEPS = 2500
ORIGIN = 0.2  # share of the weights at the beginning
HARMONICS = 3.0  # weight, beside 1 for both distances of mel
LONGEST = 10  # seconds of a recording


class Dubbed(NamedTuple):
    """A recording, its codes, and those that the voice gives it, of which only the first level was heard."""

    waveform: np.ndarray  # (320 F,) int16
    codes: Tensor  # (F, Q)
    filled: Tensor  # (F, q)
    source: str


def dub(tokenizer: Tokenizer, voice: Synthesizer, pairs: Iterable[tuple[Utterance, Utterance]]) -> list[Dubbed]:
    """Both of two utterances of a speaker, each with the other as the prompt where that lasts 3 s."""
    dubbed: list[Dubbed] = []
    for pair in pairs:
        takes = []
        for utterance in pair:
            samples = utterance.samples()[: LONGEST * SAMPLE_RATE]
            told = shards.encode(samples[: len(samples) // TOKEN_HOP * TOKEN_HOP], tokenizer, voice.codec)
            takes.append(VoicePrompt(*(torch.from_numpy(each).long() for each in told)))
        for speaker, take, utterance in zip(takes[::-1], takes, pair, strict=True):
            if len(speaker.tokens) < PROMPT:
                continue
            prompt = VoicePrompt(speaker.tokens[:PROMPT], speaker.codes[: FRAMES * PROMPT])
            chance = generator_of(0, len(dubbed))
            filled = voice.soundstorm.generate(take.tokens, prompt, chance, known=take.codes[:, :1])
            waveform = utterance.waveform[: TOKEN_HOP * len(take.tokens)]
            dubbed.append(Dubbed(waveform, take.codes, filled.cpu(), utterance.source))
    return dubbed


class Speaking(NamedTuple):
    """Codes and what they should sound like."""

    codes: Tensor  # (B, F, Q)
    depth: Tensor  # (B,) levels that are known
    waveform: Tensor  # (B, 320 F)


class Decoder(Part[Codec]):
    """The part of a codec that speaks codes."""

    def __init__(self, codec: Codec):
        super().__init__(codec, Codec.DECODER)
        self.mel, self.harmonics = MultiScaleMel(SAMPLE_RATE), Harmonics()
        self.origin = copy.deepcopy(codec).requires_grad_(False)  # a run that goes on finds it in its checkpoint

    def forward(self, batch: Speaking) -> Losses:
        spoken = self.model.synthesize(self.model.quantizer.decode(batch.codes, batch.depth))
        logarithmic, linear = self.mel(spoken, batch.waveform)
        harmonics = self.harmonics(spoken, batch.waveform)
        logs = {"log-mel": logarithmic, "mel": linear, "harmonics": harmonics}
        return logarithmic + linear + HARMONICS * harmonics, logs

    @torch.no_grad()
    def mixed(self) -> Codec:
        """The codec with the share of `origin` that it keeps."""
        codec = copy.deepcopy(self.model).requires_grad_(True)
        for layer in Codec.DECODER:  # the others stay to the bit: -0 mixed with itself would be +0
            now, before = (getattr(each, layer).parameters() for each in (codec, self.origin))
            for weights, former in zip(now, before, strict=True):
                weights.lerp_(former, ORIGIN)
        return codec.eval()


def speakings(dubbed: Sequence[Dubbed], size: int, frames: int, seed: int) -> Callable[[int], Speaking]:
    """Step -> batch of `size` crops of `frames`; every source has an equal share. Every third row has the voice's
    codes; of the others seven in ten have all levels, and the rest 1 or more."""
    hop = TOKEN_HOP // FRAMES  # samples
    sources: dict[str, list[Dubbed]] = {}
    for each in dubbed:
        if len(each.codes) >= frames:
            sources.setdefault(each.source, []).append(each)
    if not sources:
        raise LabError(
            f"no recording lasts {hop * frames / SAMPLE_RATE:g} s beside 3 s of the same speaker: nothing to learn from"
        )
    groups = [sources[name] for name in sorted(sources)]

    def batch(step: int) -> Speaking:
        random = random_of(seed, step)
        rows = []
        for row in range(size):
            group = groups[(row // 3 + step) % len(groups)]
            take = group[int(random.integers(len(group)))]
            start = int(random.integers(len(take.codes) - frames + 1))
            codes = take.codes[start : start + frames].clone()
            levels = codes.shape[1]
            depth = levels if random.random() < 0.7 else int(random.integers(1, levels + 1))
            if row % 3 == 2:
                depth = take.filled.shape[1]
                codes[:, :depth] = take.filled[start : start + frames]
            waveform = take.waveform[hop * start : hop * (start + frames)].astype(np.float32) / 32768
            rows.append((codes, torch.tensor(depth), torch.from_numpy(waveform)))
        return Speaking(*(torch.stack(column) for column in zip(*rows, strict=True)))

    return batch


def train(
    codec: Codec,
    *,
    dubbed: Sequence[Dubbed],
    folder: Path,
    steps: int = STEPS,
    size: int = 12,
    frames: int = 75,
    held_out: Sequence[Utterance] = (),
    **options: Any,
) -> dict[str, float]:
    """Train the decoder of `codec` in place; `held_out` is measured by STOI as training goes. `options` as in
    `fit_part`."""
    part = Decoder(codec)
    batches = speakings(dubbed, size, frames, options["seed"])
    schedule = Schedule(steps, learning_rate=6e-4, warmup=min(100, steps // 4), weight_decay=0.01, betas=(0.8, 0.99))
    evaluate = (lambda _: intelligibility(part.mixed(), held_out)) if held_out else None
    figures = fit_part(part, batches, folder, schedule, evaluate=evaluate, **options)
    codec.load_state_dict(part.mixed().state_dict())
    return figures
