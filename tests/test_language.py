"""lab.language: causality, streamed == whole, windows, documents, states, presets, sampling, learning."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from lab.errors import LabError
from lab.language import (
    Griffin,
    GriffinConfig,
    SpeechTransformer,
    TransformerConfig,
    fused,
    state_bytes,
)
from lab.language import transformer as transformer_module
from lab.language.layers import AttentionState, LocalAttention, RecurrentBlock, initial_lambda, looking_back
from lab.protocols import LanguageModel
from lab.recurrence import compiled

WINDOW = 8
KINDS = ["griffin", "griffin with rope", "transformer"]


def build(kind: str, **overrides: Any) -> Griffin | SpeechTransformer:
    torch.manual_seed(1)
    if kind == "transformer":
        return SpeechTransformer(TransformerConfig.preset("tiny", **overrides)).eval()
    overrides = {"window": WINDOW, "rope": kind == "griffin with rope", **overrides}
    return Griffin(GriffinConfig.preset("tiny", **overrides)).eval()


def tokens_of(B: int, T: int, seed: int = 0) -> Tensor:
    return torch.randint(64, (B, T), generator=torch.Generator().manual_seed(seed))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("kind", KINDS)
@torch.inference_mode()
def test_causal(kind: str) -> None:
    model, tokens = build(kind), tokens_of(2, 40)
    changed = tokens.clone()
    changed[:, 25:] = (tokens[:, 25:] + 1) % 64
    before, after = model(tokens)[0], model(changed)[0]
    torch.testing.assert_close(before[:, :25], after[:, :25], atol=1e-6, rtol=0)
    assert (before[:, 25:] - after[:, 25:]).abs().max() > 0.1


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_streamed_is_whole(kind: str, data: st.DataObject) -> None:
    """Any cuts, any documents, to three windows and beyond; logits, and each tensor of the last state.

    Of a ring buffer that is what is in use: the slots below the length.
    """
    model = build(kind)
    T = data.draw(st.integers(1, 3 * WINDOW + 5))
    tokens, reset = tokens_of(2, T, seed=T), torch.zeros(2, T, dtype=torch.bool)
    for at in data.draw(st.lists(st.integers(0, T - 1), max_size=3)):
        reset[data.draw(st.integers(0, 1)), at] = True
    cuts = sorted(data.draw(st.sets(st.integers(0, T))) | {0, T})
    with torch.inference_mode():
        whole, last = model(tokens, reset=reset)
        state, pieces = None, []
        for a, b in zip(cuts, cuts[1:], strict=False):
            logits, state = model(tokens[:, a:b], state, reset[:, a:b])
            pieces.append(logits)
    torch.testing.assert_close(torch.cat(pieces, 1), whole, atol=1e-4, rtol=0)
    assert state is not None and torch.equal(state.length, last.length)
    for ours, theirs in zip(state.layers, last.layers, strict=True):
        for a_tensor, b_tensor in zip(ours, theirs, strict=True):
            if isinstance(ours, AttentionState):
                unused = torch.arange(WINDOW) >= state.length[:, None]
                a_tensor, b_tensor = (part.masked_fill(unused[..., None], 0) for part in (a_tensor, b_tensor))
            torch.testing.assert_close(a_tensor, b_tensor, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
@torch.inference_mode()
def test_a_reset_makes_the_next_document_independent(kind: str) -> None:
    model, first, second = build(kind), tokens_of(1, 21, 1), tokens_of(1, 30, 2)
    alone, _ = model(second)
    reset = torch.zeros(1, 51, dtype=torch.bool)
    reset[0, 21] = True
    packed, _ = model(torch.cat([first, second], 1), reset=reset)
    torch.testing.assert_close(packed[:, 21:], alone, atol=1e-5, rtol=0)
    _, state = model(first)
    carried, _ = model(second, state, reset[:, 21:])  # the reset falls on the first token after a carried state
    torch.testing.assert_close(carried, alone, atol=1e-5, rtol=0)
    assert (model(torch.cat([first, second], 1))[0][:, 21:] - alone).abs().max() > 0.1


@pytest.mark.parametrize("start", [0, 7])
def test_blocks_of_queries_see_what_all_at_once_see(start: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two rows of packed documents, after a cache or not: keys before a block's first document are left out."""
    torch.manual_seed(0)
    model = SpeechTransformer(TransformerConfig.preset("tiny")).eval()
    tokens, reset = torch.randint(64, (2, 23)), torch.zeros(2, 23, dtype=torch.bool)
    reset[0, [0, 9, 15]] = reset[1, 11] = True
    state = model(torch.randint(64, (2, start)))[1] if start else None
    whole, after = model(tokens, state, reset)
    plain, _ = model(tokens, state)
    monkeypatch.setattr(transformer_module, "BLOCK", 4)
    parts = model._parts(torch.arange(23).expand(2, -1) % 9 + 1, start, True)
    assert len(parts) == 6 and min(part.keys.start for part in parts[3:]) > start
    blocks, state_after = model(tokens, state, reset)
    torch.testing.assert_close(blocks, whole, atol=1e-5, rtol=0)
    torch.testing.assert_close(model(tokens, state)[0], plain, atol=1e-5, rtol=0)
    assert all(torch.equal(a, b) for a, b in zip(state_after.layers[0], after.layers[0], strict=True))


