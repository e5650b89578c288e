"""transformers' RecurrentGemma, the peer measured beside Griffin with the same weights, where it is installed."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from lab.language import Griffin, GriffinConfig, recurrentgemma
from lab.recurrence.reference import DECAY_POWER

Given = tuple[Tensor, Tensor, Tensor, Tensor]  # x and both gates (B, T, L), the decay (L,)
Work = Callable[[], Any]
RECURRENTGEMMA = "transformers' RecurrentGemma"
RNN_SCAN = "transformers' _rnn_scan"
NOT_INSTALLED = "not installed: pip install transformers"


@dataclass(frozen=True)
class Pair:
    """A Griffin and transformers' model with the same weights; theirs is None where `note` says why."""

    ours: Griffin
    theirs: Any
    note: str

    def tokens(self, *shape: int) -> Tensor:
        """Some that both know."""
        return torch.randint(self.ours.config.vocabulary, shape, generator=torch.Generator().manual_seed(0))


def pair(config: GriffinConfig, seed: int = 0) -> Pair:
    """Both with RoPE, at random weights, and seeing the same tokens. The note tells by how much their logits differ."""
    try:
        import transformers
    except ImportError:
        return Pair(Griffin(config).eval(), None, NOT_INSTALLED)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    theirs = transformers.RecurrentGemmaConfig(
        num_hidden_layers=config.layers,
        vocab_size=config.vocabulary,
        hidden_size=config.width,
        intermediate_size=2 * config.mlp_expansion * config.width,
        num_attention_heads=config.heads,
        num_key_value_heads=1,
        attention_window_size=config.window,
        conv1d_width=config.conv_width,
        logits_soft_cap=config.soft_cap,
    )
    with TemporaryDirectory() as folder, torch.random.fork_rng([]):
        torch.manual_seed(seed)
        transformers.RecurrentGemmaForCausalLM(theirs).save_pretrained(folder)
        ours = recurrentgemma.load(folder)
        # it counts the query itself as one of its window
        model = transformers.RecurrentGemmaForCausalLM.from_pretrained(folder, attention_window_size=config.window + 1)
    model.generation_config.update(eos_token_id=None, pad_token_id=0, do_sample=True, top_k=0)
    tokens = torch.arange(config.window + 32)[None] % config.vocabulary
    with torch.inference_mode():
        apart = (ours(tokens)[0] - model.eval()(tokens, use_cache=False).logits).abs().max()
    return Pair(ours, model, f"the same weights; logits differ by {float(apart):.0e} at most")


class Clock:
    """A streamer for `generate` of transformers: the time at which it hands out the prompt, then each token."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def put(self, _: Tensor) -> None:
        self.times.append(time.perf_counter())

    def end(self) -> None:
        pass


def seconds_a_token(theirs: Any, prompt: Tensor, tokens: int) -> float:
    """Of `generate`, sampling at temperature 1, from the first new token on: the prompt (1, T) is not counted."""
    clock = Clock()
    theirs.generate(prompt, max_new_tokens=tokens + 1, streamer=clock)
    return (clock.times[-1] - clock.times[1]) / tokens


def rnn_scan(given: Given, y: Tensor) -> tuple[Work | None, str]:
    """The scan of transformers' RecurrentGemma, a Python loop over T, with a and b of the RG-LRU given; and by how much
    it is off y (B, T, L), or why there is none."""
    try:
        from transformers.models.recurrent_gemma import modeling_recurrent_gemma as module
    except ImportError:
        return None, NOT_INSTALLED
    theirs = module.RecurrentGemmaRglru(module.RecurrentGemmaConfig(hidden_size=8, num_attention_heads=1))
    a, b = coefficients(*given)
    reset = a.new_zeros(*a.shape[:2], 1, dtype=torch.bool)

    def run() -> Tensor:
        return theirs._rnn_scan(b, a, reset, None)[0]

    return run, f"outputs differ by {float((run() - y).abs().max()):.0e} at most"


def coefficients(x: Tensor, input_gate: Tensor, recurrence_gate: Tensor, decay: Tensor) -> tuple[Tensor, Tensor]:
    """a and b (B, T, L) of h_t = a_t h_(t-1) + b_t (Griffin, 2402.19427, equations 3 and 4), by plain torch."""
    log_a = -DECAY_POWER * recurrence_gate * decay
    return log_a.exp(), torch.sqrt(-torch.expm1(2 * log_a)) * input_gate * x
