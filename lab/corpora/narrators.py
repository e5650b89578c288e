"""Synthetic narrators: espeak-ng's voices, through the wheel `espeakng-loader` and ctypes.

A narrator is an accent, a voice variant, a speaking rate, a pitch and the size of the speaker (the waveform is
resampled, which moves formants and pitch together). espeak-ng makes about 600 seconds of speech a second on one core.
"""

from __future__ import annotations

import _ctypes
import ctypes
import re
import tempfile
from dataclasses import dataclass
from functools import cache
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np

from lab import audio
from lab.errors import LabError
from lab.extras import require

require("narrators")
import espeakng_loader  # noqa: E402

# `en` is espeak-ng's British English.
ACCENTS = ("en-us", "en-us-nyc", "en", "en-gb-scotland", "en-gb-x-rp", "en-gb-x-gbclan", "en-gb-x-gbcwmd", "en-029")

# speak_lib.h
_SYNCHRONOUS, _RATE, _PITCH, _CHARACTERS, _UTF8 = 2, 1, 3, 1, 1
_END, _WORD = 0, 1  # kinds of events


class _Event(ctypes.Structure):
    _fields_ = [
        ("kind", ctypes.c_int),
        ("identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),  # characters, from 1
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),  # ms
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("name", ctypes.c_char * 8),
    ]


@dataclass(frozen=True)
class Narrator:
    """A voice and its settings: `rate` in words a minute (80 to 450), `pitch` 0 to 99, `size` of the speaker
    against the voice's own."""

    name: str
    voice: str  # accent+variant, as espeak-ng writes it
    rate: int = 165
    pitch: int = 50
    size: float = 1.0

    def read(self, text: str) -> np.ndarray:
        """Text -> waveform (N,) float32 at 16 kHz, levelled to -23 dBFS.

        Raises LabError when espeak-ng does not know the voice.
        """
        return self._spoken(text)[0]

    def read_words(self, text: str) -> tuple[np.ndarray, list[tuple[float, str]]]:
        """As `read`, and when each word begins, in seconds, as espeak-ng tells it; "of the" may be one word to it."""
        waveform, starts = self._spoken(text)
        beginnings = [found.start() for found in re.finditer(r"\S+", text)]
        # espeak-ng counts characters around a full stop one too many or too few
        times = {min(beginnings, key=lambda beginning: abs(beginning - at)): time for time, at in reversed(starts)}
        places = sorted(times)
        return waveform, [
            (times[at] * self.size, text[at:end]) for at, end in zip(places, [*places[1:], len(text)], strict=True)
        ]

    def _spoken(self, text: str) -> tuple[np.ndarray, list[tuple[float, int]]]:
        spoken, rate, starts = _synthesize(text, self.voice, round(self.rate * self.size), self.pitch)
        # Played back at another rate a voice gets smaller or larger; the reading rate above undoes the change of tempo.
        return audio.set_level(audio.resample(spoken, round(rate / self.size), audio.SAMPLE_RATE)), starts


NAMED = (
    Narrator("Ada", "en-us+f2", 160, 50),
    Narrator("Bruno", "en-us+m3", 165, 45),
    Narrator("Cora", "en+f4", 165, 55),
    Narrator("Dario", "en+m1", 160, 40),
    Narrator("Edith", "en-gb-scotland+f1", 160, 50),
    Narrator("Felix", "en-gb-scotland+m7", 165, 50),
    Narrator("Greta", "en-us+Annie", 165, 50),
    Narrator("Hector", "en-us+Michael", 160, 45),
    Narrator("Ida", "en-gb-x-rp+belinda", 160, 50),
    Narrator("Jonas", "en-gb-x-rp+ed", 165, 50),
    Narrator("Klara", "en-us+Alicia", 170, 50),
    Narrator("Lars", "en-us+klatt2", 155, 45),
    Narrator("Mona", "en+anika", 160, 50),
    Narrator("Nils", "en+paul", 160, 50),
    Narrator("Olga", "en-us-nyc+steph", 165, 50),
    Narrator("Paul", "en-us-nyc+rob", 165, 45),
    Narrator("Rosa", "en-029+f3", 160, 55),
    Narrator("Simon", "en-029+m2", 160, 50),
    Narrator("Tilda", "en-gb-x-gbclan+Andrea", 165, 50),
    Narrator("Ugo", "en-gb-x-gbclan+gustave", 160, 50),
    Narrator("Vera", "en-gb-x-gbcwmd+aunty", 160, 50),
    Narrator("Walter", "en-gb-x-gbcwmd+grandpa", 150, 50),
    Narrator("Yara", "en-us+shelby", 165, 50),
    Narrator("Zeno", "en+boris", 160, 50),
)

# Those that are easy to make out.
CLEAR = tuple(narrator for narrator in NAMED if narrator.name not in ("Klara", "Mona", "Tilda", "Yara"))

