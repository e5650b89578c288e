"""lab.recurrence.fused: the Triton kernel in Triton's interpreter, and compiled for a GPU that need not be there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("triton")
from lab.recurrence import probe, rg_lru
from tests.test_recurrence import assert_parity, outputs_and_gradients, resets, scan_inputs, small_tiles

pytestmark = pytest.mark.skipif(probe.TRITON_DEVICE == "cuda", reason="with a GPU, tests/gpu runs the kernel itself")


__all__ = ["small_tiles"]  # an autouse fixture


@pytest.mark.parametrize(
    ("shape", "kind"),
    [
        ((1, 1, 8), "fresh"),
        ((1, 1, 8), "start"),
        ((3, 2, 3), "carried"),
        ((3, 2, 3), "middle"),
        ((2, 4, 8), "start"),
        ((2, 4, 8), "carried"),
        ((1, 13, 17), "middle"),
        ((1, 13, 17), "fresh"),
        ((2, 10, 8), "middle"),
        ((2, 10, 8), "carried"),
    ],
)
def test_parity_with_the_reference(shape: tuple[int, int, int], kind: str) -> None:
    assert_parity("rg_lru", "triton", kind, shape)


def test_each_run_is_the_same() -> None:
    inputs, reset = scan_inputs(1, 13, 8, dtype=torch.float32), resets("middle", 1, 13)
    whole, again = (outputs_and_gradients(rg_lru, inputs, reset, "triton") for _ in range(2))
    assert all(torch.equal(whole[key], again[key]) for key in whole)


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

TYPED = {"x", "i", "r", "dx", "di", "dr"}

def build(kernel, dtype, stages):
    fixed = dict(ROWS=fused.ROWS, BLOCK_L=fused.BLOCK_L, STAGES=stages)
    kinds = {
        name: "constexpr" if name in fixed else "i32" if name in ("T", "L")
        else "*u8" if name == "reset" else f"*{dtype if name in TYPED else 'fp32'}"
        for name in kernel.arg_names
    }
    aligned = {(n,): [["tt.divisibility", 16]] for n, name in enumerate(kernel.arg_names)
               if kinds[name][0] == "*" or name == "L"}
    constants = {(kernel.arg_names.index(name),): value for name, value in fixed.items()}
    source = ASTSource(kernel, kinds, constants, aligned)
    made = compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": fused.WARPS})
    copies = len(re.findall(r"cp\\.async\\.cg\\.shared\\.global \\[[^]]*\\], \\[[^]]*\\], 0x10", made.asm["ptx"]))
    stores = re.findall(r"st\\.global(\\.v4)?\\S*", made.asm["ptx"])
    atomics = len(re.findall(r"\\b(?:atom|red)\\.", made.asm["ptx"]))
    print(kernel.__name__, dtype, copies > 0, stores.count(".v4") > len(stores) // 2, atomics, made.metadata.shared)

for dtype in ("fp32", "bf16"):
    build(fused._scan, dtype, fused.STAGES)
    build(fused._scan_back, dtype, fused.STAGES_BACK)
"""


def test_it_compiles_for_a_gpu(tmp_path: Path) -> None:
    """For Hopper, with loads and stores of 128 bits, no atomics, and room for two programs on a multiprocessor.

    The interpreter overlooks what the compiler minds; the assembler that Triton brings needs no GPU.
    """
    env = {"PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(sys.path), "TRITON_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", COMPILE], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert len(lines) == 4
    for kernel, dtype, copies, stores, atomics, shared in lines:
        assert copies == stores == "True", (kernel, dtype)
        assert atomics == "0" and 2 * int(shared) < 227 << 10
