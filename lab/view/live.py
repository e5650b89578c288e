"""Stories that play while they are made: one, or several on one clock, with captions and gauges."""

from __future__ import annotations

import atexit
import ctypes
import math
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lab.audio import SAMPLE_RATE, Writer, as_waveform
from lab.corpora.storyworld import Cast
from lab.errors import LabError
from lab.protocols import Tokenizer
from lab.speech import Chunk
from lab.tokens import TOKEN_RATE
from lab.view import style
from lab.view.captions import Captions, Reading, Transcript
from lab.view.player import CLIP, LEAST, Player, pcm16, samples_in
from lab.view.tracks import Curve, Lane, Marks, Words

AHEAD = 120.0  # seconds that a story may be ahead of its listener: one without end works no further
KEEP = 600.0  # seconds of a live story that the page holds; earlier moments it asks back
COLOURS = style.CONTINUATION, style.GRIFFIN_30S, style.TRANSFORMER, style.TRUTH  # of stories side by side, in order


class Telling:
    """One of the stories, as far as it is told: samples in a file without a name, 115 MB an hour, and what was read.

    number: among the stories. cache_bytes: of a Transformer's keys and values a token, where they are counted.
    """

    def __init__(
        self, number: int, name: str, stream: Iterator[Chunk], captions: Captions | None, cache_bytes: float | None
    ):
        self.number, self.name, self.stream, self.captions, self.ended = number, name, stream, captions, False
        self.samples, self.transcript = 0, Transcript()
        self.bytes: list[float] = []  # of the state, and of the cache where one is counted
        self.memory: list[list[float]] = []  # seconds made, and those bytes, over time
        self._cache_bytes, self._tape, self._lock = cache_bytes, tempfile.TemporaryFile(), threading.Lock()

    @property
    def made(self) -> float:
        """Seconds of speech so far."""
        return self.samples / SAMPLE_RATE

    def add(self, chunk: Chunk) -> tuple[dict[str, Any], bytes]:
        """Keeps a chunk. What the page has to hear of it: a message, and samples."""
        start, pcm = self.samples, pcm16(as_waveform(chunk.waveform, "a chunk of the story", self.samples))
        try:
            with self._lock:
                self._tape.seek(2 * start)
                self._tape.write(pcm)
                self._tape.flush()
                self.samples += len(pcm) // 2
        except OSError as error:
            message = (
                f"cannot keep more than {self.made:.0f} s of the story in {tempfile.gettempdir()}: {error.strerror}"
            )
            raise LabError(f"{message}; free some space, or set TMPDIR") from error
        self.bytes = self._held(chunk, self.made)
        due = self._due() if chunk.state_bytes else ()  # the prompt is spoken before a model has read it
        points = [[round(at, 2), *self._held(chunk, at)] for at in due]
        self.memory += points
        reading = self.captions.add(chunk.drawn) if self.captions else None
        if reading:
            self.transcript.take(reading)
        return self.told(start, points, reading), pcm

    def _held(self, chunk: Chunk, at: float) -> list[float]:
        """Bytes of the state, and of a cache where one is counted, when the story was `at` seconds long."""
        tokens = chunk.tokens - TOKEN_RATE * (self.made - at)
        return [chunk.state_bytes] + ([] if self._cache_bytes is None else [tokens * self._cache_bytes])

    def _due(self) -> Iterator[float]:
        """Seconds that want a point of memory, though a chunk may last half a minute: one each at first, 3600 for the
        first hour, 12,000 for ten."""
        if not self.memory:
            yield min(1.0, self.made)
        last = self.memory[-1][0] if self.memory else 1.0
        while (last := last + max(1, last / 3600)) <= self.made:
            yield last

    def told(self, start: int, memory: list[list[float]], reading: Reading | None) -> dict[str, Any]:
        """A message to the page, of samples from `start` on."""
        read = reading and reading._asdict()
        return {"kind": "sound", "sound": self.number, "start": start, "memory": memory, "read": read}

    def read(self, start: int, stop: int) -> bytes:
        """Samples [start, stop) of the story, int16, fewer where it is shorter."""
        with self._lock:
            self._tape.seek(2 * start)
            return self._tape.read(2 * max(0, stop - start))

    def waveform(self, seconds: float = math.inf) -> np.ndarray:
        """The first seconds of the story, (N,) float32."""
        pcm = np.frombuffer(self.read(0, round(min(seconds * SAMPLE_RATE, self.samples))), "<i2")
        return (pcm / 32768).astype(np.float32)


