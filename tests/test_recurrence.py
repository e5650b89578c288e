"""lab.recurrence: fast backends against the float64 reference, causality, streamed == whole, bad input."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from lab.errors import LabError
from lab.recurrence import backends, causal_conv1d, ops, probe, reference, rg_lru

W = 4
GATED = ("x", "input_gate", "recurrence_gate")  # (B, T, L)
CPU = [
    (row.op, row.name)
    for row in backends(torch.zeros(1, 1, 8))
    if row.usable and row.name != "reference"  # numba, associative and, in its interpreter, triton
]
ALL = [("rg_lru", "reference"), ("causal_conv1d", "reference"), *CPU]
SCANS = [backend for op, backend in ALL if op == "rg_lru"]
SHAPES = [(1, 1, 8), (3, 2, 33), (3, 127, 40), (1, 500, 130)]
KINDS = ["fresh", "carried", "start", "middle"]


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of Triton's kernel, 4 tokens of 8 channels: its interpreter takes 0.1 ms for each element of a scan."""
    if ("rg_lru", "triton") in CPU:
        for name, value in {"ROWS": 4, "BLOCK_L": 8}.items():
            monkeypatch.setattr(f"lab.recurrence.fused.{name}", value)


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
    loss = sum((out * torch.randn(out.shape, generator=g, dtype=torch.float64).to(out)).sum() for out in (y, state))
    loss.backward()
    return {"y": y, "new state": state, **{f"d {name}": leaf.grad for name, leaf in leaves.items()}}


def assert_parity(
    name: str, backend: str, kind: str, shape: tuple[int, int, int], bound: float = 5e-6, device: str = "cpu"
) -> None:
    """Outputs, last state and every gradient in float32 against the float64 reference, relative to the largest."""
    op, make = OPS[name]
    inputs, reset = make(*shape), resets(kind, *shape[:2])
    if kind == "fresh":
        del inputs["state"]
    wanted = outputs_and_gradients(op, inputs, reset, "reference")
    single = {key: tensor.to(device, torch.float32) for key, tensor in inputs.items()}
    found = outputs_and_gradients(op, single, reset if reset is None else reset.to(device), backend)
    for key, value in wanted.items():
        assert found[key].dtype == torch.float32 and found[key].shape == value.shape
        error = (found[key].cpu() - value).abs().max() / value.abs().max().clamp(min=1e-3)
        assert error < bound, f"{key}: {error:.1e}"


@pytest.mark.parametrize(("name", "backend"), [pair for pair in CPU if pair[1] != "triton"])  # its own file has it
@pytest.mark.parametrize("shape", SHAPES)
def test_parity_with_the_reference(name: str, backend: str, shape: tuple[int, int, int]) -> None:
    for kind in KINDS:
        assert_parity(name, backend, kind, shape)


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
        for check in (torch.autograd.gradcheck, torch.autograd.gradgradcheck):  # float64 is the reference's
            assert check(lambda *a, op=op, reset=reset: op(*a, reset=reset), tuple(inputs.values()))


@pytest.mark.parametrize(("name", "backend"), ALL)
def test_causal(name: str, backend: str) -> None:
    op, make = OPS[name]
    inputs = make(2, 40, 16, dtype=torch.float32)
    before, _ = op(**inputs, backend=backend)
    for key in GATED:
        if key in inputs:
            inputs[key][:, 25:] = 0.3
    after, _ = op(**inputs, backend=backend)
    assert torch.equal(before[:, :25], after[:, :25]) and not torch.equal(before[:, 25:], after[:, 25:])


@pytest.mark.parametrize(("name", "backend"), ALL)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_streamed_is_whole(name: str, backend: str, data: st.DataObject) -> None:
    op, make = OPS[name]
    T = data.draw(st.integers(1, 6 if backend == "triton" else 30))
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


