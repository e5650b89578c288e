"""One widget, three roles: a transport with tracks, an A/B/n comparison, and a story that plays while it is made.

The page (player.js) does all that has to be quick: playing, seeking, switching, drawing. It needs the kernel for
nothing but new sound, so it answers while a cell works. Sound goes there as 16-bit samples at 16 kHz.
"""

from __future__ import annotations

import atexit
import base64
import ctypes
import html
import math
import struct
import tempfile
import threading
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anywidget
import numpy as np
import torch
import traitlets

from lab import audio
from lab.audio import SAMPLE_RATE, Writer
from lab.errors import LabError
from lab.speech import Chunk
from lab.tokens import TOKEN_RATE
from lab.view import style
from lab.view.sound import listen

CLIP = 15.0  # seconds of sound in a stored notebook, 30 to 40 kB
AHEAD = 120.0  # seconds that a story may be ahead of its listener: one without end works no further
KEEP = 600.0  # seconds of a live story that the page holds; earlier moments it asks back


@dataclass(frozen=True)
class Curve:
    """A number over time: values (n,) at times (n,) in seconds; NaN is a gap."""

    name: str
    times: Sequence[float] | np.ndarray
    values: Sequence[float] | np.ndarray
    unit: str = ""
    colour: str = style.CONTINUATION

    def line(self) -> dict[str, Any]:
        times, values = (np.asarray(numbers, np.float32) for numbers in (self.times, self.values))
        if times.shape != values.shape or times.ndim != 1:
            raise LabError(f"the curve {self.name!r} has times {times.shape} and values {values.shape}; give (n,) both")
        return {"name": self.name, "colour": self.colour, "times": times.tobytes(), "values": values.tobytes()}


@dataclass(frozen=True)
class Marks:
    """Moments, in seconds."""

    name: str
    times: Sequence[float] | np.ndarray
    colour: str = style.SEAM

    def lane(self) -> dict[str, Any]:
        times = [float(time) for time in self.times]
        return {"kind": "marks", "name": self.name, "colour": self.colour, "times": times}


@dataclass(frozen=True)
class Ribbon:
    """Tokens (n,) as colours, `rate` a second; the number is told under the pointer."""

    name: str
    values: Sequence[int] | np.ndarray | torch.Tensor
    rate: float = TOKEN_RATE

    def lane(self) -> dict[str, Any]:
        values = np.asarray(self.values, np.uint16)
        return {"kind": "ribbon", "name": self.name, "rate": float(self.rate), "values": values.tobytes()}


@dataclass(frozen=True)
class Words:
    """A transcript: (start, stop, text) of each word, seconds. The page shows the words around the cursor."""

    name: str
    spans: Sequence[tuple[float, float, str]]

    def lane(self) -> dict[str, Any]:
        spans = [[round(float(start), 3), round(float(stop), 3), text] for start, stop, text in self.spans]
        return {"kind": "words", "name": self.name, "spans": spans}


Track = Curve | Marks | Ribbon | Words


def lane(track: Track | Sequence[Curve]) -> dict[str, Any]:
    """A track as the page wants it. Curves in a tuple share one lane, scale and unit."""
    if not isinstance(track, Curve | Sequence):
        return track.lane()
    curves = [track] if isinstance(track, Curve) else list(track)
    name = curves[0].name if len(curves) == 1 else ""
    return {"kind": "curve", "name": name, "unit": curves[0].unit, "lines": [curve.line() for curve in curves]}


