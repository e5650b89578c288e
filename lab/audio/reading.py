"""Audio files of any kind -> a waveform."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np
import soundfile as sf
import soxr

from lab.audio.containers import View, mend
from lab.audio.levels import SAMPLE_RATE, Waveform, check_finite
from lab.console import console
from lab.errors import LabError

BLOCK = 65_536  # samples read at once
CANCELLED = 0.02  # of the channels' mean power is left in their mean: they are turned against each other


def load(
    source: str | Path | BinaryIO,
    *,
    sample_rate: int = SAMPLE_RATE,
    start: float = 0.0,
    max_seconds: float | None = None,
) -> Waveform:
    """The audio in a file (any rate, any channels: their mean) as a waveform (N,) at `sample_rate`.

    source: a path, `-` for standard input, or an open binary file; what soundfile cannot read, ffmpeg may, where the
    machine has it. start, max_seconds: the second to begin at, and how many from there; no more is decoded or held.
    A header that tells a false length is not believed; where something is wrong, a line on standard error says what,
    and what can be read is given. Channels that cancel each other (antiphase) give the loudest of them. Values beyond
    full scale (float files, overshoot of the resampler) are clipped to [-1, 1]. Raises LabError for what cannot be
    read, is not audio, is empty or holds NaN or infinite samples; the rest is for `check_prompt` to judge.
    """
    if max_seconds is not None and not max_seconds > 0:
        raise LabError(f"cannot load {max_seconds:g} seconds of audio; give a positive length")
    if not 0 <= start < math.inf:
        raise LabError(f"cannot load audio from second {start:g} on; give 0 or more")
    piped = isinstance(source, str | Path) and str(source) == "-"
    name = "standard input" if piped else str(source if isinstance(source, str | Path) else "the audio")
    try:
        if piped:
            if sys.stdin is None or sys.stdin.closed or sys.stdin.isatty():
                raise LabError("standard input is a terminal, not audio; pipe a WAV file into the command")
            return _load(sys.stdin.buffer, name, sample_rate, start, max_seconds)
        if isinstance(source, str | Path):
            with open(source, "rb") as file:
                return _load(file, name, sample_rate, start, max_seconds)
        if not hasattr(source, "read"):
            raise LabError(f"cannot load audio from {type(source).__name__}; give a path or an open binary file")
        return _load(source, name, sample_rate, start, max_seconds)
    except OSError as error:
        raise LabError(f"cannot read {name}: {error.strerror or error}; give an audio file") from error
    except ValueError as error:  # a null byte or half a character in the name
        raise LabError(f"cannot read {name!r}: {error}; give the name of a file") from error


def _load(file: IO[bytes], name: str, sample_rate: int, start: float, max_seconds: float | None) -> Waveform:
    end = None if max_seconds is None else start + max_seconds
    if not file.seekable():
        file = _spooled(file, end)
    if not file.seek(0, os.SEEK_END):
        raise LabError(f"{name} is empty (0 bytes); give an audio file")
    mended, complaint = mend(file, end)
    try:
        sound = _Sound(mended)
    except (sf.SoundFileError, TypeError) as error:  # TypeError: a name in .raw, which has no header to read
        with tempfile.TemporaryFile() as decoded:
            _by_ffmpeg(file, name, decoded, end, error)
            return _load(decoded, name, sample_rate, start, max_seconds)
    if sound.samplerate < 1000 or sound.channels > 64:
        raise LabError(f"{name} claims {sound.samplerate} Hz and {sound.channels} channels; it is damaged")
    if complaint:
        console.print(f"warning: {name}: {complaint}; reading what is there")
    first = round(start * sound.samplerate)
    if first and first >= sound.frames:
        raise LabError(f"{name} ends before second {start:g}")
    with sound:
        _seek(sound, first, name)
        waveform, power = _decode(sound, name, sample_rate, max_seconds, None)
        if len(power) > 1 and 0 < np.square(waveform, dtype=np.float64).mean() < CANCELLED * power.mean():
            console.print(f"warning: {name}: its channels cancel each other; taking the loudest of them")
            _seek(sound, first, name)
            waveform, _ = _decode(sound, name, sample_rate, max_seconds, int(power.argmax()))
    if not len(waveform):
        raise LabError(f"{name} holds no samples; give a file with sound in it")
    return np.clip(waveform, -1, 1, out=waveform)


class _Sound(sf.SoundFile):
    """Raises what a file could not be read for, which libsndfile takes for its end, or for damage."""

    def __init__(self, view: View):
        self._view = view
        try:
            super().__init__(view)
        finally:
            view.check()

    def read(self, *given: Any, **options: Any) -> np.ndarray:
        try:
            return super().read(*given, **options)
        finally:
            self._view.check()

    def seekable(self) -> bool:
        """Whether soundfile may seek to where it is after each read: an MP3 then lacks what frames before hold of the
        next one. `seek` does all the same."""
        return self.format != "MP3" and super().seekable()

    def seek(self, *given: Any, **options: Any) -> int:
        try:
            return super().seek(*given, **options)
        finally:
            self._view.check()


def _seek(sound: sf.SoundFile, frame: int, name: str) -> None:
    try:
        if sound.tell() != frame:  # at the beginning a file may be read that cannot be sought in
            sound.seek(frame)
    except sf.SoundFileError as error:
        raise LabError(f"{name} is damaged: {frame / sound.samplerate:.1f} s into it cannot be found") from error


def _decode(
    sound: sf.SoundFile, name: str, sample_rate: int, max_seconds: float | None, channel: int | None
) -> tuple[Waveform, np.ndarray]:
    """The waveform of one channel, or the mean of all, and the mean square of each (C,)."""
    # 0.1 s more than asked, so that the resampler's filter meets no edge before the cut
    wanted = sys.maxsize if max_seconds is None else math.ceil((max_seconds + 0.1) * sound.samplerate)
    resampler = soxr.ResampleStream(sound.samplerate, sample_rate, 1, dtype="float32")
    pieces, energy, read = [], np.zeros(sound.channels), 0
    for block in _blocks(sound, name, wanted):
        check_finite(block, name, read, sound.samplerate)
        energy += np.square(block, dtype=np.float64).sum(0)
        pieces.append(resampler.resample_chunk(block.mean(axis=1) if channel is None else block[:, channel].copy()))
        read += len(block)
    pieces.append(resampler.resample_chunk(np.zeros(0, np.float32), last=True))
    waveform = np.concatenate(pieces)
    if max_seconds is not None:
        waveform = waveform[: math.ceil(max_seconds * sample_rate)]
    return waveform, energy / max(1, read)


def _blocks(sound: sf.SoundFile, name: str, wanted: int) -> Iterator[np.ndarray]:
    """Samples (n, C) until `wanted` or the end of what can be decoded."""
    read, size = 0, BLOCK
    while read < wanted:
        try:
            block = sound.read(min(size, wanted - read), dtype="float32", always_2d=True)
        except sf.SoundFileError as error:
            second = read / sound.samplerate
            if not read:
                raise LabError(f"{name} is damaged after {second:.1f} s; give a whole file") from error
            console.print(f"warning: {name}: damaged after {second:.1f} s; taking what comes before")
            return
        if not len(block):
            return
        yield block
        read += len(block)


def _by_ffmpeg(file: IO[bytes], name: str, into: IO[bytes], max_seconds: float | None, error: Exception) -> None:
    """What the machine's ffmpeg makes of a file, as WAV. Raises LabError where there is none or it cannot either."""
    if not (ffmpeg := shutil.which("ffmpeg")):
        wanted = "give WAV, FLAC, OGG or MP3, or install ffmpeg, which reads more"
        raise LabError(f"{name} is not audio that can be read; {wanted}") from error
    with tempfile.NamedTemporaryFile() as copy:  # m4a has its index at the end: ffmpeg has to seek
        file.seek(0)
        shutil.copyfileobj(file, copy)
        copy.flush()
        length = [] if max_seconds is None else ["-t", f"{max_seconds + 1:.3f}"]
        command = [ffmpeg, "-nostdin", "-v", "error", "-i", f"file:{copy.name}", *length, "-vn", "-f", "wav"]
        done = subprocess.run([*command, "-acodec", "pcm_f32le", "-"], stdout=into, stderr=subprocess.PIPE)
    if not into.seek(0, os.SEEK_END):
        said = done.stderr.decode(errors="replace").strip().splitlines()
        reason = said[-1].replace(copy.name, name) if said else "ffmpeg finds no sound in it"
        raise LabError(f"{name} is not audio that can be read ({reason}); give WAV, FLAC, OGG, MP3 or M4A") from error


def _spooled(pipe: IO[bytes], max_seconds: float | None) -> IO[bytes]:
    """What a pipe holds, as a file to seek in: in memory up to 64 MiB, beyond that on disk."""
    spool = tempfile.SpooledTemporaryFile(max_size=2**26)
    # 8 MiB for a second of audio: eight channels of 32 bits at 192 kHz are 6.1 MB
    left = sys.maxsize if max_seconds is None else math.ceil((max_seconds + 1) * 2**23)
    while left > 0 and (chunk := pipe.read(min(left, 2**20))):
        spool.write(chunk)
        left -= len(chunk)
    return spool