@pytest.mark.parametrize(("name", "backend"), ALL)
def test_gradients_cross_the_seam_of_two_chunks(name: str, backend: str) -> None:
    op, make = OPS[name]
    inputs = make(1, 8, 8, dtype=torch.float32)
    cut = {key: tensor for key, tensor in inputs.items() if tensor.ndim == 3 and key != "state"}
    rest = {key: tensor for key, tensor in inputs.items() if key not in cut and key != "state"}
    x = cut["x"].requires_grad_()
    wanted = torch.autograd.grad(op(**cut, **rest, backend=backend)[0].square().sum(), x)[0]
    first, state = op(**{k: v[:, :5] for k, v in cut.items()}, **rest, backend=backend)
    second, _ = op(**{k: v[:, 5:] for k, v in cut.items()}, **rest, state=state, backend=backend)
    found = torch.autograd.grad(first.square().sum() + second.square().sum(), x)[0]
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("backend", SCANS)
def test_bfloat16_goes_through_float32(backend: str) -> None:
    inputs = scan_inputs(1, 40, 8, dtype=torch.float32)
    inputs["decay"].fill_(1e-4)  # a = 0.9996: bfloat16 would round it to 1 and erase the input
    exact, _ = rg_lru(**inputs, backend=backend)
    half = {**inputs, "x": inputs["x"].bfloat16().requires_grad_()}
    y, state = rg_lru(**half, backend=backend)
    assert y.dtype == torch.bfloat16 and state.dtype == torch.float32
    torch.testing.assert_close(y.float(), exact, atol=0.02, rtol=0.02)
    y.float().sum().backward()
    assert half["x"].grad is not None and half["x"].grad.dtype == torch.bfloat16


@pytest.mark.parametrize("backend", SCANS)
def test_extreme_gates_stay_finite_and_nan_is_not_hidden(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = scan_inputs(1, 4, 8, dtype=torch.float32)
    gate = inputs["recurrence_gate"]
    gate[:, 1], gate[:, 2] = 0.0, 1.0
    inputs["decay"] = torch.full((8,), 50.0)  # a = exp(-400)
    found = outputs_and_gradients(rg_lru, inputs, None, backend)
    assert all(tensor.isfinite().all() for tensor in found.values())
    gate[:, 0] = float("nan")
    monkeypatch.setattr(ops, "CHECK", False)
    assert rg_lru(**inputs, backend=backend)[0][:, 0].isnan().all()


def test_every_backend_says_whether_it_works() -> None:
    rows = {(row.op, row.name): row for row in backends()}
    assert set(rows) == {(op, name) for op in OPS for name in ("numba", "reference")} | {
        ("rg_lru", "associative"),
        ("rg_lru", "mamba-ssm"),
        ("rg_lru", "mamba-ssm-bf16"),
        ("rg_lru", "triton"),
        ("causal_conv1d", "causal-conv1d"),
    }
    for (_, name), row in rows.items():
        if name in ("numba", "associative", "reference"):
            assert row.usable and row.reason == "works" and row.command == ""
        else:
            assert row.command == ("pip install triton" if name == "triton" else "make cuda")
        assert row.usable == row.reason.startswith("works")


def install(monkeypatch: pytest.MonkeyPatch, op: str, **changes: Any) -> None:
    """A backend called "new" before all others: module:function is `function`, and so on."""
    new = probe.Backend(**{"name": "new", "device": "any", "dtypes": (torch.float32,), **changes})
    monkeypatch.setitem(probe.BACKENDS, op, (new, *probe.BACKENDS[op]))


def fail(message: str, error: type[Exception] = RuntimeError) -> Any:
    def op(*args: Any) -> Any:
        raise error(message)

    return op


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        ("lab.no_such_module:op", "lab.no_such_module is not installed"),
        (fail("libx.so: undefined symbol: _ZN2at", ImportError), "built for another torch or CUDA, libx.so: undefined"),
        (fail("CUDA error: no kernel image is available"), "no code for this GPU, sm_90: CUDA error"),
        (fail("out of\n  luck"), "RuntimeError: out of luck"),
        (fail("needs version 2", LabError), "needs version 2"),
        (lambda x, *rest: (x * float("nan"), x), "off by nan of the reference"),
        (lambda *given: (reference.rg_lru(*given)[0] * 1.001, given[4]), "off by 1.0e-03 of the reference"),
    ],
)
def test_the_reason_why_a_backend_is_off(monkeypatch: pytest.MonkeyPatch, function: Any, reason: str) -> None:
    if callable(function):
        monkeypatch.setattr(sys.modules[__name__], "OP_OF_A_TEST", function, raising=False)
        function = f"{__name__}:OP_OF_A_TEST"
    monkeypatch.setattr(probe, "_load", probe._load.__wrapped__)  # the next test brings another function
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    install(monkeypatch, "rg_lru", function=function)
    row = backends()[0]
    assert row.name == "new" and not row.usable and reason in row.reason
    inputs = scan_inputs(1, 2, 8, dtype=torch.float32)
    rg_lru(**inputs)  # auto passes over it
    with pytest.raises(LabError, match=f"'new' is not usable here .*{reason}"):
        rg_lru(**inputs, backend="new")


