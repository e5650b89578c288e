"""What a long story costs: counted bytes against real states, and figures that label what they show."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lab import bench
from lab.bench import Report, Row, throughput
from lab.bench.report import report
from lab.bench.timing import Spread, exactly
from lab.errors import LabError
from lab.language import GriffinConfig, TransformerConfig, state_bytes
from lab.view import speed, style


@pytest.mark.parametrize("figure", ["Fig. 6", "Fig. 7", "Fig. 8"])
def test_every_published_value_tells_its_source(figure: str):
    for curve in speed.published(figure).values():
        tokens = [reading.tokens for reading in curve]
        assert tokens == sorted(tokens) and set(tokens) <= set(throughput.LENGTHS)
        for reading in curve:
            assert reading.value > 0 and reading.source.startswith(("read off the figure", "computed: Fig. 6"))


def test_published_figures_agree_with_each_other():
    ratios = {reading.tokens: reading.value for reading in speed.published("Fig. 8")["SpeechSSM-2B"]}
    assert ratios == throughput.PAPER
    ours, theirs = speed.published("Fig. 6").values()
    for top, bottom in zip(ours, theirs, strict=True):
        assert top.value / bottom.value == pytest.approx(ratios[top.tokens], rel=0.05)
    with pytest.raises(LabError, match="'Fig. 9'; there are Fig. 6, Fig. 7, Fig. 8"):
        speed.published("Fig. 9")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("preset", ["tiny", "laptop"])
def test_counted_bytes_are_those_of_the_states(preset: str, dtype: torch.dtype):
    griffin, transformer = throughput.models(preset, dtype=dtype)
    for tokens in (1, 40):
        heard = torch.zeros(1, tokens, dtype=torch.int64)
        with torch.inference_mode():
            flat, growing = griffin(heard)[1], transformer(heard)[1]
        assert speed.griffin_bytes(griffin.config, dtype.itemsize) == state_bytes(flat)
        assert speed.cache_bytes(transformer.config, tokens, dtype.itemsize) == state_bytes(growing.layers)


def test_the_paper_sizes_are_those_of_recurrentgemma():
    config = GriffinConfig.preset("2b")
    assert round(speed.griffin_bytes(config, 2) / 1e6, 1) == 17.2
    gemma = TransformerConfig.preset("2b")
    assert speed.cache_bytes(gemma, 1, 2) == 18_432


@pytest.mark.parametrize("preset", ["lab", "2b"])
def test_cache_is_the_larger_one_from_the_crossing_on(preset: str):
    config = GriffinConfig.preset(preset)
    tokens = int(speed.crossing(config) * 25)
    assert speed.cache_bytes(config, tokens) <= speed.griffin_bytes(config) < speed.cache_bytes(config, tokens + 1)


def test_memory_answers_to_each_control():
    figure = speed.memory()
    griffin, transformer, cross = figure.data
    assert set(griffin.y) == {round(speed.griffin_bytes(GriffinConfig.preset("lab")) / 1e6, 4)}
    assert griffin.x[-1] == transformer.x[-1] == 3600
    assert transformer.y[-1] == pytest.approx(4608 * 3600 * 25 / 1e6)
    assert cross.x[0] == pytest.approx(speed.crossing(GriffinConfig.preset("lab")), abs=0.01)
    assert figure.layout.title.text == "After 1 h: 811 kB of state against 414.7 MB of keys and values"
    state = griffin.y[0]
    assert speed.memory(width=512).data[0].y[0] > state
    assert speed.memory(layers=18).data[0].y[0] == pytest.approx(2 * state, rel=1e-3)
    assert speed.memory(window=1024).data[0].y[0] > 1.9 * state
    assert speed.memory(minutes=600).data[1].y[-1] == pytest.approx(10 * transformer.y[-1])
    assert speed.memory(minutes=600).data[0].y[-1] == state


@pytest.fixture
def far() -> Report:
    """A report of `lab bench flat`."""
    marks = (1000, 100_000, 1_000_000)
    rows = [
        Row(f"Griffin, token {at}", "ms", Spread(2 + n / 100, 1.9, 2.2), "token 1000", exactly(2))
        for n, at in enumerate(marks)
    ]
    rows += [Row("SpeechTransformer, token 1000", "ms", exactly(3)), Row("limit: matrix-vector", "GB/s", exactly(9))]
    rows += [Row("SpeechTransformer, token 100000", "ms", exactly(60))]
    grown = "resident memory, most above that at token 1000 on the way to 1000000"
    return report("flat", "lab bench flat", [*rows, Row(grown, "MB", exactly(3.21), note="of 633 MB in all")])


def test_flat_shows_time_and_memory_to_a_million(far: Report):
    figure = speed.flat(far)
    where = f"measured, {far.machine['chip']}, {far.machine['cores']} cores"
    lines = {trace.name.replace(where, "measured"): trace for trace in figure.data}
    assert lines["Griffin, measured"].x == (1000, 100_000, 1_000_000)
    assert lines["Griffin, measured"].y == (2.0, 2.01, 2.02)
    assert lines["Griffin, measured"].error_y.arrayminus == pytest.approx((0.1, 0.11, 0.12))
    assert lines["SpeechTransformer, measured"].y == (3, 60)
    memory = lines["Griffin, whole process, at most"]
    assert set(memory.y) == {3.2} and memory.x[-1] == pytest.approx(11.11, abs=0.01)
    cache = lines["SpeechTransformer, keys and values, by arithmetic"]
    assert cache.y[0] == 0 and cache.y[-1] == pytest.approx(4608 * 999_000 / 1e6, abs=0.1)
    assert {lines[name].line.color for name in lines if name.startswith("Griffin")} == {style.CONTINUATION}
    assert figure.layout.title.text == "Token 1,000,000 takes 1.01 times as long as token 1,000; memory grew by 3.2 MB"


def test_flat_of_another_bench_is_refused(far: Report):
    other = replace(far, command="lab bench step", rows=(Row("step", "ms", exactly(1)),))
    with pytest.raises(LabError, match=r"`lab bench step` has no row 'Griffin, token"):
        speed.flat(other)


def _beside(name: str, unit: str, ours: float, theirs: float) -> Row:
    return Row(name, unit, exactly(ours), "SpeechTransformer", exactly(theirs))


def test_efficiency_labels_measured_and_published():
    rows = [_beside("throughput, 128 tokens", "tokens/s", 4000, 2000)]
    rows += [_beside("throughput, 16384 tokens", "tokens/s", 3000, 30)]
    rows += [_beside("throughput, at token 16384", "tokens/s", 1, 1), Row("throughput, 512 tokens", "tokens/s", None)]
    figure = speed.efficiency(report("throughput", "lab bench throughput", rows))
    griffin, transformer, paper, gemma, ratio, published = figure.data
    assert griffin.x == (5.12, 655.36) and griffin.y == (4000, 3000) and transformer.y == (2000, 30)
    assert paper.y[0] == 35_300 and gemma.y[0] == 13_300
    assert (ratio.xaxis, ratio.y) == ("x2", (2, 100)) and (published.xaxis, published.y[-1]) == ("x2", 125)
    for trace in figure.data:
        theirs = trace.name.endswith(", TPU v5e")
        assert ("published in Fig. " if theirs else "measured, ") in trace.name
        assert trace.marker.symbol.endswith("-open") == theirs
    assert griffin.line.dash != transformer.line.dash and griffin.marker.symbol != transformer.marker.symbol
    message = "At 10.9 min of speech: 100 times the Transformer's tokens, measured; 125 times, published"
    assert figure.layout.title.text == message


def test_latency_has_real_time_beside_it():
    rows = [_beside("latency, 1024 tokens", "s", 1, 4), _beside("latency, 3000 tokens", "s", 3, 40)]
    figure = speed.latency(report("latency", "lab bench latency", rows))
    names = [trace.name for trace in figure.data]
    assert figure.data[0].y == (1, 3) and figure.data[1].y == (4, 40)
    assert [trace.x[-1] for trace in figure.data if "published" in trace.name] == [655.36, 655.36]
    real = figure.data[names.index("real time")]
    assert list(real.x) == list(real.y) == [10.24, 655.36]  # of the first published length to the last
    assert figure.layout.title.text == "2 min of speech take Griffin 3 s, SpeechTransformer 40 s"
    rows.append(_beside("latency, 3000 tokens, both by torch", "s", 30, 40))
    fair = speed.latency(report("latency", "lab bench latency", rows))
    assert fair.data[2].name.startswith("Griffin by torch, measured") and fair.data[2].y == (30,)
    assert fair.layout.title.text == (
        "By torch, 2 min of speech take Griffin 30 s, SpeechTransformer 40 s; as stepped, Griffin 3 s"
    )


def test_efficiency_has_the_roofline_of_both():
    def row(name: str, value: float) -> Row:
        return Row(name, "tokens/s", exactly(value), predicted=2 * value)

    rows = [row("throughput, 100 tokens", 40), row("SpeechTransformer, 100 tokens", 20)]
    rows += [row("throughput, 5000 tokens", 30), row("SpeechTransformer, 5000 tokens", 2), row("limit: copy", 9)]
    lines = {trace.name: trace for trace in speed.efficiency(report("throughput", "lab bench throughput", rows)).data}
    assert lines["Griffin, roofline"].x == (4, 200) and lines["Griffin, roofline"].y == (80, 60)
    assert lines["SpeechTransformer, roofline"].y == (40, 4)


@pytest.mark.parametrize(("draw", "bench", "lines"), [("flat", "flat", 0), ("efficiency", "throughput", 3)])
def test_what_was_not_measured_is_said(draw: str, bench: str, lines: int):
    figure = getattr(speed, draw)(None)
    assert len(figure.data) == lines
    assert figure.layout.title.text.startswith(f"Not measured yet: `lab bench {bench}` saves")


def test_saved_is_the_newest(far: Report, tmp_path: Path):
    assert speed.saved("flat", tmp_path) is None
    older = replace(far, date="2026-01-01T00:00:00+00:00", machine=far.machine | {"chip": "Zeta", "gpu": True})
    for one in (far, older, replace(far, bench="latency", date="2030-01-01T00:00:00+00:00")):
        one.save(tmp_path)
    found = speed.saved("flat", tmp_path)
    assert found is not None and found.machine["chip"] == far.machine["chip"] and found.bench == "flat"


def test_a_gpu_has_a_bar_for_each_backend():
    rows = [_beside("decode, 2b in bfloat16, batch 1: time per token", "ms", 6, 4)]
    for shape, triton in (("forward (8, 2048, 2560)", 900), ("forward and backward (8, 2048, 2560)", 600)):
        rows += [_beside(f"rg_lru {shape} float32, triton", "GB/s", triton, 1000)]
        rows += [_beside(f"rg_lru {shape} float32, mamba-ssm", "GB/s", triton / 2, 1000)]
        rows += [Row(f"rg_lru {shape} float32, associative", "GB/s", None, "copy", exactly(1000), note="not installed")]
    measured = replace(report("gpu", "lab bench gpu", rows), machine={"chip": "NVIDIA X", "gpu": True, "cores": 2})
    figure = speed.gpu(measured)
    assert [(bar.name, bar.x, bar.y) for bar in figure.data] == [
        ("forward (8, 2048, 2560)", ("triton", "mamba-ssm"), (90, 45)),
        ("forward and backward (8, 2048, 2560)", ("triton", "mamba-ssm"), (60, 30)),
    ]
    assert figure.layout.title.text == "NVIDIA X: a token of 2b takes 1.5 times what reading its weights does"
    *_, dry = bench.run("gpu", dry_run=True)
    assert {name for bar in speed.gpu(dry).data for name in bar.x} >= {"auto", "numba"}
    with pytest.raises(LabError, match="tells of no GPU; give that of `lab bench gpu`"):
        speed.gpu(report("scan", "lab bench scan", rows[:1]))