class Player(anywidget.AnyWidget):
    """Waveform (N,) at 16 kHz, spectrogram and tracks on one time axis: click anywhere to hear that moment.

    sound: a waveform, or several by name for a comparison on one clock; they are turned down to the level of the
    quietest (`lab.audio.level`), and the page shows by how much. blind: it hides the names and counts votes.
    seams: seconds drawn through all tracks. Drag to loop, wheel to zoom after a click; keys: space, arrows, Home, End,
    1 to 9, [ and ] for a loop, + and -. In a notebook that was never run, a poster and a clip stand for it.
    Raises LabError for no sound, one that is not (N,) finite, or a blind comparison of one.
    """

    _esm = Path(__file__).with_name("player.js")
    _css = Path(__file__).with_name("player.css")
    caption = traitlets.Unicode().tag(sync=True)
    seconds = traitlets.Float(0.0).tag(sync=True)  # where the listener is, told five times a second
    votes = traitlets.Dict().tag(sync=True)  # name -> votes, and "no difference"
    _sounds: traitlets.List[dict[str, Any]] = traitlets.List().tag(sync=True)
    _lanes: traitlets.List[dict[str, Any]] = traitlets.List().tag(sync=True)
    _seams: traitlets.List[float] = traitlets.List().tag(sync=True)
    _blind = traitlets.Bool(False).tag(sync=True)
    _live = traitlets.Dict().tag(sync=True)  # empty where the sound is complete
    _colours = traitlets.Dict({"wave": style.WAVE, "seam": style.SEAM}).tag(sync=True)

    def __init__(
        self,
        sound: np.ndarray | Mapping[str, np.ndarray],
        tracks: Iterable[Track | Sequence[Curve]] = (),
        caption: str = "",
        seams: Iterable[float] = (),
        blind: bool = False,
        **traits: Any,
    ) -> None:
        sounds = dict(sound) if isinstance(sound, Mapping) else {"": sound}
        if blind and len(sounds) < 2:
            raise LabError("a blind comparison needs two sounds or more; give {name: waveform, name: waveform}")
        for name, waveform in sounds.items():
            _check(name or "the sound", waveform)
            if not len(waveform) and "_live" not in traits:
                raise LabError(f"{name or 'the sound'} holds no samples; give one that lasts")
        gains = loudness_gains(sounds.values())
        super().__init__(
            caption=caption,
            _sounds=[
                {"name": name, "gain": gain, "pcm": _pcm(waveform)}
                for (name, waveform), gain in zip(sounds.items(), gains, strict=True)
            ],
            _lanes=[lane(track) for track in tracks],
            _seams=[float(seam) for seam in seams],
            _blind=blind,
            **traits,
        )
        self._clips = {name: waveform[: _samples(CLIP)] for name, waveform in sounds.items()}

    @classmethod
    def live(
        cls,
        telling: Iterator[Chunk],
        caption: str = "",
        file: str | Path | None = None,
        cache_bytes: float | None = None,
    ) -> Live:
        """Plays a story while a worker thread makes it: see `Live`."""
        return Live(telling, caption, file, cache_bytes)

    def seek(self, seconds: float, play: bool = True) -> None:
        """Moves the player in the page to `seconds`, and plays from there."""
        self.send({"kind": "seek", "seconds": float(seconds), "play": play})

    def verdict(self) -> dict[str, tuple[int, float, float]]:
        """Of each sound: votes, and the 95 % interval (Wilson) of its share among the votes that saw a difference."""
        names = [sound["name"] for sound in self._sounds]
        total = sum(self.votes.get(name, 0) for name in names)
        return {name: (count := self.votes.get(name, 0), *interval(count, total)) for name in names}

    def __repr__(self) -> str:
        sounds = ", ".join(filter(None, (sound["name"] for sound in self._sounds)))
        seconds = max(len(sound["pcm"]) for sound in self._sounds) / 2 / SAMPLE_RATE
        return f"Player({seconds:.1f} s{sounds and f': {sounds}'})"

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        data, metadata = super()._repr_mimebundle_(**kwargs)  # type: ignore[misc]
        return {**data, "text/html": self._fallback()}, metadata

    def _fallback(self) -> str:
        """What a notebook shows that was opened cold: a poster, and the beginning to hear."""
        if not any(len(clip) for clip in self._clips.values()):
            return html.escape(self.caption)
        first = next(iter(self._clips.values()))
        beginning = f"the first {len(first) / SAMPLE_RATE:.0f} s"
        told = html.escape(f"{self.caption or 'a sound'}: waveform and spectrogram of {beginning}")
        share = 1 / len(self._clips)
        clips = [listen(clip[: _samples(CLIP * share)], name).data for name, clip in self._clips.items()]
        image = base64.b64encode(poster(first)).decode()
        picture = f'<img alt="{told}" style="width:100%;max-width:640px" src="data:image/png;base64,{image}">'
        return f"<div>{html.escape(self.caption)}</div>{picture}{''.join(clips)}"