# Their variants are read by nobody in training.
HELD_OUT = (
    Narrator("Alba", "en-us+f5", 165, 50),
    Narrator("Boaz", "en-us+m5", 155, 50),
    Narrator("Celia", "en+linda", 165, 50),
    Narrator("Dov", "en+benjamin", 160, 45),
    Narrator("Elsa", "en-gb-scotland+steph2", 165, 50),
    Narrator("Ferdi", "en-us+klatt3", 160, 50),
)

# Not voices to learn words from.
_UNUSABLE = frozenset({"whisper", "whisperf"})


def _variants_folder() -> Path:
    return Path(espeakng_loader.get_data_path()) / "voices" / "!v"


@cache
def variants() -> tuple[str, ...]:
    """Every variant that training may use: the installed ones, less whispers and those of the held-out narrators."""
    reserved = {narrator.voice.split("+")[1] for narrator in HELD_OUT}
    return tuple(sorted(path.name for path in _variants_folder().iterdir() if path.name not in reserved | _UNUSABLE))


def random_narrator(rng: np.random.Generator) -> Narrator:
    """A training narrator: any usable variant and accent, a random rate and pitch."""
    voice = f"{rng.choice(ACCENTS)}+{rng.choice(variants())}"
    rate, pitch = int(rng.integers(140, 196)), int(rng.integers(25, 76))
    size = float(rng.uniform(0.88, 1.14))
    return _unnamed(voice, rate, pitch, size)


def at_same_rate(narrator: Narrator, rng: np.random.Generator) -> Narrator:
    """Another voice at the same rate, half of the time in the same accent."""
    accent = narrator.voice.split("+")[0] if rng.random() < 0.5 else rng.choice(ACCENTS)
    voice = f"{accent}+{rng.choice(variants())}"
    return _unnamed(voice, narrator.rate, int(rng.integers(25, 76)), narrator.size)


def _unnamed(voice: str, rate: int, pitch: int, size: float) -> Narrator:
    return Narrator(f"{voice} {rate} wpm, pitch {pitch}, size {size:.2f}", voice, rate, pitch, size)


def named(name: str) -> Narrator:
    """A narrator of the measures by name."""
    for narrator in NAMED + HELD_OUT:
        if narrator.name.lower() == name.lower():
            return narrator
    raise LabError(f"there is no narrator {name!r}; there are {', '.join(n.name for n in NAMED + HELD_OUT)}")


@cache
def _library() -> Any:
    """A file with a copy of espeak-ng's library: while another package holds the library itself (kokoro-onnx does), it
    is not opened anew."""
    copy = tempfile.NamedTemporaryFile(suffix=Path(espeakng_loader.get_library_path()).suffix)
    copy.write(Path(espeakng_loader.get_library_path()).read_bytes())
    copy.flush()
    return copy


def _synthesize(text: str, voice: str, rate: int, pitch: int) -> tuple[np.ndarray, int, list[tuple[float, int]]]:
    """Samples, their rate, and for each word when it begins and at which character.

    By an espeak-ng opened anew (4 ms) with chance of its own: the flutter of its pitch runs on from text to text, no
    call resets it, and the same text must give the same samples whatever was read before.
    """
    _, _, variant = voice.partition("+")
    if variant and not (_variants_folder() / variant).is_file():  # espeak-ng would read on without it
        raise LabError(f"espeak-ng has no variant {variant!r}; there are {', '.join(variants())}")
    library = ctypes.CDLL(_library().name)
    chunks: list[bytes] = []
    words: list[tuple[float, int]] = []

    @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))
    def collect(samples, count, events):
        if count > 0:
            chunks.append(ctypes.string_at(samples, 2 * count))
        for event in takewhile(lambda event: event.kind != _END, events):
            if event.kind == _WORD:
                words.append((event.audio_position / 1000, event.text_position - 1))
        return 0

    try:
        data = str(Path(espeakng_loader.get_data_path()).parent).encode()
        sample_rate = library.espeak_Initialize(_SYNCHRONOUS, 0, data, 0)
        if sample_rate <= 0:
            raise LabError(f"espeak-ng did not start with the data in {data.decode()}; reinstall espeakng-loader")
        library.espeak_ng_SetRandSeed(ctypes.c_long(1))  # breath and echo, which it seeds with the time,
        ctypes.CDLL(None).srand(1)  # and the noise of its Klatt voices
        library.espeak_SetSynthCallback(collect)
        if library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise LabError(f"espeak-ng has no voice {voice!r}; voices are accent+variant, such as en-us+f2")
        library.espeak_SetParameter(_RATE, rate, 0)
        library.espeak_SetParameter(_PITCH, pitch, 0)
        encoded = text.encode()
        size = ctypes.c_size_t(len(encoded) + 1)
        library.espeak_Synth(encoded, size, 0, _CHARACTERS, 0, _UTF8, None, None)
    finally:
        library.espeak_Terminate()
        _ctypes.dlclose(library._handle)
    return np.frombuffer(b"".join(chunks), np.int16).astype(np.float32) / 32768, sample_rate, words
