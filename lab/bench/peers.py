"""Those who are measured beside us, where they are installed; where not, the reason goes into the row."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from lab.language import Griffin, GriffinConfig, recurrentgemma
from lab.recurrence.reference import DECAY_POWER

Given = tuple[Tensor, Tensor, Tensor, Tensor]  # x and both gates (B, T, L), the decay (L,)
Work = Callable[[], Any]
RECURRENTGEMMA = "transformers' RecurrentGemma"
PACKAGES = {  # a module and the name to install it by
    "transformers": "transformers",
    "accelerated_scan": "accelerated-scan",
    "fla": "flash-linear-attention",
    "mamba_ssm": "mamba-ssm",
}


class Absent(Exception):
    """A peer that cannot be measured here, and why."""


def find(module: str) -> Any:
    """The module. Raises Absent where it is not installed or does not work here."""
    try:
        return import_module(module)
    except Exception as error:  # a module may fail in any way: an extension, a compiler, a driver
        package = PACKAGES[module.split(".")[0]]
        if isinstance(error, ModuleNotFoundError) and (error.name or "").split(".")[0] == module.split(".")[0]:
            raise Absent(f"not installed: pip install {package}") from None
        said = " ".join(str(error).split())[:200]
        raise Absent(f"{package} does not work here: {type(error).__name__}: {said}") from None


@dataclass(frozen=True)
class Pair:
    """A Griffin and transformers' model with the same weights; theirs is None where `note` says why."""

    ours: Griffin
    theirs: Any
    note: str


def pair(config: GriffinConfig, seed: int = 0) -> Pair:
    """Both with RoPE, at random weights, and seeing the same tokens. The note tells by how much their logits differ."""
    try:
        transformers = find("transformers")
    except Absent as absent:
        return Pair(Griffin(config).eval(), None, str(absent))
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


@dataclass(frozen=True)
class Scan:
    """Another's linear recurrence: h = scan(*prepare(a, b)) for h_t = a_t h_(t-1) + b_t, all (B, T, L)."""

    prepare: Callable[[Tensor, Tensor], tuple[Tensor, ...]]
    scan: Callable[..., Tensor]


def coefficients(x: Tensor, input_gate: Tensor, recurrence_gate: Tensor, decay: Tensor) -> tuple[Tensor, Tensor]:
    """a and b of the RG-LRU, (B, T, L) each, by plain torch: what comes before another's scan."""
    log_a = -DECAY_POWER * recurrence_gate * decay
    return log_a.exp(), torch.sqrt(-torch.expm1(2 * log_a)) * input_gate * x


def scans(given: Given, y: Tensor) -> tuple[dict[str, Work], dict[str, str]]:
    """Every scan there is for the device, called with GIVEN and with MADE a and b, and what to say of each.

    y: what comes of what is given. Those that do not run have only a reason.
    """

    def made(peer: Scan) -> Tensor:
        return peer.scan(*peer.prepare(*coefficients(*given)))

    works: dict[str, Work] = {}
    notes = {}
    for name, make in SCANS[given[0].device.type].items():
        try:
            peer = make()
            ready = peer.prepare(*coefficients(*given))
            notes[name] = f"outputs differ by {float((peer.scan(*ready) - y).abs().max()):.0e} at most"
        except Absent as absent:
            notes[name] = str(absent)
        except Exception as error:  # kernels of others may fail in any way
            notes[name] = f"fails here: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
        else:
            works[name + GIVEN] = partial(peer.scan, *ready)
            works[name + MADE] = partial(made, peer)
    return works, notes


def _rnn_scan() -> Scan:
    """transformers' own, a Python loop over T."""
    found = find("transformers.models.recurrent_gemma.modeling_recurrent_gemma")
    module = found.RecurrentGemmaRglru(found.RecurrentGemmaConfig(hidden_size=8, num_attention_heads=1))

    def scan(a: Tensor, b: Tensor, reset: Tensor) -> Tensor:
        return module._rnn_scan(b, a, reset, None)[0]

    return Scan(lambda a, b: (a, b, a.new_zeros(*a.shape[:2], 1, dtype=torch.bool)), scan)


def _accelerated(part: str) -> Scan:
    """(B, L, T)."""
    scan = find(f"accelerated_scan.{part}").scan
    return Scan(lambda a, b: (a.mT.contiguous(), b.mT.contiguous()), lambda a, b: scan(a, b).mT)


def _hgrn(module: str, name: str) -> Scan:
    """The decay as its logarithm."""
    scan = getattr(find(f"fla.ops.hgrn{module}"), name)
    return Scan(lambda a, b: (b, a.log()), lambda b, log_a: scan(b, log_a)[0])


def _selective_scan() -> Scan:
    """(B, L, T), with state size 1 and A = -1."""
    scan = find("mamba_ssm.ops.selective_scan_interface").selective_scan_fn

    def prepare(a: Tensor, b: Tensor) -> tuple[Tensor, ...]:
        delta, one = -a.log().clamp(max=-(2.0**-34)), a.new_ones(a.shape[2], 1)
        return *(part.mT.contiguous() for part in (b / delta, delta)), -one, one, one

    return Scan(prepare, lambda *ready: scan(*ready).mT)


GIVEN, MADE = ", a and b given", ", a and b made by torch"
SCANS: dict[str, dict[str, Callable[[], Scan]]] = {
    "cpu": {
        "transformers' _rnn_scan": _rnn_scan,
        "accelerated-scan ref": partial(_accelerated, "ref"),
        "fla naive_recurrent_hgrn": partial(_hgrn, ".naive", "naive_recurrent_hgrn"),
    },
    "cuda": {
        "accelerated-scan warp": partial(_accelerated, "warp"),
        "accelerated-scan scalar": partial(_accelerated, "scalar"),
        "fla chunk_hgrn": partial(_hgrn, "", "chunk_hgrn"),
        "fla fused_recurrent_hgrn": partial(_hgrn, "", "fused_recurrent_hgrn"),
        "mamba-ssm selective_scan": _selective_scan,
    },
}
