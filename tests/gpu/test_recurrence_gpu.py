"""lab.recurrence on a GPU: every backend that runs there against the float64 reference on the CPU."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from lab.recurrence import backends, rg_lru
from tests.test_recurrence import OPS, assert_parity, outputs_and_gradients, resets, scan_inputs

DEVICE = "cuda"
ROWS = {(row.op, row.name): row for row in backends()}
NO_GPU = ROWS["rg_lru", "mamba-ssm"].reason  # says so where there is none


def on_gpu(*names: str) -> Any:
    """Parametrize by op and backend; what is not usable here is skipped for the probe's reason."""
    cases = []
    for (op, name), row in ROWS.items():
        if name in names:
            reason = row.reason if torch.cuda.is_available() else NO_GPU
            off = not (row.usable and torch.cuda.is_available())
            cases.append(pytest.param(op, name, marks=pytest.mark.skipif(off, reason=f"{name}: {reason}")))
    return pytest.mark.parametrize(("name", "backend"), cases)


def bound(backend: str, tokens: int) -> float:
    """5e-6, and for memories as long as the input the error of each `a`: exp is good to 2^-22 in mamba-ssm's kernel."""
    return 5e-6 + tokens * {
        "mamba-ssm": 2.0**-22,
        "triton": 2.0**-25,
        "associative": 2.0**-23,
        "reference": 2.0**-23,
    }.get(backend, 0)


@on_gpu("mamba-ssm", "triton", "associative", "causal-conv1d", "reference")
@pytest.mark.parametrize("kind", ["fresh", "carried", "start", "middle"])
@pytest.mark.parametrize("shape", [(1, 1, 8), (5, 2, 40), (3, 127, 136), (1, 500, 2560), (8, 200, 2560)])
def test_parity_with_the_reference(name: str, backend: str, kind: str, shape: tuple[int, int, int]) -> None:
    assert_parity(name, backend, kind, shape, bound(backend, shape[1]), DEVICE)


@on_gpu("mamba-ssm", "triton", "associative", "causal-conv1d")
@pytest.mark.parametrize("kind", ["carried", "middle"])
@pytest.mark.parametrize("T", [2048, 2049, 5000])  # mamba-ssm goes in chunks of 2048
def test_parity_over_long_inputs(name: str, backend: str, kind: str, T: int) -> None:
    assert_parity(name, backend, kind, (2, T, 24), bound(backend, T), DEVICE)


@on_gpu("triton")
@pytest.mark.parametrize("L", [1, 33, 129])
def test_parity_with_odd_widths(name: str, backend: str, L: int) -> None:
    assert_parity(name, backend, "middle", (2, 100, L), bound(backend, 100), DEVICE)


@on_gpu("mamba-ssm", "triton", "associative", "causal-conv1d", "reference")
@pytest.mark.parametrize("grad", [True, False])
def test_streamed_is_whole(name: str, backend: str, grad: bool) -> None:
    op, make = OPS[name]
    T, cuts = 400, [0, 1, 2, 3, 40, 41, 300, 400]
    inputs = {key: tensor.to(DEVICE) for key, tensor in make(2, T, 64, dtype=torch.float32).items()}
    inputs["x"].requires_grad_(grad)
    reset = torch.zeros(2, T, dtype=torch.bool, device=DEVICE)
    reset[0, [2, 40, 170]] = reset[1, 3] = True
    whole, last = op(**inputs, reset=reset, backend=backend)
    fixed = {key: tensor for key, tensor in inputs.items() if tensor.ndim < 3 and key != "state"}
    moving = {key: tensor for key, tensor in inputs.items() if key not in fixed and key != "state"}
    state, pieces = inputs["state"], []
    for a, b in zip(cuts, cuts[1:], strict=False):
        piece = {key: tensor[:, a:b] for key, tensor in moving.items()}
        y, state = op(**piece, **fixed, state=state, reset=reset[:, a:b], backend=backend)
        pieces.append(y)
    torch.testing.assert_close(torch.cat(pieces, 1), whole, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(state, last, atol=1e-5, rtol=1e-5)
    if grad:
        wanted = torch.autograd.grad(whole.square().sum() + last.sum(), inputs["x"])
        found = torch.autograd.grad(torch.cat(pieces, 1).square().sum() + state.sum(), inputs["x"])
        torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


@on_gpu("mamba-ssm", "triton")
def test_the_same_input_gives_the_same_bits(name: str, backend: str) -> None:
    """Gradients too: none of those that are used come from atomics."""
    inputs = {key: tensor.to(DEVICE) for key, tensor in scan_inputs(4, 300, 256, dtype=torch.float32).items()}
    reset = resets("middle", 4, 300)
    assert reset is not None
    one, other = (outputs_and_gradients(rg_lru, inputs, reset.to(DEVICE), backend) for _ in range(2))
    assert all(torch.equal(one[key], other[key]) for key in one)


@on_gpu("mamba-ssm", "mamba-ssm-bf16", "triton")
def test_bfloat16(name: str, backend: str) -> None:
    inputs = scan_inputs(2, 1000, 64, dtype=torch.float32)
    inputs["decay"] = torch.logspace(-5, -1, 64)
    inputs["x"] = inputs["x"].bfloat16()
    wanted = outputs_and_gradients(rg_lru, {key: t.double() for key, t in inputs.items()}, None, "reference")
    found = outputs_and_gradients(rg_lru, {key: t.to(DEVICE) for key, t in inputs.items()}, None, backend)
    assert found["y"].dtype == torch.bfloat16 and found["new state"].dtype == torch.float32
    for key, value in wanted.items():
        error = ((found[key].cpu().double() - value).square().mean() / value.square().mean()).sqrt()
        assert error < (1.5e-2 if backend == "mamba-ssm-bf16" else 3e-3), f"{key}: {error:.1e}"


@on_gpu("triton")
def test_offsets_beyond_31_bits(name: str, backend: str) -> None:
    """The last 3 of 2^16 tokens, a document of their own, are as by themselves."""
    shape = (1, 1 << 16, (1 << 15) + 8)
    if torch.cuda.mem_get_info()[0] < 5 * 4 * shape[1] * shape[2]:
        pytest.skip("45 GB of GPU memory are needed")
    x = torch.full(shape, 0.5, device=DEVICE)
    x[:, -3:] = torch.rand(3, shape[2], device=DEVICE)
    decay, reset = torch.full(shape[2:], 0.1, device=DEVICE), torch.zeros(shape[:2], dtype=torch.bool, device=DEVICE)
    reset[:, -3] = True
    y, last = rg_lru(x, x, x, decay, reset=reset, backend=backend)
    end = x[:, -3:]
    wanted, state = rg_lru(end, end, end, decay, reset=reset[:, -3:], backend=backend)
    torch.testing.assert_close(y[:, -3:], wanted, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(last, state, atol=1e-6, rtol=1e-6)
