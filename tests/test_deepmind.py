"""Griffin against DeepMind's own code (recurrentgemma): sequences, packed documents, decoding, gradients."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from lab.language import Griffin, GriffinConfig, GriffinState
from lab.language.layers import RecurrentState

pytest.importorskip("einops")
pytest.importorskip("jaxtyping")

WINDOW, WIDTH, HEADS = 8, 64, 4  # the root of the width is exact in bfloat16, to which theirs rounds it
CLOSE: dict[str, float] = {"atol": 2e-6, "rtol": 2e-6}


@pytest.fixture(scope="module")
def ours() -> Griffin:
    """Every weight at random, biases and norms too, and a near 0.95: the past counts for longer than a window."""
    config = GriffinConfig.preset(
        "tiny", vocabulary=48, width=WIDTH, heads=HEADS, head_dim=WIDTH // HEADS, layers=5, window=WINDOW, rope=True
    )
    model, generator = Griffin(config).eval(), torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1 or name.endswith("bias"):
            parameter.data.normal_(-3 if name.endswith("lambda_") else 0, 0.3, generator=generator)
    return model


@pytest.fixture(scope="module")
def theirs(ours: Griffin) -> Any:
    spec = find_spec("recurrentgemma")
    if spec is None or spec.submodule_search_locations is None:
        pytest.skip("recurrentgemma is not installed: make test")
    package = ModuleType("recurrentgemma")  # its own imports JAX, which the torch code does without
    package.__path__ = list(spec.submodule_search_locations)
    sys.modules["recurrentgemma"] = package
    common, griffin = (import_module(f"recurrentgemma.{name}") for name in ("common", "torch.griffin"))
    config = ours.config
    kinds = {"recurrent": common.TemporalBlockType.RECURRENT, "attention": common.TemporalBlockType.ATTENTION}
    model = griffin.Griffin(
        common.GriffinConfig(
            config.vocabulary,
            config.width,
            config.mlp_expansion * config.width,
            config.heads,
            tuple(kinds[kind] for kind in config.blocks),
            embeddings_scale_by_sqrt_dim=True,
            attention_window_size=config.window,
            logits_soft_cap=config.soft_cap,
        ),
        gradient_checkpointing=False,
    )
    model.load_state_dict(as_theirs(ours, {name: weight.detach() for name, weight in ours.named_parameters()}))
    return model


def as_theirs(model: Griffin, named: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights, or their gradients, by the names and in the shapes of DeepMind's code."""
    made = {"embedder.input_embedding": named["embedding"], "final_norm.scale": named["norm.scale"]}
    for i, kind in enumerate(model.config.blocks):
        ours = {name.removeprefix(f"blocks.{i}."): part for name, part in named.items() if f"blocks.{i}." in name}
        mix = {name.removeprefix("mix."): part for name, part in ours.items()}
        found = {
            "temporal_pre_norm.scale": ours["mix_norm.scale"],
            "channel_pre_norm.scale": ours["mlp_norm.scale"],
            "mlp_block.ffw_up.w": ours["mlp.up.weight"].unflatten(0, (2, -1)).mT,
            "mlp_block.ffw_up.b": ours["mlp.up.bias"].view(2, 1, 1, -1),
            "mlp_block.ffw_down.weight": ours["mlp.down.weight"],
            "mlp_block.ffw_down.bias": ours["mlp.down.bias"],
        }
        if kind == "recurrent":
            for name in ("y", "x", "out"):
                for part in ("weight", "bias"):
                    found[f"recurrent_block.linear_{name}.{part}"] = mix[f"{name}.{part}"]
            found["recurrent_block.conv_1d.w"] = mix["conv_weight"].t()
            found["recurrent_block.conv_1d.b"] = mix["conv_bias"]
            found["recurrent_block.rg_lru.a_param"] = mix["lambda_"]
            for name, gate in (("input_gate", 0), ("a_gate", 1)):
                found[f"recurrent_block.rg_lru.{name}.w"] = mix["gates.weight"][gate]
                found[f"recurrent_block.rg_lru.{name}.b"] = mix["gates.bias"][gate]
        else:
            size = model.config.head_dim
            parts = mix["qkv.weight"].split([model.config.heads * size, size, size])
            for name, part in zip(("q", "k", "v"), parts, strict=True):
                found[f"attention_block.proj_{name}.weight"] = part
            for part in ("weight", "bias"):
                found[f"attention_block.proj_final.{part}"] = mix[f"out.{part}"]
        made |= {f"blocks.{i}.{name}": part for name, part in found.items()}
    return made


