"""A waveform: load and save it, judge it, set its level, join it to the next.

A waveform is a float32 numpy array (N,), mono, 16 kHz, within [-1, 1].
"""

from __future__ import annotations

import math
import os
import sys
import uuid
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import SpooledTemporaryFile
from types import TracebackType
from typing import IO, BinaryIO

import numpy as np
import numpy.typing as npt
import soundfile as sf
import soxr

from lab.errors import LabError

Waveform = npt.NDArray[np.float32]

SAMPLE_RATE = 16_000  # Hz
BLOCK = 65_536  # samples read or written at once; libsndfile 1.2 crashes on minutes of OGG in one write
SILENCE = -60.0  # dBFS: a peak below it is no speech
FULL_SCALE = 0.99  # 8-bit audio peaks at 127/128 = 0.992
CLIPPED_SHARE = 0.01  # of all samples; LibriSpeech scaled to a peak of 1 has at most 0.00005
ENCODINGS = {".wav": ("WAV", "PCM_16"), ".flac": ("FLAC", "PCM_16"), ".ogg": ("OGG", "VORBIS")}


def load(
    source: str | Path | BinaryIO, *, sample_rate: int = SAMPLE_RATE, max_seconds: float | None = None
) -> Waveform:
    """The audio in a file (any rate, any channels: their mean) as a waveform (N,) at `sample_rate`.

    source: a path that soundfile can read, `-` for standard input, or an open binary file.
    max_seconds: stop there; no more than that is read, decoded or held.
    Values beyond full scale (float files, overshoot of the resampler) are clipped to [-1, 1]. Raises LabError
    for what cannot be read, is not audio, is empty or holds NaN or infinite samples; the rest is
    for `check_prompt` to judge.
    """
    if max_seconds is not None and not max_seconds > 0:
        raise LabError(f"cannot load {max_seconds:g} seconds of audio; give a positive length")
    piped = str(source) == "-"
    name = "standard input" if piped else str(source if isinstance(source, str | Path) else "the audio")
    try:
        if piped:
            if sys.stdin.isatty():
                raise LabError("standard input is a terminal, not audio; pipe a WAV file into the command")
            return _decode(sys.stdin.buffer, name, sample_rate, max_seconds)
        if isinstance(source, str | Path):
            with open(source, "rb") as file:
                return _decode(file, name, sample_rate, max_seconds)
        return _decode(source, name, sample_rate, max_seconds)
    except OSError as error:
        raise LabError(f"cannot read {name}: {error.strerror}; give an audio file") from error


def _decode(file: IO[bytes], name: str, sample_rate: int, max_seconds: float | None) -> Waveform:
    if not file.seekable():
        file = _spooled(file, max_seconds)
    if not file.seek(0, os.SEEK_END):
        raise LabError(f"{name} is empty (0 bytes); give an audio file")
    file.seek(0)
    try:
        sound = sf.SoundFile(file)
    except (sf.SoundFileError, TypeError) as error:  # TypeError: a name in .raw, which has no header to read
        raise LabError(f"{name} is not audio that can be read; give WAV, FLAC, OGG or MP3") from error
    # 0.1 s more than asked, so that the resampler's filter meets no edge before the cut
    wanted = sys.maxsize if max_seconds is None else math.ceil((max_seconds + 0.1) * sound.samplerate)
    resampler = soxr.ResampleStream(sound.samplerate, sample_rate, 1, dtype="float32")
    pieces, read = [], 0
    with sound:
        while read < wanted:
            try:
                block = sound.read(min(BLOCK, wanted - read), dtype="float32", always_2d=True)
            except sf.SoundFileError as error:
                second = read / sound.samplerate
                raise LabError(f"{name} is damaged after {second:.1f} s; give a whole file") from error
            if not len(block):
                break
            _check_finite(block, name, read, sound.samplerate)
            pieces.append(resampler.resample_chunk(block.mean(axis=1)))
            read += len(block)
    pieces.append(resampler.resample_chunk(np.zeros(0, np.float32), last=True))
    waveform = np.concatenate(pieces)
    if max_seconds is not None:
        waveform = waveform[: math.ceil(max_seconds * sample_rate)]
    if not len(waveform):
        raise LabError(f"{name} holds no samples; give a file with sound in it")
    return np.clip(waveform, -1, 1, out=waveform)


def _spooled(pipe: IO[bytes], max_seconds: float | None) -> IO[bytes]:
    """What a pipe holds, as a file to seek in: in memory up to 64 MiB, beyond that on disk."""
    spool = SpooledTemporaryFile(max_size=2**26)
    # 8 MiB for a second of audio: eight channels of 32 bits at 192 kHz are 6.1 MB
    left = sys.maxsize if max_seconds is None else math.ceil((max_seconds + 1) * 2**23)
    while left > 0 and (chunk := pipe.read(min(left, 2**20))):
        spool.write(chunk)
        left -= len(chunk)
    return spool


