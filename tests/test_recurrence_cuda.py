"""lab.recurrence.cuda on a CPU: its code as it runs on a GPU, over stand-ins that mean and mind what the kernels do.

The stand-ins follow the sources of mamba-ssm 2.3.2 and causal-conv1d 1.7.0: what they compute, in which precision,
what they refuse. `tests/gpu` runs the kernels themselves.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from lab.errors import LabError
from lab.recurrence import associative, backends, causal_conv1d, cuda, probe, reference, rg_lru
from tests.test_recurrence import (
    KINDS,
    OPS,
    W,
    assert_parity,
    conv_inputs,
    outputs_and_gradients,
    resets,
    scan_inputs,
)

LOG2E = 1.4426950408889634


class SelectiveScan(torch.autograd.Function):
    """selective_scan_fn(u, delta, A, B, C): h = exp(delta A) h + delta B u from h = 0, y = C h, one state a channel.

    Everything in the precision of A; y and the gradients of u and delta are rounded to the type of u.
    """

    @staticmethod
    def forward(ctx: Any, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
        batch, dim, T = u.shape
        assert u.dtype == delta.dtype and delta.shape == u.shape
        assert A.dtype in (torch.float32, torch.float64) and A.shape == B.shape == C.shape == (dim, 1)
        assert B.dtype == C.dtype == A.dtype and (B == 1).all() and (C == 1).all()
        for tensor in (u, delta):
            assert tensor.stride(-1) == 1 or T == 1  # else it copies
        a = torch.exp2(delta.to(A.dtype) * (A * LOG2E))
        a = a.masked_fill(a < torch.finfo(torch.float32).tiny, 0.0)  # --use_fast_math: no subnormals
        b = delta.to(A.dtype) * u.to(A.dtype)
        h, states = torch.zeros(batch, dim, dtype=A.dtype), []
        for t in range(T):
            h = a[..., t] * h + b[..., t]
            states.append(h)
        ctx.save_for_backward(u, delta, A, a, b, torch.stack(states, -1))
        return torch.stack(states, -1).to(u.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        u, delta, A, a, b, h = ctx.saved_tensors
        assert grads[0].dtype == u.dtype
        g, gradients = torch.zeros_like(h[..., 0]), []
        for t in reversed(range(h.shape[2])):
            g = grads[0][..., t].to(A.dtype) + (a[..., t + 1] * g if t + 1 < h.shape[2] else g)
            gradients.append(g)
        dh = torch.stack(gradients[::-1], -1)
        ddelta = dh * u.to(A.dtype) + dh * A * (h - b)  # h - b is a h_(t-1)
        return (dh * delta.to(A.dtype)).to(u.dtype), ddelta.to(u.dtype), None, None, None


class ChannelLast(torch.autograd.Function):
    """The gradient of the convolution's output, as its backward receives and checks it."""

    @staticmethod
    def forward(ctx: Any, out: Tensor) -> Tensor:
        return out.transpose(1, 2).contiguous().transpose(1, 2)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        dout = grads[0]
        if dout.stride(2) != 1 and dout.stride(1) != 1:
            dout = dout.contiguous()
        if dout.stride(1) != 1:
            dout = dout.transpose(1, 2).contiguous().transpose(1, 2)
        assert dout.stride(2) % 8 == 0 and dout.stride(0) % 8 == 0 and dout.data_ptr() % 16 == 0
        return dout


