"""Files of audio that grow, and are valid at any moment."""

from __future__ import annotations

import errno
import os
import shutil
import struct
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Protocol

import numpy as np
import soundfile as sf

from lab.audio.levels import SAMPLE_RATE, as_waveform
from lab.errors import LabError
from lab.files import replacing

BLOCK = 65_536  # samples written at once; libsndfile 1.2 crashes on minutes of OGG in one write
ENCODINGS = {".wav": ("WAV", "PCM_16"), ".flac": ("FLAC", "PCM_16"), ".ogg": ("OGG", "VORBIS")}
HEADER = 80  # bytes of a WAV before its samples
UNKNOWN = 2**32 - 1  # a length that does not fit, or is not known


def save(path: str | Path, waveform: np.ndarray) -> None:
    """Writes a waveform (N,) as WAV or FLAC (16 bits) or OGG, by the path's ending; whole or not at all.

    Raises LabError as `Writer` does.
    """
    with Writer(path, keep_partial=False) as writer:
        writer.append(waveform)


class _Sink(Protocol):
    def write(self, data: np.ndarray, /) -> object: ...

    def close(self) -> None: ...


class WavStream:
    """16-bit mono WAV to an open binary file. Where that can seek, its header is right after each write.

    Past 4 GiB, 37 hours, it becomes an RF64 (EBU Tech 3306), for whose 64-bit lengths a chunk is kept free. To a pipe
    the length is given as unknown.
    """

    def __init__(self, file: IO[bytes]):
        self.file, self.bytes, self.seekable = file, 0, file.seekable()
        self._header()

    def write(self, waveform: np.ndarray) -> None:
        """(N,) in [-1, 1], clipped. Raises OSError where not all of it could be written."""
        scaled = np.floor(waveform.astype(np.float64) * 32768).clip(-32768, 32767).astype("<i2")
        left = memoryview(scaled.tobytes())
        while left:
            left = left[self.file.write(left) :]
        self.bytes += scaled.nbytes
        if self.seekable:
            self._header()
            self.file.seek(0, os.SEEK_END)
        self.file.flush()

    def _header(self) -> None:
        data = self.bytes if self.seekable else UNKNOWN
        riff = data + HEADER - 8
        wide = self.seekable and riff >= 2**32
        sizes = (riff, data, data // 2) if wide else (0, 0, 0)
        names = (b"RF64", b"ds64") if wide else (b"RIFF", b"JUNK")
        head = struct.pack("<4sI4s4sI3QI", names[0], min(riff, UNKNOWN), b"WAVE", names[1], 28, *sizes, 0)
        form = struct.pack("<4sI2H2I2H", b"fmt ", 16, 1, 1, SAMPLE_RATE, 2 * SAMPLE_RATE, 2, 16)  # PCM, mono, 16 bits
        if self.seekable:
            self.file.seek(0)
        self.file.write(head + form + struct.pack("<4sI", b"data", UNKNOWN if wide else data))

    def close(self) -> None:
        with suppress(OSError):
            if self.seekable:  # a write that failed may have left some of its bytes
                self.file.truncate(HEADER + self.bytes)
        self.file.close()


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
        container, subtype = ENCODINGS[self.path.suffix.lower()]
        self._sound: _Sink
        with ExitStack() as stack:
            self._part = stack.enter_context(replacing(self.path))
            if container == "WAV":
                self._sound = WavStream(self._part.open("wb", buffering=0))
            else:
                name = os.fsencode(self._part)  # bytes: a name need not be text
                try:
                    self._sound = sf.SoundFile(name, "w", SAMPLE_RATE, channels=1, format=container, subtype=subtype)
                except sf.SoundFileError as error:
                    raise self._refused(error) from error
            self._replacing = stack.pop_all()
        return self

    def append(self, waveform: np.ndarray) -> None:
        """Adds a waveform (N,). Raises LabError if it is none, not finite, or cannot be written."""
        waveform = as_waveform(waveform, f"the audio for {self.path}", self.samples)
        for start in range(0, len(waveform), BLOCK):
            block = waveform[start : start + BLOCK]
            try:
                self._sound.write(block)
            except (OSError, sf.SoundFileError, AssertionError) as error:  # soundfile asserts that all was written
                raise self._refused(error) from error
            self.samples += len(block)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        written, self.samples = self.samples, 0
        kept = self._close(written)
        complete = kind is None and kept >= written
        welcome = self._keep_partial and isinstance(error, KeyboardInterrupt | LabError | None)
        if kept and (complete or welcome):
            self._replacing.close()
            self.samples = kept
        else:
            self._replacing.__exit__(LabError, LabError("nothing to keep"), None)  # removes what was written
        if kind is None and not complete:
            raise self._refused(None)

    def _close(self, written: int) -> int:
        """How many samples can be read back; 0 if the file is not valid."""
        with suppress(sf.SoundFileError, OSError):
            self._sound.close()
        try:
            frames = sf.info(os.fsencode(self._part)).frames
        except sf.SoundFileError:
            return 0
        # after a full disk some of the refused block may be there; a FLAC then claims to be endless
        return frames if frames <= written + BLOCK else 0

    def _refused(self, error: Exception | None) -> LabError:
        """Why no more can be written: libsndfile does not say, the system does."""
        code = error.errno if isinstance(error, OSError) else None
        with suppress(OSError):
            if code is None and shutil.disk_usage(self.path.parent).free < 2**20:
                code = errno.ENOSPC
        if code == errno.ENOSPC:
            reason = "the disk is full; free some space"
        elif code is not None:
            reason = f"{os.strerror(code)}; give another path"
        else:
            reason = "the system takes no more (a limit on the size of files or on disk space?); give another path"
        return LabError(f"cannot write more than {self.seconds:.1f} s to {self.path}: {reason}")
