"""Spirit LM (Nguyen et al. 2402.05755): one Transformer over text and speech units, interleaved at word boundaries.

    [SPEECH] units ... [TEXT] letters ... [SPEECH] units ...

What was spoken up to a word goes on in writing, and the other way round, so that speech learns from text. Units and
their voice are TWIST's. Text is letters here, and Llama's subwords there. The expressive model has two more kinds of
tokens between the units, in the order of time: pitch (12.5 Hz, 17 classes against 64 of a VQ-VAE) and style (1 Hz, 16
of loudness and liveliness against 100 clusters); its voice does not hear them, the original's does. It samples at 0.9
with top-p 0.95, as in its README.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice, takewhile
from typing import Any

import librosa
import numpy as np
import torch
from torch import Tensor

from lab.audio import SAMPLE_RATE, Waveform
from lab.errors import LabError
from lab.others.gslm import GSLM
from lab.others.units import without_repeats
from lab.tokens import ctc

PITCHES, STYLES, LETTERS = 17, 16, len(ctc.CHARACTERS)
SPAN = (4, 16)  # words that are spoken or written in a row
TOP_P = 0.95
_HOP = 1280  # samples of a pitch, 12.5 Hz
_STEP = 1.5  # semitones of a class of pitch, around the median
_EXPRESSIVE_PACE = 7.0  # tokens a second beside the units: a style, and where the pitch changes

Word = tuple[float, float, str]  # when it begins and ends, in seconds
Timed = tuple[float, int]  # when it begins, and which token
Expression = tuple[np.ndarray, np.ndarray]  # classes of pitch at 12.5 Hz and of style at 1 Hz


@dataclass(frozen=True)
class Layout:
    """Where each kind of token begins: units from 0, then pitches and styles, letters, [TEXT] and [SPEECH]."""

    units: int
    expressive: bool

    @property
    def letters(self) -> int:
        return self.units + (PITCHES + STYLES) * self.expressive

    @property
    def text(self) -> int:
        return self.letters + LETTERS

    @property
    def speech(self) -> int:
        return self.text + 1

    @property
    def size(self) -> int:
        return self.speech + 1

    def written(self, text: str) -> list[int]:
        """[TEXT] and letters."""
        return [self.text, *(self.letters + label - 1 for label in ctc.labels(text))]

    def read(self, tokens: Sequence[int]) -> str:
        return "".join(ctc.CHARACTERS[token - self.letters] for token in tokens)

    def spoken(self, units: Tensor, rate: int, expressed: Expression | None) -> list[Timed]:
        """Units (T,) at `rate`, and how they are said -> all tokens of speech, without repeats, in order of time.

        `expressed` is looked at by the expressive model alone, which wants it.
        """
        kept, lengths = without_repeats(units)
        starts = (lengths.cumsum(0) - lengths) / rate
        found = list(zip(starts.tolist(), kept.tolist(), strict=True))
        if self.expressive and expressed is not None:
            pitches, styles = expressed
            kinds, counts = without_repeats(torch.from_numpy(pitches))
            at = (counts.cumsum(0) - counts) * _HOP / SAMPLE_RATE
            found += zip(at.tolist(), (self.units + kinds).tolist(), strict=True)
            found += [(float(second), self.units + PITCHES + int(style)) for second, style in enumerate(styles)]
        return sorted(found, key=lambda timed: (timed[0], -timed[1]))  # style, pitch, unit where they begin together

    def interleaved(self, speech: Sequence[Timed], words: Sequence[Word], random: np.random.Generator) -> list[int]:
        """Tokens of speech and what is said in it -> one document, spans of some words by turns spoken and written.

        Raises LabError without words.
        """
        if not words:
            raise LabError("there are no times of words: Spirit LM learns where speech turns into text; align them")
        out: list[int] = []
        at, speaking = 0, bool(random.random() < 0.5)
        while at < len(words):
            stop = min(len(words), at + int(random.integers(*SPAN)))
            if speaking:
                start = 0.0 if at == 0 else words[at][0]
                end = words[stop][0] if stop < len(words) else float("inf")
                out += [self.speech, *(token for time, token in speech if start <= time < end)]
            else:
                out += self.written(" ".join(word for _, _, word in words[at:stop]) + " ")
            at, speaking = stop, not speaking
        return out


def expression(waveform: Waveform) -> Expression:
    """Waveform (N,) -> classes of pitch at 12.5 Hz, 16 where there is none, and of style at 1 Hz, int64.

    Pitch is relative to its median; style tells a second's loudness beside the mean, and how far its pitch moves.
    """
    padded = np.pad(waveform, (0, max(0, 2 * _HOP - len(waveform))))
    hertz = librosa.yin(padded, fmin=60, fmax=400, sr=SAMPLE_RATE, frame_length=_HOP, hop_length=_HOP)
    loud = librosa.feature.rms(y=padded, frame_length=_HOP, hop_length=_HOP)[0]
    voiced = loud > max(0.2 * loud.max(), 1e-5)
    semitones = 12 * np.log2(hertz / (np.median(hertz[voiced]) if voiced.any() else 120.0))
    pitches = np.where(voiced, np.clip(np.round(semitones / _STEP) + 8, 0, 15), 16).astype(np.int64)
    decibels = 20 * np.log10(loud + 1e-5)
    styles = []
    edges = np.arange(0, len(loud), SAMPLE_RATE / _HOP).astype(int).tolist()
    for start, end in zip(edges, [*edges[1:], len(loud)], strict=True):
        second = slice(start, end)
        moves = semitones[second][voiced[second]].std() if voiced[second].any() else 0.0
        level = np.digitize(decibels[second].mean() - decibels.mean(), [-4, 0, 4])
        styles.append(4 * level + np.digitize(moves, [0.5, 1.5, 3.0]))
    return pitches, np.array(styles, np.int64)


class SpiritLM(GSLM):
    """Speech goes on as speech (`go_on`) or text (`write`), and text as speech (`say`)."""

    temperature = 0.9

    def _check_vocabulary(self) -> None:
        sizes = {Layout(self.units.vocabulary, expressive).size: expressive for expressive in (False, True)}
        if self.language.vocabulary not in sizes:
            wanted = " or ".join(map(str, sizes))
            found = (
                f"{self.language.vocabulary} tokens; {self.units.vocabulary} units, letters and markers are {wanted}"
            )
            raise LabError(f"{self.name}'s language model has {found}: it learnt from another unit set")
        self.layout = Layout(self.units.vocabulary, sizes[self.language.vocabulary])

    @property
    def pace(self) -> float:
        return self.one_voice.config.pace + _EXPRESSIVE_PACE * self.layout.expressive

    def read(self, prompt: Waveform) -> Tensor:
        expressed = expression(prompt) if self.layout.expressive else None
        timed = self.layout.spoken(self.units.encode(prompt).cpu(), self.units.rate, expressed)
        return torch.tensor([self.layout.speech, *(token for _, token in timed)])

    def spoken(self, tokens: Tensor) -> Tensor:
        return without_repeats(tokens[tokens < self.layout.units])[0]

    def sampling(self) -> dict[str, Any]:
        return {"top_p": TOP_P, "logits_hook": self._only(0, self.layout.letters)}

    def write(self, prompt: Waveform, letters: int = 200, *, seed: int = 0, temperature: float | None = None) -> str:
        """How a prompt (N,) goes on in writing, up to so many letters."""
        read = torch.cat([self.read(prompt), torch.tensor([self.layout.text])])
        hook = self._only(self.layout.letters, self.layout.text, self.layout.speech)
        return self.layout.read(self._until(self.layout.speech, read, letters, hook, seed, temperature))

    def say(self, text: str, seconds: float = 10.0, *, seed: int = 0, temperature: float | None = None) -> Waveform:
        """A text read on, for so many seconds at most -> waveform (N,). Raises LabError for a text without letters."""
        if not ctc.labels(text):
            raise LabError(f"there is nothing to say in {text!r}; give letters")
        read = torch.tensor([*self.layout.written(text), self.layout.speech])
        hook = self._only(0, self.layout.letters, self.layout.text)
        new = self._until(self.layout.text, read, round(seconds * self.pace), hook, seed, temperature)
        return self.speak(self._timed(self.spoken(torch.tensor(new, dtype=torch.int64))))

    def _until(
        self,
        stop: int,
        read: Tensor,
        most: int,
        hook: Callable[[Tensor], Tensor],
        seed: int,
        temperature: float | None,
    ) -> list[int]:
        stream = self.stream(read, seed, temperature, top_p=TOP_P, logits_hook=hook)
        return list(takewhile(lambda token: token != stop, islice(stream, most)))

    def _only(self, start: int, end: int, marker: int | None = None) -> Callable[[Tensor], Tensor]:
        """A hook that leaves tokens of [start, end), and a marker that ends them."""
        barred = torch.ones(self.layout.size, dtype=torch.bool, device=self.language.device)
        barred[start:end] = False
        if marker is not None:
            barred[marker] = False
        return lambda logits: logits.masked_fill(barred, -torch.inf)