def tokens_of(T: int) -> Tensor:
    return torch.randint(48, (2, T), generator=torch.Generator().manual_seed(1))


def positions(reset: Tensor) -> Tensor:
    at = torch.arange(reset.shape[1])
    return at - torch.where(reset, at, 0).cummax(1).values


@pytest.mark.parametrize("packed", [False, True])
def test_sequences_and_gradients(ours: Griffin, theirs: Any, packed: bool) -> None:
    """Over 7 windows: one document, or several of which one begins at a multiple of the window."""
    tokens = tokens_of(7 * WINDOW + 3)
    reset = torch.zeros_like(tokens, dtype=torch.bool)
    if packed:
        reset[0, [5, 6, 3 * WINDOW]] = reset[1, 30] = True
    logits, _ = ours(tokens, None, reset)
    wanted, _ = theirs(tokens, positions(reset))
    torch.testing.assert_close(logits, wanted, **CLOSE)
    assert wanted.std() > 0.5 and (logits[:, 1:] - logits[:, :1]).abs().max() > 1

    weights = dict(ours.named_parameters())
    direction = torch.randn(logits.shape, generator=torch.Generator().manual_seed(2)) / logits.numel() ** 0.5
    found = torch.autograd.grad((logits * direction).sum(), list(weights.values()))
    gradients = as_theirs(ours, dict(zip(weights, found, strict=True)))
    names, parameters = zip(*theirs.named_parameters(), strict=True)
    for name, gradient in zip(names, torch.autograd.grad((wanted * direction).sum(), parameters), strict=True):
        error = (gradients[name] - gradient).norm() / gradient.norm()
        assert error < 2e-6, f"{name}: {error:.1e}"


@pytest.mark.parametrize("prompt", [1, WINDOW - 1, WINDOW, WINDOW + 1, 3 * WINDOW])
@torch.inference_mode()
def test_decoding_with_a_cache(ours: Griffin, theirs: Any, prompt: int) -> None:
    """Prompts around multiples of the window, then tokens one by one over two more; the states are compared as well."""
    tokens = tokens_of(prompt + 2 * WINDOW + 1)
    at = torch.arange(tokens.shape[1]).expand_as(tokens)
    logits, state = ours(tokens[:, :prompt])
    wanted, cache = theirs(tokens[:, :prompt], at[:, :prompt])
    torch.testing.assert_close(logits, wanted, **CLOSE)
    for t in range(prompt, tokens.shape[1]):
        logits, state = ours(tokens[:, t : t + 1], state)
        wanted, cache = theirs(tokens[:, t : t + 1], at[:, t : t + 1], cache)
        torch.testing.assert_close(logits, wanted, **CLOSE)
        compare(state, cache)


def compare(state: GriffinState, cache: dict[str, Any]) -> None:
    for i, layer in enumerate(state.layers):
        block = cache[f"blocks.{i}"]
        if isinstance(layer, RecurrentState):
            torch.testing.assert_close(layer.hidden, block.rg_lru_state, **CLOSE)
            torch.testing.assert_close(layer.conv, block.conv1d_state, **CLOSE)
        else:
            assert torch.equal(state.length, block.num_tokens)
            for kept, wanted in ((layer.keys, block.keys), (layer.values, block.values)):
                used = torch.arange(WINDOW) < state.length[0]
                torch.testing.assert_close(kept[:, used], wanted[:, used, 0], **CLOSE)
