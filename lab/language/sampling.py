"""Generation: a prompt, then one token after another, without end if wanted (paper section 3)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, get_args

import torch
from torch import Tensor

from lab.errors import LabError
from lab.language.decode import Decoder, decoder
from lab.language.packed import Weights
from lab.language.tokens import check_range
from lab.nn.sampling import check_count, check_scale, check_truncation, sample
from lab.protocols import LanguageModel

PENALTY_TOKENS = 75  # 3 s: over a whole story nearly every token has occurred, and a penalty on all of them is none


class Continuation(Iterator[Any]):
    """New tokens after a prompt, each computed when it is requested; without end unless max_tokens is given.

    A token is an int, or (B,) on the model's device for a batch, without waiting for a GPU. Between two tokens may be
    read: logits, (V,) or (B, V), of the newest token, after hook and penalty; made, the number of new tokens; restarts,
    the values of `made` at which slide-and-prompt restarted; state. Memory is constant with Griffin, and with slide.
    """

    def __init__(
        self,
        model: LanguageModel,
        prompt: Tensor | Sequence[Tensor],
        *,
        generator: torch.Generator | Sequence[torch.Generator],
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        repetition_penalty: float = 1.0,
        logits_hook: Callable[[Tensor], Tensor] | None = None,
        forced: Tensor | Sequence[int] = (),
        max_tokens: int | None = None,
        slide: int | None = None,
        state: Any = None,
        weights: Weights = "float32",
    ):
        """Raises LabError for an argument that makes no sense.

        prompt: (T,) or a batch (B, T) int64, or a list of B prompts (T_b,) of any lengths, each continued as it is
        alone. generator: the same seed gives the same tokens; for a batch one for all, or a list with one for each row,
        which then draws as it does alone. temperature: 0 is greedy. top_k, top_p: as in `lab.nn.sampling.sample`.
        repetition_penalty: above 1 makes the tokens of the newest 3 s less likely. logits_hook: maps logits, (V,) or
        (B, V), to those that are drawn from. forced: the first new tokens, (N,) or (B, N), given instead of drawn.
        slide: slide-and-prompt (paper section 7) for a model with a context: where that is full, restart from the
        newest `slide` tokens alone (75 are 3 s). state: of the model after what came before the prompt. weights: "int8"
        for a Griffin on a CPU.
        """
        self.model, self.generator, self.temperature = model, generator, temperature
        self.top_k, self.top_p, self.repetition_penalty = top_k, top_p, repetition_penalty
        self.logits_hook, self.max_tokens, self.slide, self.weights = logits_hook, max_tokens, slide, weights
        self.logits: Tensor | None = None
        self.made = 0
        self.restarts: list[int] = []
        prompts = _rows("prompt", prompt, model.vocabulary)
        lengths = [len(row) for row in prompts]
        self._check(len(prompts))
        if state is not None and len({*lengths}) > 1:
            raise LabError("prompts of different lengths cannot continue a state; leave it out, or make them of one")
        self._alone = isinstance(prompt, Tensor) and prompt.ndim == 1
        self._before = state
        self._decoder: Decoder | None = None
        # Prompts end together: a shorter one is padded before its beginning, where its document is then reset. The
        # padding repeats its first token, so that the penalty finds no token that the row does not have.
        padded = [torch.cat([row[:1].expand(max(lengths) - len(row)), row]) for row in prompts]
        self._pending = torch.stack(padded).to(model.device)  # (B, T), not read yet
        self._lengths = None if len({*lengths}) == 1 else torch.tensor(lengths, device=model.device)  # (B,)
        self._forced = self._pending[:, :0]  # (B, N)
        if not isinstance(forced, (list, tuple)) or forced:
            listed = isinstance(forced, (list, tuple)) and all(isinstance(token, int) for token in forced)
            rows = _rows("forced", torch.tensor(forced) if listed else forced, model.vocabulary)
            if len(rows) not in (1, len(prompts)) or len({len(row) for row in rows}) > 1:
                raise LabError(f"forced must be (N,) or ({len(prompts)}, N), not {len(rows)} rows")
            self._forced = torch.stack(rows).to(model.device).expand(len(prompts), -1)
        kept = max(slide or 0, PENALTY_TOKENS if repetition_penalty != 1 else 0)
        self._recent = deque(self._pending.unbind(1), maxlen=kept)

    def _check(self, rows: int) -> None:
        check_scale("temperature", self.temperature)
        check_truncation(self.top_k, self.top_p)
        check_scale("repetition_penalty", self.repetition_penalty)
        if self.repetition_penalty == 0:
            raise LabError("repetition_penalty must be above 0; 1 is none")
        if self.logits_hook is not None and not callable(self.logits_hook):
            raise LabError(f"logits_hook must be a function of logits, not {type(self.logits_hook).__name__}")
        if self.max_tokens is not None:
            check_count("max_tokens", self.max_tokens, 0)
        if self.weights not in get_args(Weights):
            raise LabError(f"weights must be {' or '.join(get_args(Weights))}, not {self.weights!r}")
        if not isinstance(self.generator, torch.Generator) and not (
            isinstance(self.generator, Sequence)
            and len(self.generator) == rows
            and all(isinstance(each, torch.Generator) for each in self.generator)
        ):
            raise LabError(f"generator must be a torch.Generator, or a list of {rows}, one for each prompt")
        if self.slide is not None:
            if self.model.context is None:
                raise LabError("slide is for a model with a context to fill; Griffin's state never fills, leave it out")
            check_count("slide", self.slide, 1)
            if self.slide >= self.model.context:
                raise LabError(f"slide must be below the model's context, {self.model.context}, not {self.slide}")

    @property
    def state(self) -> Any:
        """Of the model, after all tokens but the newest."""
        return self._before if self._decoder is None else self._decoder.state

    def __next__(self) -> Any:
        if self.max_tokens is not None and self.made >= self.max_tokens:
            raise StopIteration
        with torch.inference_mode():  # for one step only: the mode belongs to the thread, and the caller may train
            if self.slide and self._full():
                self._decoder = self._before = None
                self._pending = torch.stack(list(self._recent)[-self.slide :], 1)
                self.restarts.append(self.made)
            logits = self._read()  # (B, V)
            if self.logits_hook is not None:
                logits = self._hooked(logits, self.logits_hook)
            if self.repetition_penalty != 1:
                logits = self._penalised(logits)
            if self.made < self._forced.shape[1]:
                drawn = self._forced[:, self.made]
            else:
                drawn = sample(logits, self.temperature, self.generator, self.top_k, self.top_p)  # (B,)
        self._pending = drawn[:, None]
        self._recent.append(drawn)
        self.made += 1
        self.logits = logits[0] if self._alone else logits
        return int(drawn) if self._alone else drawn

    def _read(self) -> Tensor:
        """Logits after the pending tokens (B, V)."""
        if self._decoder is not None:
            return self._decoder.step(self._pending[:, 0])
        reset = None
        if self._lengths is not None:  # where each row begins
            width = self._pending.shape[1]
            first = (width - self._lengths - self.made).clamp(min=0)  # (B,)
            reset = torch.arange(width, device=first.device) == first[:, None]
        logits, state = self.model(self._pending, self._before, reset, last=True)
        self._decoder = decoder(self.model, state, self.weights)
        return logits[:, -1]

    def _full(self) -> bool:
        """Whether the pending tokens no longer fit into the length that the model was trained to."""
        read = 0 if self.state is None else self.state.size
        return read > 0 and read + self._pending.shape[1] > self.model.context  # type: ignore[operator]

    def _hooked(self, logits: Tensor, hook: Callable[[Tensor], Tensor]) -> Tensor:
        given = logits[0] if self._alone else logits
        changed = hook(given)
        if not isinstance(changed, Tensor) or changed.shape != given.shape:
            found = tuple(changed.shape) if isinstance(changed, Tensor) else type(changed).__name__
            raise LabError(f"logits_hook must return logits of shape {tuple(given.shape)}, not {found}")
        return changed.view_as(logits)

    def _penalised(self, logits: Tensor) -> Tensor:
        """Logits of recent tokens divided by the penalty where positive, else multiplied (Keskar et al. 1909.05858)."""
        recent = torch.stack(list(self._recent)[-PENALTY_TOKENS:], 1)  # (B, tokens)
        held, penalty = logits.gather(1, recent), self.repetition_penalty
        return logits.scatter(1, recent, torch.where(held > 0, held / penalty, held * penalty))


generate = Continuation  # `for token in generate(model, prompt, generator=...)`


def _rows(name: str, tokens: Any, vocabulary: int) -> list[Tensor]:
    """Each sequence of (T,), (B, T) or a list of (T_b,), once it is checked."""
    if isinstance(tokens, Tensor):
        rows = [tokens] if tokens.ndim == 1 else list(tokens) if tokens.ndim == 2 else []
    else:
        rows = list(tokens) if isinstance(tokens, (list, tuple)) else []
    for row in rows or [tokens]:
        if not isinstance(row, Tensor) or row.ndim != 1 or len(row) == 0 or row.dtype != torch.int64:
            found = f"{tuple(row.shape)} {row.dtype}" if hasattr(row, "shape") else type(row).__name__
            wanted = "(T,) or (B, T) int64 with 1 token or more, or a list of such (T,)"
            raise LabError(f"{name} must be a tensor {wanted}, not {found}")
        check_range(row, vocabulary)
    return rows
