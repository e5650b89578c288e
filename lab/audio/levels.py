"""A waveform judged: whether it is one, how loud its speech is and where that lies."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from lab.errors import LabError

Waveform = npt.NDArray[np.float32]

SAMPLE_RATE = 16_000  # Hz
FRAME = SAMPLE_RATE // 50  # 20 ms, over which power is taken
SILENCE = -60.0  # dBFS: a peak below it is no speech
FULL_SCALE = 0.99  # 8-bit audio peaks at 127/128 = 0.992
CLIPPED_SHARE = 0.01  # of all samples; LibriSpeech scaled to a peak of 1 has at most 0.00005
LARGEST = 8.0  # of a sample: float files overshoot by a little, integers taken for floats by thousands
SOUNDING = 1 / 3  # of the seconds asked for have to hold sound


def as_waveform(samples: Any, name: str = "the waveform", offset: int = 0) -> Waveform:
    """Samples as float32 (N,): a numpy array or a torch tensor of floats, one channel. LabError for anything else.

    offset: samples that came before, for the second that an error names.
    """
    if hasattr(samples, "detach"):  # a torch tensor
        samples = samples.detach().cpu()
        samples = (samples.float() if samples.is_floating_point() else samples).numpy()
    if not isinstance(samples, np.ndarray):
        raise LabError(f"{name} is of type {type(samples).__name__}; give a numpy array of floats, shape (N,)")
    if samples.dtype.kind != "f":
        scale = f", such as x / {-np.iinfo(samples.dtype).min or 128}" if samples.dtype.kind in "iu" else ""
        raise LabError(f"{name} is of {samples.dtype}; give floats in [-1, 1]{scale}")
    if samples.ndim != 1:
        raise LabError(f"{name} has shape {samples.shape}; give one channel, shape (N,)")
    check_finite(samples, name, offset)
    if len(samples) and (peak := float(np.abs(samples).max())) > LARGEST:
        raise LabError(f"{name} peaks at {peak:g}; give floats in [-1, 1]")
    return samples.astype(np.float32, copy=False)


def check_finite(samples: np.ndarray, name: str, offset: int = 0, sample_rate: float = SAMPLE_RATE) -> None:
    """Raises LabError for NaN or infinite samples (N,) or (N, C), of which `offset` came before."""
    finite = np.isfinite(samples)
    if not finite.all():
        second = (offset + int(np.argwhere(~finite)[0, 0])) / sample_rate
        raise LabError(f"{name} holds NaN or infinite samples, the first at {second:.3f} s; export it anew")


def check_prompt(
    waveform: np.ndarray,
    min_seconds: float = 3.0,
    *,
    name: str = "the prompt",
    silence: float = SILENCE,
    clipped: float = CLIPPED_SHARE,
) -> Waveform:
    """What `without_offset` leaves of a `waveform` (N,). Raises LabError unless it can serve as a spoken prompt.

    It must be mono, finite, at least `min_seconds` long and hold sound for a third of that, not be silent (a peak of
    `silence` dBFS without its constant part) and not clipped (a share `clipped` of samples at full scale). `name` is
    what the message calls it, such as the file it came from.
    """
    waveform = as_waveform(waveform, name)
    seconds = len(waveform) / SAMPLE_RATE
    if seconds < min_seconds:
        raise LabError(f"{name} lasts {seconds:.2f} s; give at least {min_seconds:g} s of speech")
    sound = without_offset(waveform)
    peak = decibels(float(np.abs(sound).max(initial=0)) ** 2)
    if peak < silence:
        raise LabError(f"{name} is silent (peak {peak:.0f} dBFS, below {silence:.0f}); give audible speech")
    share = float(np.mean(np.abs(waveform) >= FULL_SCALE))
    if share > clipped:
        told = f"{share:.1%} of it is at full scale, above {clipped:.1%}"
        raise LabError(f"{name} is clipped: {told}; record it at a lower level")
    audible = float(np.count_nonzero(frame_power(sound) >= 10 ** (SILENCE / 10))) * FRAME / SAMPLE_RATE
    if audible < SOUNDING * min_seconds:
        raise LabError(f"{name} holds {audible:.2f} s of sound, the rest is silent; give {min_seconds:g} s of speech")
    return sound


def without_offset(waveform: np.ndarray) -> Waveform:
    """The waveform (N,) without what is slower than speech: a constant that a sound card adds, drift, breath on the
    microphone.

    What goes is a triangular moving average of 80 ms; at 80 Hz, below the lowest voices, it leaves 99 %.
    """
    half, length = SAMPLE_RATE // 50, len(waveform)
    ends = np.arange(min(half, length)), np.arange(max(0, length - half), length)  # there the average is of fewer
    counts = [np.minimum(end + half, length) - np.maximum(end - half, 0) for end in ends]
    slow, padded = waveform.astype(np.float64), np.zeros(length + 2 * half + 1)
    for _ in range(2):
        np.cumsum(slow, out=padded[half + 1 : half + 1 + length])
        padded[half + 1 + length :] = padded[half + length]
        np.subtract(padded[2 * half : 2 * half + length], padded[:length], out=slow)
        means = [slow[end] / count for end, count in zip(ends, counts, strict=True)]
        slow /= 2.0 * half
        for end, mean in zip(ends, means, strict=True):
            slow[end] = mean
    return np.subtract(waveform, slow, out=slow).astype(np.float32)


def frame_power(waveform: np.ndarray) -> np.ndarray:
    """Mean square of frames of 20 ms (F,), or of the whole where it is shorter."""
    width = min(FRAME, len(waveform))
    if not width:
        return np.zeros(0)
    frames = waveform[: len(waveform) // width * width].reshape(-1, width)
    return np.square(frames, dtype=np.float64).mean(axis=1)


def level(waveform: np.ndarray) -> float:
    """RMS in dBFS over the frames of 20 ms that hold speech; -inf for silence.

    Those within 40 dB of the loudest. Where the softest tenth is as loud throughout (3 dB), it is noise, such as room
    tone before the first word, and frames have to be 6 dB above it.
    """
    power = frame_power(without_offset(as_waveform(waveform)))
    if not len(power) or not power.max() > 0:
        return -math.inf
    lowest, noise = np.percentile(power, (2, 10))
    least = np.clip(4 * noise if noise < 2 * lowest else 0.0, 1e-4 * power.max(), 1e-2 * power.max())
    return decibels(float(power[power >= least].mean()))


def set_level(waveform: np.ndarray, dbfs: float = -23.0, peak: float = 0.97) -> Waveform:
    """The waveform (N,) without its constant part, scaled to `level` dbfs or as near as a peak of `peak` allows."""
    return scaled(without_offset(as_waveform(waveform)), dbfs, peak)


def scaled(sound: Waveform, dbfs: float = -23.0, peak: float = 0.97) -> Waveform:
    """`set_level` of what has lost its constant part already."""
    now = level(sound)
    if now == -math.inf:
        return sound
    gain = min(10 ** ((dbfs - now) / 20), peak / float(np.abs(sound).max()))
    return (sound * gain).astype(np.float32)


def speech_span(waveform: np.ndarray, seconds: float = 3.0, step: int = 640) -> int:
    """Where the first `seconds` of a waveform (N,) begin that hold speech, in samples, a multiple of `step`.

    The first stretch with a third of the power of the strongest one, clicks not counting: room tone before the first
    word is passed over, and a recording that begins with speech begins at 0.
    """
    power = frame_power(without_offset(as_waveform(waveform)))
    frames = round(seconds * SAMPLE_RATE / FRAME)
    audible = power[power >= 10 ** (SILENCE / 10)]
    if len(power) <= frames or not len(audible):
        return 0
    total = np.concatenate([[0.0], np.cumsum(np.minimum(power, np.percentile(audible, 95)))])
    stretches = total[frames:] - total[:-frames]
    starts = np.arange(0, len(stretches), step // FRAME)
    return int(starts[np.argmax(stretches[starts] >= stretches[starts].max() / 3)]) * FRAME


def decibels(power: float) -> float:
    return 10 * math.log10(power) if power > 0 else -math.inf
