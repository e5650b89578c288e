"""GSLM (Lakhotia et al. 2102.01192): a language model of speech units without repeats.

    waveform -> units -> repeats removed -> decoder-only Transformer -> durations -> one voice

200 units at 50 Hz. What a Transformer of 12 layers x 1024 on 6,000 hours does there, a SpeechTransformer of 3 M does
here; for how many seconds follows from its context and the mean number of units a second. The paper samples at 0.7.
TWIST and Spirit LM are this with other units and another language model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, Self

import torch
from torch import Tensor

from lab.audio import Waveform
from lab.errors import LabError
from lab.language import generate
from lab.nn.indices import as_indices
from lab.nn.sampling import generator_of
from lab.others.continuation import Continued, check_length, lasting
from lab.others.units import without_repeats
from lab.protocols import LanguageModel
from lab.voice import Codec
from lab.windows import TOKEN_HOP

STEP = 32  # tokens drawn between two looks at how long they last
MOST = 4  # tokens a frame of 50 or 25 Hz, after which silence follows

Load = Callable[[str], Any]  # a model of a bundle by its name


class GSLM:
    """Units in, units out. What is not said again in Spirit LM: what the language model reads and writes."""

    temperature = 0.7

    def __init__(self, name: str, units: Any, language: LanguageModel, one_voice: Any, codec: Codec | None = None):
        """units: `Units`, or what has their `vocabulary`, `rate` and `encode`. one_voice: `OneVoice` and its codec, or
        what has its `config`, `stack`, `durations` and `speak`, and needs none. Raises LabError for models that were
        not trained for each other."""
        self.name, self.units, self.language = name, units, language
        self.one_voice, self.codec = one_voice, codec
        voice, sizes = one_voice.config, (codec.config.code_width, codec.config.timbre) if codec else (0, 0)
        if (units.vocabulary, units.rate) != (voice.units, voice.rate) or sizes != (voice.code_width, voice.timbre):
            raise LabError(
                f"{name} has {units.vocabulary} units at {units.rate} Hz and a codec of {sizes}, its voice "
                f"{voice.units} at {voice.rate} Hz and {(voice.code_width, voice.timbre)}: "
                "they were not trained for each other"
            )
        if language.context is None:
            raise LabError(f"{name}'s language model must have a context; give a Transformer")
        self._check_vocabulary()

    @classmethod
    def of(cls, load: Load, name: str, own: str) -> Self:
        """From a bundle: NAME-language, and OWN-units, OWN-voice and codec."""
        return cls(name, load(f"{own}-units"), load(f"{name}-language"), load(f"{own}-voice"), load("codec"))

    def _check_vocabulary(self) -> None:
        if self.language.vocabulary != self.units.vocabulary:
            found = f"{self.language.vocabulary} tokens and the units {self.units.vocabulary}"
            raise LabError(f"{self.name}'s language model has {found}: it learnt from another unit set")

    @property
    def longest(self) -> float:
        return (self.language.context or 0) / self.pace

    @property
    def pace(self) -> float:
        """Tokens of the language model a second."""
        return self.one_voice.config.pace

    def read(self, prompt: Waveform) -> Tensor:
        """What the language model reads of a prompt (T,)."""
        return without_repeats(self.units.encode(prompt).cpu())[0]

    def spoken(self, tokens: Tensor) -> Tensor:
        """The units among tokens (T,), without repeats."""
        return without_repeats(tokens)[0]

    def sampling(self) -> dict[str, Any]:
        """More options of `lab.language.generate`."""
        return {}

    def go_on(
        self,
        prompt: Waveform,
        seconds: float,
        *,
        seed: int = 0,
        temperature: float | None = None,
        slide: float | None = None,
    ) -> Continued:
        """As `Continues.go_on`: in the one voice, which says the prompt, too, before it."""
        check_length(self.name, prompt, seconds, self.longest, slide)
        read = self.read(prompt)
        restart = None if slide is None else max(1, round(slide * self.pace))
        stream = self.stream(read, seed, temperature, slide=restart, **self.sampling())
        new = self._lasting(stream, round(seconds * self.units.rate))
        before = self.units.encode(prompt).cpu()
        before = before[len(before) % self.one_voice.stack :]  # whole frames, that the next one begins with new units
        waveform = self.speak(torch.cat([before, self._timed(self.spoken(new))]))
        start = len(before) // self.one_voice.stack * TOKEN_HOP
        return Continued(lasting(waveform[start:], seconds), torch.cat([read, new]), len(read))

    def stream(
        self, read: Tensor, seed: int, temperature: float | None, slide: int | None = None, **options: Any
    ) -> Iterator[int]:
        """Tokens after those read (T,), of which the newest that fit into the context count.

        Where that is full it goes on from the newest `slide`, or half of it: `longest` is told by the mean pace, and
        there may be more tokens a second.
        """
        context = self.language.context or 2
        return generate(
            self.language,
            read[1 - context :],
            generator=generator_of(seed, device=self.language.device),
            temperature=self.temperature if temperature is None else temperature,
            slide=slide or context // 2,
            **options,
        )

    def speak(self, units: Tensor) -> Waveform:
        """Units as long as they last (T,) at `rate` -> waveform. Raises LabError for units that this system has not."""
        return self.one_voice.speak(as_indices(units, self.units.vocabulary, "unit"), self.codec)

    def _timed(self, units: Tensor) -> Tensor:
        return units.repeat_interleave(self.one_voice.durations(units)) if len(units) else units

    def _lasting(self, stream: Iterator[int], frames: int) -> Tensor:
        """As many tokens as last `frames` units; a model that writes no units is given up after MOST for each."""
        tokens: list[int] = []
        while True:
            tokens += islice(stream, STEP)
            found = torch.tensor(tokens)
            if len(self._timed(self.spoken(found))) >= frames or len(found) > MOST * frames:
                return found
