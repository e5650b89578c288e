"""One widget, three roles: a transport with tracks, an A/B/n comparison, and stories that play while they are made.

The page (page/*.js and player.js) does all that has to be quick: playing, seeking, switching, drawing. It needs the
kernel for nothing but new sound, so it answers while a cell works. Sound goes there as 16-bit samples at 16 kHz.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
import string
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anywidget
import numpy as np
import traitlets

from lab import audio
from lab.audio import SAMPLE_RATE, as_waveform
from lab.errors import LabError
from lab.view import style
from lab.view.sound import listen, poster
from lab.view.tracks import Lane, lane, moments, stretch

if TYPE_CHECKING:
    from lab.view.live import Live

CLIP, LEAST = 40.0, 8.0  # seconds of sound in a stored notebook, 2 to 3 kB each: of all sounds, and of one at least
PAGE = "application/vnd.speechssm-lab.player+json"  # what `make html` needs beside the clips
LETTERS = string.ascii_uppercase  # that name the sounds of a blind comparison, as in page/engine.js
UNHEARD = "Run this cell: it plays while a thread makes it, with gauges of seconds made, speed, lead and memory."
SAME = "no difference"


# One module, in the order in which constants and classes are defined; functions serve all files.
_NAMES = "shared", "sound", "engine", "lanes", "trajectory", "input"
_FILES = *(f"page/{name}.js" for name in _NAMES), "player.js"
CODE = "\n".join((Path(__file__).parent / name).read_text() for name in _FILES)


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

    _esm = CODE
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
        tracks: Iterable[Lane] = (),
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
                {"name": name, "gain": gain, "pcm": pcm16(waveform)}
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
        part = slice(samples_in(start), samples_in(start + length))
        matched = zip(sounds.items(), gains, strict=True)
        self._start = start
        self._clips = {name: waveform[part] * np.float32(10 ** (gain / 20)) for (name, waveform), gain in matched}
        if blind:  # in an order that tells nothing
            self._clips = dict(sorted(self._clips.items(), key=lambda item: hashlib.sha256(item[1].tobytes()).digest()))
        if not all(map(len, self._clips.values())) and "_live" not in traits:
            raise LabError(f"the clip from {start:g} s on begins behind the end of a sound; give an earlier second")

    @classmethod
    def live(cls, stream: Any, caption: str = "", **options: Any) -> Live:
        """Plays a story, or several by name, while a worker thread makes them: see `lab.view.live.Live`."""
        from lab.view.live import Live  # which is a Player

        return Live(stream, caption, **options)

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


def samples_in(seconds: float) -> int:
    """Whole samples at 16 kHz."""
    return int(seconds * SAMPLE_RATE)


def pcm16(waveform: np.ndarray) -> bytes:
    """Waveform (N,) -> N samples of 16 bits, as the page wants them."""
    return np.round(np.clip(waveform, -1, 1) * 32767).astype("<i2").tobytes()