def _check_finite(samples: np.ndarray, name: str, offset: int, sample_rate: int) -> None:
    finite = np.isfinite(samples)
    if not finite.all():
        second = (offset + int(np.argwhere(~finite)[0, 0])) / sample_rate
        raise LabError(f"{name} holds NaN or infinite samples, the first at {second:.3f} s; export it anew")


def check_prompt(waveform: np.ndarray, min_seconds: float = 3.0, *, name: str = "the prompt") -> None:
    """Raises LabError unless `waveform` (N,) can serve as a spoken prompt.

    It must be mono, finite, at least `min_seconds` long, not silent (peak of -60 dBFS) and not clipped (1 %
    of samples at full scale). `name` is what the message calls it, such as the file it came from.
    """
    if waveform.ndim != 1:
        raise LabError(f"{name} has shape {waveform.shape}; give one channel, shape (N,)")
    _check_finite(waveform, name, 0, SAMPLE_RATE)
    seconds = len(waveform) / SAMPLE_RATE
    if seconds < min_seconds:
        raise LabError(f"{name} lasts {seconds:.2f} s; give at least {min_seconds:g} s of speech")
    magnitude = np.abs(waveform)
    peak = _decibels(float(magnitude.max(initial=0)) ** 2)
    if peak < SILENCE:
        raise LabError(f"{name} is silent (peak {peak:.0f} dBFS, below {SILENCE:.0f}); give audible speech")
    clipped = float(np.mean(magnitude >= FULL_SCALE))
    if clipped > CLIPPED_SHARE:
        raise LabError(f"{name} is clipped: {clipped:.1%} of it is at full scale; record it at a lower level")


def resample(waveform: np.ndarray, from_rate: float, to_rate: float) -> Waveform:
    """(N,) at one rate to (N * to_rate / from_rate,) at another, band-limited (soxr HQ)."""
    return soxr.resample(waveform.astype(np.float32, copy=False), from_rate, to_rate)


