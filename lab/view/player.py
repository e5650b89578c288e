"""One widget, three roles: a transport with tracks, an A/B/n comparison, and a story that plays while it is made.

The page (player.js) does all that has to be quick: playing, seeking, switching, drawing. It needs the kernel for
nothing but new sound, so it answers while a cell works. Sound goes there as 16-bit samples at 16 kHz.
"""

from __future__ import annotations

import atexit
import base64
import ctypes
import hashlib
import html
import json
import math
import string
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import anywidget
import numpy as np
import torch
import traitlets

from lab import audio
from lab.audio import SAMPLE_RATE, Writer, as_waveform
from lab.errors import LabError
from lab.speech import Chunk
from lab.view import style
from lab.view.sound import listen, poster
from lab.view.tracks import Curve, Track, lane, moments, stretch

CLIP, LEAST = 40.0, 8.0  # seconds of sound in a stored notebook, 2 to 3 kB each: of all sounds, and of one at least
PAGE = "application/vnd.speechssm-lab.player+json"  # what `make html` needs beside the clips
AHEAD = 120.0  # seconds that a story may be ahead of its listener: one without end works no further
KEEP = 600.0  # seconds of a live story that the page holds; earlier moments it asks back
LETTERS = string.ascii_uppercase  # that name the sounds of a blind comparison, as in player.js
UNHEARD = "Run this cell: it plays while a thread makes it, with gauges of seconds made, speed, lead and memory."
SAME = "no difference"


