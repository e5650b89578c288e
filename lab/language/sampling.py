"""Sampling: a prompt, then one token after another, for as long as somebody asks (paper section 1)."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from lab.errors import LabError
from lab.language.griffin import Griffin
from lab.language.transformer import SpeechTransformer


def sample(logits: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
    """Tokens (...,) from softmax(logits / temperature), logits (..., V); at temperature 0 the likeliest."""
    if temperature == 0:
        return logits.argmax(-1)
    shares = (logits.float() / temperature).softmax(-1)
    return torch.multinomial(shares.flatten(0, -2), 1, generator=generator).view(logits.shape[:-1])


class Continuation(Iterator[int]):
    """New tokens of one story, each made when asked for; in between, all that matters can be looked at.

    state: of the model, after all tokens but the newest. logits: (V,), which the newest token was drawn from.
    made: the number of new tokens. restarts: the numbers of new tokens at which slide-and-prompt began again.
    """

    def __init__(
        self,
        model: Griffin | SpeechTransformer,
        prompt: Tensor,
        generator: torch.Generator,
        temperature: float,
        max_tokens: int | None,
        slide: int | None,
        state: Any,
    ):
        self.model, self.generator, self.temperature = model, generator, temperature
        self.max_tokens, self.slide = max_tokens, slide
        self.state = state
        self.logits: Tensor | None = None
        self.made = 0
        self.restarts: list[int] = []
        self._pending = prompt[None].to(model.embedding.device)  # (1, T), tokens that the model has not read
        self._recent = deque(prompt.tolist(), maxlen=slide or 0)

    def __next__(self) -> int:
        if self.max_tokens is not None and self.made >= self.max_tokens:
            raise StopIteration
        with torch.inference_mode():  # for one step only: the mode belongs to the thread, and the caller may train
            if self.slide and self._full():
                self.state = None
                self._pending = self._pending.new_tensor([list(self._recent)])
                self.restarts.append(self.made)
            logits, self.state = self.model(self._pending, self.state)
            self.logits = logits[0, -1]
            drawn = sample(self.logits[None], self.temperature, self.generator)  # (1,)
            self._pending = drawn[:, None]
        token = int(drawn)
        self._recent.append(token)
        self.made += 1
        return token

    def _full(self) -> bool:
        """Whether the pending tokens no longer fit into the length that the model was trained to."""
        read = 0 if self.state is None else int(self.state.length)
        return read > 0 and read + self._pending.shape[1] > self.model.config.context  # type: ignore[union-attr]


def generate(
    model: Griffin | SpeechTransformer,
    prompt: Tensor,
    *,
    generator: torch.Generator,
    temperature: float = 1.0,
    max_tokens: int | None = None,
    slide: int | None = None,
    state: Any = None,
) -> Continuation:
    """Continue `prompt`, (T,) int64: an iterator of new tokens, endless unless max_tokens is given.

    generator: on the model's device; the same seed gives the same tokens. temperature: 0 is greedy. state:
    of the model after what came before the prompt. slide: slide-and-prompt (paper section 7), for a model
    with a context: where that is full, start again from the newest `slide` tokens alone (75 are 3 s). Memory
    is constant with Griffin, and with slide. Raises LabError for a prompt, a temperature, a length or a
    slide that makes no sense.
    """
    if prompt.ndim != 1 or len(prompt) == 0 or prompt.dtype != torch.int64:
        raise LabError(f"prompt must be (T,) int64 with 1 token or more, not {tuple(prompt.shape)} {prompt.dtype}")
    if not (math.isfinite(temperature) and temperature >= 0):
        raise LabError(f"temperature must be 0 or more, not {temperature}")
    if max_tokens is not None and max_tokens < 0:
        raise LabError(f"max_tokens must be 0 or more, not {max_tokens}")
    if slide is not None:
        context = getattr(model.config, "context", None)
        if context is None:
            raise LabError("slide is for a model with a context to fill; Griffin's state never fills, leave it out")
        if not 0 < slide < context:
            raise LabError(f"slide must be 1 to {context - 1}, less than the model's context, not {slide}")
    return Continuation(model, prompt, generator, temperature, max_tokens, slide, state)
