"""Sampling: a prompt, then one token after another, for as long as somebody asks (paper section 1)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from lab.errors import LabError
from lab.language.decode import Decoder, decoder
from lab.language.griffin import Griffin
from lab.language.packed import Weights
from lab.language.transformer import SpeechTransformer
from lab.nn.sampling import check_scale, sample


class Continuation(Iterator[Any]):
    """New tokens, each made when asked for; in between, all that matters can be looked at.

    A token is an int, or with a batch of stories (B,) on the model's device, which is not waited for. logits: (V,) or
    (B, V), which the newest was drawn from. made: the number of new tokens. restarts: the numbers of new tokens at
    which slide-and-prompt began again.
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
        weights: Weights,
    ):
        self.model, self.generator, self.temperature = model, generator, temperature
        self.max_tokens, self.slide, self.weights = max_tokens, slide, weights
        self.logits: Tensor | None = None
        self.made = 0
        self.restarts: list[int] = []
        self._alone = prompt.ndim == 1
        self._begun = state
        self._decoder: Decoder | None = None
        self._pending = prompt.view(-1, prompt.shape[-1]).to(model.embedding.device)  # (B, T), not read yet
        self._recent = deque(self._pending.unbind(1), maxlen=slide or 0)

    @property
    def state(self) -> Any:
        """Of the model, after all tokens but the newest."""
        return self._begun if self._decoder is None else self._decoder.state

    def __next__(self) -> Any:
        if self.max_tokens is not None and self.made >= self.max_tokens:
            raise StopIteration
        with torch.inference_mode():  # for one step only: the mode belongs to the thread, and the caller may train
            if self.slide and self._full():
                self._decoder = self._begun = None
                self._pending = torch.stack(list(self._recent), 1)
                self.restarts.append(self.made)
            if self._decoder is not None:
                logits = self._decoder.step(self._pending[:, 0])
            else:
                logits, state = self.model(self._pending, self._begun, last=True)
                logits = logits[:, -1]
                self._decoder = decoder(self.model, state, self.weights)
            drawn = sample(logits, self.temperature, self.generator)  # (B,)
        self._pending = drawn[:, None]
        self._recent.append(drawn)
        self.made += 1
        self.logits = logits[0] if self._alone else logits
        return int(drawn) if self._alone else drawn

    def _full(self) -> bool:
        """Whether the pending tokens no longer fit into the length that the model was trained to."""
        read = 0 if self.state is None else self.state.size
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
    weights: Weights = "float32",
) -> Continuation:
    """Continue `prompt`, (T,) or a batch (B, T) int64: an iterator of new tokens, endless unless max_tokens is given.

    generator: on the model's device; the same seed gives the same tokens. temperature: 0 is greedy. state: of the
    model after what came before the prompt. weights: "int8" for a Griffin on a CPU. slide: slide-and-prompt (paper
    section 7), for a model with a context: where that is full, start again from the newest `slide` tokens alone (75 are
    3 s). Memory is constant with Griffin, and with slide. Raises LabError for a prompt, a temperature, a length or a
    slide that makes no sense.
    """
    if prompt.ndim not in (1, 2) or 0 in prompt.shape or prompt.dtype != torch.int64:
        shape = tuple(prompt.shape)
        raise LabError(f"prompt must be (T,) or (B, T) int64 with 1 token or more, not {shape} {prompt.dtype}")
    check_scale("temperature", temperature)
    if max_tokens is not None and max_tokens < 0:
        raise LabError(f"max_tokens must be 0 or more, not {max_tokens}")
    if slide is not None:
        context = getattr(model.config, "context", None)
        if context is None:
            raise LabError("slide is for a model with a context to fill; Griffin's state never fills, leave it out")
        if not 0 < slide < context:
            raise LabError(f"slide must be 1 to {context - 1}, less than the model's context, not {slide}")
    return Continuation(model, prompt, generator, temperature, max_tokens, slide, state, weights)
