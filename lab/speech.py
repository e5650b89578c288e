"""All models in one object: speech in, minutes of new speech out.

waveform -> tokens -> more tokens -> waveform, in the voice of 3 s of somebody
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, BinaryIO, overload

import numpy as np
import torch
from torch import Tensor

from lab import audio, bundle
from lab.console import console
from lab.errors import LabError
from lab.language import Continuation, generate, state_bytes
from lab.nn.sampling import check_scale, generator_of
from lab.protocols import LanguageModel, Tokenizer
from lab.tokens import TOKEN_RATE
from lab.voice import Synthesizer, VoicePrompt
from lab.windows import LIVE, SYNTHESIS, Growing, Windowing

Source = str | Path | BinaryIO | np.ndarray | Tensor  # a file, or a waveform (N,) of floats at 16 kHz
LONGEST_PROMPT = 60.0  # seconds; more than the models' training lengths would be no prompt but a story
LONGEST = 6e6  # seconds of a story that ends, 10 weeks: more is a slip, and `stream` has no end
SLIDE = 3 * TOKEN_RATE  # slide-and-prompt starts again from the newest 3 s (paper section 7)
TEMPERATURE = 0.5  # the paper samples at 1; a model of a thousandth of its size then strays from the words it knows


@dataclass(frozen=True)
class Chunk:
    """Audio that is ready, and how things stood when it was."""

    waveform: np.ndarray  # (N,) float32
    seconds: float  # of speech up to the end of this chunk
    tokens: int  # of the stream known so far, the prompt among them
    state_bytes: int  # of the language model's state
    drawn: tuple[int, ...] = ()  # tokens of the stream since the chunk before, some beyond its end


@dataclass
class Story:
    """What `generate` returns: the prompt and its continuation, spoken anew in one voice."""

    waveform: np.ndarray  # (N,) float32 at 16 kHz
    tokens: Tensor  # (T,) the whole stream
    prompt_tokens: int
    seams: list[float]  # seconds at which one synthesis window hands over to the next
    timings: dict[str, float] = field(default_factory=dict)  # s of work: prompt, language, voice

    @property
    def seconds(self) -> float:
        return len(self.waveform) / audio.SAMPLE_RATE


class SpeechSSM:
    """Tokenizer, language model and voice. All state is in what the methods return, none in here."""

    def __init__(self, tokenizer: Tokenizer, language: LanguageModel, voice: Synthesizer):
        sizes = tokenizer.vocabulary, language.vocabulary, voice.soundstorm.config.tokens
        if len(set(sizes)) > 1:
            raise LabError(
                "the tokenizer has {} codes, the language model {} and the voice {}: they were not trained "
                "for each other; train the last two again".format(*sizes)
            )
        self.tokenizer, self.language, self.voice = tokenizer, language, voice

    @classmethod
    def load(
        cls,
        root: Path | str | None = None,
        *,
        language: str = "griffin",
        device: str | torch.device | None = None,
        baseline: str | None = None,
    ) -> SpeechSSM:
        """From a bundle, by default the one that ships: a folder, or one on the Hugging Face hub, hf://user/name.

        language: a language model of the bundle, such as "transformer" for SpeechTransformer or "griffin30" for the
        Griffin that learnt from 30 s; `baseline` is another name of it. Raises LabError for a bundle that is missing,
        damaged or of other shapes, and for a device that this machine has not.
        """
        path, name = bundle.located(root) if root is not None else bundle.folder(), baseline or language
        if name not in (there := bundle.index(path)):  # as a user called it: there may be no recipe of that name
            raise LabError(f"the bundle in {path} has no {name}; it has {', '.join(there)}")
        parts: dict[str, Any] = {part: bundle.load(path, part) for part in ("tokenizer", name, "soundstorm", "codec")}
        if not isinstance(parts[name], LanguageModel):
            raise LabError(f"{name} is no language model; give griffin, griffin30 or transformer")
        ssm = cls(parts["tokenizer"], parts[name], Synthesizer(parts["soundstorm"], parts["codec"]))
        return ssm if device is None else ssm.to(device)

    def to(self, device: str | torch.device) -> SpeechSSM:
        """Moves all models there and returns itself. Raises LabError for a device that this machine has not."""
        try:
            for model in (self.tokenizer, self.language, self.voice.soundstorm, self.voice.codec):
                model.to(device)
        except (RuntimeError, AssertionError, NotImplementedError) as error:  # torch has one for each kind of device
            raise LabError(f"cannot compute on {str(device)!r}: {str(error).splitlines()[0]}") from error
        return self

    @property
    def device(self) -> torch.device:
        return self.language.device

    def prepare_prompt(self, source: Source, name: str = "the prompt") -> np.ndarray:
        """A file or waveform -> 3 to 60 s of waveform (N,) at 16 kHz and -23 dBFS; of a longer one its beginning.

        Raises LabError for anything else.
        """
        if isinstance(source, np.ndarray | Tensor):
            waveform = audio.as_waveform(source, name)
        else:
            waveform = audio.load(source, max_seconds=LONGEST_PROMPT + 1)
        longest = round(LONGEST_PROMPT * audio.SAMPLE_RATE)
        if len(waveform) > longest:
            console.print(f"warning: {name} is longer than {LONGEST_PROMPT:.0f} s; taking its beginning")
            waveform = waveform[:longest]
        return audio.scaled(audio.check_prompt(waveform, name=name))

    @overload
    def generate(self, prompt: Source, seconds: float = ..., **options: Any) -> Story: ...
    @overload
    def generate(self, prompt: Sequence[Source], seconds: float = ..., **options: Any) -> list[Story]: ...
    def generate(self, prompt: Any, seconds: float = 240.0, **options: Any) -> Story | list[Story]:
        """Continue `prompt` by `seconds` of new speech, in its own voice or that of a `speaker`.

        The waveform begins with the prompt, spoken anew, as in the paper. The options are those of `stream`, but that
        all windows are of 27 s, as nobody waits for the first. The same seed gives the same story. A list of prompts is
        a list of stories, each as it is alone; `speaker` and `seed` may then be lists, too.
        """
        check_scale("seconds", seconds)
        options = {"windowing": SYNTHESIS} | options
        if isinstance(prompt, list | tuple):
            return self._generate(prompt, seconds, **options)
        return self._generate([prompt], seconds, alone=True, **options)[0]

    def _generate(
        self,
        prompts: Sequence[Source],
        seconds: float,
        *,
        windowing: Windowing | Growing,
        speaker: Any = None,
        seed: Any = 0,
        alone: bool = False,
        **sampling: Any,
    ) -> list[Story]:
        """alone: the one prompt is no batch to the language model, nor to a hook on its logits."""
        speakers, seeds = (each if isinstance(each, list) else [each] * len(prompts) for each in (speaker, seed))
        if not len(prompts) == len(speakers) == len(seeds) > 0:
            counts = f"{len(prompts)} prompts, {len(speakers)} speakers and {len(seeds)} seeds"
            raise LabError(f"{counts} are no stories; give one speaker and seed, or one for each prompt")
        times = [time.perf_counter()]
        rows = [self._prepare(*pair) for pair in zip(prompts, speakers, strict=True)]
        times.append(time.perf_counter())
        given: Any = [tokens for tokens, _ in rows]
        generators: Any = [generator_of(each, device=self.device) for each in seeds]
        if alone:
            (given,), (generators,) = given, generators
        new = list(self._continue(given, seconds, generators, **sampling))
        made = torch.tensor([new]) if alone else torch.stack(new, 1).cpu()  # (B, new tokens)
        tokens = [torch.cat([prompt, row]) for (prompt, _), row in zip(rows, made, strict=True)]
        times.append(time.perf_counter())
        spoken = self.voice.speak_all(tokens, [voice for _, voice in rows], seeds, windowing=windowing)
        times.append(time.perf_counter())
        spent = [(end - began) / len(rows) for began, end in pairwise(times)]
        timings = dict(zip(("prompt", "language", "voice"), spent, strict=True))
        return [
            Story(waveform, story, len(prompt), self.voice.seams(len(story), windowing), dict(timings))
            for waveform, story, (prompt, _) in zip(spoken, tokens, rows, strict=True)
        ]

    def stream(
        self,
        prompt: Source,
        seconds: float | None = None,
        *,
        speaker: Source | None = None,
        seed: int = 0,
        temperature: float = TEMPERATURE,
        keep_tokens: bool | None = None,
        windowing: Windowing | Growing = LIVE,
        **sampling: Any,
    ) -> Stream:
        """An iterator of chunks of audio: `seconds` of new speech, or without end in constant memory.

        speaker: 3 s or more of the voice to speak in, in place of the prompt's. keep_tokens: collect them in
        `Stream.tokens`; by default where the length is given. windowing: of the voice; by default windows grow, so that
        it begins to sound at once: the tokens are those of `generate`, their sound is not. sampling: more options of
        `lab.language.generate`. Raises LabError for a prompt, a speaker or a number that makes no sense.
        """
        began = time.perf_counter()
        tokens, voice = self._prepare(prompt, speaker)
        new = self._continue(tokens, seconds, generator_of(seed, device=self.device), temperature, **sampling)
        keep = seconds is not None if keep_tokens is None else keep_tokens
        spent = time.perf_counter() - began
        return Stream(self.voice, voice, tokens.tolist(), new, seed, keep, windowing, spent)

    @torch.inference_mode()
    def _prepare(self, prompt: Source, speaker: Source | None) -> tuple[Tensor, VoicePrompt]:
        """The tokens (T,) of a prompt, and whose voice goes on."""
        waveform = self.prepare_prompt(prompt)
        tokens = self.tokenizer.encode(waveform)
        if speaker is None:
            return tokens.cpu(), self.voice.prompt(waveform, tokens)
        reference = self.prepare_prompt(speaker, "the speaker")
        return tokens.cpu(), self.voice.prompt(reference, self.tokenizer.encode(reference))

    def _continue(
        self, tokens: Any, seconds: float | None, generator: Any, temperature: float = TEMPERATURE, **sampling: Any
    ) -> Continuation:
        if seconds is not None:
            check_scale("seconds", seconds)
            if not 0 < seconds <= LONGEST:
                raise LabError(f"cannot continue for {seconds:g} seconds; give a positive length, {LONGEST:g} at most")
        length = None if seconds is None else max(1, round(seconds * TOKEN_RATE))
        slide = None if self.language.context is None else SLIDE
        options = {"temperature": temperature, "max_tokens": length, "slide": slide} | sampling
        return generate(self.language, tokens, generator=generator, **options)

    continue_, listen = generate, prepare_prompt  # deprecated names


class Stream(Iterator[Chunk]):
    """Audio of one story, chunk by chunk. `tokens` fills as it goes, if they are kept.

    timings: seconds of work so far: on the prompt, in the language model and in the voice.
    """

    def __init__(
        self,
        synthesizer: Synthesizer,
        voice: VoicePrompt,
        prompt: list[int],
        new: Continuation,
        seed: int,
        keep_tokens: bool,
        windowing: Windowing | Growing,
        prompt_seconds: float,
    ):
        self.prompt_tokens = len(prompt)
        self.tokens: list[int] = []
        self.timings = {"prompt": prompt_seconds, "language": 0.0, "voice": 0.0}
        self._new, self._keep = new, keep_tokens
        self._since: list[int] = []  # drawn since the last chunk
        self._samples, self._synthesizer, self._windowing = 0, synthesizer, windowing
        self._chunks = synthesizer.stream(self._drawn(prompt), voice, seed=seed, windowing=windowing)

    @property
    def seams(self) -> list[float]:
        """Seconds at which one synthesis window hands over to the next, among the tokens that were kept."""
        return self._synthesizer.seams(len(self.tokens), self._windowing) if self.tokens else []

    def _drawn(self, prompt: list[int]) -> Iterator[int]:
        for token in chain(prompt, self._timed()):
            self._since.append(token)
            if self._keep:
                self.tokens.append(token)
            yield token

    def _timed(self) -> Iterator[int]:
        while True:
            began = time.perf_counter()
            token = next(self._new, None)
            self.timings["language"] += time.perf_counter() - began
            if token is None:
                return
            yield token

    def __next__(self) -> Chunk:
        began, before = time.perf_counter(), self.timings["language"]
        waveform = next(self._chunks)
        self.timings["voice"] += time.perf_counter() - began - (self.timings["language"] - before)
        self._samples += len(waveform)
        made = self.prompt_tokens + self._new.made
        drawn, self._since = tuple(self._since), []
        return Chunk(waveform, self._samples / audio.SAMPLE_RATE, made, state_bytes(self._new.state), drawn)