def level(waveform: np.ndarray) -> float:
    """RMS in dBFS over the active 20 ms frames, those within 40 dB of the loudest; -inf for silence."""
    width = min(SAMPLE_RATE // 50, len(waveform))
    if not width:
        return -math.inf
    frames = waveform[: len(waveform) // width * width].reshape(-1, width)
    power = np.square(frames, dtype=np.float64).mean(axis=1)
    return _decibels(float(power[power >= 1e-4 * power.max()].mean()))


def set_level(waveform: np.ndarray, dbfs: float = -23.0, peak: float = 0.97) -> Waveform:
    """The waveform (N,) scaled to `level` dbfs, or as near as a peak of `peak` allows; silence as it is."""
    now = level(waveform)
    if now == -math.inf:
        return waveform.astype(np.float32)
    gain = min(10 ** ((dbfs - now) / 20), peak / float(np.abs(waveform).max()))
    return (waveform * gain).astype(np.float32)


def _decibels(power: float) -> float:
    return 10 * math.log10(power) if power > 0 else -math.inf


def crossfade(left: np.ndarray, right: np.ndarray) -> Waveform:
    """From `left` to `right`, both (N,), over their whole length, at equal power.

    Where the two are unrelated their powers add, and cos^2 + sin^2 = 1 keeps the level where equal gain would
    dip by 3 dB; the more alike they are, the more the middle swells, up to 3 dB (notebook 02 measures it).
    """
    if left.shape != right.shape:
        raise LabError(f"cannot cross-fade {left.shape} samples with {right.shape}; give equal lengths")
    angle = (np.arange(len(left), dtype=np.float32) + 0.5) * (math.pi / 2 / max(1, len(left)))
    return (left * np.cos(angle) + right * np.sin(angle)).astype(np.float32)


def join(left: np.ndarray, right: np.ndarray, fade: int) -> Waveform:
    """`left` (N,) and `right` (M,) in one: (N + M - fade,).

    The last `fade` samples of left and the first of right render the same moment and are cross-faded; 0 is
    the plain cut of the paper (Fig. 4b). Raises LabError if a piece is shorter than the fade.
    """
    if not 0 <= fade <= min(len(left), len(right)):
        raise LabError(f"cannot fade over {fade} samples between pieces of {len(left)} and {len(right)}")
    middle = crossfade(left[len(left) - fade :], right[:fade])
    return np.concatenate([left[: len(left) - fade], middle, right[fade:]])


def stitch(pieces: Iterable[np.ndarray], fade: int) -> Iterator[Waveform]:
    """`join` for pieces that are still being made: audio comes out piece by piece, `fade` samples behind.

    Neighbours share `fade` samples centred on the cut: take `window.scaled(640).kept(fade // 2)` of each
    window's waveform (lab.windows), with `fade` even. What comes out is as long as the kept parts together.
    """
    tail = np.zeros(0, np.float32)
    for index, piece in enumerate(pieces):
        joined = join(tail, piece, fade if index else 0)
        done = max(0, len(joined) - fade)
        yield joined[:done]
        tail = joined[done:]
    yield tail


def save(path: str | Path, waveform: np.ndarray) -> None:
    """Writes a waveform (N,) as WAV or FLAC (16 bits) or OGG, by the path's ending; whole or not at all.

    Raises LabError as `Writer` does.
    """
    with Writer(path, keep_partial=False) as writer:
        writer.append(waveform)


class Writer:
    """A file of audio that grows: `with Writer(path) as writer: writer.append(waveform)`.

    Entering it checks that the path can be written, before any work is done (LabError). Samples go to a
    hidden file in the same folder, which takes the final name at the end, so an older file stays until
    then.

    - At a normal end, on Ctrl-C and on a LabError (a full disk among them) what was written is kept as a
      valid file. Only a FLAC on a full disk is beyond rescue and is dropped.
    - On any other exception, on any at all with `keep_partial=False`, or if nothing was appended, no file
      is left and an older one stays as it was.

    `samples` and `seconds` count what was written and, after the end, what was kept.
    """

    def __init__(self, path: str | Path, *, keep_partial: bool = True) -> None:
        self.path = Path(path)
        self.samples = 0
        self._keep_partial = keep_partial
        if self.path.suffix.lower() not in ENCODINGS:
            raise LabError(f"cannot write {self.path}: its name must end in {', '.join(ENCODINGS)}")

    @property
    def seconds(self) -> float:
        return self.samples / SAMPLE_RATE

    def __enter__(self) -> Writer:
        if self.path.is_dir():
            raise LabError(f"cannot write {self.path}: it is a folder; give a file name")
        self._temporary = self.path.with_name(f".{self.path.stem}.{uuid.uuid4().hex[:8]}.part")
        container, subtype = ENCODINGS[self.path.suffix.lower()]
        try:
            self._temporary.open("xb").close()  # libsndfile would not say why it cannot
            name = os.fsencode(self._temporary)  # bytes: a name need not be text
            self._sound = sf.SoundFile(name, "w", SAMPLE_RATE, channels=1, format=container, subtype=subtype)
        except (OSError, sf.SoundFileError) as error:
            with suppress(OSError):
                self._temporary.unlink(missing_ok=True)
            reason = error.strerror if isinstance(error, OSError) else error
            raise LabError(f"cannot write {self.path}: {reason}; give a folder you can write to") from error
        return self

    def append(self, waveform: np.ndarray) -> None:
        """Adds a waveform (N,). Raises LabError if it is not finite or the disk is full."""
        _check_finite(waveform, f"the audio for {self.path}", self.samples, SAMPLE_RATE)
        for start in range(0, len(waveform), BLOCK):
            block = waveform[start : start + BLOCK]
            try:
                self._sound.write(block)
            except (sf.SoundFileError, AssertionError) as error:  # soundfile asserts that all was written
                raise self._full() from error
            self.samples += len(block)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        written, self.samples = self.samples, 0
        kept = self._close(written)
        complete = kind is None and kept >= written
        welcome = self._keep_partial and isinstance(error, KeyboardInterrupt | LabError | None)
        try:
            if kept and (complete or welcome):
                os.replace(self._temporary, self.path)
                self.samples = kept
        except OSError as failure:
            raise LabError(f"cannot write {self.path}: {failure.strerror}; give another path") from failure
        finally:
            self._temporary.unlink(missing_ok=True)
        if kind is None and not complete:
            raise self._full()

    def _close(self, written: int) -> int:
        """How many samples can be read back; 0 if the file is not valid."""
        with suppress(sf.SoundFileError):
            self._sound.close()
        try:
            frames = sf.info(os.fsencode(self._temporary)).frames
        except sf.SoundFileError:
            return 0
        # after a full disk some of the refused block may be there; a FLAC then claims to be endless
        return frames if frames <= written + BLOCK else 0

    def _full(self) -> LabError:
        written = f"{self.seconds:.1f} s"
        return LabError(f"cannot write more than {written} to {self.path}: the disk is full; free some space")
