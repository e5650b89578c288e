"""Tokens of any length -> waveform, in windows of 27 s beside 3 s of the speaker (SpeechSSM, Fig. 4b).

Every window begins with the same prompt and has nothing of its neighbours but the 4 s of tokens they share;
they are joined in the middle of those. Memory is that of one window.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from lab import audio, windows
from lab.errors import LabError
from lab.nn.indices import as_indices
from lab.nn.sampling import generator_of
from lab.protocols import Codec
from lab.voice.soundstorm import Pass, SoundStorm, VoicePrompt
from lab.windows import TOKEN_HOP, TOKEN_RATE

FADE = 320  # samples, 20 ms: two renderings differ in phase, and a plain cut between them may click


class Synthesizer:
    """SoundStorm and a codec as one voice. Waveforms are float32 arrays (N,) at 16 kHz."""

    def __init__(self, soundstorm: SoundStorm, codec: Codec):
        if soundstorm.config.codes != codec.codes or soundstorm.config.levels > codec.levels:
            raise LabError(
                f"a SoundStorm of {soundstorm.config.levels} levels x {soundstorm.config.codes} codes cannot "
                f"drive a codec of {codec.levels} x {codec.codes}; train one for the other"
            )
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

    def speak(
        self, tokens: Sequence[int] | Tensor, prompt: VoicePrompt, seed: int = 0, **options: object
    ) -> np.ndarray:
        """Tokens (T,) -> waveform (640 T,): `stream` with all pieces in one."""
        indices = as_indices(tokens, self.soundstorm.config.tokens, "semantic token")
        pieces = self.stream(indices.tolist(), prompt, seed, **options)  # type: ignore[arg-type]
        return np.concatenate([np.zeros(0, np.float32), *pieces])

    def stream(
        self,
        tokens: Iterable[int],
        prompt: VoicePrompt,
        seed: int = 0,
        *,
        windowing: windows.Windowing | windows.Growing = windows.SYNTHESIS,
        fade: int = FADE,
        iterations: Sequence[int] | None = None,
        temperature: float = 0.7,
        noise: float = 1.0,
        on_pass: Callable[[Pass], None] | None = None,
    ) -> Iterator[np.ndarray]:
        """Pieces of the waveform as tokens arrive, 640 samples a token in all, `fade` samples behind.

        `temperature` and `noise` are lower than MaskGIT's 1 and 4.5, with which this small voice speaks less clearly.

        `windowing` in tokens: smaller windows speak sooner and have more seams. `fade` in samples, even: the
        length of the equal-power cross-fade around each seam; 0 is the paper's cut. Window k draws from
        (seed, k) alone, so the same tokens give the same samples however they arrive. The rest, and what raises
        LabError, as in `SoundStorm.generate`.
        """
        if not isinstance(fade, int) or fade % 2 or not 0 <= fade <= windowing[1] * TOKEN_HOP:
            most = f"the windows share {windowing[1] * TOKEN_HOP}"
            raise LabError(f"a cross-fade of {fade} samples: give an even number, 0 or more; {most}")
        generator_of(seed)  # what is wrong is said before the first token is drawn
        prompt, passes = self.soundstorm.check_options(prompt, iterations, temperature, noise)
        parts = windows.stream(tokens, *windowing)

        def rendered() -> Iterator[np.ndarray]:
            for index, (window, items) in enumerate(parts):
                codes = self.soundstorm.generate(
                    items,
                    prompt,
                    generator_of(seed, index),
                    iterations=passes,
                    temperature=temperature,
                    noise=noise,
                    on_pass=on_pass,
                )
                yield self.decode(codes, prompt.timbre)[window.scaled(TOKEN_HOP).kept(fade // 2)]

        return audio.stitch(rendered(), fade)

    def decode(self, codes: Tensor, timbre: Tensor | None) -> np.ndarray:
        """Codes (T, q) and a timbre (C,) -> waveform (640 T,). Not the prompt's: its end is no neighbour of the first
        frame. Raises LabError without a timbre."""
        if timbre is None:
            raise LabError("this voice prompt has no timbre to decode with; make it by Synthesizer.prompt")
        indices = as_indices(codes, self.codec.codes, "code").to(self.device)
        return self.codec.decode(indices[None], timbre[None])[0].clamp(-1, 1).cpu().numpy()

    def through_codec(self, waveform: np.ndarray, levels: int | None = None) -> np.ndarray:
        """Waveform (N,) -> (N,): the same through the codec alone, at its first `levels`, by default those that the
        voice fills in. Raises LabError as `Codec.encode` does."""
        whole = torch.from_numpy(waveform)[None].to(self.device)
        codes = self.codec.encode(whole)[0, :, : levels or self.soundstorm.config.levels]
        return self.decode(codes, self.codec.timbre(whole)[0])[: len(waveform)]

    def seams(self, total: int, windowing: windows.Windowing | windows.Growing = windows.SYNTHESIS) -> list[float]:
        """Seconds at which one window hands over to the next among `total` tokens: 25, 48, 71, ..."""
        return [seam * TOKEN_HOP / audio.SAMPLE_RATE for seam in windows.seams(windows.plan(total, *windowing))]

    @property
    def device(self) -> torch.device:
        return self.codec.device