def causal_conv1d_fn(
    x: Tensor, weight: Tensor, bias: Tensor, seq_idx: Tensor | None = None, initial_states: Tensor | None = None
) -> Tensor:
    """x (B, D, L) channel-last. A tap of another seq_idx counts as 0; the state has that of the first token."""
    batch, dim, T = x.shape
    assert x.stride(1) == 1 and x.stride(2) > 1 and dim % 8 == 0
    assert x.stride(2) % 8 == 0 and x.stride(0) % 8 == 0 and x.data_ptr() % 16 == 0
    assert weight.shape[0] == dim and 2 <= (width := weight.shape[1]) <= 4
    assert bias.shape == (dim,) and bias.dtype == weight.dtype and bias.stride(0) == 1
    assert seq_idx is not None and seq_idx.dtype == torch.int32
    assert seq_idx.is_contiguous() and seq_idx.shape == (batch, T)
    assert initial_states is not None and initial_states.shape == (batch, dim, width - 1)
    assert initial_states.dtype == x.dtype and initial_states.stride(1) == 1 and initial_states.data_ptr() % 16 == 0
    taps = torch.cat([initial_states, x], 2).to(weight.dtype).unfold(2, width, 1)  # (B, D, L, W)
    document = torch.cat([seq_idx[:, :1].expand(-1, width - 1), seq_idx], 1).unfold(1, width, 1)  # (B, L, W)
    seen = (document == seq_idx[..., None])[:, None]
    out = (taps * seen * weight[:, None]).sum(-1) + bias[:, None]
    return ChannelLast.apply(out.to(x.dtype))