class Live(Player):
    """Stories that play while they are made, with captions, and gauges: seconds made, speed, lead, and memory.

    stream: chunks of audio, such as `SpeechSSM.stream`, or several by name, which play on one clock; a worker thread
    takes them one by one, always of the story that is the shortest, under inference_mode. file: where a story alone
    goes as well (WAV, FLAC, OGG). cache_bytes: what a Transformer's keys and values would take a token, drawn beside
    the bytes of the state. tokenizer: reads the words in the tokens, which become captions at the audio's clock; cast:
    whom the prompt is about, and marks show where a sentence names the hero rightly and where another one.

    They can be heard as far as all that are still told have come; after its end one is silent. The worker waits while
    that is 120 s ahead of the listener, and ends when the next `Live` begins, so that one has the processor to itself.
    They play at once, unless another player is heard. The page holds the last ten minutes and asks for earlier ones. A
    page that has not heard from the kernel for 6 s says so. Raises LabError for what is no stream, a file that has no
    such ending, one for several stories, and a cast without a tokenizer.
    """

    _current: Live | None = None  # the one whose worker runs

    def __init__(
        self,
        stream: Iterable[Chunk] | Mapping[str, Iterable[Chunk]],
        caption: str = "",
        file: str | Path | None = None,
        cache_bytes: float | None = None,
        tokenizer: Tokenizer | None = None,
        cast: Cast | None = None,
    ) -> None:
        streams = {str(name): each for name, each in (stream if isinstance(stream, Mapping) else {"": stream}).items()}
        for each in streams.values():
            if not isinstance(each, Iterable) or isinstance(each, np.ndarray | torch.Tensor | str):
                raise LabError(f"cannot play {type(each).__name__} live; give chunks, such as SpeechSSM.stream(prompt)")
        if cast and not tokenizer:
            raise LabError("cannot tell where a story names its hero without its words; give a tokenizer with the cast")
        if not streams or (file is not None and len(streams) > 1):
            raise LabError(f"{len(streams)} stories {'do not go into one file' if streams else 'are none to play'}")
        writer = None if file is None else Writer(file)
        self._stories: list[Telling] = []
        for number, (name, each) in enumerate(streams.items()):
            captions = Captions(tokenizer, cast) if tokenizer else None
            self._stories.append(Telling(number, name, iter(each), captions, None if number else cache_bytes))
        colours = (style.STATE,) if len(streams) == 1 else cycle(COLOURS)
        named = zip(streams, colours, strict=False)
        curves = [Curve(name or "state of the model", (), (), "MB", colour) for name, colour in named]
        if cache_bytes is not None:
            curves.append(Curve("keys and values of a Transformer", (), (), "MB", style.TRANSFORMER))
        self._cast, self._working = cast, 0.0
        self._error: Exception | None = None
        self._stopped, self._unpaced = threading.Event(), threading.Event()
        self._telling = threading.Lock()  # of what the page is told of the whole
        self._turn, self._making = threading.Lock(), False  # whether the worker is inside a chunk
        super().__init__(
            {name: np.zeros(0, np.float32) for name in streams},
            [track for name in streams for track in said(name, Transcript(), cast)] if tokenizer else (),
            caption=caption,
            _live={"state": "generating", "ended": [], "lines": [curve.line() for curve in curves]},
        )
        self.on_msg(self._answer)
        if Live._current:
            Live._current.stop()
        Live._current = self
        atexit.register(self._leave)  # a kernel that ends leaves no half-written file
        self._worker = threading.Thread(target=self._run, args=(writer,), daemon=True)
        self._worker.start()
        threading.Thread(target=self._beat, daemon=True).start()

    @property
    def made(self) -> float:
        """Seconds that can be heard: of the shortest story that is still told, or of the longest where none is."""
        told = [story.made for story in self._stories if not story.ended]
        return min(told) if told and self.state == "generating" else max(story.made for story in self._stories)

    @property
    def state(self) -> str:
        """generating, ended, stopped, or what went wrong."""
        return self._live["state"]

    @property
    def transcripts(self) -> dict[str, Transcript]:
        """What was read of each story so far, by name."""
        return {story.name: story.transcript for story in self._stories}

    def stop(self) -> None:
        """Ends the stories where they are; the chunk in work is dropped, at its next line of Python."""
        with self._turn:
            self._stopped.set()
            if self._making:
                identity = ctypes.c_ulong(self._worker.ident or 0)
                ctypes.pythonapi.PyThreadState_SetAsyncExc(identity, ctypes.py_object(_Stopped))
                self._making = False
        self._end("stopped")

    def wait(self, timeout: float | None = None) -> None:
        """Until the stories have ended, heard or not, or `timeout` seconds. Raises what went wrong in the worker."""
        self._unpaced.set()
        self._worker.join(timeout)
        if self._error:
            raise self._error

    def kept(self, caption: str = "", clip: tuple[float, float] | None = None) -> Player:
        """What was made so far as a `Player`, which a page without a kernel plays: words, marks and all."""
        read = self.transcripts.items() if self._stories[0].captions else ()
        tracks = [track for name, told in read for track in said(name, told, self._cast)]
        sounds = {story.name: story.waveform() for story in self._stories}
        return Player(sounds, tracks, caption or self.caption, clip=clip)

    def close(self) -> None:
        """Ends the stories, and takes the player out of the page."""
        if hasattr(self, "_worker"):
            self.stop()
        super().close()

    def _run(self, writer: Writer | None) -> None:
        try:
            with ExitStack() as stack:
                stack.enter_context(torch.inference_mode())  # the mode belongs to the thread
                if writer:
                    stack.enter_context(writer)
                while going := [story for story in self._stories if not story.ended]:
                    story = min(going, key=lambda each: each.samples)
                    while story.made - self.seconds > AHEAD and not self._unpaced.is_set():
                        if self._stopped.wait(0.2):
                            break
                    chunk = self._next(story.stream)
                    if self._stopped.is_set():
                        break
                    if chunk is None:
                        story.ended = True
                        self._become(ended=[each.number for each in self._stories if each.ended])
                        continue
                    if writer:
                        writer.append(chunk.waveform)
                    self._tell(*story.add(chunk))
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

    def _tell(self, message: dict[str, Any], pcm: bytes) -> None:
        """To the page: what a story told, and gauges of all: seconds made, speed of each, bytes by line of the lane."""
        made = sum(story.made for story in self._stories) / len(self._stories)
        sizes = [*(story.bytes[0] if story.bytes else 0.0 for story in self._stories), *self._stories[0].bytes[1:]]
        gauges = {"made": self.made, "speed": made / self._working if self._working else 0.0, "memory": sizes}
        self.send({**message, "gauges": gauges}, [pcm])

    def _beat(self) -> None:
        """Tells the page each second that this kernel lives, also while a cell or a long chunk is at work."""
        while self._worker.is_alive():
            self.send({"kind": "alive"})
            self._worker.join(1)

    def _answer(self, _: Any, message: dict[str, Any], buffers: Any) -> None:
        if message["kind"] == "stop":
            return self.stop()
        hello = message["kind"] == "hello"  # of a page that comes late, or "want" of a moment it has let go
        for story in self._stories:
            start = max(0, story.samples - samples_in(KEEP)) if hello else samples_in(message["second"])
            stop = story.samples if hello else start + samples_in(20)
            also = (story.memory, story.transcript.reading) if hello else ([], None)
            if start < story.samples:
                self._tell(story.told(start, *also), story.read(start, stop))

    def _end(self, state: str) -> None:
        self._become(state=state)

    def _become(self, **changes: Any) -> None:
        """Tells the page how the stories stand, until the first end of all."""
        with self._telling:
            if self.state == "generating":
                self._live = {**self._live, **changes}

    def _leave(self) -> None:
        self.stop()
        self._worker.join(3)

    def __repr__(self) -> str:
        return "Player.live()"  # the same however much there is by now

    def _fallback(self) -> str:
        seconds = max(LEAST, CLIP / len(self._stories))
        clips = {story.name: story.waveform(seconds) for story in self._stories}
        self._clips = {name: clip for name, clip in clips.items() if len(clip)} or clips
        return super()._fallback()


class _Stopped(BaseException):
    """Raised in the worker's thread. No Exception, so that what makes the chunk does not catch it."""


def said(sound: str, told: Transcript, cast: Cast | None) -> list[Lane]:
    """Tracks of one of the sounds: its words, and with a cast where it names the hero rightly and where another one."""
    words = Words(sound or "heard", told.words, sound)
    if cast is None:
        return [words]
    marks = Marks("hero", told.right, style.CONTINUATION, sound), Marks("another", told.wrong, sound=sound)
    return [words, marks]
