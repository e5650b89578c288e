"""lab.recurrence: fast backends against the float64 reference, causality, streamed == whole, bad input."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lab.errors import LabError
from lab.recurrence import backends, causal_conv1d, probe, rg_lru

W = 4
FAST = [row.name for row in backends() if row.op == "rg_lru" and row.usable and row.name != "reference"]


def scan_inputs(B: int, T: int, L: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    """Gates over all of (0, 1), memories from short to very long."""
    g = torch.Generator().manual_seed(seed)
    made = {
        "x": torch.randn(B, T, L, generator=g, dtype=torch.float64),
        "input_gate": torch.rand(B, T, L, generator=g, dtype=torch.float64),
        "recurrence_gate": torch.rand(B, T, L, generator=g, dtype=torch.float64),
        "decay": torch.logspace(-5, 1, L, dtype=torch.float64),
        "state": torch.randn(B, L, generator=g, dtype=torch.float64),
    }
    return {name: tensor.to(dtype) for name, tensor in made.items()}


def conv_inputs(B: int, T: int, L: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(seed)
    shapes = {"x": (B, T, L), "weight": (L, W), "bias": (L,), "state": (B, W - 1, L)}
    return {name: torch.randn(shape, generator=g, dtype=torch.float64).to(dtype) for name, shape in shapes.items()}


OPS: dict[str, tuple[Any, Any]] = {
    "rg_lru": (rg_lru, scan_inputs),
    "causal_conv1d": (causal_conv1d, conv_inputs),
}


def resets(kind: str, B: int, T: int) -> Tensor | None:
    if kind in ("fresh", "carried"):
        return None
    reset = torch.zeros(B, T, dtype=torch.bool)
    reset[0, 0 if kind == "start" else T // 2] = True
    reset[-1, T // 3] = True
    return reset


def outputs_and_gradients(op: Any, inputs: dict[str, Tensor], reset: Tensor | None, backend: str) -> dict[str, Tensor]:
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in inputs.items()}
    y, state = op(**leaves, reset=reset, backend=backend)
    g = torch.Generator().manual_seed(9)
    loss = sum(
        (out * torch.randn(out.shape, generator=g, dtype=torch.float64).to(out.dtype)).sum() for out in (y, state)
    )
    loss.backward()
    return {"y": y, "new state": state, **{f"d {name}": leaf.grad for name, leaf in leaves.items()}}


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("name", OPS)
@pytest.mark.parametrize("kind", ["fresh", "carried", "start", "middle"])
# the last two are large enough for several threads, with channels split and with sequences shared out
@pytest.mark.parametrize("shape", [(1, 1, 8), (3, 2, 33), (3, 127, 40), (1, 500, 130), (3, 200, 64)])
def test_parity_with_the_reference(name: str, backend: str, kind: str, shape: tuple[int, int, int]) -> None:
    op, make = OPS[name]
    inputs, reset = make(*shape), resets(kind, *shape[:2])
    if kind == "fresh":
        del inputs["state"]
    wanted = outputs_and_gradients(op, inputs, reset, "reference")
    single = {key: tensor.float() for key, tensor in inputs.items()}
    found = outputs_and_gradients(op, single, reset, backend)
    for key, value in wanted.items():
        assert found[key].dtype == torch.float32
        error = (found[key] - value).abs().max() / value.abs().max().clamp(min=1e-3)
        assert error < 5e-6, f"{key}: {error:.1e}"


def test_the_reference_is_the_equation() -> None:
    inputs = scan_inputs(1, 3, 2)
    y, last = rg_lru(**inputs, reset=torch.tensor([[False, False, True]]))
    h = inputs["state"]
    for t in range(3):
        a = torch.exp(-8 * inputs["recurrence_gate"][:, t] * inputs["decay"])
        entering = inputs["input_gate"][:, t] * inputs["x"][:, t]
        h = entering if t == 2 else a * h + (1 - a**2).sqrt() * entering
        torch.testing.assert_close(y[:, t], h)
    assert torch.equal(last, y[:, -1])


def test_gradients_by_finite_differences() -> None:
    for op, make in OPS.values():
        inputs = make(2, 5, 3)
        if "decay" in inputs:
            inputs["decay"] = torch.tensor([0.02, 0.1, 0.5], dtype=torch.float64)  # smaller ones bend within a step
        inputs = {name: tensor.requires_grad_() for name, tensor in inputs.items()}
        reset = torch.tensor([[False, False, True, False, False], [False] * 5])
        assert torch.autograd.gradcheck(lambda *a, op=op, reset=reset: op(*a, reset=reset), tuple(inputs.values()))


@pytest.mark.parametrize("backend", ["reference", *FAST])
@pytest.mark.parametrize("name", OPS)
def test_causal(name: str, backend: str) -> None:
    op, make = OPS[name]
    inputs = make(2, 40, 16, dtype=torch.float32)
    before, _ = op(**inputs, backend=backend)
    for key in ("x", "input_gate", "recurrence_gate"):
        if key in inputs:
            inputs[key][:, 25:] = 0.3
    after, _ = op(**inputs, backend=backend)
    assert torch.equal(before[:, :25], after[:, :25]) and not torch.equal(before[:, 25:], after[:, 25:])


@pytest.mark.parametrize("backend", ["reference", *FAST])
@pytest.mark.parametrize("name", OPS)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_streamed_is_whole(name: str, backend: str, data: st.DataObject) -> None:
    op, make = OPS[name]
    T = data.draw(st.integers(1, 30))
    inputs = make(2, T, 8, seed=T, dtype=torch.float32)
    reset = torch.tensor([data.draw(st.lists(st.booleans(), min_size=T, max_size=T)) for _ in range(2)])
    cuts = sorted(data.draw(st.sets(st.integers(0, T))) | {0, T})
    whole, last = op(**inputs, reset=reset, backend=backend)
    fixed = {key: tensor for key, tensor in inputs.items() if tensor.ndim < 3 and key != "state"}
    moving = {key: tensor for key, tensor in inputs.items() if key not in fixed and key != "state"}
    state, pieces = inputs["state"], []
    for a, b in zip(cuts, cuts[1:], strict=False):
        piece = {key: tensor[:, a:b] for key, tensor in moving.items()}
        y, state = op(**piece, **fixed, state=state, reset=reset[:, a:b], backend=backend)
        pieces.append(y)
    torch.testing.assert_close(torch.cat(pieces, 1), whole, atol=1e-5, rtol=0)
    torch.testing.assert_close(state, last, atol=1e-5, rtol=0)


@pytest.mark.parametrize("backend", ["reference", *FAST])
def test_gradients_cross_the_seam_of_two_chunks(backend: str) -> None:
    for op, make in OPS.values():
        inputs = make(1, 8, 4, dtype=torch.float32)
        cut = {key: tensor for key, tensor in inputs.items() if tensor.ndim == 3 and key != "state"}
        rest = {key: tensor for key, tensor in inputs.items() if key not in cut and key != "state"}
        x = cut["x"].requires_grad_()
        wanted = torch.autograd.grad(op(**cut, **rest, backend=backend)[0].square().sum(), x)[0]
        first, state = op(**{k: v[:, :5] for k, v in cut.items()}, **rest, backend=backend)
        second, _ = op(**{k: v[:, 5:] for k, v in cut.items()}, **rest, state=state, backend=backend)
        found = torch.autograd.grad(first.square().sum() + second.square().sum(), x)[0]
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("backend", ["reference", *FAST])
def test_bfloat16_goes_through_float32(backend: str) -> None:
    inputs = scan_inputs(2, 300, 16, dtype=torch.float32)
    inputs["decay"].fill_(1e-4)  # a = 0.9996: bfloat16 would round it to 1 and erase the input
    exact, _ = rg_lru(**inputs, backend=backend)
    half = {**inputs, "x": inputs["x"].bfloat16().requires_grad_()}
    y, state = rg_lru(**half, backend=backend)
    assert y.dtype == torch.bfloat16 and state.dtype == torch.float32
    torch.testing.assert_close(y.float(), exact, atol=0.02, rtol=0.02)
    y.float().sum().backward()
    assert half["x"].grad is not None and half["x"].grad.dtype == torch.bfloat16


@pytest.mark.parametrize("backend", ["reference", *FAST])
def test_extreme_gates_stay_finite_and_nan_is_not_hidden(backend: str) -> None:
    inputs = scan_inputs(1, 4, 8, dtype=torch.float32)
    gate = inputs["recurrence_gate"]
    gate[:, 1], gate[:, 2] = 0.0, 1.0
    inputs["decay"] = torch.full((8,), 50.0)  # a = exp(-400)
    found = outputs_and_gradients(rg_lru, inputs, None, backend)
    assert all(tensor.isfinite().all() for tensor in found.values())
    gate[:, 0] = float("nan")
    assert rg_lru(**inputs, backend=backend)[0][:, 0].isnan().all()


def test_every_backend_says_whether_it_works(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = backends()
    assert {(row.op, row.name) for row in rows} == {(op, name) for op in OPS for name in ("numba", "reference")}
    assert all(row.usable and row.reason == "works" for row in rows)
    broken = probe.Backend("broken", "lab.no_such_module", "any", (torch.float32,))
    monkeypatch.setattr(probe, "BACKENDS", (broken, *probe.BACKENDS))
    row = backends()[0]
    assert row.name == "broken" and not row.usable and "no_such_module" in row.reason
    inputs = scan_inputs(1, 2, 8, dtype=torch.float32)
    rg_lru(**inputs)  # auto passes over it
    with pytest.raises(LabError, match="broken.*no_such_module"):
        rg_lru(**inputs, backend="broken")


def test_float64_and_unknown_backends() -> None:
    with pytest.raises(LabError, match="'numba' does not take torch.float64"):
        rg_lru(**scan_inputs(1, 2, 8), backend="numba")
    with pytest.raises(LabError, match="no backend 'cuda'"):
        rg_lru(**scan_inputs(1, 2, 8), backend="cuda")


SCAN_FAULTS = [
    ("x", torch.zeros(2, 8)),
    ("x", torch.zeros(2, 0, 8)),
    ("x", torch.zeros(2, 3, 8, dtype=torch.int64)),
    ("x", [1.0]),
    ("input_gate", torch.zeros(2, 4, 8)),
    ("recurrence_gate", torch.zeros(2, 3, 7)),
    ("recurrence_gate", torch.zeros(2, 3, 8, device="meta")),
    ("decay", torch.zeros(7)),
    ("state", torch.zeros(5, 8)),
    ("state", torch.zeros(2, 8, dtype=torch.int32)),
    ("reset", torch.zeros(2, 3)),
    ("reset", torch.zeros(2, 4, dtype=torch.bool)),
]
CONV_FAULTS = [
    ("x", torch.zeros(2, 8)),
    ("weight", torch.zeros(8)),
    ("weight", torch.zeros(7, W)),
    ("weight", torch.zeros(8, 1)),
    ("bias", torch.zeros(9)),
    ("state", torch.zeros(3, W - 1, 8)),
    ("state", torch.zeros(2, W, 8)),
    ("reset", torch.zeros(2, 3, dtype=torch.int64)),
]


@pytest.mark.parametrize(
    ("name", "argument", "value"),
    [("rg_lru", *fault) for fault in SCAN_FAULTS] + [("causal_conv1d", *fault) for fault in CONV_FAULTS],
)
def test_bad_input_is_named(name: str, argument: str, value: Any) -> None:
    op, make = OPS[name]
    with pytest.raises(LabError, match=rf"^{name}: {argument}\b"):
        op(**{**make(2, 3, 8, dtype=torch.float32), argument: value})


def test_inputs_need_not_be_contiguous_and_are_not_written_to() -> None:
    inputs = scan_inputs(2, 16, 8, dtype=torch.float32)
    wanted, _ = rg_lru(**inputs)
    strided = {**inputs, "x": inputs["x"].transpose(0, 1).contiguous().transpose(0, 1)}
    kept = {key: tensor.clone() for key, tensor in strided.items()}
    assert torch.equal(rg_lru(**strided)[0], wanted)
    assert all(torch.equal(kept[key], strided[key]) for key in kept)