class Live(Player):
    """A story that plays while it is made, with gauges: seconds made, speed, lead, and the memory of the model.

    telling: pieces of audio, such as `SpeechSSM.stream`; a worker thread takes them one by one, under inference_mode.
    file: where the story goes as well (WAV, FLAC, OGG). cache_bytes: what a Transformer's keys and values would take a
    token, drawn beside the state's bytes. The worker waits while the story is 120 s ahead of its listener, and ends
    when the next story begins, so that one has the processor to itself. The page holds the last ten minutes and asks
    for earlier ones; the kernel keeps them in a file without a name.
    """

    _telling: Live | None = None  # the one whose worker runs

    def __init__(
        self,
        telling: Iterator[Chunk],
        caption: str = "",
        file: str | Path | None = None,
        cache_bytes: float | None = None,
    ) -> None:
        curves = [Curve("state of the model", (), (), "MB", style.STATE)]
        if cache_bytes is not None:
            curves.append(Curve("keys and values of a Transformer", (), (), "MB", style.TRANSFORMER))
        self._cache_bytes, self._tape, self._lock = cache_bytes, tempfile.TemporaryFile(), threading.Lock()
        self._samples, self._working = 0, 0.0
        self._memory: list[list[float]] = []  # seconds made, bytes of the state, bytes of the cache; one a second
        self._stopped, self._hurried = threading.Event(), threading.Event()
        self._turn, self._making = threading.Lock(), False  # whether the worker is inside a piece
        self._error: Exception | None = None
        super().__init__(
            np.zeros(0, np.float32),
            caption=caption,
            _live={"state": "telling", "lines": [curve.line() for curve in curves]},
        )
        self.on_msg(self._answer)
        if Live._telling:
            Live._telling.stop()
        Live._telling = self
        atexit.register(self._leave)  # a kernel that ends leaves no half-written file
        self._worker = threading.Thread(target=self._tell, args=(telling, file), daemon=True)
        self._worker.start()

    @property
    def made(self) -> float:
        """Seconds of speech so far."""
        return self._samples / SAMPLE_RATE

    @property
    def state(self) -> str:
        """telling, ended, stopped, or what went wrong."""
        return self._live["state"]

    def stop(self) -> None:
        """Ends the story where it is; the piece in work is dropped, at its next line of Python."""
        with self._turn:
            self._stopped.set()
            if self._making:
                identity = ctypes.c_ulong(self._worker.ident or 0)
                ctypes.pythonapi.PyThreadState_SetAsyncExc(identity, ctypes.py_object(_Stopped))
                self._making = False
        self._end("stopped")

    def wait(self, timeout: float | None = None) -> None:
        """Until the story has ended, heard or not, or `timeout` seconds. Raises what went wrong in the worker."""
        self._hurried.set()
        self._worker.join(timeout)
        if self._error:
            raise self._error

    def read(self, start: int, stop: int) -> bytes:
        """Samples [start, stop) of the story, int16, fewer where it is shorter."""
        with self._lock:
            self._tape.seek(2 * start)
            return self._tape.read(2 * max(0, stop - start))

    def _tell(self, telling: Iterator[Chunk], file: str | Path | None) -> None:
        try:
            with ExitStack() as stack:
                stack.enter_context(torch.inference_mode())  # the mode belongs to the thread
                writer = stack.enter_context(Writer(file)) if file else None
                while (piece := self._next(telling)) is not None:
                    if writer:
                        writer.append(piece.waveform)
                    self._add(piece)
                    while self.made - self.seconds > AHEAD and not self._hurried.is_set():
                        if self._stopped.wait(0.2):
                            break
            self._end("ended")
        except Exception as error:
            self._error = error
            self._end(f"failed: {error}")
        finally:
            atexit.unregister(self._leave)

    def _next(self, telling: Iterator[Chunk]) -> Chunk | None:
        """The next piece, None at the end and after a stop. Only in here may `stop` interrupt the worker."""
        try:
            with self._turn:
                if self._stopped.is_set():
                    return None
                self._making = True
            began = time.perf_counter()
            piece = next(telling, None)
            self._working += time.perf_counter() - began
            with self._turn:
                self._making = False
            return None if self._stopped.is_set() else piece
        except _Stopped:
            return None

    def _add(self, piece: Chunk) -> None:
        start, pcm = self._samples, _pcm(piece.waveform)
        with self._lock:
            self._tape.seek(2 * start)
            self._tape.write(pcm)
            self._samples += len(piece.waveform)
        cache = [] if self._cache_bytes is None else [piece.tokens * self._cache_bytes]
        if not self._memory or self.made - self._memory[-1][0] >= 1:
            self._memory.append([round(self.made, 2), piece.state_bytes, *cache])
        self._send_sound(start, pcm, self._memory[-1:])

    def _send_sound(self, start: int, pcm: bytes, memory: list[list[float]]) -> None:
        speed = self.made / self._working if self._working else 0.0
        gauges = {"made": self.made, "speed": speed, "memory": self._memory[-1][1:]}
        self.send({"kind": "sound", "start": start, "memory": memory, "gauges": gauges}, [pcm])

    def _answer(self, _: Any, message: dict[str, Any], buffers: Any) -> None:
        if message["kind"] == "stop":
            self.stop()
        elif self._samples:  # "hello" of a page that comes late, or "want" of a moment it has let go
            hello = message["kind"] == "hello"
            start = max(0, self._samples - _samples(KEEP)) if hello else _samples(message["second"])
            stop = self._samples if hello else start + _samples(20)
            self._send_sound(start, self.read(start, stop), self._memory if hello else [])

    def _end(self, state: str) -> None:
        if self.state == "telling":
            self._live = {**self._live, "state": state}

    def _leave(self) -> None:
        self.stop()
        self._worker.join(3)

    def __repr__(self) -> str:
        return "Player.live()"  # the same however much there is by now

    def _fallback(self) -> str:
        pcm = np.frombuffer(self.read(0, _samples(CLIP)), "<i2")
        self._clips = {"": (pcm / 32768).astype(np.float32)}
        return super()._fallback()