class Player(anywidget.AnyWidget):
    """Waveform (N,) at 16 kHz, spectrogram and tracks on one time axis: click anywhere to hear that moment.

    sound: a waveform of floats, or several by name for a comparison on one clock; they are turned down to the level of
    the quietest (`lab.audio.level`), and the page shows by how much. blind: it hides the names and counts votes.
    seams: seconds drawn through all tracks. Drag to loop, wheel to zoom after a click; keys: space, arrows, Home, End,
    1 to 9, A to Z in a blind comparison and of ten sounds or more, [ and ] for a loop, + and -. In a notebook that was
    never run, a poster and clips stand for it: `clip`, a first second and how many, of each sound, or as much from the
    start as CLIP allows. play: at once, where a reader has touched the page before.
    Raises LabError for no sound, one that is not (N,) of finite floats, a blind comparison of one or of more than 26,
    and tracks that do not fit.
    """

    _esm = Path(__file__).with_name("player.js")
    _css = Path(__file__).with_name("player.css")
    caption = traitlets.Unicode().tag(sync=True)
    seconds = traitlets.Float(0.0).tag(sync=True)  # where the listener is, five times a second
    votes = traitlets.Dict().tag(sync=True)  # name -> votes, and "no difference"
    _sounds: traitlets.List[dict[str, Any]] = traitlets.List().tag(sync=True)
    _lanes: traitlets.List[dict[str, Any]] = traitlets.List().tag(sync=True)
    _seams: traitlets.List[float] = traitlets.List().tag(sync=True)
    _blind = traitlets.Bool(False).tag(sync=True)
    _plays = traitlets.Bool(False).tag(sync=True)  # at once
    _live = traitlets.Dict().tag(sync=True)  # empty where the sound is complete
    _colours = traitlets.Dict({"wave": style.WAVE, "seam": style.SEAM}).tag(sync=True)

    def __init__(
        self,
        sound: np.ndarray | Mapping[str, np.ndarray],
        tracks: Iterable[Track | Sequence[Curve]] = (),
        caption: str = "",
        seams: Iterable[float] = (),
        blind: bool = False,
        clip: tuple[float, float] | None = None,
        play: bool = False,
        **traits: Any,
    ) -> None:
        given = sound if isinstance(sound, Mapping) else {"": sound}
        sounds = {str(name): as_waveform(waveform, str(name) or "the sound") for name, waveform in given.items()}
        if len(sounds) < len(given) or (blind and SAME in sounds):
            raise LabError(f"two of {', '.join(map(str, given))} or {SAME!r} have one name; give each its own")
        if blind and len(sounds) < 2:
            raise LabError("a blind comparison needs two sounds or more; give {name: waveform, name: waveform}")
        if blind and len(sounds) > len(LETTERS):
            raise LabError(
                f"a blind comparison of {len(sounds)} sounds has no letters for all; give {len(LETTERS)} at most"
            )
        silent = [name or "the sound" for name, waveform in sounds.items() if not len(waveform)]
        if "_live" not in traits and (silent or not sounds):
            raise LabError(f"{silent[0] if silent else 'the sound'} holds no samples; give one that lasts")
        lanes = [lane(track) for track in tracks]
        gains = loudness_gains(sounds.values())
        super().__init__(
            caption=str(caption),
            _sounds=[
                {"name": name, "gain": gain, "pcm": _pcm(waveform)}
                for (name, waveform), gain in zip(sounds.items(), gains, strict=True)
            ],
            _lanes=lanes,
            _seams=moments("seams", list(seams)).tolist(),
            _blind=blind,
            _plays=play,
            **traits,
        )
        start, length = clip or (0.0, max(LEAST, CLIP / max(1, len(sounds))))
        if not (start >= 0 and length > 0 and math.isfinite(start + length)):
            raise LabError(f"a clip of {length} s from {start} s on is none; give a first second and how many")
        part = slice(_samples(start), _samples(start + length))
        matched = zip(sounds.items(), gains, strict=True)
        self._start = start
        self._clips = {name: waveform[part] * np.float32(10 ** (gain / 20)) for (name, waveform), gain in matched}
        if blind:  # in an order that tells nothing
            self._clips = dict(sorted(self._clips.items(), key=lambda item: hashlib.sha256(item[1].tobytes()).digest()))
        if not all(map(len, self._clips.values())) and "_live" not in traits:
            raise LabError(f"the clip from {start:g} s on begins behind the end of a sound; give an earlier second")

    @classmethod
    def live(
        cls,
        stream: Iterable[Chunk],
        caption: str = "",
        file: str | Path | None = None,
        cache_bytes: float | None = None,
    ) -> Live:
        """Plays a story while a worker thread makes it: see `Live`."""
        return Live(stream, caption, file, cache_bytes)

    def seek(self, seconds: float, play: bool = True) -> None:
        """Moves the player in the page to `seconds`, and plays from there; beyond the end nothing plays."""
        if not math.isfinite(seconds):
            raise LabError(f"cannot play from {seconds} s; give a finite number of seconds")
        self.send({"kind": "seek", "seconds": float(seconds), "play": bool(play)})

    def verdict(self) -> dict[str, tuple[int, float, float]]:
        """Of each sound: votes, and the 95 % interval (Wilson) of its share among the votes that saw a difference."""
        names = [sound["name"] for sound in self._sounds]
        total = sum(self.votes.get(name, 0) for name in names)
        return {name: (count := self.votes.get(name, 0), *interval(count, total)) for name in names}

    def __repr__(self) -> str:
        names = f"{len(self._sounds)} sounds, unseen" if self._blind else ", ".join(s["name"] for s in self._sounds)
        longest = max(len(sound["pcm"]) for sound in self._sounds) / 2 / SAMPLE_RATE
        return f"Player({longest:.1f} s{names and f': {names}'})"

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        data, metadata = super()._repr_mimebundle_(**kwargs)  # type: ignore[misc]
        page = {PAGE: self._page()} if any(map(len, self._clips.values())) else {}  # a live one has said nothing yet
        return {**data, "text/html": self._fallback(), **page}, metadata

    def _page(self) -> dict[str, Any]:
        """What a page without a kernel needs beside the clips, to be this player of them."""
        stop = self._start + max(map(len, self._clips.values())) / SAMPLE_RATE
        lanes = [stretch(lane, self._start, stop) for lane in self._lanes]
        names = base64.b64encode(json.dumps(list(self._clips)).encode()).decode()  # a blind comparison shows none
        seams = [seam - self._start for seam in self._seams if self._start <= seam <= stop]
        return {
            "caption": self.caption, "names": names, "lanes": lanes, "seams": seams, "blind": self._blind,
            "colours": self._colours,
        }  # fmt: skip

    def _fallback(self) -> str:
        """What a notebook shows that was opened cold: a poster, and clips to hear."""
        first, *_ = self._clips.values()
        caption = f"<div>{html.escape(self.caption)}</div>"
        if not len(first):
            return f'{caption}<div style="border:1px solid #888;padding:8px;max-width:640px">{UNHEARD}</div>'
        names = [LETTERS[k] for k in range(len(self._clips))] if self._blind else list(self._clips)
        of = f" of {names[0]}" if len(names) > 1 else ""
        seconds = f"{self._start:g} to {self._start + len(first) / SAMPLE_RATE:.0f} s"
        text = f"{self.caption or 'a sound'}: waveform and spectrogram{of}, {seconds}"
        clips = [listen(clip, name).data for name, clip in zip(names, self._clips.values(), strict=True)]
        image = base64.b64encode(poster(first)).decode()
        picture = f'<img alt="{html.escape(text)}" style="width:100%;max-width:640px" src="data:image/png;base64,'
        return f'{caption}{picture}{image}">{"".join(clips)}'


