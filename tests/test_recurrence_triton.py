"""lab.recurrence.fused: the Triton kernel in Triton's interpreter, and compiled for a GPU that need not be there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("triton")
from lab.recurrence import fused, probe, rg_lru
from tests.test_recurrence import assert_parity, outputs_and_gradients, resets, scan_inputs, small_tiles

pytestmark = pytest.mark.skipif(probe.TRITON_DEVICE == "cuda", reason="with a GPU, tests/gpu runs the kernel itself")


__all__ = ["small_tiles"]  # an autouse fixture


# each kind and each shape with one span and with three
@pytest.mark.parametrize(
    ("shape", "spans", "kind"),
    [
        ((1, 1, 8), 1, "fresh"),
        ((1, 1, 8), 3, "start"),
        ((3, 2, 3), 1, "carried"),
        ((3, 2, 3), 3, "middle"),
        ((2, 4, 8), 1, "start"),
        ((2, 4, 8), 3, "carried"),
        ((1, 13, 17), 1, "middle"),
        ((1, 13, 17), 3, "fresh"),
        ((2, 10, 8), 1, "middle"),
        ((2, 10, 8), 3, "carried"),
    ],
)
def test_parity_with_the_reference(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, int, int], spans: int, kind: str
) -> None:
    monkeypatch.setattr(fused, "_spans", lambda programs, device: spans)
    assert_parity("rg_lru", "triton", kind, shape)


def test_spans_change_nothing_and_each_run_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs, reset = scan_inputs(1, 13, 8, dtype=torch.float32), resets("middle", 1, 13)
    whole, again = (outputs_and_gradients(rg_lru, inputs, reset, "triton") for _ in range(2))
    assert all(torch.equal(whole[key], again[key]) for key in whole)
    for spans in (2, 99):  # of 4 tiles there are at most 4 spans
        monkeypatch.setattr(fused, "_spans", lambda programs, device, spans=spans: spans)
        assert fused._Plan.of(inputs["x"]).sizes["spans"] == min(spans, 4)
        split = outputs_and_gradients(rg_lru, inputs, reset, "triton")
        for key, value in whole.items():
            torch.testing.assert_close(split[key], value, atol=1e-5, rtol=1e-5)


def test_time_is_split_only_where_the_gpu_is_not_half_full(monkeypatch: pytest.MonkeyPatch) -> None:
    chip = type("chip", (), {"multi_processor_count": 132})
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: chip)
    gpu = torch.device("cuda")
    assert [fused._spans(programs, gpu) for programs in (160, 66, 65, 20, 1)] == [1, 1, 5, 14, fused.MAX_SPANS]
    assert fused._spans(1, torch.device("cpu")) == 1


@pytest.mark.parametrize("halved", [("x",), ("x", "input_gate", "recurrence_gate")])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_inputs_are_computed_in_float32(dtype: torch.dtype, halved: tuple[str, ...]) -> None:
    """The same numbers as of the float32 inputs that they stand for, rounded only when stored.

    To bfloat16 the interpreter does not round, it cuts off: up to 2^-7 of the value.
    """
    inputs = scan_inputs(2, 9, 8, dtype=torch.float32)
    half = {key: tensor.to(dtype) if key in halved else tensor for key, tensor in inputs.items()}
    found = outputs_and_gradients(rg_lru, half, None, "triton")
    assert found["y"].dtype == dtype and found["new state"].dtype == torch.float32
    single = {key: tensor.float().requires_grad_() for key, tensor in half.items()}
    y, state = rg_lru(**single, backend="triton")
    torch.testing.assert_close(found["y"], y.to(dtype), atol=0, rtol=2**-7 if dtype == torch.bfloat16 else 0)
    assert torch.equal(found["new state"], state)
    for key, tensor in half.items():
        assert found[f"d {key}"].dtype == tensor.dtype


@pytest.mark.parametrize("value", [0.0, 1e-30, 1e-12, 1e-6])
def test_shut_gates_and_no_decay(value: float) -> None:
    """The slope of sqrt(1 - a^2) is infinite at 0; the reference's is clipped."""
    for name in ("recurrence_gate", "decay"):
        inputs = scan_inputs(1, 5, 8)
        inputs["decay"].fill_(0.1)
        inputs[name].fill_(value)
        wanted = outputs_and_gradients(rg_lru, inputs, None, "reference")
        single = {key: tensor.float() for key, tensor in inputs.items()}
        found = outputs_and_gradients(rg_lru, single, None, "triton")
        for key, tensor in wanted.items():
            torch.testing.assert_close(found[key].double(), tensor, atol=1e-5, rtol=1e-5)


