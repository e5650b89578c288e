"""GSLM (Lakhotia et al. 2102.01192): a language model of speech units without repeats.

    waveform -> units -> repeats removed -> decoder-only Transformer -> durations -> one voice

100 units at 50 Hz. What a Transformer of 12 layers x 1024 on 6,000 hours does there, a SpeechTransformer of 3 M does
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
from lab.others.one_voice import OneVoice, at_token_rate
from lab.others.units import without_repeats
from lab.protocols import LanguageModel
from lab.voice import Synthesizer
from lab.windows import TOKEN_HOP

STEP = 32  # tokens drawn between two looks at how long they last
MOST = 4  # tokens a frame of 50 or 25 Hz, after which silence follows

Load = Callable[[str], Any]  # a model of a bundle by its name


class GSLM:
    """Units in, units out. What is not said again in Spirit LM: what the language model reads and writes."""

    temperature = 0.7

    def __init__(self, name: str, units: Any, language: LanguageModel, one_voice: OneVoice, synthesizer: Synthesizer):
        """units: `Units`, or what has their `vocabulary`, `rate` and `encode`. Raises LabError for models that were not
        trained for each other."""
        self.name, self.units, self.language = name, units, language
        self.one_voice, self.synthesizer = one_voice, synthesizer
        config, count = one_voice.config, synthesizer.soundstorm.config.tokens
        if not (units.vocabulary == config.units == count) or units.rate != config.rate:
            raise LabError(
                f"{name} has {units.vocabulary} units at {units.rate} Hz, durations of {config.units} at {config.rate} "
                f"Hz and a voice of {count}: they were not trained for each other"
            )
        if language.context is None:
            raise LabError(f"{name}'s language model must have a context; give a Transformer")
        self._check_vocabulary()

    @classmethod
    def of(cls, load: Load, name: str, own: str) -> Self:
        """From a bundle: NAME-language, and OWN-units, OWN-durations, OWN-voice and codec."""
        synthesizer = Synthesizer(load(f"{own}-voice"), load("codec"))
        return cls(name, load(f"{own}-units"), load(f"{name}-language"), load(f"{own}-durations"), synthesizer)

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
        waveform = self.speak(torch.cat([before, self._timed(self.spoken(new))]), seed)
        start = len(at_token_rate(before, self.units.rate)) * TOKEN_HOP
        return Continued(lasting(waveform[start:], seconds), torch.cat([read, new]), len(read))

    def stream(self, read: Tensor, seed: int, temperature: float | None, **options: Any) -> Iterator[int]:
        """Tokens after those read (T,), of which the newest that fit into the context count."""
        return generate(
            self.language,
            read[-((self.language.context or 2) - 1) :],
            generator=generator_of(seed, device=self.language.device),
            temperature=self.temperature if temperature is None else temperature,
            **options,
        )

    def speak(self, units: Tensor, seed: int = 0) -> Waveform:
        """Units as long as they last (T,) at `rate` -> waveform. Raises LabError for units that this system has not."""
        units = as_indices(units, self.units.vocabulary, "unit")
        return self.synthesizer.speak(at_token_rate(units, self.units.rate), self.one_voice.speaker, seed)

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
