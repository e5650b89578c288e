"""Generation: a prompt, then one token after another, without end if wanted (paper section 3)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import InitVar, dataclass, field
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

Generators = torch.Generator | Sequence[torch.Generator]
LogitsHook = Callable[[Tensor], Tensor]


@dataclass(eq=False)
class Continuation(Iterator[Any]):
    """New tokens, each computed when it is requested; between two of them the attributes may be read.

    A token is an int, or (B,) on the model's device for a batch, without waiting for a GPU. logits: (V,) or (B, V),
    after the hook and the penalty, of the newest token. made: the number of new tokens. restarts: the values of `made`
    at which slide-and-prompt restarted.
    """

    model: LanguageModel
    prompts: InitVar[list[Tensor]]  # (T_b,) each
    begun: Any  # the state before the prompts
    forced: Tensor  # (1 or B, N)
    alone: bool  # one prompt, not a batch of one
    generator: Generators
    temperature: float
    top_k: int | None
    top_p: float | None
    repetition_penalty: float
    logits_hook: LogitsHook | None
    max_tokens: int | None
    slide: int | None
    weights: Weights
    logits: Tensor | None = None
    made: int = 0
    restarts: list[int] = field(default_factory=list)

    def __post_init__(self, prompts: list[Tensor]) -> None:
        device, lengths = self.model.device, [len(prompt) for prompt in prompts]
        self.forced = self.forced.to(device)
        self._decoder: Decoder | None = None
        # Prompts end together: a shorter one is padded before its beginning, where its document is then reset. The
        # padding repeats its first token, so that the penalty finds no token that the row does not have.
        padded = [torch.cat([row[:1].expand(max(lengths) - len(row)), row]) for row in prompts]
        self._pending = torch.stack(padded).to(device)  # (B, T), not read yet
        self._lengths = None if len(set(lengths)) == 1 else torch.tensor(lengths, device=device)  # (B,)
        kept = max(self.slide or 0, PENALTY_TOKENS if self.repetition_penalty != 1 else 0)
        self._recent = deque(self._pending.unbind(1), maxlen=kept)

    @property
    def state(self) -> Any:
        """Of the model, after all tokens but the newest."""
        return self.begun if self._decoder is None else self._decoder.state

    def __next__(self) -> Any:
        if self.max_tokens is not None and self.made >= self.max_tokens:
            raise StopIteration
        with torch.inference_mode():  # for one step only: the mode belongs to the thread, and the caller may train
            if self.slide and self._full():
                self._decoder = self.begun = None
                self._pending = torch.stack(list(self._recent)[-self.slide :], 1)
                self.restarts.append(self.made)
            logits = self._penalised(self._hooked(self._read()))  # (B, V)
            if self.made < self.forced.shape[1]:
                drawn = self.forced[:, self.made].expand(len(logits))
            else:
                drawn = sample(logits, self.temperature, self.generator, self.top_k, self.top_p)  # (B,)
        self._pending = drawn[:, None]
        self._recent.append(drawn)
        self.made += 1
        self.logits = logits[0] if self.alone else logits
        return int(drawn) if self.alone else drawn

    def _read(self) -> Tensor:
        """Logits after the pending tokens (B, V)."""
        if self._decoder is not None:
            return self._decoder.step(self._pending[:, 0])
        logits, state = self.model(self._pending, self.begun, self._reset(), last=True)
        self._decoder = decoder(self.model, state, self.weights)
        return logits[:, -1]

    def _reset(self) -> Tensor | None:
        """Where rows begin in the pending tokens, (B, T) bool; None where all prompts are of one length."""
        if self._lengths is None:
            return None
        width = self._pending.shape[1]
        first = (width - self._lengths - self.made).clamp(min=0)
        return torch.arange(width, device=first.device) == first[:, None]

    def _full(self) -> bool:
        """Whether the pending tokens no longer fit into the length that the model was trained to."""
        read = 0 if self.state is None else self.state.size
        return read > 0 and read + self._pending.shape[1] > self.model.context  # type: ignore[operator]

    def _hooked(self, logits: Tensor) -> Tensor:
        if self.logits_hook is None:
            return logits
        given = logits[0] if self.alone else logits
        changed = self.logits_hook(given)
        if not isinstance(changed, Tensor) or changed.shape != given.shape:
            found = tuple(changed.shape) if isinstance(changed, Tensor) else type(changed).__name__
            raise LabError(f"logits_hook must return logits of shape {tuple(given.shape)}, not {found}")
        return changed.view_as(logits)

    def _penalised(self, logits: Tensor) -> Tensor:
        """Logits of recent tokens divided by the penalty where positive, else multiplied (Keskar et al. 1909.05858)."""
        if self.repetition_penalty == 1:
            return logits
        recent = torch.stack(list(self._recent)[-PENALTY_TOKENS:], 1)  # (B, tokens)
        held = logits.gather(1, recent)
        return logits.scatter(
            1, recent, torch.where(held > 0, held / self.repetition_penalty, held * self.repetition_penalty)
        )


def generate(
    model: LanguageModel,
    prompt: Tensor | Sequence[Tensor],
    *,
    generator: Generators,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    repetition_penalty: float = 1.0,
    logits_hook: LogitsHook | None = None,
    forced: Tensor | Sequence[int] | None = None,
    max_tokens: int | None = None,
    slide: int | None = None,
    state: Any = None,
    weights: Weights = "float32",
) -> Continuation:
    """Continue `prompt`: an iterator of new tokens, endless unless max_tokens is given.

    prompt: (T,) or a batch (B, T) int64, or a list of B prompts (T_b,) of any lengths, each continued as it is alone.
    generator: the same seed gives the same tokens; for a batch one for all, or a list with one for each row, which then
    draws as it does alone. temperature: 0 is greedy. top_k, top_p: as in `lab.nn.sampling.sample`. repetition_penalty:
    above 1 makes the tokens of the newest 3 s less likely. logits_hook: maps logits, (V,) or (B, V), to those that are
    drawn from. forced: the first new tokens, (N,) or (B, N), given instead of drawn. slide: slide-and-prompt (paper
    section 7) for a model with a context: where that is full, restart from the newest `slide` tokens alone (75 are
    3 s). state: of the model after what came before the prompt. weights: "int8" for a Griffin on a CPU.

    Memory is constant with Griffin, and with slide. Raises LabError for an argument that makes no sense.
    """
    prompts = _prompts(prompt, model.vocabulary)
    if state is not None and len({len(row) for row in prompts}) > 1:
        raise LabError("prompts of different lengths cannot continue a state; give them in one length, or without it")
    rows = 1 if isinstance(generator, torch.Generator) else len(prompts)
    given = [generator] if isinstance(generator, torch.Generator) else generator
    if not (isinstance(given, Sequence) and len(given) == rows and all(isinstance(g, torch.Generator) for g in given)):
        raise LabError(f"generator must be a torch.Generator, or a list of {len(prompts)}, one for each prompt")
    check_scale("temperature", temperature)
    check_truncation(top_k, top_p)
    check_scale("repetition_penalty", repetition_penalty)
    if repetition_penalty == 0:
        raise LabError("repetition_penalty must be above 0; 1 is none")
    if logits_hook is not None and not callable(logits_hook):
        raise LabError(f"logits_hook must be a function of logits, not {type(logits_hook).__name__}")
    if max_tokens is not None:
        check_count("max_tokens", max_tokens, 0)
    if weights not in get_args(Weights):
        raise LabError(f"weights must be {' or '.join(get_args(Weights))}, not {weights!r}")
    if slide is not None:
        if model.context is None:
            raise LabError("slide is for a model with a context to fill; Griffin's state never fills, leave it out")
        if isinstance(slide, bool) or not isinstance(slide, int) or not 0 < slide < model.context:
            raise LabError(f"slide must be 1 to {model.context - 1}, less than the model's context, not {slide}")
    return Continuation(
        model,
        prompts,
        state,
        _forced(forced, len(prompts), model.vocabulary),
        isinstance(prompt, Tensor) and prompt.ndim == 1,
        generator,
        temperature,
        top_k,
        top_p,
        repetition_penalty,
        logits_hook,
        max_tokens,
        slide,
        weights,
    )


def _prompts(prompt: Any, vocabulary: int) -> list[Tensor]:
    """Each row of a prompt, (T_b,) int64 with 1 token or more, checked."""
    if isinstance(prompt, Tensor):
        rows = [prompt] if prompt.ndim == 1 else list(prompt) if prompt.ndim == 2 else []
    else:
        rows = list(prompt) if isinstance(prompt, (list, tuple)) else []
    for row in rows or [prompt]:
        if not isinstance(row, Tensor) or row.ndim != 1 or len(row) == 0 or row.dtype != torch.int64:
            found = f"{tuple(row.shape)} {row.dtype}" if hasattr(row, "shape") else type(row).__name__
            raise LabError(
                "prompt must be a tensor (T,) or (B, T) int64 with 1 token or more, or a list of such (T,), "
                f"not {found}"
            )
        check_range(row, vocabulary)
    return rows


def _forced(tokens: Any, rows: int, vocabulary: int) -> Tensor:
    """Forced tokens as (1 or `rows`, N) int64, checked."""
    try:
        forced = torch.as_tensor([] if tokens is None else tokens)
    except (TypeError, ValueError, RuntimeError) as error:
        raise LabError(f"forced must be tokens, (N,) or (B, N): {error}") from None
    forced = forced.view(1, -1) if forced.ndim == 1 else forced
    if forced.numel() == 0:
        return torch.zeros(1, 0, dtype=torch.int64)
    if forced.ndim != 2 or len(forced) not in (1, rows) or forced.dtype != torch.int64:
        raise LabError(f"forced must be (N,) or ({rows}, N) int64, not {tuple(forced.shape)} {forced.dtype}")
    check_range(forced, vocabulary)
    return forced