def test_a_backend_may_refuse_an_input_and_the_next_one_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    served = []

    def op(x: Tensor, *rest: Tensor) -> tuple[Tensor, Tensor]:
        served.append(tuple(x.shape))
        return reference.causal_conv1d(x, *rest)

    monkeypatch.setattr(sys.modules[__name__], "OP_OF_A_TEST", op, raising=False)
    limits = probe._fused_conv
    install(monkeypatch, "causal_conv1d", function=f"{__name__}:OP_OF_A_TEST", limits=limits)
    even, odd = (conv_inputs(1, 3, L, dtype=torch.float32) for L in (8, 12))
    wide = {**even, "weight": torch.zeros(8, 5), "state": torch.zeros(1, 4, 8)}
    causal_conv1d(**even)
    assert served == [(2, 20, 8), (1, 3, 8)]  # the probe's, and that one
    for inputs, why in ((odd, "12 channels, but multiples of 8"), (wide, "a width of 5, but 2 to 4")):
        causal_conv1d(**inputs)
        with pytest.raises(LabError, match=f"'new' does not take {why}"):
            causal_conv1d(**inputs, backend="new")
        row = next(row for row in backends(inputs["x"], inputs["weight"].shape[1]) if row.name == "new")
        assert not row.usable and why in row.reason
    assert len(served) == 2
    huge = torch.empty(1, 1 << 29, 8, device="meta")
    assert "2^32" in limits(huge, 4) and limits(huge[:, 1:], 4) == ""


def test_what_is_not_automatic_serves_only_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, "rg_lru", function="lab.recurrence.reference:rg_lru", auto=False)
    chosen = {name: probe.pick("rg_lru", name, torch.zeros(1, 1, 8)).__module__ for name in ("auto", "new")}
    assert chosen == {"auto": "lab.recurrence.cpu", "new": "lab.recurrence.reference"}
    automatic = {name for table in probe.BACKENDS.values() for name in (b.name for b in table if b.auto)}
    assert automatic == {"numba", "associative", "reference", "mamba-ssm", "triton", "causal-conv1d"}
    assert probe.pick("rg_lru", "auto", torch.zeros(1, 1, 8).double()).__module__ == "lab.recurrence.associative"


def test_nothing_is_imported_or_checked_before_it_is_asked_for() -> None:
    asked = "import sys, torch, lab.language; from lab.recurrence import ops, rg_lru; x = torch.ones(1, 1, 8); "
    asked += "rg_lru(x, x, x, x[0, 0]); print(ops.CHECK, *sys.modules)"
    env = {key: value for key, value in os.environ.items() if key != "LAB_CHECK"}
    out = subprocess.run([sys.executable, "-c", asked], env=env, capture_output=True, text=True, check=True).stdout
    checks, *modules = out.split()
    assert checks == "False" and ops.CHECK and "lab.recurrence.probe" in modules
    assert not {"triton", "mamba_ssm", "causal_conv1d", "lab.recurrence.cuda", "lab.recurrence.fused"} & set(modules)
    assert "torch._dynamo" not in modules  # 1.5 s


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
    ("x", torch.zeros(2, 3, 8).numpy()),
    ("x", torch.zeros(2, 3, 8, dtype=torch.complex64)),
    ("recurrence_gate", torch.zeros(2, 3, 8).numpy()),
    ("decay", [0.1] * 8),
    ("state", torch.zeros(2, 8).numpy()),
    ("reset", [[False] * 3] * 2),
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
    ("weight", torch.zeros(8, W).numpy()),
    ("bias", [0.0] * 8),
    ("weight", torch.zeros(7, W)),
    ("weight", torch.zeros(8, 1)),
    ("bias", torch.zeros(9)),
    ("state", torch.zeros(3, W - 1, 8)),
    ("state", torch.zeros(2, W, 8)),
    ("reset", torch.zeros(2, 3, dtype=torch.int64)),
]


def spoiled(shape: tuple[int, ...], at: tuple[int, ...], value: float) -> Tensor:
    tensor = torch.full(shape, 0.5)
    tensor[at] = value
    return tensor


