"""AudioLM (Borsos et al. 2209.03143): semantic -> coarse -> fine tokens, a decoder-only Transformer for each stage.

The prompt's own codes stand before those of the continuation, so that the voice goes on; there is no SoundStorm. Ours
are the bundle's semantic tokens and codec: 2 coarse levels and the rest fine, of 6, where AudioLM has 4 and 8 of 12.

The semantic stage is the bundle's SpeechTransformer. Two things differ. Semantic tokens keep their repeats, and stand
beside the codes that sound them, frame by frame, instead of before all of them: a Transformer of 3 M then need not find
the place (positions are relative). And the coarse stage sees AHEAD tokens more, where in AudioLM it sees all that come.

    coarse   s(t + AHEAD) c1 c2 | ...    for each token; learns c1 c2
    fine     c1 c2 f3 f4 f5 f6 | ...     for each frame of the codec; learns f3 to f6

`refined` has the codec's refiner in place of the fine stage, from c1: what SpeechSSM's voice has here, so that the two
differ by who guesses the coarse codes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lab.audio import Waveform
from lab.errors import LabError
from lab.language import generate
from lab.language.decode import Decoder, decoder
from lab.nn.indices import as_indices
from lab.nn.sampling import generator_of, sample
from lab.others.continuation import Continued, check_length, lasting
from lab.protocols import Codec, LanguageModel, Tokenizer
from lab.windows import TOKEN_HOP, TOKEN_RATE

COARSE = 2  # levels
AHEAD = 4  # semantic tokens, 160 ms
ACOUSTIC = (0.8, 0.6)  # temperatures of the coarse and fine stage, the paper's; of the semantic one 0.6


def coarse_frames(tokens: Tensor, codes: Tensor, vocabulary: int, size: int) -> Tensor:
    """Tokens (T,), codes (F, Q), F a multiple of T, of `size` a level -> what the coarse stage reads (T, 1 + n).

    Ids: the `vocabulary` of tokens, then a range of `size` for each coarse level.
    """
    seen = torch.cat([tokens[AHEAD:], tokens[-1:].expand(min(AHEAD, len(tokens)))])
    levels = codes[:, :COARSE] + vocabulary + size * torch.arange(COARSE)
    return torch.cat([seen[:, None], levels.reshape(len(tokens), -1)], 1)


def fine_frames(codes: Tensor, size: int) -> Tensor:
    """Codes (F, Q) of `size` a level -> what the fine stage reads (F, Q): a range of `size` for each level."""
    return codes + size * torch.arange(codes.shape[1])


def fill(
    model: LanguageModel,
    before: Tensor,
    given: Tensor,
    starts: Sequence[int],
    size: int,
    generator: torch.Generator,
    temperature: float,
) -> Tensor:
    """Frames that begin with `given` (T, g), after those `before` (P, g + n) -> what follows in each (T, n).

    Column j is drawn from ids [starts[j], starts[j] + size). Where the model's context is full it reads the newest half
    of it again.
    """
    period, context = given.shape[1] + len(starts), model.context or 0
    if context < 2 * period:
        raise LabError(f"a context of {context} tokens does not hold two frames of {period}; train it on longer pieces")
    keep = context // 2 // period * period
    read: list[int] = before.flatten().tolist()
    steps: Decoder | None = None
    found = []
    with torch.inference_mode():
        for row in given.tolist():
            if steps is None or steps.state.size + period > context:
                known = torch.tensor([[*read[len(read) - min(keep, len(read)) :], *row]], device=model.device)
                logits, state = model(known, last=True)
                logits, steps = logits[:, -1], decoder(model, state)
            else:
                for token in row:
                    logits = steps.step(torch.tensor([token], device=model.device))
            drawn = []
            for start in starts:
                drawn.append(start + int(sample(logits[0, start : start + size], temperature, generator)))
                logits = steps.step(torch.tensor(drawn[-1:], device=model.device))
            read += [*row, *drawn]
            found.append(drawn)
    return torch.tensor(found)


class AudioLM:
    """Three stages between a tokenizer and a codec."""

    temperature = 0.6

    def __init__(
        self,
        tokenizer: Tokenizer,
        semantic: LanguageModel,
        coarse: LanguageModel,
        fine: LanguageModel | None,
        codec: Codec,
    ):
        """fine: None for `refined`. Raises LabError for models that were not trained for each other."""
        self.name = "audiolm" if fine else "audiolm-refined"
        self.tokenizer, self.language, self.coarse, self.fine, self.codec = tokenizer, semantic, coarse, fine, codec
        wanted = tokenizer.vocabulary + COARSE * codec.codes
        if semantic.vocabulary != tokenizer.vocabulary or coarse.vocabulary != wanted:
            raise LabError(
                f"AudioLM's stages know {semantic.vocabulary} and {coarse.vocabulary} tokens, and "
                f"{tokenizer.vocabulary} semantic tokens and {codec.codes} codes make {wanted}: "
                "they were not trained for each other"
            )
        known = codec.levels * codec.codes if fine is None else fine.vocabulary
        self.levels, rest = divmod(known, codec.codes)
        if fine is None and codec.guessed not in range(1, COARSE + 1):
            raise LabError(
                f"the codec has no refiner of {COARSE} coarse levels, which audiolm-refined wants; "
                "make one by `lab train refiner`, or ask for audiolm"
            )
        if rest or not COARSE < self.levels <= codec.levels:
            raise LabError(
                f"AudioLM's fine stage knows {known} tokens, and the codec has {codec.levels} levels of "
                f"{codec.codes}: it learnt from another codec"
            )

    @classmethod
    def of(cls, load: Callable[[str], Any], refined: bool = False) -> AudioLM:
        """From a bundle that has transformer, audiolm-coarse, audiolm-fine, tokenizer and codec."""
        semantic, coarse = load("transformer"), load("audiolm-coarse")
        return cls(load("tokenizer"), semantic, coarse, None if refined else load("audiolm-fine"), load("codec"))

    @property
    def longest(self) -> float:
        return (self.language.context or 0) / TOKEN_RATE

    def read(self, prompt: Waveform) -> Tensor:
        """The semantic tokens of a prompt (T,)."""
        return self.tokenizer.encode(prompt).cpu()

    def go_on(
        self,
        prompt: Waveform,
        seconds: float,
        *,
        seed: int = 0,
        temperature: float | None = None,
        slide: float | None = None,
    ) -> Continued:
        """As `Continues.go_on`; `temperature` is of the semantic stage."""
        check_length(self.name, prompt, seconds, self.longest, slide)
        heard = self.read(prompt)
        stream = generate(
            self.language,
            heard[-((self.language.context or 2) - 1) :],
            generator=generator_of(seed, device=self.language.device),
            temperature=self.temperature if temperature is None else temperature,
            slide=None if slide is None else round(slide * TOKEN_RATE),
        )
        new = torch.tensor(list(islice(stream, round(seconds * TOKEN_RATE))))
        waveform = self.speak(prompt, torch.cat([heard, new]), seed)
        return Continued(lasting(waveform, seconds), torch.cat([heard, new]), len(heard))

    def speak(self, prompt: Waveform, tokens: Tensor, seed: int = 0) -> Waveform:
        """Tokens (T,) that begin with the prompt's -> the waveform of the rest, in the prompt's voice."""
        tokens = as_indices(tokens, self.tokenizer.vocabulary, "semantic token")
        known = -(-len(prompt) // TOKEN_HOP)
        samples = torch.from_numpy(np.pad(prompt, (0, known * TOKEN_HOP - len(prompt))))[None].to(self.codec.device)
        codes = self.codec.encode(samples)[0, :, : self.levels].cpu()
        size, each = self.codec.codes, len(codes) // known  # frames a token
        blank = torch.zeros(each * len(tokens), self.levels, dtype=torch.int64)
        blank[: len(codes)] = codes
        frames = coarse_frames(tokens, blank, self.tokenizer.vocabulary, size)
        starts = [self.tokenizer.vocabulary + size * level for level in range(COARSE)] * each
        generators = [generator_of(seed, stage) for stage in (1, 2)]
        coarse = fill(self.coarse, frames[:known], frames[known:, :1], starts, size, generators[0], ACOUSTIC[0])
        blank[len(codes) :, :COARSE] = (coarse - torch.tensor(starts)).reshape(-1, COARSE)
        timbre = self.codec.timbre(samples)
        if self.fine is None:
            guess = blank[None, :, : self.codec.guessed].to(self.codec.device)
            return self._sound(self.codec.decode(guess, timbre, tokens[None].to(self.codec.device)), known)
        rows, starts = fine_frames(blank, size), [size * level for level in range(COARSE, self.levels)]
        ahead = len(codes)
        fine = fill(self.fine, rows[:ahead], rows[ahead:, :COARSE], starts, size, generators[1], ACOUSTIC[1])
        blank[ahead:, COARSE:] = fine - torch.tensor(starts)
        return self._sound(self.codec.decode(blank[None].to(self.codec.device), timbre), known)

    def _sound(self, whole: Tensor, known: int) -> Waveform:
        """(1, N) -> what follows the prompt's tokens."""
        return whole[0].clamp(-1, 1).cpu().numpy()[known * TOKEN_HOP :]
