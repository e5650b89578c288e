"""Tokens of any length -> waveform, in windows of 27 s beside 3 s of the speaker (SpeechSSM, Fig. 4b).

Every window begins with the same prompt and has nothing of its neighbours but the 4 s of tokens they share;
they are joined in the middle of those. Memory is that of one window.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lab import audio, machine, windows
from lab.errors import LabError
from lab.nn.indices import as_indices
from lab.nn.sampling import generator_of
from lab.protocols import Codec
from lab.voice.soundstorm import Pass, SoundStorm, VoicePrompt
from lab.windows import TOKEN_HOP, TOKEN_RATE

TEMPERATURE, NOISE = 0.4, 1.0  # lower than MaskGIT's 1 and 4.5, with which this small voice speaks less clearly
ROWS = 2  # windows side by side: two threads share their work better than that of one
FADE = 320  # samples, 20 ms: two renderings differ in phase, and a plain cut between them may click


class _Part(NamedTuple):
    """A window of one of several sequences."""

    sequence: int
    number: int
    window: windows.Window
    tokens: list[int]

    @property
    def length(self) -> int:
        return len(self.tokens)


class Synthesizer:
    """SoundStorm and a codec as one voice. Waveforms are float32 arrays (N,) at 16 kHz."""

    def __init__(self, soundstorm: SoundStorm, codec: Codec):
        levels, codes = soundstorm.config.levels, soundstorm.config.codes
        if codes != codec.codes or levels > codec.levels or levels != (codec.guessed or levels):
            theirs = f"{codec.levels} x {codec.codes}" + (
                f" that wants {codec.guessed} guessed" if codec.guessed else ""
            )
            found = f"a SoundStorm of {levels} levels x {codes} codes cannot drive a codec of {theirs}"
            raise LabError(f"{found}; train one for the other")
        self.soundstorm, self.codec = soundstorm, codec

    def prompt(self, waveform: np.ndarray, tokens: Tensor) -> VoicePrompt:
        """The speaker of a waveform (N,), given its semantic tokens (T,): the first 3 s that hold speech.

        75 tokens with their codes, and their timbre. Raises LabError if it is shorter, or for tokens that this voice
        has not.
        """
        tokens = as_indices(tokens, self.soundstorm.config.tokens, "semantic token")
        length = windows.SPEAKER_PROMPT
        waveform = audio.as_waveform(waveform, "the speaker")
        if len(waveform) < length * TOKEN_HOP or len(tokens) < length:
            seconds = len(waveform) / audio.SAMPLE_RATE
            raise LabError(f"the speaker lasts {seconds:.2f} s ({len(tokens)} tokens); give at least 3 s of speech")
        first = audio.speech_span(waveform[: len(tokens) * TOKEN_HOP], length / TOKEN_RATE, TOKEN_HOP) // TOKEN_HOP
        tokens = tokens[first : first + length]
        # Codes depend on what is around them.
        before = min(first, -(-self.codec.receptive_field // TOKEN_HOP))
        end = (first + length) * TOKEN_HOP + self.codec.receptive_field
        samples = torch.from_numpy(waveform[(first - before) * TOKEN_HOP : end])[None].to(self.device)
        codes = self.codec.encode(samples)[0, before : before + length]
        timbre = self.codec.timbre(samples[:, before * TOKEN_HOP : (before + length) * TOKEN_HOP])[0]
        return VoicePrompt(tokens.cpu(), codes.cpu(), timbre.cpu())

    def speak(self, tokens: Sequence[int] | Tensor, prompt: VoicePrompt, seed: int = 0, **options: Any) -> np.ndarray:
        """Tokens (T,) -> waveform (640 T,): `stream` with all pieces in one."""
        return self.speak_all([tokens], [prompt], [seed], **options)[0]

    def speak_all(
        self,
        sequences: Sequence[Sequence[int] | Tensor],
        prompts: Sequence[VoicePrompt],
        seeds: Sequence[int],
        *,
        windowing: windows.Windowing | windows.Growing = windows.SYNTHESIS,
        fade: int = FADE,
        on_pass: Callable[[Pass], None] | None = None,
        **options: Any,
    ) -> list[np.ndarray]:
        """`speak` for any number of sequences, each with its prompt and its seed. The options are those of `stream`.

        Windows of one length, whichever sequence they are of, are filled in ROWS at a time; with `on_pass` one by one.
        """
        self._check_fade(fade, windowing)
        parts = []
        for sequence, tokens in enumerate(sequences):
            indices = as_indices(tokens, self.soundstorm.config.tokens, "semantic token")
            cut = windows.stream(indices.tolist(), *windowing)
            parts += [_Part(sequence, number, *part) for number, part in enumerate(cut)]
        parts.sort(key=lambda part: -part.length)  # of one sequence and equal windows: in order, the last is shorter
        prompts, rows = [self.soundstorm.check_prompt(prompt) for prompt in prompts], 1 if on_pass else ROWS
        pieces: list[dict[int, np.ndarray]] = [{} for _ in sequences]
        for _, group in groupby(parts, lambda part: part.length):
            alike = list(group)
            for batch in (alike[at : at + rows] for at in range(0, len(alike), rows)):
                rendered = self._render(batch, prompts, seeds, fade, on_pass=on_pass, **options)
                for part, piece in zip(batch, rendered, strict=True):
                    pieces[part.sequence][part.number] = piece
        in_order = ([each[number] for number in range(len(each))] for each in pieces)
        return [np.concatenate(list(audio.stitch(each, fade))) for each in in_order]

    def stream(
        self,
        tokens: Iterable[int],
        prompt: VoicePrompt,
        seed: int = 0,
        *,
        windowing: windows.Windowing | windows.Growing = windows.SYNTHESIS,
        fade: int = FADE,
        iterations: Sequence[int] | None = None,
        temperature: float = TEMPERATURE,
        noise: float = NOISE,
        on_pass: Callable[[Pass], None] | None = None,
    ) -> Iterator[np.ndarray]:
        """Pieces of the waveform as tokens arrive, 640 samples a token in all, `fade` samples behind.

        `windowing` in tokens: smaller windows speak sooner and have more seams. `fade` in samples, even: the
        length of the equal-power cross-fade around each seam; 0 is the paper's cut. Window k draws from
        (seed, k) alone, so the same tokens give the same samples however they arrive. The rest, and what raises
        LabError, as in `SoundStorm.generate`.
        """
        self._check_fade(fade, windowing)
        generator_of(seed)  # what is wrong is said before the first token is drawn
        prompt = self.soundstorm.check_prompt(prompt)
        iterations = self.soundstorm.check_options(iterations, temperature, noise)
        options: dict[str, Any] = dict(iterations=iterations, temperature=temperature, noise=noise, on_pass=on_pass)
        cut = enumerate(windows.stream(tokens, *windowing))
        parts = (_Part(0, number, *part) for number, part in cut)
        return audio.stitch((self._render([part], [prompt], [seed], fade, **options)[0] for part in parts), fade)

    def _render(
        self,
        batch: list[_Part],
        prompts: Sequence[VoicePrompt],
        seeds: Sequence[int],
        fade: int,
        *,
        temperature: float = TEMPERATURE,
        noise: float = NOISE,
        **options: Any,
    ) -> list[np.ndarray]:
        """Windows of one length -> what is kept of each, with half a fade at its seams. Prompts and seeds are those of
        all sequences."""
        codes = self.soundstorm.generate(
            torch.tensor([part.tokens for part in batch]),
            [prompts[part.sequence] for part in batch],
            [generator_of(seeds[part.sequence], part.number) for part in batch],
            temperature=temperature,
            noise=noise,
            **options,
        )
        spoken = [
            self.decode(found, prompts[part.sequence].timbre, part.tokens)
            for part, found in zip(batch, codes, strict=True)
        ]
        parts = (part.window.scaled(TOKEN_HOP).kept(fade // 2) for part in batch)
        kept = [waveform[part].copy() for waveform, part in zip(spoken, parts, strict=True)]
        del codes, spoken
        machine.return_freed_memory()
        return kept

    def _check_fade(self, fade: int, windowing: windows.Windowing | windows.Growing) -> None:
        if not isinstance(fade, int) or fade % 2 or not 0 <= fade <= windowing[1] * TOKEN_HOP:
            most = f"the windows share {windowing[1] * TOKEN_HOP}"
            raise LabError(f"a cross-fade of {fade} samples: give an even number, 0 or more; {most}")

    def decode(self, codes: Tensor, timbre: Tensor | None, tokens: Tensor | Sequence[int] | None = None) -> np.ndarray:
        """Codes (T, q) and a timbre (C,) -> waveform (640 T,); with the tokens (T,) of which the codes are a guess, as
        the codec refines it. Not the prompt's: its end is no neighbour of the first frame. Raises LabError without a
        timbre."""
        if timbre is None:
            raise LabError("this voice prompt has no timbre to decode with; make it by Synthesizer.prompt")
        indices = as_indices(codes, self.codec.codes, "code").to(self.device)
        spoken = None if tokens is None else as_indices(tokens, self.soundstorm.config.tokens, "semantic token")[None]
        return self.codec.decode(indices[None], timbre[None], spoken)[0].clamp(-1, 1).cpu().numpy()

    def through_codec(self, waveform: np.ndarray, levels: int | None = None) -> np.ndarray:
        """Waveform (N,) -> (N,): the same through the codec alone, at its first `levels`, by default all. Raises
        LabError as `Codec.encode` does."""
        whole = torch.from_numpy(waveform)[None].to(self.device)
        codes = self.codec.encode(whole)[0, :, : levels or self.codec.levels]
        return self.decode(codes, self.codec.timbre(whole)[0])[: len(waveform)]

    def seams(self, total: int, windowing: windows.Windowing | windows.Growing = windows.SYNTHESIS) -> list[float]:
        """Seconds at which one window hands over to the next among `total` tokens: 25, 48, 71, ..."""
        return [seam * TOKEN_HOP / audio.SAMPLE_RATE for seam in windows.seams(windows.plan(total, *windowing))]

    @property
    def device(self) -> torch.device:
        return self.codec.device