@pytest.mark.parametrize("kind", ["attention", "recurrent"])
@settings(max_examples=10, deadline=None)
@given(cut=st.integers(1, 39))
def test_each_layer_streams(kind: str, cut: int) -> None:
    config = GriffinConfig.preset("tiny", window=WINDOW)
    torch.manual_seed(0)
    layer = LocalAttention(config) if kind == "attention" else RecurrentBlock(config)
    x, position = torch.randn(1, 40, 32), torch.arange(40)[None]
    whole, _ = layer(x, None, position)
    first, state = layer(x[:, :cut], None, position[:, :cut])
    second, _ = layer(x[:, cut:], state, position[:, cut:])
    torch.testing.assert_close(torch.cat([first, second], 1), whole, atol=1e-5, rtol=0)


@pytest.mark.parametrize("streamed", [False, True])
def test_a_query_sees_itself_and_window_keys_before(streamed: bool) -> None:
    layer = LocalAttention(GriffinConfig.preset("tiny", window=WINDOW))
    x, position = torch.randn(1, 3 * WINDOW, 32, requires_grad=True), torch.arange(3 * WINDOW)[None]
    if streamed:
        _, state = layer(x[:, :-1], None, position[:, :-1])
        y, _ = layer(x[:, -1:], state, position[:, -1:])
    else:
        y, _ = layer(x, None, position)
    y[0, -1].sum().backward()
    assert x.grad is not None
    seen = x.grad.abs().sum(-1)[0] > 0
    assert seen.tolist() == [False] * (2 * WINDOW - 1) + [True] * (WINDOW + 1)


def test_looking_back_less_is_a_smaller_window() -> None:
    torch.manual_seed(0)
    layer, small = (LocalAttention(GriffinConfig.preset("tiny", window=window)) for window in (WINDOW, 3))
    small.load_state_dict(layer.state_dict())
    x, position = torch.randn(2, 4 * WINDOW, layer.out.out_features), torch.arange(4 * WINDOW).expand(2, -1)
    with looking_back(layer, 3):
        torch.testing.assert_close(layer(x, None, position)[0], small(x, None, position)[0])
    assert not torch.allclose(layer(x, None, position)[0], small(x, None, position)[0])


def test_local_attention_is_what_the_formula_says() -> None:
    config = GriffinConfig.preset("tiny", window=WINDOW)
    layer, T = LocalAttention(config), 21
    x = torch.randn(1, T, 32)
    q, k, v = layer.qkv(x).split([32, 16, 16], -1)
    q = q.view(1, T, 2, 16).transpose(1, 2)
    distance = torch.arange(T)[:, None] - torch.arange(T)
    hidden = (distance < 0) | (distance > WINDOW)
    scores = (q @ k[:, None].mT / math.sqrt(16)).masked_fill(hidden, -math.inf)
    wanted = layer.out((scores.softmax(-1) @ v[:, None]).transpose(1, 2).flatten(-2))
    torch.testing.assert_close(layer(x, None, torch.arange(T)[None])[0], wanted, atol=1e-5, rtol=0)


@torch.inference_mode()
def test_the_state_of_griffin_never_grows_and_that_of_the_transformer_does() -> None:
    griffin, transformer = build("griffin"), build("transformer")
    sizes = {T: state_bytes(griffin(tokens_of(2, T))[1]) for T in (1, WINDOW, 3 * WINDOW + 1)}
    recurrent, attention = (3 * 32 + 32) * 4, 2 * WINDOW * 16 * 4
    assert set(sizes.values()) == {2 * (2 * recurrent + attention + 8)}
    storage = griffin(tokens_of(1, 500))[1].layers[2].keys.untyped_storage().nbytes()
    assert storage == WINDOW * 16 * 4  # and it holds on to nothing of a long prompt
    assert state_bytes(transformer(tokens_of(1, 30))[1]) == 30 * 3 * 2 * 16 * 4 + 8


