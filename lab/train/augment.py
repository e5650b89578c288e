"""The same words by another speaker, in another room, at another tempo: what tokenizer and voice learn from as well."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
import scipy.signal
import torch
from torch import Tensor

from lab.audio import SAMPLE_RATE, resample
from lab.corpora import Utterance
from lab.tokens import mel

SPEEDS = (0.88, 1.14)  # played so much faster, pitch and formants with it
REVERBERATION = (0.1, 0.5)  # seconds until the tail has fallen by 60 dB
TAIL = (0.02, 0.12)  # of the direct sound, each sample of the tail at its beginning
VOICES = (1.0, 0.88, 1.13)  # speeds at which the voice hears each utterance
NOISE = (-75.0, -42.0)  # dBFS; speech has -23


def augmented(waveform: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Waveform (N,) float32 -> (about N,): at another speed (6 times in 10), in a room (3), in noise (4)."""
    x = waveform
    if random.random() < 0.6:
        speed = random.uniform(*SPEEDS)
        x = np.interp(np.arange(int(len(x) / speed)) * speed, np.arange(len(x)), x)
    if random.random() < 0.3:
        length = int(SAMPLE_RATE * random.uniform(*REVERBERATION))
        decay = np.exp(np.log(1e-3) * np.arange(length) / length)
        response = random.standard_normal(length) * decay * random.uniform(*TAIL)
        response[0] = 1.0
        x = scipy.signal.fftconvolve(x, response)[: len(x)]
    if random.random() < 0.4:
        colour = [1.0, -random.uniform(0, 0.95)]  # from white to brown
        noise = scipy.signal.lfilter([1.0], colour, random.standard_normal(len(x)))
        x = x + noise * 10 ** (random.uniform(*NOISE) / 20) / noise.std()
    return x.astype(np.float32)


def in_voices(utterances: Iterable[Utterance], speeds: tuple[float, ...] = VOICES) -> Iterator[Utterance]:
    """Each utterance at each of the speeds, with its pitch and formants: elsewhere than at 1 by another speaker."""
    for utterance in utterances:
        for speed in speeds:
            if speed == 1:
                yield utterance
            else:
                waveform = resample(utterance.samples(), speed * SAMPLE_RATE, SAMPLE_RATE)
                heard = (32767 * waveform.clip(-1, 1)).astype(np.int16)
                yield replace(utterance, waveform=heard, narrator=f"{utterance.narrator} at {speed:g}")


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
