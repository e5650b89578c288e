"""lab.language.lean and decode: a step by numba is a step of the model, in all that it leaves behind."""

from __future__ import annotations

import copy
from threading import Event, Thread

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from lab.errors import LabError
from lab.language import Griffin, GriffinConfig, SpeechTransformer, TransformerConfig, decode, generate, integers, lean
from lab.language.decode import MAX_ROWS, Forward, decoder
from lab.language.layers import AttentionState
from lab.language.lean import Stepper
from lab.language.packed import Weights, pack

WINDOW = 16


def griffin(seed: int = 0, **overrides: object) -> Griffin:
    """Every parameter at random: none may hide behind the zero or one it starts from."""
    torch.manual_seed(seed)
    model = Griffin(GriffinConfig.preset("tiny", window=WINDOW, **overrides)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.requires_grad_(False)


def tokens_of(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(64, shape, generator=torch.Generator().manual_seed(seed))


def assert_same_state(found: object, wanted: object) -> None:
    assert type(found) is type(wanted)
    if isinstance(wanted, Tensor):
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)
    else:
        for one, other in zip(found, wanted, strict=True):  # type: ignore[call-overload]
            assert_same_state(one, other)


@pytest.mark.parametrize("layers", [2, 3, 8])  # 2: no attention at all
@pytest.mark.parametrize("before", [1, 5, 3 * WINDOW + 1])
def test_a_step_is_a_step_of_the_model(before: int, layers: int) -> None:
    rope = (layers == 3) != (before == 5)  # with each length, and each number of layers that has attention
    model, prompt, more = griffin(rope=rope, layers=layers), tokens_of(2, before), tokens_of(2, 2 * WINDOW + 5, seed=1)
    reset = torch.zeros(2, before, dtype=torch.bool)
    reset[1, before // 2] = True  # stories of unlike ages
    _, state = model(prompt, reset=reset)
    stepper = Stepper(pack(model), state)
    for tokens in more.unbind(1):
        wanted, state = model(tokens[:, None], state)
        torch.testing.assert_close(stepper.step(tokens), wanted[:, 0], atol=1e-5, rtol=0)
        if before == 5:
            assert_same_state(stepper.state, state)
    assert_same_state(stepper.state, state)


def test_threads_share_the_work_without_a_trace() -> None:
    model = griffin()
    _, state = model(tokens_of(3, 9))
    logits = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        stepper = Stepper(pack(model), state)
        logits.append([stepper.step(tokens_of(3, seed=seed)) for seed in range(3)])
    torch.set_num_threads(1)
    for one, two in zip(*logits, strict=True):
        torch.testing.assert_close(one, two, atol=1e-6, rtol=0)


def test_a_step_reads_no_slot_that_holds_nothing_yet() -> None:
    """Stories of 3 and 5 tokens have 5 slots in use, of a window of 16."""
    model, prompt = griffin(), tokens_of(2, 5)
    reset = torch.zeros(2, 5, dtype=torch.bool)
    reset[0, 2] = True
    _, state = model(prompt, reset=reset)
    layers = [copy.deepcopy(layer) for layer in state.layers]
    for layer in layers:
        if isinstance(layer, AttentionState):
            layer.keys[:, 5:] = layer.values[:, 5:] = torch.nan  # 0 shares of which are still NaN
    newest = tokens_of(2, 1, seed=1)
    found, _ = model(newest, state._replace(layers=tuple(layers)))
    torch.testing.assert_close(found, model(newest, state)[0])


def test_the_given_state_stays_as_it_was_and_so_does_the_one_taken() -> None:
    model = griffin()
    _, state = model(tokens_of(1, 7))
    kept = copy.deepcopy(state)
    stepper = Stepper(pack(model), state)
    stepper.step(tokens_of(1))
    taken = stepper.state
    kept_too = copy.deepcopy(taken)
    for seed in range(3):
        stepper.step(tokens_of(1, seed=seed))
    assert_same_state(state, kept)
    assert_same_state(taken, kept_too)


def test_a_story_may_begin_with_the_step() -> None:
    model = griffin()
    _, state = model(tokens_of(2, 3))
    state = state._replace(length=torch.tensor([3, 0]))  # the second row begins anew
    wanted, _ = model(tokens_of(2, 1, seed=1), state)
    torch.testing.assert_close(Stepper(pack(model), state).step(tokens_of(2, 1, seed=1)[:, 0]), wanted[:, 0])


@pytest.mark.parametrize("weights", ["float32", "int8"])
def test_all_weights_lie_in_one_block_by_lines_of_the_cache(weights: Weights) -> None:
    arrays = [part for part in tree_leaves(tuple(pack(griffin(), weights)[1:])) if isinstance(part, np.ndarray)]
    starts = np.array([array.ctypes.data for array in arrays])
    assert len(arrays) == 29 and (starts % 64 == 0).all() and (np.diff(starts) > 0).all()
    assert starts[-1] + arrays[-1].nbytes - starts[0] < sum(array.nbytes + 64 for array in arrays)


def test_int8_is_the_model_with_rounded_matrices() -> None:
    model, rounded = griffin(), griffin()
    for name, values in rounded.named_parameters():
        if values.ndim == 2 and "conv" not in name:
            rows = values
        elif name.endswith("gates.weight"):
            rows = values.transpose(-1, -2)  # (2, H, out, in): a row makes one number
        else:
            continue
        scale = rows.abs().amax(-1, keepdim=True) / 127
        rows.copy_((rows / scale).round() * scale)
    _, state = model(tokens_of(1, 20))
    packed = pack(model, "int8")
    stepper = Stepper(packed, state)
    for tokens in tokens_of(8, 1, seed=1):
        wanted, state = rounded(tokens[None], state)
        # in integers what the matrices meet is rounded to 16 bits; the rounding of the matrices is 1e-2 and more
        torch.testing.assert_close(stepper.step(tokens), wanted[:, 0], atol=5e-4, rtol=0)
    assert packed.weights.nbytes * 4 == pack(model).weights.nbytes
    other = Stepper(pack(model), model(tokens_of(1, 20))[1]).step(tokens_of(1))
    assert not torch.allclose(Stepper(packed, model(tokens_of(1, 20))[1]).step(tokens_of(1)), other, atol=1e-3)


@pytest.mark.parametrize(("block", "K"), [(32, 32), (256, 256), (64, 256), (48, 96)])
def test_products_of_floats(block: int, K: int) -> None:
    """By lanes where they divide a row, 48 they do not; each block of a block-diagonal matrix; NaN comes through."""
    rng = np.random.default_rng(0)
    weight, x = rng.standard_normal((2 * K, block)).astype(np.float32), rng.standard_normal((3, K)).astype(np.float32)
    scale, bias = rng.random((2, 2 * K), np.float32)
    parts = np.stack([x[:, at : at + block] for at in np.arange(2 * K) % K // block * block], 1)  # (B, N, block)
    wanted, y = (parts * weight).sum(-1) * scale + bias, np.ones((3, 2 * K), np.float32)
    lean._by_floats(weight, scale, bias, x, y, True)
    np.testing.assert_allclose(y, 1 + wanted, atol=1e-4)
    x[0, -1] = np.nan
    lean._by_floats(weight, scale, bias, x, y, False)
    assert np.isnan(y[0, K - block : K]).all() and np.isfinite(y[0, : K - block]).all() and np.isfinite(y[1:]).all()


@pytest.mark.skipif(not integers.has_vnni(), reason="this processor has no VNNI")
@pytest.mark.parametrize(("block", "K"), [(32, 32), (256, 256), (64, 256), (4096, 4096)])
def test_products_in_integers_are_those_of_the_rounded_matrices(block: int, K: int) -> None:
    """All weights and a vector at their largest, too, where a sum of 16 bits would leave int32; zeros, and NaN."""
    rng = np.random.default_rng(0)
    N = max(8, min(K, 512))  # of each block some rows
    weight = rng.integers(-127, 128, (N, block)).astype(np.int8)
    weight[4] = 127
    scale, bias = rng.random((2, N), np.float32)
    x = np.stack([rng.standard_normal(K), np.full(K, 9.0), np.zeros(K), np.full(K, -9.0)]).astype(np.float32)
    first = np.arange(N) % K // block * block
    parts = np.stack([x[:, at : at + block] for at in first], 1).astype(np.float64)  # (B, N, block)
    wanted = 1 + (parts * weight).sum(-1) * scale + bias
    y = np.ones((4, N), np.float32)
    integers.product(weight, scale, bias, x, y, True)
    half = 0.5 * np.abs(x).max(-1, keepdims=True) / min(integers.LARGEST, integers.LIMIT // block)  # a whole number's
    off = half * np.abs(weight).sum(-1, dtype=np.int64) * scale
    assert (np.abs(y - wanted) <= 1.01 * off + 1e-6 * np.abs(wanted)).all()
    x[0] = np.nan
    integers.product(weight, scale, bias, x, y, False)
    assert np.isnan(y[0]).all() and np.isfinite(y[1:]).all()


def test_the_decoder_for_each_case() -> None:
    model = griffin()
    transformer = SpeechTransformer(TransformerConfig.preset("tiny")).eval()

    def of(model: Griffin | SpeechTransformer, rows: int, **options: str) -> object:
        return decoder(model, model(tokens_of(rows, 4))[1], **options)  # type: ignore[arg-type]

    assert isinstance(of(model, MAX_ROWS), Stepper) and isinstance(of(model, MAX_ROWS + 1), Forward)
    assert isinstance(of(model, MAX_ROWS + 1, weights="int8"), Stepper)
    assert isinstance(of(transformer, 1), Forward) and isinstance(of(griffin().bfloat16(), 1), Forward)
    with pytest.raises(LabError, match="only Griffin steps with int8 weights, not SpeechTransformer"):
        of(transformer, 1, weights="int8")
    with pytest.raises(LabError, match="float32 Griffin on the CPU can be packed, this one is torch.bfloat16 on cpu"):
        of(griffin().bfloat16(), 1, weights="int8")


def test_nobody_waits_while_the_step_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    model, compiled, threads = griffin(), Event(), list[Thread]()

    def story() -> decode.Any:
        return generate(model, tokens_of(5), generator=torch.Generator().manual_seed(0), max_tokens=12)

    def compiler(stepper: Stepper) -> Thread:
        threads.append(Thread(target=compiled.wait))
        threads[-1].start()
        return threads[-1]

    def never(*_: object) -> Tensor:
        raise AssertionError("not now")

    wanted = list(story())
    monkeypatch.setattr(Stepper, "compiler", compiler)
    monkeypatch.setattr(decode, "PATIENCE", 0.01)
    made = story()
    with monkeypatch.context() as before:
        before.setattr(Stepper, "step", never)
        found = [next(made) for _ in range(6)]
    early = made.state
    compiled.set()
    threads[0].join()
    with monkeypatch.context() as after:
        after.setattr(Forward, "step", never)
        assert found + list(made) == wanted
    assert early.length == 5 + 5 and made.state.length == 5 + 11, "a state is a value"


@pytest.mark.parametrize("rope", [False, True])
def test_what_is_compiled_ahead_is_what_a_step_calls(rope: bool) -> None:
    model = griffin(rope=rope)
    stepper = Stepper(pack(model), model(tokens_of(1, 4))[1])
    stepper.step(tokens_of(1))
    before = list(lean._step.signatures)
    stepper.compiler().join()
    assert lean._step.signatures == before


def test_bad_tokens_are_named_before_a_kernel_reads_with_them() -> None:
    model = griffin()
    stepper = Stepper(pack(model), model(tokens_of(2, 4))[1])
    for bad, message in (
        (torch.tensor([1, 64]), "token 64 is not in the vocabulary"),
        (torch.tensor([1]), "state is of 2 sequences and tokens of 1"),
        (torch.tensor([1.0, 2.0]), "tokens must be int64"),
    ):
        with pytest.raises(LabError, match=message):
            stepper.step(bad)


@pytest.mark.parametrize("rows", [3, MAX_ROWS + 1])
@pytest.mark.parametrize("kind", ["griffin", "transformer"])
def test_stories_side_by_side_are_the_stories_one_by_one(kind: str, rows: int) -> None:
    model = griffin() if kind == "griffin" else SpeechTransformer(TransformerConfig.preset("tiny")).eval()
    prompts, generator = tokens_of(rows, 5), torch.Generator().manual_seed(0)
    together = torch.stack(list(generate(model, prompts, generator=generator, temperature=0, max_tokens=30)), 1)
    for prompt, row in zip(prompts, together, strict=True):
        assert list(generate(model, prompt, generator=generator, temperature=0, max_tokens=30)) == row.tolist()
    drawn = [
        torch.stack(list(generate(model, prompts, generator=torch.Generator().manual_seed(s), max_tokens=8)))
        for s in (1, 1, 2)
    ]
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])


def test_generate_steps_with_the_weights_asked_for() -> None:
    model, prompt = griffin(), tokens_of(20)
    story = generate(model, prompt, generator=torch.Generator(), weights="int8")
    first, _ = next(story), next(story)
    stepper = Stepper(pack(model, "int8"), model(prompt[None])[1])
    torch.testing.assert_close(story.logits, stepper.step(torch.tensor([first]))[0], atol=2e-4, rtol=0)
