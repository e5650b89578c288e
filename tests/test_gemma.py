"""SpeechTransformer against transformers' Gemma with the same weights: sequences, documents, a cache, gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from lab.language import SpeechTransformer, TransformerConfig

pytest.importorskip("transformers")

CLOSE: dict[str, float] = {"atol": 3e-6, "rtol": 3e-6}


@pytest.fixture(scope="module")
def ours() -> SpeechTransformer:
    """Every weight at random, norms too."""
    model, generator = SpeechTransformer(TransformerConfig.preset("tiny")).eval(), torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if parameter.ndim == 1:
            parameter.data.normal_(0, 0.3, generator=generator)
    return model


@pytest.fixture(scope="module")
def theirs(ours: SpeechTransformer) -> Any:
    from transformers import GemmaConfig, GemmaForCausalLM

    config = ours.config
    shapes = GemmaConfig(
        vocab_size=config.vocabulary,
        hidden_size=config.width,
        intermediate_size=config.mlp_width,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        num_key_value_heads=1,
        head_dim=config.head_dim,
        pad_token_id=None,  # it would have no gradient as an input
        attn_implementation="eager",
    )
    model = GemmaForCausalLM(shapes).eval()
    weights = {name: weight.detach() for name, weight in ours.named_parameters()}
    lacking = model.load_state_dict(as_theirs(ours, weights), strict=False)
    assert lacking.missing_keys in ([], ["lm_head.weight"]) and not lacking.unexpected_keys  # tied to the embedding
    return model


def as_theirs(model: SpeechTransformer, named: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights, or their gradients, by the names of transformers."""
    made = {"model.embed_tokens.weight": named["embedding"], "model.norm.weight": named["norm.scale"]}
    inner, size = model.config.heads * model.config.head_dim, model.config.head_dim
    for i in range(model.config.layers):
        part = {name.removeprefix(f"blocks.{i}."): each for name, each in named.items()}
        query, key, value = part["mix.qkv.weight"].split([inner, size, size])
        gate, up = part["mlp.up.weight"].chunk(2)
        found = {"input_layernorm": part["mix_norm.scale"], "post_attention_layernorm": part["mlp_norm.scale"]}
        found |= {"self_attn.q_proj": query, "self_attn.k_proj": key, "self_attn.v_proj": value}
        found |= {"self_attn.o_proj": part["mix.out.weight"], "mlp.gate_proj": gate, "mlp.up_proj": up}
        found |= {"mlp.down_proj": part["mlp.down.weight"]}
        made |= {f"model.layers.{i}.{name}.weight": each for name, each in found.items()}
    return made


def tokens_of(T: int) -> Tensor:
    return torch.randint(64, (2, T), generator=torch.Generator().manual_seed(1))


def test_sequences_and_gradients(ours: SpeechTransformer, theirs: Any) -> None:
    tokens = tokens_of(100)
    logits, wanted = ours(tokens)[0], theirs(tokens, use_cache=False).logits
    torch.testing.assert_close(logits, wanted, **CLOSE)
    assert wanted.std() > 0.5 and (logits[:, 1:] - logits[:, :1]).abs().max() > 1

    direction = torch.randn(logits.shape, generator=torch.Generator().manual_seed(2)) / logits.numel() ** 0.5
    weights, parameters = dict(ours.named_parameters()), dict(theirs.named_parameters())
    found = torch.autograd.grad((logits * direction).sum(), list(weights.values()))
    gradients = as_theirs(ours, dict(zip(weights, found, strict=True)))
    expected = torch.autograd.grad((wanted * direction).sum(), list(parameters.values()))
    for name, gradient in zip(parameters, expected, strict=True):
        error = (gradients[name] - gradient).norm() / gradient.norm()
        assert error < 1e-5, f"{name}: {error:.1e}"


@torch.inference_mode()
def test_packed_documents_are_theirs_each_alone(ours: SpeechTransformer, theirs: Any) -> None:
    tokens, begins = tokens_of(60)[:1], [0, 1, 23, 60]
    reset = torch.zeros_like(tokens, dtype=torch.bool)
    reset[0, begins[:-1]] = True
    wanted = [theirs(tokens[:, a:b]).logits for a, b in zip(begins, begins[1:], strict=False)]
    torch.testing.assert_close(ours(tokens, None, reset)[0], torch.cat(wanted, 1), **CLOSE)


@pytest.mark.parametrize("prompt", [1, 17])
@torch.inference_mode()
def test_decoding_with_a_cache(ours: SpeechTransformer, theirs: Any, prompt: int) -> None:
    """A prompt, then tokens one by one; the keys and values are compared as well."""
    tokens = tokens_of(prompt + 20)
    (_, state), cache = ours(tokens[:, :prompt]), theirs(tokens[:, :prompt], use_cache=True).past_key_values
    for t in range(prompt, tokens.shape[1]):
        logits, state = ours(tokens[:, t : t + 1], state)
        answer = theirs(tokens[:, t : t + 1], past_key_values=cache, use_cache=True)
        torch.testing.assert_close(logits, answer.logits, **CLOSE)
    for mine, layer in zip(state.layers, cache.layers, strict=True):
        torch.testing.assert_close(mine.keys, layer.keys[:, 0], **CLOSE)
        torch.testing.assert_close(mine.values, layer.values[:, 0], **CLOSE)