def test_the_gates_of_the_kernel() -> None:
    """a and sqrt(1 - a^2) to a few units of float32's last place, also where a is all but 1."""
    log_a = -torch.logspace(-12, 2, 333, dtype=torch.float64)
    a = torch.ones(2, 333)
    for row, norm in enumerate((False, True)):
        inputs = {"x": torch.ones(1, 1, 333), "input_gate": torch.ones(1, 1, 333), "state": torch.zeros(1, 333)}
        if not norm:
            inputs = {**inputs, "x": torch.zeros(1, 1, 333), "state": torch.ones(1, 333)}
        y, _ = rg_lru(**inputs, recurrence_gate=torch.ones(1, 1, 333), decay=-log_a.float() / 8, backend="triton")
        a[row] = y[0, 0]
    torch.testing.assert_close(a[0].double(), torch.exp(log_a), atol=1e-7, rtol=0)
    torch.testing.assert_close(a[1].double(), torch.sqrt(-torch.expm1(2 * log_a)), atol=0, rtol=5e-7)


COMPILE = """
import re
import sys
from triton import compile
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from lab.recurrence import fused

ROWS = {"x", "i", "r", "y", "dy", "dx", "di", "dr"}
SIZES = {"T", "L", "tiles", "spans", "span"}

def build(kernel, dtype, stages, absent=(), ones=(), **flags):
    fixed = dict(ROWS=fused.ROWS, WARPS=fused.WARPS, BLOCK_L=fused.BLOCK_L, STAGES=stages, **flags)
    fixed |= {name: None for name in absent} | {name: 1 for name in ones}
    kinds = {
        name: "constexpr" if name in fixed else "i32" if name in SIZES
        else "*u8" if name == "reset" else f"*{dtype if name in ROWS else 'fp32'}"
        for name in kernel.arg_names
    }
    aligned = {(n,): [["tt.divisibility", 16]] for n, name in enumerate(kernel.arg_names)
               if kinds[name][0] == "*" or (name == "L" and "L" not in fixed)}
    constants = {(kernel.arg_names.index(name),): value for name, value in fixed.items()}
    source = ASTSource(kernel, kinds, constants, aligned)
    made = compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": fused.WARPS})
    copies = len(re.findall(r"cp\\.async\\.cg\\.shared\\.global \\[[^]]*\\], \\[[^]]*\\], 0x10", made.asm["ptx"]))
    stores = re.findall(r"st\\.global(\\.v4)?\\S*", made.asm["ptx"])
    atomics = len(re.findall(r"\\b(?:atom|red)\\.", made.asm["ptx"]))
    print(kernel.__name__, dtype, copies > 0, stores.count(".v4") > len(stores) // 2, atomics, made.metadata.shared)

gone = ("y", "last", "starts")
build(fused._scan, "fp32", fused.STAGES, ENDS=False, SAVE=True)
build(fused._scan, "fp32", fused.STAGES, gone[2:], ("T", "tiles", "spans"), ENDS=False, SAVE=False)
build(fused._scan, "bf16", fused.STAGES, gone, ENDS=True, SAVE=False)
build(fused._scan_back, "fp32", fused.STAGES_BACK, ENDS=False)
build(fused._scan_back, "bf16", fused.STAGES_BACK, ("dx", "di", "dr", "ddecay", "dstate"), ENDS=True)
"""


def test_it_compiles_for_a_gpu(tmp_path: Path) -> None:
    """For Hopper, with loads and stores of 128 bits, no atomics, and room for two programs on a multiprocessor.

    The interpreter overlooks what the compiler minds; the assembler that Triton brings needs no GPU.
    """
    env = {"PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(sys.path), "TRITON_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", COMPILE], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert len(lines) == 5
    for kernel, dtype, copies, stores, atomics, shared in lines:
        assert copies == stores == "True", (kernel, dtype)
        assert atomics == "0" and 2 * int(shared) < 227 << 10
