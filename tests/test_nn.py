"""lab.nn: the layers that two rooms share. The residual quantizer is tested with the codec."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from lab.errors import LabError
from lab.nn import ConvNeXtBlock, RMSNorm, VectorQuantizer, attend
from lab.nn.convnext import DepthwiseConv
from lab.nn.linear import Linear
from lab.nn.rotary import rotate
from lab.nn.sampling import check_scale, generator_of, sample


def seeded(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=15)
@given(B=st.integers(1, 3), T=st.integers(1, 20), width=st.integers(1, 9), half=st.integers(0, 8))
def test_depthwise_convolution_is_conv1d(B: int, T: int, width: int, half: int) -> None:
    """Outputs and both gradients, at kernels longer than the input too."""
    layer = DepthwiseConv(width, 2 * half + 1)
    x, weight = seeded(B, T, width), layer.weight.detach()[:, 0].clone()
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    weight.requires_grad_()
    y = layer(ours)
    expected = F.conv1d(theirs.mT, weight, layer.bias, padding=half, groups=width).mT
    torch.testing.assert_close(y, expected, atol=1e-5, rtol=1e-5)
    (y * seeded(*y.shape, seed=1)).sum().backward()
    (expected * seeded(*y.shape, seed=1)).sum().backward()
    assert layer.weight.grad is not None
    torch.testing.assert_close(layer.weight.grad[:, 0], weight.grad, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("fast", [False, True])
def test_a_linear_layer_rounds_its_factors_where_nothing_learns(monkeypatch: pytest.MonkeyPatch, fast: bool) -> None:
    monkeypatch.setattr("lab.machine.fast_bf16", lambda device: fast)
    for bias in (True, False):
        layer, x = Linear(48, 24, bias), seeded(2, 7, 48)
        exact = torch.nn.Linear.forward(layer, x).detach()
        assert torch.equal(layer(x), exact)  # with a gradient
        with torch.no_grad():
            y = layer(x)
        assert y.dtype == torch.float32 and torch.equal(y, exact) is not fast
        assert float((y - exact).norm() / exact.norm()) < 5e-3


def test_a_block_begins_near_the_identity_and_reaches_half_a_kernel() -> None:
    block = ConvNeXtBlock(8, kernel=5)
    x = seeded(1, 21, 8)
    torch.testing.assert_close(ConvNeXtBlock(8, kernel=5, scale=0.0)(x), x)
    changed = x.clone()
    changed[:, 10] += 1
    moved = (block(changed) - block(x)).abs().amax((0, 2)) > 0
    assert moved.nonzero()[:, 0].tolist() == [8, 9, 10, 11, 12]


def test_rms_norm() -> None:
    norm = RMSNorm(4)
    x = torch.tensor([[3.0, -4.0, 0.0, 0.0]])
    torch.testing.assert_close(norm(x), x / 2.5)  # sqrt((9 + 16) / 4)
    with torch.no_grad():
        norm.scale[0] = 1.0
    torch.testing.assert_close(norm(x), torch.tensor([[2.4, -1.6, 0.0, 0.0]]))


def test_rms_norm_is_the_same_where_nothing_learns() -> None:
    norm, x = RMSNorm(24), torch.cat([seeded(2, 5, 24), 1e-3 * seeded(2, 5, 24), torch.zeros(2, 1, 24)], 1)
    norm.scale.data = seeded(24, seed=1)
    with torch.no_grad():
        y = norm(x.mT.contiguous().mT)
    torch.testing.assert_close(y, norm(x).detach(), atol=2e-6, rtol=2e-6)


def test_rms_norm_in_half_precision_has_statistics_in_single() -> None:
    """The squares of 300 and more are beyond what half precision holds."""
    y = RMSNorm(8)(torch.full((1, 8), 1000.0, dtype=torch.float16))
    assert y.dtype == torch.float16
    torch.testing.assert_close(y, torch.ones(1, 8, dtype=torch.float16))


# Vector quantization


def clusters(count: int = 4, each: int = 32, width: int = 6, spread: float = 0.05) -> tuple[Tensor, Tensor]:
    """Centres (count, width), orthogonal enough, and noisy samples (count * each, width) of them in order."""
    centres = 2 * torch.eye(width)[:count] + 1
    return centres, centres.repeat_interleave(each, 0) + spread * seeded(count * each, width)


@pytest.mark.parametrize("cosine", [False, True])
@settings(max_examples=15)
@given(seed=st.integers(0, 1000))
def test_nearest_is_nearest(cosine: bool, seed: int) -> None:
    quantizer = VectorQuantizer(7, 3, cosine=cosine).eval()
    quantizer.codebook.copy_(quantizer.on_sphere(seeded(7, 3, seed=seed)))
    x = seeded(2, 5, 3, seed=seed + 1)
    distance = torch.cdist(F.normalize(x, dim=-1) if cosine else x, quantizer.codebook[None].expand(2, -1, -1))
    quantized, indices = quantizer(x)
    assert torch.equal(indices, distance.argmin(-1))
    assert torch.equal(indices, quantizer.nearest(x * 3 if cosine else x))
    torch.testing.assert_close(quantized, quantizer.codebook[indices])


@pytest.mark.parametrize("cosine", [False, True])
def test_codes_become_the_means_of_their_clusters(cosine: bool) -> None:
    torch.manual_seed(0)
    centres, x = clusters()
    quantizer = VectorQuantizer(4, 6, cosine=cosine, decay=0.8)
    for _ in range(40):
        quantized, indices = quantizer(x)
    assert len(indices.unique()) == 4
    assert all(len(group.unique()) == 1 for group in indices.view(4, 32))
    centres = F.normalize(centres, dim=-1) if cosine else centres
    torch.testing.assert_close(quantized.view(4, 32, 6)[:, 0], centres, atol=0.05, rtol=0)
    if cosine:
        torch.testing.assert_close(quantizer.codebook.norm(dim=-1), torch.ones(4))


def test_the_gradient_passes_straight_through() -> None:
    quantizer = VectorQuantizer(5, 3).eval()
    quantizer.codebook.copy_(seeded(5, 3))
    x, weight = seeded(4, 3, seed=1).requires_grad_(), seeded(4, 3, seed=2)
    (quantizer(x)[0] * weight).sum().backward()
    torch.testing.assert_close(x.grad, weight)


def test_the_gradient_of_a_cosine_keeps_the_length() -> None:
    """Only the direction counts, so no gradient points along x."""
    quantizer = VectorQuantizer(5, 3, cosine=True).eval()
    quantizer.codebook.copy_(F.normalize(seeded(5, 3), dim=-1))
    x = seeded(4, 3, seed=1).requires_grad_()
    (quantizer(x)[0] * seeded(4, 3, seed=2)).sum().backward()
    assert x.grad is not None and x.grad.abs().max() > 0.1
    torch.testing.assert_close((x.grad * x).sum(-1), torch.zeros(4), atol=1e-6, rtol=0)


def test_dead_codes_are_put_where_inputs_are() -> None:
    torch.manual_seed(0)
    _, x = clusters()
    quantizer = VectorQuantizer(16, 6, decay=0.5)
    quantizer(x)
    elsewhere = x + 50  # every code is far away: one takes all, the rest dies
    quantizer(elsewhere)
    assert len(quantizer(elsewhere)[1].unique()) < 4
    for _ in range(20):
        _, indices = quantizer(elsewhere)
    assert len(indices.unique()) >= 12
    assert torch.cdist(quantizer.codebook, elsewhere).amin(1).max() < 1


def test_without_restarts_they_stay_dead() -> None:
    """What the test above would see if nothing were restarted."""
    torch.manual_seed(0)
    _, x = clusters()
    quantizer = VectorQuantizer(16, 6, decay=0.5, dead=0.0)
    quantizer(x)
    for _ in range(20):
        _, indices = quantizer(x + 50)
    assert len(indices.unique()) < 4


def test_padding_does_not_move_the_codebook() -> None:
    _, x = clusters()
    padded = torch.cat([x, torch.full((64, 6), 99.0)])
    valid = torch.arange(len(padded)) < len(x)
    plain, masked = VectorQuantizer(4, 6), VectorQuantizer(4, 6)
    for _ in range(5):
        torch.manual_seed(0)
        plain(x)
        torch.manual_seed(0)
        quantized, indices = masked(padded[None], valid[None])
    assert quantized.shape == (1, len(padded), 6) and indices.shape == (1, len(padded))
    torch.testing.assert_close(masked.codebook, plain.codebook)
    torch.testing.assert_close(masked.usage, plain.usage)
    before = masked.codebook.clone()
    masked(padded[None], torch.zeros_like(valid)[None])
    assert torch.equal(masked.codebook, before)


SPOILT = pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e30])


@SPOILT
@pytest.mark.parametrize("cosine", [False, True])
def test_vectors_that_are_not_finite_do_not_move_the_codebook(value: float, cosine: bool) -> None:
    """One of them or all, in the batch that k-means starts from or in a later one."""
    _, x = clusters()
    spoilt = x.clone()
    spoilt[5, 2] = value
    plain, other = (VectorQuantizer(4, 6, cosine=cosine) for _ in range(2))
    other(torch.full_like(x, value))
    assert not other.started and not other.codebook.any()
    for _ in range(3):
        plain(torch.cat([x[:5], x[6:]]))
        quantized, indices = other(spoilt)
        other(torch.full_like(x, value))
    for name, buffer in plain.named_buffers():
        assert torch.equal(buffer, other.get_buffer(name)), name
    assert indices.max() < 4 and torch.equal(quantized.isfinite().all(-1), torch.arange(len(x)) != 5) or value == 1e30


def test_the_same_batches_give_the_same_codebook() -> None:
    """Whatever was drawn from the global generator in between, and after a checkpoint."""
    first, second = (VectorQuantizer(16, 6, decay=0.5) for _ in range(2))
    for number in range(6):
        x = seeded(64, 6, seed=number) + 20 * (number % 2)  # so that codes die
        first(x)
        torch.manual_seed(number)
        if number == 3:
            weights = second.state_dict()
            second = VectorQuantizer(16, 6, decay=0.5)
            second.load_state_dict(weights)
        second(x)
    assert torch.equal(first.codebook, second.codebook)


def test_only_training_moves_the_codebook() -> None:
    quantizer = VectorQuantizer(4, 6)
    x = clusters()[1]
    quantizer.eval()(x)
    assert not quantizer.codebook.any() and not quantizer.started
    quantizer.train()(x)
    assert quantizer.codebook.any() and quantizer.started
    before = quantizer.codebook.clone()
    quantizer.eval()(x + 1)
    assert torch.equal(quantizer.codebook, before)


def test_weights_without_averages_are_trained_on_from_where_they_are() -> None:
    """A bundle leaves the averages out; k-means must not start over."""
    centres, x = clusters()
    first = VectorQuantizer(4, 6)
    first(x)
    for seed in range(4):  # k-means would give the codes another order, but for luck
        torch.manual_seed(seed)
        other = VectorQuantizer(4, 6)
        other.load_state_dict({"codebook": first.codebook}, strict=False)
        assert torch.equal(other.codebook, first.codebook)
        other(x)
        assert torch.equal(other.nearest(centres), first.nearest(centres))
    whole = VectorQuantizer(4, 6)
    whole.load_state_dict(first.state_dict())
    assert torch.equal(whole.sums, first.sums) and torch.equal(whole.usage, first.usage)


@pytest.mark.parametrize("heads", [1, 3], ids=["shared", "own"])
@pytest.mark.parametrize("kind", ["mask", "causal", "all"])
def test_attention_in_bfloat16_is_attention(kind: str, heads: int) -> None:
    torch.manual_seed(0)
    query, key, value = (torch.randn(2, count, 7, 16) for count in (3, heads, heads))
    mask = (torch.rand(2, 1, 7, 7) < 0.5) | torch.eye(7, dtype=torch.bool) if kind == "mask" else None
    wanted = attend(query, key, value, mask, kind == "causal")
    found = attend(query.bfloat16(), key.bfloat16(), value.bfloat16(), mask, kind == "causal")
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), wanted, atol=0.03, rtol=0)
    first = attend(query, key, value, causal=True)[:, :, 0]
    assert torch.equal(first, value[:, :, 0].expand_as(first))


def test_a_padded_row_that_sees_nothing_has_finite_gradients() -> None:
    torch.manual_seed(0)
    query, key, value = (torch.randn(2, count, 7, 16).bfloat16().requires_grad_() for count in (3, 1, 1))
    mask = torch.ones(7, 7, dtype=torch.bool).tril()[None, None].clone()
    mask[:, :, -1] = False
    attend(query, key, value, mask)[:, :, :-1].sum().backward()
    assert all(x.grad is not None and x.grad.isfinite().all() for x in (query, key, value))


def test_codes_are_chosen_in_float32_under_autocast() -> None:
    torch.manual_seed(0)
    quantizer = VectorQuantizer(64, 8).eval()
    quantizer.codebook.normal_()
    near = quantizer.codebook + 1e-3 * torch.randn(64, 8)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(quantizer.nearest(near), torch.arange(64))
        assert quantizer.scores(near).dtype == torch.float32


# Rotary positions, sampling


def test_rotation_tells_distances_only() -> None:
    query, key = torch.randn(2, 1, 1, 1, 8)

    def score(at: int, to: int) -> Tensor:
        return (rotate(query, torch.tensor([[at]])) * rotate(key, torch.tensor([[to]]))).sum()

    torch.testing.assert_close(score(5, 2), score(1003, 1000), atol=1e-3, rtol=1e-3)
    assert not torch.isclose(score(5, 2), score(5, 4), atol=1e-3)
    half = rotate(query, torch.tensor([[7]]), 4)
    assert torch.equal(half[..., 4:], query[..., 4:]) and not torch.isclose(half[..., :4], query[..., :4]).all()


def test_any_integer_is_a_seed() -> None:
    def first(seed: int, *stream: int) -> float:
        return float(torch.rand((), generator=generator_of(seed, *stream)))

    assert first(7) == float(torch.rand((), generator=torch.Generator().manual_seed(7)))
    for seed in (0, -1, 2**63, 2**64 - 1, 10**30, -(10**30)):
        assert first(seed) == first(seed) and first(seed, 3) != first(seed, 4)
    assert len({first(seed) for seed in (-1, 0, 1, 10**30)}) == 4
    for odd in ("7", 1.5, None):
        with pytest.raises(LabError, match="the seed must be an integer, not"):
            generator_of(odd)  # type: ignore[arg-type]


def test_sampling_draws_from_the_softmax() -> None:
    logits = torch.tensor([0.0, 1.0, -math.inf])
    drawn = sample(logits.expand(20_000, 3), 0.5, generator_of(0))
    assert float((drawn == 1).float().mean()) == pytest.approx(1 / (1 + math.exp(-2)), abs=0.01)
    assert not (drawn == 2).any()


@pytest.mark.parametrize("temperature", [0, 1e-40, 1e-300, 1e-7, 1e-5])
def test_at_the_smallest_temperatures_the_likeliest_is_drawn(temperature: float) -> None:
    logits = 30 * seeded(200, 50)
    assert torch.equal(sample(logits, temperature, generator_of(0)), logits.argmax(-1))


@pytest.mark.parametrize("uniform", [0.0, 1 - 2**-24], ids=["least", "most"])
def test_what_has_no_probability_is_never_drawn(uniform: float, monkeypatch: pytest.MonkeyPatch):
    """At either end of what the generator can give, where rounding would reach beyond the sum."""
    logits = seeded(200, 64)
    logits[:, [0, 1, 62, 63]] = -math.inf
    monkeypatch.setattr(torch, "rand", lambda shape, **_: torch.full(shape, uniform))
    drawn = sample(logits, 1.0, generator_of(0))
    assert drawn.min() >= 2 and drawn.max() <= 61


@pytest.mark.parametrize("scale", [math.nan, math.inf, -0.1, "1", None])
def test_a_scale_that_is_no_number_from_0_is_refused(scale: float) -> None:
    with pytest.raises(LabError, match=f"temperature must be 0 or more, not {scale}"):
        check_scale("temperature", scale)


def test_top_k_and_top_p_exclude_what_is_unlikely_and_change_no_other_share() -> None:
    logits = torch.tensor([0.4, 0.3, 0.2, 0.1]).log()
    for options, shares in (
        ({"top_k": 2}, [4 / 7, 3 / 7, 0, 0]),
        ({"top_p": 0.6}, [4 / 7, 3 / 7, 0, 0]),  # 0.4 is not enough
        ({"top_p": 1e-6}, [1, 0, 0, 0]),
        ({"top_k": 3, "top_p": 0.7}, [4 / 7, 3 / 7, 0, 0]),  # of the three, 0.44 and 0.33
        ({"top_k": 9, "top_p": 1.0}, [0.4, 0.3, 0.2, 0.1]),
    ):
        drawn = sample(logits.expand(20_000, 4), 1.0, generator_of(0), **options)
        found = torch.bincount(drawn, minlength=4) / 20_000
        torch.testing.assert_close(found, torch.tensor(shares, dtype=torch.float32), atol=0.015, rtol=0)
    plain = sample(seeded(50, 64), 0.8, generator_of(1))
    assert torch.equal(sample(seeded(50, 64), 0.8, generator_of(1), top_k=64, top_p=1.0), plain)


def test_a_row_with_its_own_generator_is_drawn_as_it_is_alone() -> None:
    logits = seeded(3, 64)
    together = sample(logits, 1.0, [generator_of(row) for row in range(3)])
    assert together.tolist() == [int(sample(logits[row], 1.0, generator_of(row))) for row in range(3)]