def parameters(model: torch.nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def test_blocks_of_queries_may_be_smaller_than_the_window(monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokens, reset = (
        build("griffin"),
        tokens_of(2, 5 * WINDOW + 3),
        torch.zeros(2, 5 * WINDOW + 3, dtype=torch.bool),
    )
    reset[0, 13] = reset[1, 2 * WINDOW] = True
    found = []
    for size in (WINDOW, 3, 1):
        monkeypatch.setattr("lab.language.layers.BLOCK", size)
        _, state = model(tokens[:, :4])
        found.append(model(tokens, state, reset)[0])
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_the_logits_of_the_last_token_alone(kind: str) -> None:
    model, tokens = build(kind), tokens_of(2, 3 * WINDOW)
    whole, state = model(tokens)
    last, same = model(tokens, last=True)
    torch.testing.assert_close(last, whole[:, -1:])
    assert torch.equal(same.length, state.length)


def test_parameter_counts() -> None:
    with torch.device("meta"):
        for name, wanted in (
            ("2b", 2_027_502_080),
            ("9b", 7_531_401_216),
        ):  # RecurrentGemma without the embedding
            model = Griffin(GriffinConfig.preset(name))
            assert parameters(model) - model.embedding.numel() == wanted
        assert parameters(Griffin(GriffinConfig.preset("laptop"))) == 2_845_632
        assert parameters(Griffin(GriffinConfig.preset("lab"))) == 7_476_992
        assert parameters(Griffin(GriffinConfig.preset("medium"))) == 56_908_288
        for name in ("tiny", "laptop", "lab", "medium", "2b"):
            ours = parameters(SpeechTransformer(TransformerConfig.preset(name)))
            assert ours == pytest.approx(parameters(Griffin(GriffinConfig.preset(name))), rel=0.03)
        gemma = SpeechTransformer(TransformerConfig.preset("2b"))  # 2.96 % fewer than Griffin
        assert parameters(gemma) - gemma.embedding.numel() == 1_981_884_416  # Gemma-2B without the embedding
    assert GriffinConfig.preset("2b").blocks.count("attention") == 8
    assert GriffinConfig.preset("9b").blocks.count("attention") == 12


def test_configs_go_through_json_and_name_what_is_wrong() -> None:
    config = GriffinConfig.preset("lab", vocabulary=300)
    assert GriffinConfig(**json.loads(json.dumps(asdict(config)))) == config
    baseline = TransformerConfig.preset("laptop")
    assert TransformerConfig(**json.loads(json.dumps(asdict(baseline)))) == baseline
    for bad, message in (
        (lambda: GriffinConfig.preset("3b"), "no preset '3b'"),
        (lambda: GriffinConfig.preset("tiny", depth=3), "no field 'depth'"),
        (lambda: GriffinConfig.preset("tiny", window=0), "window must be 1 or more, not 0"),
        (lambda: GriffinConfig.preset("tiny", heads=3), "multiple of heads 3"),
        (lambda: GriffinConfig.preset("tiny", lambda_init="long"), "not 'long'"),
        (lambda: TransformerConfig.preset("tiny", context=-1), "context must be 1 or more, not -1"),
    ):
        with pytest.raises(LabError, match=message):
            bad()


@pytest.mark.parametrize("threads", [1, 3])
def test_a_gate_in_one_pass_is_gelu_times_the_value(monkeypatch: pytest.MonkeyPatch, threads: int) -> None:
    """Of halves of one tensor and of two, by any number of threads; with a gradient it is torch's."""
    monkeypatch.setattr(fused, "SMALL", 0)
    monkeypatch.setattr(fused, "FEW", 0)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    both = 4 * torch.randn(2, 7, 26, generator=torch.Generator().manual_seed(0))
    both[0, 0, :4] = torch.tensor([0.0, 60.0, -60.0, math.nan])
    halves, apart = both.chunk(2, -1), (both[..., :13].clone(), both[..., 13:])
    wanted = F.gelu(halves[0], approximate="tanh") * halves[1]
    with torch.no_grad():
        for gate, value in (halves, apart, tuple(part[:, -1:] for part in halves)):
            y = fused.gated(gate, value)
            torch.testing.assert_close(y, wanted[:, -gate.shape[1] :], atol=4e-6, rtol=4e-6, equal_nan=True)
            monkeypatch.setattr(compiled.threading, "Timer", None)  # what is compiled once is watched no more
        assert fused.gated(*(part.bfloat16() for part in halves)).dtype == torch.bfloat16
    gate = halves[0].clone().requires_grad_()
    assert fused.gated(gate, halves[1]).requires_grad


@pytest.mark.parametrize(("kind", "shortest", "longest"), [("paper", 13.1, 1386), ("recurrentgemma", 1.64, 173.2)])
def test_half_lives_at_init(kind: str, shortest: float, longest: float) -> None:
    """In tokens, with half-open gates: a_t = exp(-8 * 0.5 * softplus(Lambda))."""
    torch.manual_seed(0)
    half_lives = math.log(2) / (8 * 0.5 * F.softplus(initial_lambda(20_000, kind)))
    assert shortest * 0.99 < half_lives.min() < shortest * 1.02
    assert longest * 0.9 < half_lives.max() < longest * 1.01


def test_init_and_soft_cap() -> None:
    model = build("griffin")
    assert isinstance(model, Griffin)
    assert model.embedding.std().item() == pytest.approx(1 / math.sqrt(32), rel=0.1)
    model.embedding.data.mul_(100)
    assert 29 < model(tokens_of(1, 10))[0].abs().max() <= 30


@pytest.mark.parametrize("kind", KINDS)
def test_bad_tokens(kind: str) -> None:
    model, good = build(kind), tokens_of(2, 5)
    _, state = model(good)
    shallow = build(kind, layers=2)(good)[1]
    for arguments, message in (
        ((torch.tensor([[3, 64]]),), "token 64 is not in the vocabulary, 0 to 63"),
        ((torch.tensor([[-1, 3]]),), "token -1"),
        ((good[0],), r"must be \(B, T\)"),
        ((good[:, :0],), r"must be \(B, T\)"),
        ((good.int(),), "must be int64, not torch.int32"),
        ((good.float(),), "must be int64"),
        ((good.numpy(),), "tokens must be a tensor, not ndarray"),
        ((good.tolist(),), "tokens must be a tensor, not list"),
        ((good.to("meta"),), "tokens are on meta and the model on cpu"),
        ((good[:1], state), "the state is of 2 sequences and tokens of 1"),
        ((good, torch.zeros(2)), "must be a (Griffin|Transformer)State, not Tensor"),
        ((good, shallow), "the state has 2 layers and .* 3"),
        ((good, state._replace(length=state.length.to("meta"))), "the state is on meta"),
        ((good, None, torch.zeros(2, 5)), "reset must be"),
        ((good, None, [[True] * 5] * 2), "reset must be a tensor, not list"),
    ):
        with pytest.raises(LabError, match=message):
            model(*arguments)


@pytest.mark.parametrize("kind", ["griffin", "transformer"])
def test_a_model_compiles_to_one_graph(kind: str) -> None:
    """Forward and backward, with a reset inside; and a step from the state after it."""
    model, tokens, reset = build(kind), tokens_of(2, 9), torch.arange(18).view(2, 9) == 4
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    (whole, state), (found, after) = model(tokens, None, reset), compiled(tokens, None, reset)
    torch.testing.assert_close((found, after), (whole, state))
    weights = list(model.parameters())
    wanted = torch.autograd.grad(whole.square().sum(), weights)
    torch.testing.assert_close(torch.autograd.grad(found.square().sum(), weights), wanted)
    with torch.no_grad():
        torch.testing.assert_close(compiled(tokens[:, :1], state)[0], model(tokens[:, :1], state)[0])


def test_lambda_stays_in_float32_when_a_model_is_cast() -> None:
    model = build("griffin")
    before = model.blocks[0].mix.lambda_.detach().clone()
    for cast in (model.bfloat16(), model.half(), model.float(), model.to(torch.bfloat16)):
        assert torch.equal(cast.blocks[0].mix.lambda_, before) and cast.blocks[0].mix.lambda_.requires_grad
    assert model.blocks[0].mix.conv_weight.dtype == model.embedding.dtype == torch.bfloat16
    assert model(tokens_of(1, 5))[0].dtype == torch.bfloat16
    assert model.double().blocks[0].mix.lambda_.dtype == torch.float64
    assert model.to("meta").blocks[0].mix.lambda_.is_meta


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_serves_as_a_language_model(kind: str) -> None:
    model = build(kind)
    assert isinstance(model, LanguageModel)
    assert (model.vocabulary, model.device.type) == (64, "cpu")
    assert model.context == (64 if kind == "transformer" else None)


@pytest.mark.parametrize("kind", KINDS)
def test_it_learns_a_repeating_sequence(kind: str) -> None:
    model = build(kind).train()
    phrase = torch.randperm(64, generator=seeded())[:20].repeat(4)[None].expand(2, -1)
    reset = torch.zeros(2, 79, dtype=torch.bool)
    reset[1, 40] = True
    optimiser = torch.optim.AdamW(model.parameters(), 1e-2)
    losses = []
    for _ in range(25):
        logits, _ = model(phrase[:, :-1], reset=reset)
        loss = F.cross_entropy(logits.flatten(0, 1), phrase[:, 1:].flatten())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[0] > 3 and losses[-1] < 0.3
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())