class _Stopped(BaseException):
    """Raised in the worker's thread. No Exception, so that what makes the piece does not catch it."""


def loudness_gains(waveforms: Iterable[np.ndarray]) -> list[float]:
    """The gain in dB, 0 or less, that turns each waveform (N,) down to the level of the quietest; 0 for silence."""
    levels = [audio.level(waveform) for waveform in waveforms]
    quietest = min((level for level in levels if level > -math.inf), default=0.0)
    return [round(quietest - level, 2) if level > -math.inf else 0.0 for level in levels]


def interval(count: int, total: int) -> tuple[float, float]:
    """The 95 % interval of a share, `count` of `total` (Wilson 1927); (0, 1) where nobody voted."""
    if not total:
        return 0.0, 1.0
    z = 1.96
    middle = (count + z * z / 2) / (total + z * z)
    half = z * math.sqrt(count * (total - count) / total + z * z / 4) / (total + z * z)
    return middle - half, middle + half


def poster(waveform: np.ndarray, columns: int = 640) -> bytes:
    """Waveform (N,) over its spectrogram up to 8 kHz, 640 x 112 pixels: a PNG of 10 to 30 kB."""
    frames = np.linspace(0, max(0, len(waveform) - 512), columns).astype(int)
    padded = np.pad(waveform, (0, max(0, 512 - len(waveform))))
    pieces = np.lib.stride_tricks.sliding_window_view(padded, 512)[frames] * np.hanning(512)  # (columns, 512)
    power = (np.abs(np.fft.rfft(pieces)[:, :256]) ** 2).reshape(columns, 64, 4).mean(2)
    decibels = 10 * np.log10(power + 1e-10)
    shades = np.clip((decibels - decibels.max() + 70) / 70, 0, 1).T[::-1] ** 1.5  # (64, columns), dark is loud
    width = max(1, len(waveform) // columns)
    reach = np.abs(padded[frames[:, None] + np.arange(min(width, 512))]).max(1)
    rows = np.abs(np.linspace(-1, 1, 48))[:, None]
    wave = np.where(rows <= np.maximum(reach / max(reach.max(), 1e-6), 0.03), 0.6, 0.0)  # a line through silence
    return _png((15.99 * (1 - np.concatenate([wave, shades]))).astype(np.uint8))


def _png(shades: np.ndarray) -> bytes:
    """Grey values 0 to 15 (H, W), W even, as a PNG of four bits a pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = shades.shape
    rows = np.pad(shades[:, ::2] << 4 | shades[:, 1::2], ((0, 0), (1, 0)))  # each row begins with its filter, none
    header = struct.pack(">IIBBBBB", width, height, 4, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows.tobytes(), 9)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def _samples(seconds: float) -> int:
    return int(seconds * SAMPLE_RATE)


def _pcm(waveform: np.ndarray) -> bytes:
    return np.round(np.clip(waveform, -1, 1) * 32767).astype("<i2").tobytes()


def _check(name: str, waveform: np.ndarray) -> None:
    if waveform.ndim != 1:
        raise LabError(f"{name} has shape {waveform.shape}; give one channel, shape (N,)")
    if not np.isfinite(waveform).all():
        raise LabError(f"{name} holds NaN or infinite samples; look where they come from")
