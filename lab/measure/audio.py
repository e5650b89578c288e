"""What a codec keeps of the sound, and what minutes and seams do to it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from pystoi import stoi

from lab import audio
from lab.audio import SAMPLE_RATE
from lab.errors import LabError
from lab.protocols import Codec
from lab.voice.losses import FLOOR, MultiScaleMel

_FRAME, _HOP = 320, 80  # samples: 20 ms, and a quarter of it as everywhere in MultiScaleMel
_STOI = 0.4  # seconds: STOI compares thirds of octaves over 30 frames of 12.8 ms
_BLOCK = 30 * SAMPLE_RATE


@torch.inference_mode()
def of_codec(codec: Codec, waveforms: Sequence[np.ndarray], levels: int) -> dict[str, float]:
    """Waveforms (N,) -> codes of the first `levels` levels -> waveforms: the means of STOI (Taal et al. 2011, 0 to 1)
    and of the multi-scale log-mel L1 distance that the codec is trained with.

    Raises LabError for no waveform, one under 0.4 s, and for levels that the codec has not.
    """
    if not 1 <= levels <= codec.levels:
        raise LabError(f"the codec has no {levels} levels; give 1 to {codec.levels}")
    distance = MultiScaleMel(SAMPLE_RATE)
    intelligible, distances = [], []
    for waveform in _checked(waveforms):
        if len(waveform) < _STOI * SAMPLE_RATE:
            raise LabError(f"{len(waveform) / SAMPLE_RATE:.2f} s are too short for STOI; give {_STOI:g} s or more")
        whole = torch.from_numpy(waveform)[None]
        decoded = codec.decode(codec.encode(whole)[..., :levels], codec.timbre(whole))[:, : len(waveform)]
        intelligible.append(stoi(waveform, decoded[0].numpy(), SAMPLE_RATE))
        distances.append(float(distance(decoded, whole)[0]))
    return {"STOI": float(np.mean(intelligible)), "log-mel L1": float(np.mean(distances))}


@torch.inference_mode()
def codes_used(codec: Codec, waveforms: Sequence[np.ndarray]) -> list[float]:
    """The share of each level's codes that the waveforms (N,) make use of: Q shares. Raises LabError for none."""
    codes = torch.cat([codec.encode(torch.from_numpy(waveform)[None])[0] for waveform in _checked(waveforms)])  # (F, Q)
    return [len(level.unique()) / codec.codes for level in codes.unbind(-1)]


def _checked(waveforms: Sequence[np.ndarray]) -> list[audio.Waveform]:
    checked = [audio.as_waveform(waveform) for waveform in waveforms]
    if not checked:
        raise LabError("there is no waveform to measure; give one or more")
    return checked


def loudness(waveform: np.ndarray, seconds: float = 60.0) -> np.ndarray:
    """The level of speech in each whole minute of a waveform (N,), in dBFS: RMS over active frames, `audio.level`.

    seconds: of a "minute", one sample or more; LabError otherwise.
    """
    waveform = audio.as_waveform(waveform)
    step = round(seconds * SAMPLE_RATE) if math.isfinite(seconds) else 0
    if step < 1:
        raise LabError(f"cannot take the level of {seconds:g} s at a time; give a positive number")
    return np.array([audio.level(waveform[k * step : (k + 1) * step]) for k in range(len(waveform) // step)])


def drift(waveform: np.ndarray, seconds: float = 60.0) -> float:
    """How much louder the last whole minute of a waveform (N,) is than its first, in dB.

    Raises LabError for fewer than two minutes.
    """
    levels = loudness(waveform, seconds)
    if len(levels) < 2:
        raise LabError(f"{len(waveform) / SAMPLE_RATE:.0f} s have no drift; give 2 x {seconds:g} s or more")
    return float(levels[-1] - levels[0])


@torch.inference_mode()
def spectral_change(waveform: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points 5 ms apart, in seconds, and how far the log-mel spectrum of a waveform (N,) jumps at each, in nepers.

    A jump is the distance of two adjacent frames of 20 ms, the mean over 40 bands. At a point it is the largest of
    the pairs whose border is within 10 ms of it: a cross-fade of 20 ms spreads what it joins, and a click is seen
    best from the middle of a frame. Raises LabError for less than 40 ms.
    """
    spectrum = MultiScaleMel(SAMPLE_RATE, scales=(_FRAME,))
    whole = torch.from_numpy(audio.as_waveform(waveform))
    if len(whole) < 2 * _FRAME:
        raise LabError(f"{len(whole)} samples have no two frames to compare; give {2 * _FRAME} or more")
    blocks = [  # bounds the memory: a minute has 12000 frames of 320 samples
        spectrum.mel(whole[None, start : start + _BLOCK + _FRAME - _HOP], _FRAME)[0]
        for start in range(0, len(whole) - _FRAME + 1, _BLOCK)
    ]
    bands = (torch.cat(blocks) + FLOOR).log()  # (frames, 40)
    step = _FRAME // _HOP
    pairs = (bands[step:] - bands[:-step]).abs().mean(1)  # pair k has its border at _FRAME + k _HOP
    near = _FRAME // 2 // _HOP
    jumps = pairs.unfold(0, 2 * near + 1, 1).amax(1).numpy()
    return (_FRAME + _HOP * (near + np.arange(len(jumps)))) / SAMPLE_RATE, jumps


def spectral_jumps(waveform: np.ndarray, seams: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """The `spectral_change` of a waveform (N,) at each seam, given in seconds, and elsewhere: at each point that is
    farther than 100 ms from every seam. Raises LabError for a seam nearer than 30 ms to an end.
    """
    points, jumps = spectral_change(waveform)
    if not all(points[0] <= seam <= points[-1] for seam in seams):
        raise LabError(f"seams at {list(seams)} s are not all within {points[0]:.2f} and {points[-1]:.2f} s")
    at = [int(np.abs(points - seam).argmin()) for seam in seams]
    elsewhere = np.ones(len(points), bool)
    for seam in seams:
        elsewhere &= np.abs(points - seam) > 0.1
    return jumps[at], jumps[elsewhere]
