"""lab.bench: every bench at tiny sizes, and the counts that its figures rest on. No time is judged."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from lab import bench
from lab.bench import Asked, flat, gpu, limits, passes, peers, scan, step, story, throughput, timing
from lab.bench.timing import Spread, exactly
from lab.errors import LabError
from lab.language import Griffin, GriffinConfig, SpeechTransformer, TransformerConfig, generate, state_bytes
from lab.language.decode import Forward
from lab.language.lean import Stepper
from lab.recurrence import rg_lru

# What the tables of issue 3 ask of each bench: rows that begin so, their peers, and the figures.
ASKED = {
    "flat": [("Griffin, token 200", "token 20", Asked("at most", 1.05, 1.0)), ("resident", "", ("at most", 5, 0))],
    "scan": [
        ("scan forward, T=256, L=64", "torch.add(a, b, out=c)", Asked("at least", 0.75, 0.9)),
        ("scan forward and backward", "torch.add(a, b, out=c)", Asked("at least", 0.75, 0.9)),
        ("scan forward beside transformers", "transformers' _rnn_scan", Asked("at least", 50, 80)),
    ],
    "step": [
        ("decode, batch 1, float32", "transformers' RecurrentGemma.generate", Asked("at least", 7, 10)),
        ("decode, batch 1, int8", "transformers' RecurrentGemma.generate", Asked("at least", 15, 25)),
        ("time per token, float32", "weights, window and state read once", Asked("at most", 1.33, 1.11)),
        ("time per token, int8, tiny", "weights, window and state read once", Asked("at most", 2.0, 1.43)),
        ("step alone, nothing in the cache, float32", "weights, window and state read once", None),
        ("cross-entropy with int8", "float32", None),
        ("step of a batch of 2", "Griffin.forward", None),
    ],
    "prefill": [("prefill of 64 tokens", "transformers' RecurrentGemma", Asked("at least", 2.5, 4))],
    "train": [("training step, 2 sequences", "transformers' RecurrentGemma", Asked("at least", 3, 5))],
    "throughput": [
        ("throughput, 128 tokens", "SpeechTransformer", Asked("at least", 1, 1)),
        ("throughput, at token 256", "SpeechTransformer", None),
    ],
    "latency": [
        ("latency, 128 tokens", "SpeechTransformer", None),
        ("latency, 200 tokens, both by torch", "SpeechTransformer", Asked("at most", 1, 1)),
    ],
    "learn": [
        ("steps of `lab train griffin`, 32 pieces of 32 tokens", "transformers' Rec", Asked("at least", 3, 5)),
        ("resident memory, most above", "", Asked("at most", 5, 0)),
        ("a run that goes on", "", Asked("at most", 5, 1)),
    ],
    "shard": [("`lab shard`, 1 process", "", None)],
    "story": [
        ("seconds to the first piece", "", Asked("at most", 1.0, 0.4)),
        ("`lab story` in a new process", "", Asked("at most", 3.0, 1.5)),
        ("silence", "", Asked("at most", 0, 0)),
        ("speech of", "", Asked("at least", 10, 20)),
        ("import of lab.speech", "", Asked("at most", 2.0, 1.0)),
        ("resident memory, most above", "", Asked("at most", 10, 2)),
    ],
    "gpu": [
        ("rg_lru forward (2, 16, 32) float32, auto", "copy", Asked("at least", 0.5, 0.8)),
        ("rg_lru forward and backward (2, 16, 32) float32, numba", "copy", Asked("at least", 0.5, 0.8)),
        ("latency, 40 tokens", "SpeechTransformer", None),
        ("decode, tiny in bfloat16", "its weights read once", Asked("at most", 1.6, 1.2)),
        ("throughput, 32 tokens", "SpeechTransformer", Asked("at least", 1, 1)),
        ("training, tiny", "", None),
        ("training, tiny: MFU", "", None),
        ("training, tiny: largest batch", "", None),
    ],
}


@pytest.fixture(autouse=True)
def small(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bundle that is quick, and a malloc that is left to the other tests as it was."""
    monkeypatch.setenv("LAB_BUNDLE", str(tiny_bundle))
    monkeypatch.setattr("lab.machine.keep_freed_memory", lambda: False)