class Live(Player):
    """A story that plays while it is made, with gauges: seconds made, speed, lead, and the memory of the model.

    stream: chunks of audio, such as `SpeechSSM.stream`; a worker thread takes them one by one, under inference_mode.
    file: where the story goes as well (WAV, FLAC, OGG). cache_bytes: what a Transformer's keys and values would take a
    token, drawn beside the state's bytes. The worker waits while the story is 120 s ahead of its listener, and ends
    when the next story begins, so that one has the processor to itself. The page holds the last ten minutes and asks
    for earlier ones; the kernel keeps them in a file without a name, 115 MB an hour. A page that has not heard from
    the kernel for 6 s says so. Raises LabError for what is no stream, and a file that has no such ending.
    """

    _current: Live | None = None  # the one whose worker runs

    def __init__(
        self,
        stream: Iterable[Chunk],
        caption: str = "",
        file: str | Path | None = None,
        cache_bytes: float | None = None,
    ) -> None:
        if not isinstance(stream, Iterable) or isinstance(stream, np.ndarray | torch.Tensor | str):
            raise LabError(f"cannot play {type(stream).__name__} live; give chunks, such as SpeechSSM.stream(prompt)")
        writer = None if file is None else Writer(file)
        curves = [Curve("state of the model", (), (), "MB", style.STATE)]
        if cache_bytes is not None:
            curves.append(Curve("keys and values of a Transformer", (), (), "MB", style.TRANSFORMER))
        self._cache_bytes, self._tape, self._lock = cache_bytes, tempfile.TemporaryFile(), threading.Lock()
        self._samples, self._working = 0, 0.0
        self._bytes: list[float] = []  # of the state and of the cache, by now
        self._memory: list[list[float]] = []  # seconds made, and those bytes, over time
        self._stopped, self._unpaced = threading.Event(), threading.Event()
        self._turn, self._making = threading.Lock(), False  # whether the worker is inside a chunk
        self._error: Exception | None = None
        super().__init__(
            np.zeros(0, np.float32),
            caption=caption,
            _live={"state": "generating", "lines": [curve.line() for curve in curves]},
        )
        self.on_msg(self._answer)
        if Live._current:
            Live._current.stop()
        Live._current = self
        atexit.register(self._leave)  # a kernel that ends leaves no half-written file
        self._worker = threading.Thread(target=self._run, args=(iter(stream), writer), daemon=True)
        self._worker.start()
        threading.Thread(target=self._beat, daemon=True).start()

    @property
    def made(self) -> float:
        """Seconds of speech so far."""
        return self._samples / SAMPLE_RATE

    @property
    def state(self) -> str:
        """generating, ended, stopped, or what went wrong."""
        return self._live["state"]

    def stop(self) -> None:
        """Ends the story where it is; the chunk in work is dropped, at its next line of Python."""
        with self._turn:
            self._stopped.set()
            if self._making:
                identity = ctypes.c_ulong(self._worker.ident or 0)
                ctypes.pythonapi.PyThreadState_SetAsyncExc(identity, ctypes.py_object(_Stopped))
                self._making = False
        self._end("stopped")

    def wait(self, timeout: float | None = None) -> None:
        """Until the story has ended, heard or not, or `timeout` seconds. Raises what went wrong in the worker."""
        self._unpaced.set()
        self._worker.join(timeout)
        if self._error:
            raise self._error

    def close(self) -> None:
        """Ends the story, and takes the player out of the page."""
        if hasattr(self, "_worker"):
            self.stop()
        super().close()

    def read(self, start: int, stop: int) -> bytes:
        """Samples [start, stop) of the story, int16, fewer where it is shorter."""
        with self._lock:
            self._tape.seek(2 * start)
            return self._tape.read(2 * max(0, stop - start))

    def _run(self, stream: Iterator[Chunk], writer: Writer | None) -> None:
        try:
            with ExitStack() as stack:
                stack.enter_context(torch.inference_mode())  # the mode belongs to the thread
                if writer:
                    stack.enter_context(writer)
                while (chunk := self._next(stream)) is not None:
                    if writer:
                        writer.append(chunk.waveform)
                    self._add(chunk)
                    while self.made - self.seconds > AHEAD and not self._unpaced.is_set():
                        if self._stopped.wait(0.2):
                            break
            self._end("stopped" if self._stopped.is_set() else "ended")
        except Exception as error:
            self._error = error
            kind = "" if isinstance(error, LabError) else f"{type(error).__name__}: "
            self._end(f"failed: {kind}{error}")
        finally:
            atexit.unregister(self._leave)

    def _next(self, stream: Iterator[Chunk]) -> Chunk | None:
        """The next chunk, None at the end and after a stop. Only in here may `stop` interrupt the worker."""
        try:
            with self._turn:
                if self._stopped.is_set():
                    return None
                self._making = True
            began = time.perf_counter()
            chunk = next(stream, None)
            self._working += time.perf_counter() - began
            with self._turn:
                self._making = False
            return None if self._stopped.is_set() else chunk
        except _Stopped:
            return None

    def _add(self, chunk: Chunk) -> None:
        start, pcm = self._samples, _pcm(as_waveform(chunk.waveform, "a chunk of the story", self._samples))
        try:
            with self._lock:
                self._tape.seek(2 * start)
                self._tape.write(pcm)
                self._tape.flush()
                self._samples += len(pcm) // 2
        except OSError as error:
            message = (
                f"cannot keep more than {self.made:.0f} s of the story in {tempfile.gettempdir()}: {error.strerror}"
            )
            raise LabError(f"{message}; free some space, or set TMPDIR") from error
        self._bytes = [chunk.state_bytes] + ([] if self._cache_bytes is None else [chunk.tokens * self._cache_bytes])
        last = self._memory[-1][0] if self._memory else -math.inf
        due = self.made >= last + max(1, last / 3600)  # rarer later: 3600 points for the first hour, 12,000 for ten
        if due:
            self._memory.append([round(self.made, 2), *self._bytes])
        self._send_sound(start, pcm, self._memory[-1:] if due else [])

    def _send_sound(self, start: int, pcm: bytes, memory: list[list[float]]) -> None:
        speed = self.made / self._working if self._working else 0.0
        gauges = {"made": self.made, "speed": speed, "memory": self._bytes}
        self.send({"kind": "sound", "start": start, "memory": memory, "gauges": gauges}, [pcm])

    def _beat(self) -> None:
        """Tells the page each second that this kernel lives, also while a cell or a long chunk is at work."""
        while self._worker.is_alive():
            self.send({"kind": "alive"})
            self._worker.join(1)

    def _answer(self, _: Any, message: dict[str, Any], buffers: Any) -> None:
        if message["kind"] == "stop":
            self.stop()
        elif self._samples:  # "hello" of a page that comes late, or "want" of a moment it has let go
            hello = message["kind"] == "hello"
            start = max(0, self._samples - _samples(KEEP)) if hello else _samples(message["second"])
            stop = self._samples if hello else start + _samples(20)
            self._send_sound(start, self.read(start, stop), self._memory if hello else [])

    def _end(self, state: str) -> None:
        if self.state == "generating":
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
    """Raised in the worker's thread. No Exception, so that what makes the chunk does not catch it."""


def loudness_gains(waveforms: Iterable[np.ndarray]) -> list[float]:
    """The gain in dB, 0 or less, that turns each waveform (N,) down to the level of the quietest; 0 for silence.

    Raises LabError for what is no waveform of floats.
    """
    levels = [audio.level(as_waveform(waveform)) for waveform in waveforms]
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


def _samples(seconds: float) -> int:
    return int(seconds * SAMPLE_RATE)


def _pcm(waveform: np.ndarray) -> bytes:
    return np.round(np.clip(waveform, -1, 1) * 32767).astype("<i2").tobytes()
