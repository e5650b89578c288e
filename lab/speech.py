"""The whole road in one object: speech in, minutes of new speech out.

waveform -> tokens -> more tokens -> waveform, in the voice of 3 s of somebody
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from lab import audio, bundle
from lab.errors import LabError
from lab.language import Continuation, Griffin, SpeechTransformer, generate, state_bytes
from lab.nn.sampling import generator_of
from lab.tokens import TOKEN_RATE, Tokenizer
from lab.voice import Synthesizer, VoicePrompt

Source = str | Path | BinaryIO | np.ndarray
LONGEST_PROMPT = 60.0  # seconds; more than the models' training lengths would be no prompt but a story
SLIDE = 3 * TOKEN_RATE  # slide-and-prompt starts again from the newest 3 s (paper section 7)
TEMPERATURE = 0.5  # the paper samples at 1; a model of a thousandth of its size then strays from the words it knows


@dataclass(frozen=True)
class Chunk:
    """Audio that is ready, and how things stood when it was."""

    waveform: np.ndarray  # (N,) float32
    seconds: float  # of speech up to the end of this chunk
    tokens: int  # of the stream known so far, the prompt among them
    state_bytes: int  # of the language model's state


@dataclass
class Story:
    """What `generate` returns: the prompt and its continuation, spoken anew in one voice."""

    waveform: np.ndarray  # (N,) float32 at 16 kHz
    tokens: Tensor  # (T,) the whole stream
    prompt_tokens: int
    seams: list[float]  # seconds at which one synthesis window hands over to the next
    timings: dict[str, float] = field(default_factory=dict)  # seconds of work by stage

    @property
    def seconds(self) -> float:
        return len(self.waveform) / audio.SAMPLE_RATE


class SpeechSSM:
    """Tokenizer, language model and voice. All state is in what the methods return, none in here."""

    def __init__(self, tokenizer: Tokenizer, language: Griffin | SpeechTransformer, voice: Synthesizer):
        sizes = tokenizer.config.codes, language.config.vocabulary, voice.soundstorm.config.tokens
        if len(set(sizes)) > 1:
            raise LabError(
                "the tokenizer has {} codes, the language model {} and the voice {}: they were not trained "
                "for each other; train the last two again".format(*sizes)
            )
        self.tokenizer, self.language, self.voice = tokenizer, language, voice

    @classmethod
    def load(cls, root: Path | str | None = None, *, baseline: str | None = None) -> SpeechSSM:
        """From a bundle, by default the one in data/.

        baseline="transformer" takes SpeechTransformer for Griffin, "griffin30" the Griffin that learnt from 30 s.
        Raises LabError for a bundle that is missing, damaged or of other shapes.
        """
        if baseline not in (None, "transformer", "griffin30"):
            raise LabError(f"there is no baseline {baseline!r}; there are 'transformer' and 'griffin30'")
        path = Path(root) if root is not None else bundle.folder()
        parts: dict[str, Any] = {
            name: bundle.load(path, name) for name in ("tokenizer", baseline or "griffin", "soundstorm", "codec")
        }
        return cls(parts["tokenizer"], parts[baseline or "griffin"], Synthesizer(parts["soundstorm"], parts["codec"]))

    def prepare_prompt(self, source: Source, name: str = "the prompt") -> np.ndarray:
        """A file or waveform -> waveform (N,) at 16 kHz and -23 dBFS, of 3 to 60 s.

        Raises LabError for anything else.
        """
        if isinstance(source, np.ndarray):
            waveform = source
        else:
            waveform = audio.load(source, max_seconds=LONGEST_PROMPT + 1)
        audio.check_prompt(waveform, name=name)
        if len(waveform) > LONGEST_PROMPT * audio.SAMPLE_RATE:
            raise LabError(f"{name} is longer than {LONGEST_PROMPT:.0f} s; give its beginning, 10 s are enough")
        return audio.set_level(waveform)

    def generate(
        self,
        prompt: Source,
        seconds: float = 240.0,
        *,
        speaker: Source | None = None,
        seed: int = 0,
        temperature: float = TEMPERATURE,
    ) -> Story:
        """Continue `prompt` by `seconds` of new speech, in its own voice or that of `speaker` (3 s or more).

        The waveform begins with the prompt, spoken anew, as in the paper. The same seed gives the same story.
        """
        began = time.perf_counter()
        stream = self.stream(prompt, seconds, speaker=speaker, seed=seed, temperature=temperature)
        heard = time.perf_counter()
        waveform = np.concatenate([chunk.waveform for chunk in stream])
        done = time.perf_counter()
        timings = {
            "listen": heard - began,
            "language": stream.language_seconds,
            "voice": done - heard - stream.language_seconds,
        }
        tokens = torch.tensor(stream.tokens)
        return Story(waveform, tokens, stream.prompt_tokens, self.voice.seams(len(tokens)), timings)

    def stream(
        self,
        prompt: Source,
        seconds: float | None = None,
        *,
        speaker: Source | None = None,
        seed: int = 0,
        temperature: float = TEMPERATURE,
        keep_tokens: bool | None = None,
    ) -> Stream:
        """An iterator of chunks of audio: `seconds` of new speech, or without end in constant memory.

        keep_tokens: collect them in `Stream.tokens`; by default only where the length is given.
        """
        if seconds is not None and not 0 < seconds < float("inf"):
            raise LabError(f"cannot continue for {seconds:g} seconds; give a positive length")
        heard = self.prepare_prompt(prompt)
        with torch.inference_mode():
            tokens = self.tokenizer.encode(heard)
            reference = heard if speaker is None else self.prepare_prompt(speaker, "the speaker")
            voice = self.voice.prompt(reference, tokens if speaker is None else self.tokenizer.encode(reference))
        count = None if seconds is None else max(1, round(seconds * TOKEN_RATE))
        generator = generator_of(seed, device=self.language.embedding.device)
        slide = SLIDE if isinstance(self.language, SpeechTransformer) else None
        new = generate(
            self.language, tokens, generator=generator, temperature=temperature, max_tokens=count, slide=slide
        )
        keep = seconds is not None if keep_tokens is None else keep_tokens
        return Stream(self.voice, voice, tokens.tolist(), new, seed, keep)

    continue_, listen = generate, prepare_prompt  # deprecated names


class Stream(Iterator[Chunk]):
    """Audio of one story, chunk by chunk. `tokens` fills as it goes, if they are kept."""

    def __init__(
        self,
        synthesizer: Synthesizer,
        voice: VoicePrompt,
        prompt: list[int],
        new: Continuation,
        seed: int,
        keep_tokens: bool,
    ):
        self.prompt_tokens = len(prompt)
        self.tokens: list[int] = []
        self.language_seconds = 0.0
        self._new, self._keep = new, keep_tokens
        self._samples = 0
        self._chunks = synthesizer.stream(self._drawn(prompt), voice, seed=seed)

    def _drawn(self, prompt: list[int]) -> Iterator[int]:
        for token in chain(prompt, self._timed()):
            if self._keep:
                self.tokens.append(token)
            yield token

    def _timed(self) -> Iterator[int]:
        while True:
            began = time.perf_counter()
            token = next(self._new, None)
            self.language_seconds += time.perf_counter() - began
            if token is None:
                return
            yield token

    def __next__(self) -> Chunk:
        waveform = next(self._chunks)
        self._samples += len(waveform)
        made = self.prompt_tokens + self._new.made
        return Chunk(waveform, self._samples / audio.SAMPLE_RATE, made, state_bytes(self._new.state))