def griffin(**changed: Any) -> Griffin:
    torch.manual_seed(0)
    return Griffin(GriffinConfig.preset("tiny", **changed)).eval().requires_grad_(False)


def transformer() -> SpeechTransformer:
    torch.manual_seed(0)
    return SpeechTransformer(TransformerConfig.preset("tiny")).eval().requires_grad_(False)


@pytest.mark.parametrize("name", bench.BENCHES)
def test_a_bench_gives_the_rows_it_promises(name: str) -> None:
    *before, found = bench.run(name, quick=name != "gpu", dry_run=name == "gpu")
    assert [part.rows for part in before] == [found.rows[: len(part.rows)] for part in before]
    assert len(before) == (4 if name == "gpu" else 0), (
        "what ends the bench of a GPU early leaves the figures there were"
    )
    assert found.bench == name and found.command.startswith(f"lab bench {name} --")
    assert len({(row.name, row.peer) for row in found.rows}) == len(found.rows)
    for start, peer, asked in ASKED[name]:
        rows = [row for row in found.rows if row.name.startswith(start) and row.peer.startswith(peer)]
        assert rows and rows[0].asked == asked, start
        assert rows[0].ours is not None and (rows[0].theirs is not None) == bool(peer)
    for row in found.rows:
        assert row.ours is not None or row.note
        for measured in (row.ours, row.theirs):
            if measured is not None:
                least = 0 if row.unit == "MB" or row.name.startswith("silence") else 1e-12
                assert least <= measured.low <= measured.median <= measured.high < math.inf, row
        if row.ours is not None and row.theirs is not None:
            assert row.ratio == row.ours.median / row.theirs.median
        if row.predicted is not None and row.ours is not None:
            assert row.predicted > 0
    limit = ("limit: ", "copy", "torch.add(a, b, out=c)")
    assert name in ("learn", "shard", "story") or any(
        row.name.startswith(limit) or row.peer.startswith(limit) or "GB/s" in row.note for row in found.rows
    )


@pytest.mark.parametrize("cold", [True, False])
def test_the_first_story_after_setup_has_a_row(monkeypatch: pytest.MonkeyPatch, tiny_bundle: Path, cold: bool) -> None:
    monkeypatch.setattr(story, "_on_disk", lambda prompt, count, environment=None: exactly(9 if environment else 3))
    ran: list[Any] = []

    def setup(words: list[str], env: dict[str, str] | None = None, **options: Any) -> None:
        ran.append((words[-1], env and env.get("NUMBA_CACHE_DIR")))

    monkeypatch.setattr(story.subprocess, "run", setup)
    rows = {row.name: row for row in story.rows(seconds=1, rounds=1, processes=1, tokens=100, cold=cold)}
    first = rows["the same, the first after setup"]
    assert first.asked == Asked("at most", 12.0, 5.0) and first.ours == (exactly(9) if cold else None)
    assert first.note == ("of what numba compiles setup made 0 files, this story 0 more" if cold else "left out")
    assert any(module == "lab.language.compile" and cache for module, cache in ran) == cold