@torch.no_grad()
def causal_conv1d_update(x: Tensor, conv_state: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x (B, D); conv_state (B, D, W - 1) is shifted by one, in place. It has no gradient."""
    assert x.ndim == 2 and conv_state.dtype == x.dtype and conv_state.shape[2] == weight.shape[1] - 1
    assert bias.dtype == weight.dtype and bias.stride(0) == 1
    taps = torch.cat([conv_state, x[..., None]], 2)
    conv_state.copy_(taps[..., 1:])
    return ((taps.to(weight.dtype) * weight).sum(-1) + bias).to(x.dtype)


@pytest.fixture(autouse=True)
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """Both packages replaced, and their backends at work on the CPU. Yields the module causal_conv1d."""
    scan = SimpleNamespace(selective_scan_fn=SelectiveScan.apply)
    conv = SimpleNamespace(
        __version__="1.7.0", causal_conv1d_fn=causal_conv1d_fn, causal_conv1d_update=causal_conv1d_update
    )
    monkeypatch.setitem(sys.modules, "mamba_ssm.ops.selective_scan_interface", scan)
    monkeypatch.setitem(sys.modules, "causal_conv1d", conv)
    for op, table in probe.BACKENDS.items():
        moved = (replace(b, device="cpu") if b.command == "make cuda" else b for b in table)
        monkeypatch.setitem(probe.BACKENDS, op, tuple(moved))
    monkeypatch.setattr(probe, "_load", probe._load.__wrapped__)
    cuda._selective_scan.cache_clear()
    cuda._fused_conv.cache_clear()
    yield conv
    cuda._selective_scan.cache_clear()
    cuda._fused_conv.cache_clear()


# each kind with each batch, each length with each batch
CASES = [
    (1, 1, "fresh"),
    (5, 1, "start"),
    (1, 2, "middle"),
    (5, 2, "carried"),
    (1, 127, "carried"),
    (5, 127, "fresh"),
    (1, 2049, "start"),  # the kernel goes through 2,048 tokens at a time
    (5, 2049, "middle"),
]


@pytest.mark.parametrize(("name", "backend"), [("rg_lru", "mamba-ssm"), ("causal_conv1d", "causal-conv1d")])
@pytest.mark.parametrize(("batch", "T", "kind"), CASES)
def test_parity_with_the_reference(name: str, backend: str, batch: int, T: int, kind: str) -> None:
    assert_parity(name, backend, kind, (batch, T, 8))


@pytest.mark.parametrize("kind", KINDS)
def test_the_mapping_is_exact(kind: str) -> None:
    """In float64 nothing is left but LEAST, 6e-11 a token."""
    inputs, reset = scan_inputs(2, 50, 8), resets(kind, 2, 50)
    reset = torch.zeros(2, 50, dtype=torch.bool) if reset is None else reset
    found, wanted = ({name: t.clone().requires_grad_() for name, t in inputs.items()} for _ in range(2))
    for leaves, op in ((found, cuda.rg_lru), (wanted, reference.rg_lru)):
        y, state = op(*leaves.values(), reset)
        ((y * y.detach().cos()).sum() + state.square().sum()).backward()
    for name in inputs:
        torch.testing.assert_close(found[name].grad, wanted[name].grad, atol=1e-7, rtol=1e-7)


def test_the_carry_reaches_the_first_input_alone() -> None:
    inputs, reset = scan_inputs(2, 4, 8), torch.zeros(2, 4, dtype=torch.bool)
    reset[1, 0] = reset[0, 2] = True
    with_carry = cuda.scan_inputs(**inputs, reset=reset)
    without = cuda.scan_inputs(**{**inputs, "state": torch.zeros(2, 8)}, reset=reset)
    assert torch.equal(with_carry[1], without[1])
    moved = with_carry[0] != without[0]
    assert moved[0, 0].any() and not moved[0, 1:].any() and not moved[1].any()
    starts = (with_carry[1] == cuda.START).all(-1)
    assert starts.tolist() == [[True, False, True, False], [True, False, False, False]]


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (0.0, "middle"),
        (0.0, "fresh"),
        (1e-45, "carried"),
        (1e-30, "start"),
        (1e-18, "middle"),
        (1e-12, "carried"),
        (1e-9, "fresh"),
        (1e-6, "start"),
    ],
)
@pytest.mark.parametrize("name", ["recurrence_gate", "decay"])
def test_shut_gates_and_no_decay(name: str, value: float, kind: str) -> None:
    """Where u = b / delta is 0 / 0, and near it; the reference clips the slope of sqrt(1 - a^2)."""
    inputs, reset = scan_inputs(2, 9, 8), resets(kind, 2, 9)
    inputs["decay"] = torch.linspace(0.1, 1, 8).double()
    inputs[name] = torch.full_like(inputs[name], value)
    inputs = {key: tensor.float().double() for key, tensor in inputs.items()}
    wanted = outputs_and_gradients(rg_lru, inputs, reset, "reference")
    found = outputs_and_gradients(rg_lru, {key: t.float() for key, t in inputs.items()}, reset, "mamba-ssm")
    for key, tensor in wanted.items():  # worst where log a is some 1e-12: u is 1e5 x, and cancels in the gradient
        torch.testing.assert_close(found[key].double(), tensor, atol=1e-5, rtol=4e-5, msg=lambda m, key=key: key + m)


@pytest.mark.parametrize(("name", "backend"), [("rg_lru", "mamba-ssm"), ("causal_conv1d", "causal-conv1d")])
@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("seed", [1, 3, 5])
def test_streamed_is_whole(name: str, backend: str, grad: bool, seed: int) -> None:
    """With documents that begin anywhere, in chunks of 1 to T tokens; without gradients one token takes another way."""
    op, make = OPS[name]
    g = torch.Generator().manual_seed(seed)
    T = 12
    inputs, reset = make(2, T, 8, seed=seed, dtype=torch.float32), torch.rand(2, T, generator=g) < 0.3
    cuts = [0, *sorted(torch.randperm(T - 1, generator=g)[: 2 * seed].add(1).tolist()), T]
    fixed = {key: tensor for key, tensor in inputs.items() if tensor.ndim < 3 and key != "state"}
    moving = {key: tensor for key, tensor in inputs.items() if key not in fixed and key != "state"}
    moving["x"].requires_grad_(grad)
    whole, last = op(**{key: t.double() for key, t in inputs.items()}, reset=reset, backend="reference")
    state, pieces = inputs["state"], []
    for a, b in zip(cuts, cuts[1:], strict=False):
        before, entered = state, state.clone()
        piece = {key: tensor[:, a:b] for key, tensor in moving.items()}
        y, state = op(**piece, **fixed, state=state, reset=reset[:, a:b], backend=backend)
        assert torch.equal(before, entered)
        pieces.append(y)
    torch.testing.assert_close(torch.cat(pieces, 1).double(), whole, atol=1e-5, rtol=0)
    torch.testing.assert_close(state.double(), last, atol=1e-5, rtol=0)
    if grad:
        wanted = torch.autograd.grad(whole.square().sum() + last.sum(), moving["x"])
        found = torch.autograd.grad(torch.cat(pieces, 1).square().sum() + state.sum(), moving["x"])
        torch.testing.assert_close(found, wanted, atol=2e-5, rtol=1e-5)


def rms(found: Tensor, wanted: Tensor) -> float:
    return ((found.double() - wanted).square().mean() / wanted.square().mean()).sqrt().item()


def bfloat16_inputs() -> dict[str, Tensor]:
    inputs = scan_inputs(2, 2048, 32, dtype=torch.float32)
    inputs["decay"] = torch.logspace(-5, -1, 32)
    return {**inputs, "x": inputs["x"].bfloat16()}


def test_the_error_of_the_bfloat16_variant() -> None:
    """As its docstring has it."""
    inputs, reset = bfloat16_inputs(), resets("middle", 2, 2048)
    wanted = outputs_and_gradients(rg_lru, {key: t.double() for key, t in inputs.items()}, reset, "reference")
    found = outputs_and_gradients(rg_lru, inputs, reset, "mamba-ssm-bf16")
    assert found["y"].dtype == torch.bfloat16 and found["new state"].dtype == torch.float32
    errors = {key: rms(found[key], value) for key, value in wanted.items()}
    assert errors["y"] < 3e-3 and 1e-3 < errors["new state"] < 3e-3
    assert max(errors.values()) < 6e-3


def test_bfloat16_inputs_are_computed_in_float32_by_default() -> None:
    inputs = bfloat16_inputs()
    wanted, last = rg_lru(**{key: t.double() for key, t in inputs.items()}, backend="reference")
    y, state = rg_lru(**inputs, backend="mamba-ssm")
    assert y.dtype == torch.bfloat16 and rms(y, wanted) < 2e-3
    torch.testing.assert_close(state.double(), last, atol=1e-5, rtol=1e-5)
    with pytest.raises(LabError, match="'mamba-ssm-bf16' does not take torch.float32"):
        rg_lru(**{**inputs, "x": inputs["x"].float()}, backend="mamba-ssm-bf16")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("T", [1, 9])
def test_a_convolution_in_half_precision(dtype: torch.dtype, T: int) -> None:
    inputs = conv_inputs(2, T, 16, dtype=torch.float32)
    half = {**inputs, "x": inputs["x"].to(dtype), "bias": inputs["bias"].to(dtype)}
    exact = {key: tensor.double() for key, tensor in half.items()}
    exact["state"] = inputs["state"].to(dtype).double()
    wanted, last = causal_conv1d(**exact, backend="reference")
    y, state = causal_conv1d(**half, backend="causal-conv1d")
    assert y.dtype == state.dtype == dtype
    torch.testing.assert_close(y.double(), wanted, atol=1e-2, rtol=1e-2)
    assert torch.equal(state.double(), last)


@pytest.mark.parametrize("width", [2, 3, 4])
@pytest.mark.parametrize("T", [1, 2, 7])
def test_widths(width: int, T: int) -> None:
    inputs = conv_inputs(2, T, 8)
    inputs["weight"], inputs["state"] = inputs["weight"][:, W - width :], inputs["state"][:, W - width :]
    reset = resets("middle", 2, T)
    wanted = outputs_and_gradients(causal_conv1d, inputs, reset, "reference")
    found = outputs_and_gradients(causal_conv1d, {k: t.float() for k, t in inputs.items()}, reset, "causal-conv1d")
    for key, value in wanted.items():
        torch.testing.assert_close(found[key].double(), value, atol=1e-5, rtol=1e-5)


def test_layouts_that_the_convolution_would_refuse() -> None:
    inputs = conv_inputs(1, 8, 8, dtype=torch.float32)
    one = {**inputs, "x": inputs["x"][:, :1]}
    wider = torch.zeros(1, 5, 12)
    wider[:, :1, :8] = one["x"]
    shifted = torch.zeros(65)[1:].view(1, 8, 8).copy_(inputs["x"])
    odd_row, odd_address = wider[:, :1, :8], shifted
    assert odd_row.is_contiguous() and odd_row.stride(1) % 8 and odd_address.data_ptr() % 16
    turned = inputs["x"].transpose(1, 2).contiguous().transpose(1, 2)
    for straight, x in ((one, odd_row), (inputs, odd_address), (inputs, turned)):
        wanted, last = causal_conv1d(**straight, backend="reference")
        y, state = causal_conv1d(**{**straight, "x": x.requires_grad_()}, backend="causal-conv1d")
        torch.testing.assert_close(y, wanted, atol=1e-5, rtol=1e-5)
        assert torch.equal(state, last)
        for loss in (y.sum(), y.transpose(0, 2).contiguous().square().sum()):  # gradients of two layouts
            loss.backward(retain_graph=True)


@pytest.mark.parametrize(("name", "backend"), [("rg_lru", "mamba-ssm"), ("causal_conv1d", "causal-conv1d")])
def test_a_gradient_of_a_gradient_is_refused(name: str, backend: str) -> None:
    op, make = OPS[name]
    inputs = make(1, 6, 8, dtype=torch.float32)
    x = inputs["x"].requires_grad_()
    torch.autograd.grad(op(**inputs, backend=backend)[0].square().sum(), x)
    with pytest.raises(LabError, match="cannot be differentiated again; use backend='reference'"):
        torch.autograd.grad(op(**inputs, backend=backend)[0].square().sum(), x, create_graph=True)


def test_automatic_choice_where_the_kernels_work() -> None:
    """As on a GPU, where there is no numba; what the kernels cannot take goes to plain torch."""
    gpu = {op: tuple(b for b in table if b.name != "numba") for op, table in probe.BACKENDS.items()}
    with pytest.MonkeyPatch.context() as patch:
        for op, table in gpu.items():
            patch.setitem(probe.BACKENDS, op, table)
        x = torch.zeros(1, 2, 8)
        assert probe.pick("rg_lru", "auto", x) is cuda.rg_lru
        assert probe.pick("causal_conv1d", "auto", x) is cuda.causal_conv1d
        assert probe.pick("causal_conv1d", "auto", x, width=5) is reference.causal_conv1d
        assert probe.pick("causal_conv1d", "auto", x[..., :7]) is reference.causal_conv1d
        assert probe.pick("rg_lru", "auto", x.double()) is associative.rg_lru


def test_a_version_without_state_and_resets_together(stand_ins: SimpleNamespace) -> None:
    for version, usable in (("1.6.2.post1", False), ("1.7.0", True), ("1.10.0", True), ("2.0", True)):
        stand_ins.__version__ = version
        cuda._fused_conv.cache_clear()
        row = next(row for row in backends() if row.name == "causal-conv1d")
        assert row.usable == usable, row
        assert usable or row.reason == "causal-conv1d 1.6.2.post1 takes no state together with resets; 1.7.0 does"


@pytest.mark.parametrize("missing", ["mamba_ssm.ops.selective_scan_interface", "causal_conv1d"])
def test_one_package_is_not_needed_for_the_other(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    monkeypatch.delitem(sys.modules, missing)
    rows = {row.name: row for row in backends()}
    names = {"mamba_ssm.ops.selective_scan_interface": "mamba-ssm", "causal_conv1d": "causal-conv1d"}
    for module, name in names.items():
        assert rows[name].usable == (module != missing)
    assert rows[names[missing]].reason == f"{missing.split('.')[0]} is not installed"
    assert rows[names[missing]].command == "make cuda"
