"""Who is speaking, by an embedding without trained weights: long-term statistics of mel cepstra and of f0.

Linear discriminant analysis, fitted on natural speech of the speakers to be told apart, weighs them. None of our models
was trained with it. The paper's SpkrSim compares embeddings of a classifier trained on LibriSpeech.
"""

from __future__ import annotations

from collections.abc import Sequence

import librosa
import numpy as np
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from lab import audio
from lab.audio import SAMPLE_RATE
from lab.errors import LabError

_FRAME, _HOP = 640, 160  # samples: 40 ms, over two periods of the lowest voice
_LAGS = np.arange(SAMPLE_RATE // 400, SAMPLE_RATE // 60 + 1)  # of voices from 60 to 400 Hz
_CEPSTRA = 19  # without the first, which is loudness
_LOWEST = 50  # Hz, where mel bands begin: no voice is below, and what lies there tells of the recording
# What is soft is where recordings and codecs differ, not speakers: frames of 25 dB under the loudest are left out, and
# bands fade into a floor 20 dB under their mean. Enrolled by natural speech, the 24 narrators are then all known in
# white noise at 20 dB; with 40 dB and a floor of 60 dB, 3 in 10 are.
_ACTIVE, _FLOOR = 10**-2.5, 1e-2
_VOICED = 0.5  # of the energy of a frame comes again after a period


def embedding(waveform: np.ndarray) -> np.ndarray:
    """Waveform (N,) of some seconds -> (41,): over active frames the mean and deviation of 19 mel cepstra, the median
    and interquartile range of log f0, and the share of frames that are voiced.

    Raises LabError for silence and for what is no waveform of finite floats.
    """
    waveform = audio.without_offset(audio.as_waveform(waveform))
    frames, active = _frames(waveform)
    bands = librosa.feature.melspectrogram(
        y=waveform, sr=SAMPLE_RATE, n_fft=_FRAME, hop_length=_HOP, n_mels=40, fmin=_LOWEST, center=False
    )[:, active]
    decibels = 10 * np.log10(bands + _FLOOR * bands.mean())
    cepstra = librosa.feature.mfcc(S=decibels, n_mfcc=_CEPSTRA + 1)[1:]  # (19, F)
    f0, strength = _pitch(frames[active])
    voiced = strength >= min(_VOICED, strength.max())
    low, middle, high = np.percentile(np.log(f0[voiced]), (25, 50, 75))  # a frame may be taken for its octave
    return np.concatenate([cepstra.mean(1), cepstra.std(1), [middle, high - low, voiced.mean()]])


def pitch(waveform: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Waveform (N,) -> the middles of frames of 40 ms, every 10 ms, in seconds, and f0 in Hz (F,), both.

    f0 is nan where a frame is soft (25 dB under the loudest) or not voiced. Raises LabError as `embedding`.
    """
    frames, active = _frames(audio.without_offset(audio.as_waveform(waveform)))
    f0, strength = _pitch(frames)
    times = (_FRAME / 2 + _HOP * np.arange(len(frames))) / SAMPLE_RATE
    return times, np.where(active & (strength >= _VOICED), f0, np.nan)


def _frames(waveform: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Waveform (N,) -> frames (F, 640) and which of them are active (F,)."""
    if len(waveform) < _FRAME or audio.level(waveform) == -np.inf:
        raise LabError(f"nobody speaks in {len(waveform) / SAMPLE_RATE:.2f} s of silence; give a second of speech")
    frames = librosa.util.frame(waveform, frame_length=_FRAME, hop_length=_HOP, axis=0)
    power = np.square(frames, dtype=np.float64).mean(1)
    return frames, power >= _ACTIVE * power.max()


def _pitch(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Frames (F, 640) -> f0 in Hz and how periodic they are, 0 to 1: autocorrelation over that of the window
    (Boersma 1993, "Accurate short-term analysis of the fundamental frequency")."""
    window = np.hanning(_FRAME)
    centred = (frames - frames.mean(1, keepdims=True)) * window

    def correlation(x: np.ndarray) -> np.ndarray:
        full = np.fft.irfft(np.abs(np.fft.rfft(x, 2 * _FRAME)) ** 2)
        return full[..., _LAGS] / np.maximum(full[..., :1], 1e-12)

    periodic = correlation(centred) / correlation(window)
    inner = periodic[:, 1:-1]
    # Two periods correlate as well as one: the first peak that is nearly the highest is the period.
    high = inner >= 0.9 * inner.max(1, keepdims=True)
    peaks = high & (inner >= periodic[:, :-2]) & (inner > periodic[:, 2:])
    first = peaks.argmax(1)
    strength = np.take_along_axis(inner, first[:, None], 1)[:, 0] * peaks.any(1)
    return SAMPLE_RATE / _LAGS[1 + first], strength


def enrol(waveforms: Sequence[np.ndarray], narrators: Sequence[str]) -> LinearDiscriminantAnalysis:
    """Linear discriminant analysis of speakers: several waveforms (N,) of each, and who speaks in them.

    Within-speaker covariance is shrunk by Ledoit and Wolf's rule; each speaker is as likely. Raises LabError for fewer
    than two speakers, or than two waveforms of each on average.
    """
    speakers = len(set(narrators))
    if speakers < 2 or len(waveforms) < 2 * speakers:
        raise LabError(f"{len(waveforms)} waveforms of {speakers} speakers; give 2 speakers or more, and 2 of each")
    likely = np.full(speakers, 1 / speakers)
    gallery = LinearDiscriminantAnalysis(solver="eigen", shrinkage="auto", priors=likely)
    try:
        return gallery.fit(_embeddings(waveforms, narrators), narrators)
    except np.linalg.LinAlgError:
        raise LabError("the waveforms of each speaker are too much alike; give different recordings") from None


def top1(gallery: LinearDiscriminantAnalysis, waveforms: Sequence[np.ndarray], narrators: Sequence[str]) -> float:
    """The share of waveforms (N,) whose speaker, out of all enrolled, is the one named."""
    return float(known(gallery, waveforms, narrators).mean())


def known(gallery: LinearDiscriminantAnalysis, waveforms: Sequence[np.ndarray], narrators: Sequence[str]) -> np.ndarray:
    """Of each waveform (N,), whether its speaker, out of all enrolled, is the one named."""
    return gallery.predict(_embeddings(waveforms, narrators)) == np.asarray(narrators)


def _embeddings(waveforms: Sequence[np.ndarray], names: Sequence[str] | None = None) -> np.ndarray:
    """(waveforms, 41). Raises LabError for none, and where names are not as many."""
    count = len(waveforms) if names is None else len(names)
    if not count or count != len(waveforms):
        raise LabError(f"{len(waveforms)} waveforms with {count} names; give as many of both, one or more")
    return np.array([embedding(waveform) for waveform in waveforms])


def similarity(
    gallery: LinearDiscriminantAnalysis, spoken: Sequence[np.ndarray], natural: Sequence[np.ndarray]
) -> np.ndarray:
    """Waveforms (N,) and other waveforms (N,) -> the cosine of each of the first with each of the others.

    The paper's SpkrSim, with embeddings on the gallery's axes, centred on the mean of the narrators enrolled: around 0
    for any two of them. Cosines of another embedder, the paper's among them, do not compare.
    """

    def directions(waveforms: Sequence[np.ndarray]) -> np.ndarray:
        centred = _embeddings(waveforms) - gallery.means_.mean(0)
        axes = gallery.transform(centred)
        return axes / np.linalg.norm(axes, axis=1, keepdims=True)

    return directions(spoken) @ directions(natural).T