def test_silence_is_what_a_listener_waits_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of 2, 3 and 1 s that are there after 1, 2 and 9 s: played from 1 to 3, from 3 to 6, from 9 to 10."""
    arrivals = iter((101.0, 102.0, 109.0))
    monkeypatch.setattr(story.time, "perf_counter", lambda: next(arrivals))
    chunks = [SimpleNamespace(seconds=seconds) for seconds in (2.0, 5.0, 6.0)]
    assert story.listened(chunks, 100.0) == (6.0, 9.0, 3.0)  # type: ignore[arg-type]


def test_memory_is_what_grows_after_the_first_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = iter((7e6, 9e6, 8e6))
    monkeypatch.setattr(story, "resident", lambda: next(looks))
    chunks = [SimpleNamespace(seconds=seconds) for seconds in (20.0, 59.0, 60.0, 90.0, 130.0)]
    assert story.grown(chunks, 60.0) == 2.0  # type: ignore[arg-type]


def test_bytes_of_the_recurrence_are_those_of_its_tensors() -> None:
    x, i, r, decay = scan.inputs(1, 32, 64)
    leaves = [tensor.clone().requires_grad_() for tensor in (x, i, r, decay)]
    y, _ = rg_lru(*leaves)
    assert scan.FORWARD * x.nbytes == sum(tensor.nbytes for tensor in (x, i, r, y))
    dy = torch.randn_like(y)
    kept = [saved for saved in y.grad_fn.saved_tensors if saved.shape == x.shape and saved.is_floating_point()]
    made = [grad for grad in torch.autograd.grad(y, leaves, dy) if grad.shape == x.shape]
    assert scan.BACKWARD * x.nbytes == sum(tensor.nbytes for tensor in (*kept, dy, *made))
    assert limits.add(x.shape).work == 3 * x.nbytes
    assert limits.copy(x).work == 2 * x.nbytes


def test_a_pass_reads_every_byte() -> None:
    arrays = np.arange(1000, dtype=np.float32), np.arange(-9, 7, dtype=np.int8).reshape(2, 8), np.ones((3, 2, 5), bool)
    limit = limits.read(*arrays)
    assert limit.work == 4000 + 16 + 24  # of the last 30 bytes whole words
    words, found = limits._words(arrays), np.zeros(1, np.uint64)
    limits._pass(words, found)
    assert words.nbytes == limit.work and found[0] == np.bitwise_xor.reduce(words)


def test_what_is_cold_was_evicted_before(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[int] = []
    monkeypatch.setattr(limits, "_pass", lambda words, found: done.append(words.nbytes))
    assert limits.cold(lambda: float(len(done)), np.ones(100, np.uint64))() == 1 and done == [800]


def test_a_model_by_torch_is_the_same_and_no_numba_steps_it() -> None:
    model, prompt = griffin(), torch.arange(5)
    one, other = (
        generate(which, prompt, generator=torch.Generator().manual_seed(0), max_tokens=9)
        for which in (model, throughput.ByTorch(model))
    )
    assert list(one) == list(other)
    assert isinstance(one._decoder, Stepper) and isinstance(other._decoder, Forward)


def test_flops_are_those_that_torch_counts() -> None:
    model, token = griffin(), torch.zeros(3, 1, dtype=torch.int64)
    state = model(token)[1]
    with FlopCounterMode(display=False) as counter:
        model(token, state)
    assert limits.flops(model, 3, 2) == counter.get_total_flops()
    other = transformer()
    state = throughput.filled(other, 3, 20)
    with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        other(token, state)
    assert limits.flops(other, 3, 21) == counter.get_total_flops()


def test_roofline_of_a_pass_counts_products_and_arrays() -> None:
    model = griffin()
    seen = sum(min(t, 16) + 1 for t in range(40)) / 40
    products = passes.floor(model, 2, 40, products=3, moved=0, peak=1e9, bandwidth=1)
    assert products == pytest.approx(3 * limits.flops(model, 80, seen) / 1e9)
    arrays = passes.floor(model, 2, 40, products=0, moved=6, peak=1, bandwidth=1e9)
    assert arrays == 6 * 2 * torch.zeros(2, 40, 32).nbytes / 1e9  # two recurrent blocks


@torch.inference_mode()
def test_states_are_of_the_size_that_the_budget_counts() -> None:
    ours, theirs = griffin(), transformer()
    assert throughput.bytes_of_state(ours, 20) == state_bytes(throughput.filled(ours, 1, 20))
    cache = throughput.filled(theirs, 1, 20).layers
    assert throughput.bytes_of_state(theirs, 20) == state_bytes(cache)
    assert limits.weight_bytes(ours) == sum(4 * parameter.numel() for parameter in ours.parameters())
    moved = limits.weight_bytes(theirs) + 5 * throughput.bytes_of_state(theirs, 20)
    assert throughput.floor(theirs, 5, 20, 1e9, math.inf) == moved / 1e9
    assert throughput.floor(ours, 5, 99, math.inf, 1e9) == limits.flops(ours, 5, 17) / 1e9


@torch.inference_mode()
def test_decoding_begins_where_it_says_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    model, sizes = transformer(), []
    run, forward = throughput.sampling(model, 2, 20, 3), model.forward
    monkeypatch.setattr(model, "forward", lambda *given: sizes.append(given[1].size) or forward(*given))
    run(), run()
    assert sizes == [20, 21, 22] * 2
    assert throughput.filled(griffin(), 2, 500).length.tolist() == [500, 500]


def test_best_batch_fits_the_budget_and_is_the_fastest(monkeypatch: pytest.MonkeyPatch) -> None:
    tried, model = [], transformer()
    speeds = {25: 0.0, 12: 30.0, 6: 50.0, 3: 40.0, 1: 10.0}

    def speed(model: Any, batch: int, position: int, steps: int) -> float:
        tried.append(batch)
        return speeds[batch]

    monkeypatch.setattr(throughput, "_speed", speed)
    budget = 25.5 * throughput.bytes_of_state(model, 64)
    assert throughput.best_batch(model, 64, 32, budget, 2) == 6
    assert tried == [25, 12, 6, 3, 1]
    assert throughput.best_batch(model, 64, 32, budget / 100, 2) == 0


def test_a_budget_without_room_for_one_story_is_told() -> None:
    row = throughput.rows("tiny", (64,), budget=1000)[0]
    assert row.ours is None and "does not fit" in row.note


@torch.inference_mode()
def test_loss_by_steps_is_the_loss_of_the_model() -> None:
    model = griffin()
    stories = [torch.randint(64, (T,)) for T in (30, 20)]
    wanted = sum(F.cross_entropy(model(s[None])[0][0, 1:-1], s[2:], reduction="sum") for s in stories) / (28 + 18)
    assert step.cross_entropy(model, "float32", stories) == pytest.approx(float(wanted), abs=1e-4)
    assert step.cross_entropy(model, "int8", stories) != step.cross_entropy(model, "float32", stories)


def test_a_leak_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = iter(range(100, 200))
    monkeypatch.setattr(flat, "resident", lambda: next(looks) * 1_000_000)
    rows = flat.rows("tiny", tokens=100, window=2, rounds=1, every=10)
    (row,) = (row for row in rows if row.unit == "MB")
    assert row.ours.median == 9 and row.met == "no"  # after tokens 20, 30 ... 100, from token 10 on


def test_states_of_flat_are_those_of_their_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    lengths = []

    def remember(decoder: Any, *_: Any) -> Callable[[], None]:
        if isinstance(decoder, Stepper):
            lengths.append(decoder.state.length.item())
        return lambda: None

    monkeypatch.setattr(throughput, "drawing", remember)
    flat.rows("tiny", tokens=2000, window=2, rounds=1)
    assert lengths == [1000, 2000]  # the newest token is drawn, and not read yet


def test_contenders_take_turns_after_warming_up() -> None:
    order = []

    def contender(name: str) -> Callable[[], float]:
        return lambda: order.append(name) or float(len(order))

    seconds = timing.in_turn({name: contender(name) for name in "abc"}, rounds=2, warmup=1)
    rounds = ["".join(order[start : start + 3]) for start in (0, 3, 6)]
    assert {"".join(sorted(one)) for one in rounds} == {"abc"} and len(set(rounds)) > 1
    assert seconds == {name: [at + 1.0 for at in range(3, 9) if order[at] == name] for name in "abc"}
    assert timing.rate([2.0, 4.0, 8.0], 16) == Spread(4, 3, 6)
    assert timing.each([0.001, 0.002, 0.003]) == pytest.approx((2, 1.5, 2.5))
    assert timing.timer(lambda: sum(range(20000)))() > timing.timer(lambda: sum(range(20000)), steps=1000)() > 0


@pytest.mark.skipif("not sys.platform.startswith('linux')")
def test_kept_memory_costs_no_page_faults() -> None:
    script = (
        "import resource, torch\nfrom lab.machine import keep_freed_memory\nkept = keep_freed_memory()\n"
        "def faults():\n    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "def cost():\n    before = faults()\n    torch.ones(20_000_000)\n    return faults() - before\n"
        "print(kept, min(cost() for _ in range(5)))"
    )
    kept, faults = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout.split()
    assert kept == "False" or int(faults) < 30  # 80 MB are 19,531 pages, or 38 huge ones


@pytest.mark.skipif("not sys.platform.startswith('linux')")
def test_kept_memory_goes_back_from_between_what_is_used() -> None:
    script = (
        "import torch\nfrom lab import machine\nfrom lab.bench.flat import resident\n"
        "kept = machine.keep_freed_memory()\nbefore = resident()\n"
        "made = [torch.ones(500_000) for _ in range(100)]\nmade = made[::10]\nfull = resident()\n"
        "machine.return_freed_memory()\nprint(kept, full - before, resident() - before)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    kept, full, after = done.stdout.split()
    assert kept == "False" or (int(full) > 150e6 and int(after) < 40e6)  # 200 MB made, 20 used, in ten places


def test_without_transformers_the_rows_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "transformers"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "transformers", None)
    told = peers.NOT_INSTALLED
    rows = [
        passes.prefill("tiny", 16, rounds=1)[0],
        step._alone(peers.pair(GriffinConfig.preset("tiny")), 2, 1, 800, "")[0],
    ]
    rows += [row for row in scan.rows(T=8, widths=(8,), rounds=1, slow=1) if "_rnn_scan" in row.name]
    assert len(rows) == 3
    for row in rows:
        assert row.ours is not None and row.theirs is None and row.ratio is None and row.note == told


def test_the_scan_of_the_peer_is_the_recurrence() -> None:
    given = scan.inputs(2, 16, 8)
    y = rg_lru(*given)[0]
    theirs, note = peers.rnn_scan(given, y)
    assert theirs is not None
    torch.testing.assert_close(theirs(), y, atol=1e-5, rtol=0)
    assert note.startswith("outputs differ by ") and float(note.split()[3]) < 1e-5
    assert float(peers.rnn_scan(given, y + 1)[1].split()[3]) == pytest.approx(1, rel=0.1)


def test_both_sides_of_a_pair_are_one_model() -> None:
    pair = peers.pair(GriffinConfig.preset("tiny", width=64, head_dim=32, rope=True))  # a root that bfloat16 has
    assert pair.ours.config.rope and pair.ours.config.window == 16
    assert pair.note.startswith("the same weights; logits differ by ")
    assert float(pair.note.split()[-3]) < 1e-4
    assert peers.seconds_a_token(pair.theirs, torch.zeros(1, 4, dtype=torch.int64), 3) > 0


def test_gpu_asks_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(LabError, match="--dry-run"):
        next(bench.run("gpu"))
    assert gpu.FULL.keys() == gpu.DRY.keys() and gpu.FULL["shapes"] == ((8, 2048, 2560), (1, 16384, 2560))


def test_training_on_a_gpu_takes_no_longer_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "SECONDS", 1e-9)
    assert gpu._train("cpu", "tiny", 50, 64)[0].note == "3 steps"
    monkeypatch.setattr(gpu, "SECONDS", 1e9)
    assert gpu._train("cpu", "tiny", 4, 64)[0].note == "4 steps"


def test_mfu_is_what_the_model_multiplies_of_the_peak() -> None:
    row, mfu, batch = gpu._train("cpu", "tiny", 3, 64)
    assert row.ours is not None and mfu.ours is not None and batch.ours is not None and row.predicted is not None
    assert mfu.ours.median == pytest.approx(100 * row.ours.median / row.predicted)
    operations = 6 * sum(weights.numel() for weights in Griffin(GriffinConfig.preset("tiny")).parameters())
    (peak,) = re.findall(r"of a matrix product of 64, bfloat16, (\S+) TFLOP/s", mfu.note)
    assert float(peak) * 1e12 == pytest.approx(row.predicted * operations, rel=0.01)
    assert batch.ours.median == 8 and batch.unit == "pieces of 128 tokens"  # of the 1,024 tokens of a step


@pytest.mark.parametrize(("room", "most", "found"), [(5, 128, 4), (0, 128, 0), (999, 128, 128), (999, 100, 64)])
def test_the_largest_batch_is_what_memory_has_room_for(room: int, most: int, found: int) -> None:
    def step(size: int) -> None:
        if size > room:
            raise torch.OutOfMemoryError

    assert gpu.largest(step, most) == found