VALUE_FAULTS = [
    ("rg_lru", "x", spoiled((2, 3, 8), (1, 2, 5), float("nan")), r"1 of 48 values NaN, the first at \(1, 2, 5\)"),
    ("rg_lru", "input_gate", spoiled((2, 3, 8), (1,), 1.01), r"24 of 48 .* outside \[0, 1\], the first at \(1, 0, 0\)"),
    ("rg_lru", "recurrence_gate", spoiled((2, 3, 8), (0, 1, 7), -1e-6), r"1 of 48 .* the first at \(0, 1, 7\)"),
    ("rg_lru", "decay", spoiled((8,), (3,), -0.1), r"1 of 8 values NaN or negative, the first at \(3,\)"),
    ("rg_lru", "state", spoiled((2, 8), (1, 4), float("nan")), r"1 of 16 values NaN, the first at \(1, 4\)"),
    ("causal_conv1d", "weight", spoiled((8, W), (2, 1), float("nan")), r"1 of 32 values NaN, the first at \(2, 1\)"),
]


@pytest.mark.parametrize(("name", "argument", "value", "message"), VALUE_FAULTS)
def test_values_are_looked_at_on_request(
    monkeypatch: pytest.MonkeyPatch, name: str, argument: str, value: Tensor, message: str
) -> None:
    op, make = OPS[name]
    inputs = {**make(2, 3, 8, dtype=torch.float32), argument: value}
    with pytest.raises(LabError, match=f"^{name}: {argument} has {message}$"):
        op(**inputs)
    monkeypatch.setattr(ops, "CHECK", False)
    op(**inputs)


def test_the_edges_of_a_gate_are_in_order() -> None:
    inputs = scan_inputs(2, 3, 8, dtype=torch.float32)
    inputs["input_gate"][0], inputs["input_gate"][1], inputs["decay"][0] = 0.0, 1.0, 0.0
    rg_lru(**inputs)


@pytest.mark.parametrize(("name", "faults"), [("rg_lru", SCAN_FAULTS), ("causal_conv1d", CONV_FAULTS)])
def test_bad_input_is_named(name: str, faults: list[tuple[str, Any]]) -> None:
    op, make = OPS[name]
    for argument, value in faults:
        with pytest.raises(LabError, match=rf"^{name}: {argument}\b"):
            op(**{**make(2, 3, 8, dtype=torch.float32), argument: value})


@pytest.mark.parametrize(("name", "backend"), ALL)
def test_inputs_need_not_be_contiguous_and_are_not_written_to(name: str, backend: str) -> None:
    op, make = OPS[name]
    inputs = make(2, 16, 8, dtype=torch.float32)
    reset = resets("middle", 2, 16)
    wanted = outputs_and_gradients(op, inputs, reset, backend)
    spread = {key: tensor.repeat_interleave(2, -1)[..., ::2] for key, tensor in inputs.items()}
    turned = {key: tensor.transpose(0, -1).contiguous().transpose(0, -1) for key, tensor in inputs.items()}
    for strided in (spread, turned):
        assert any(not tensor.is_contiguous() for tensor in strided.values())
        kept = {key: tensor.clone() for key, tensor in strided.items()}
        y, state = op(**strided, reset=reset, backend=backend)
        assert torch.equal(y, wanted["y"]) and torch.equal(state, wanted["new state"])
        assert all(torch.equal(kept[key], strided[key]) for key in kept)


@pytest.mark.parametrize(("name", "backend"), ALL)
def test_a_gradient_of_any_layout(name: str, backend: str) -> None:
    """Of a sum it is one number with strides of 0."""
    op, make = OPS[name]
    inputs = {key: tensor.requires_grad_() for key, tensor in make(1, 1, 8, dtype=torch.float32).items()}
    for T in (1, 3):
        longer = {key: tensor.expand(1, T, 8) if key in GATED else tensor for key, tensor in inputs.items()}
        y, state = op(**longer, backend=backend)
        found = torch.autograd.grad(y.sum() + state.sum(), list(inputs.values()))
        double = {key: tensor.double() for key, tensor in longer.items()}
        y, state = op(**double, backend="reference")
        wanted = torch.autograd.grad(y.sum() + state.sum(), list(inputs.values()))
        for one, other in zip(found, wanted, strict=True):
            torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-5)


def test_a_checkpoint_may_call_an_op_first() -> None:
    """The trial has gradients of its own, which are none of the block that is computed again."""
    x, weight = torch.rand(1, 8, 4, requires_grad=True), torch.rand(4, 4)
    probe._load.cache_clear()
    y = checkpoint(lambda x: causal_conv1d(x, weight, torch.zeros(4))[0], x, use_reentrant=False)
    y.sum().backward()
    assert x.grad is not None and all(row.usable for row in backends(x) if row.name in ("numba", "reference"))
