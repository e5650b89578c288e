"""What a long story costs, in time and in memory: counted, measured by `lab bench`, and published, each labelled."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import plotly.graph_objects as go
import torch
from plotly.subplots import make_subplots

from lab import bench
from lab.bench import Report, Row, Spread
from lab.errors import LabError
from lab.language import Griffin, GriffinConfig, SpeechTransformer, TransformerConfig, state_bytes
from lab.paths import data_folder
from lab.tokens import TOKEN_RATE
from lab.view import style

PUBLISHED = data_folder() / "published" / "speed.json"
PAPER = "SpeechSSM-2B"  # as the paper calls its Griffin
COLOURS = {"Griffin": style.CONTINUATION, PAPER: style.CONTINUATION, "SpeechTransformer": style.TRANSFORMER}
CHIP = "TPU v5e"


class Reading(NamedTuple):
    """One published value, after so many tokens, and how it was come by."""

    tokens: int
    value: float
    source: str


def published(figure: str) -> dict[str, list[Reading]]:
    """The paper's "Fig. 6" (tokens/s), "Fig. 7" (s) or "Fig. 8" (ratio): a curve a model, of 2B on one TPU v5e.

    Raises LabError for another figure.
    """
    figures = json.loads(PUBLISHED.read_text())["figures"]
    if figure not in figures:
        raise LabError(f"there are no published readings of {figure!r}; there are {', '.join(figures)}")
    return {model: [Reading(**reading) for reading in curve] for model, curve in figures[figure]["curves"].items()}


def saved(name: str, folder: Path = bench.FOLDER) -> Report | None:
    """The newest report of `lab bench NAME` in `folder`, of whichever machine; None where there is none."""
    reports = [Report.load(path) for path in folder.glob(f"{name}-*.json")]
    return max(reports, key=lambda report: report.date, default=None)


@torch.inference_mode()
def sizes(model: Griffin | SpeechTransformer, lengths: Sequence[int]) -> dict[int, int]:
    """Bytes of the state of one story after so many tokens: the model reads each length anew, at random."""
    generator = torch.Generator().manual_seed(0)
    heard = torch.randint(model.config.vocabulary, (1, max(lengths)), generator=generator)
    return {length: state_bytes(model(heard[:, :length], last=True)[1]) for length in lengths}


def griffin_bytes(config: GriffinConfig, itemsize: int = 4) -> int:
    """Bytes of the state of one story, at any length.

    itemsize: bytes a number, 4 in float32 and 2 in bfloat16; what the RG-LRU remembers is float32 in both.
    """
    recurrent = config.blocks.count("recurrent")
    hidden, conv = 4 * config.width, itemsize * (config.conv_width - 1) * config.width
    window = 2 * config.window * config.head_dim * itemsize
    return 8 + recurrent * (hidden + conv) + (config.layers - recurrent) * window  # 8: the length, an int64


def cache_bytes(config: GriffinConfig | TransformerConfig, tokens: int, itemsize: int = 4) -> int:
    """Bytes of the keys and values of one story in a Transformer of that depth, one key and value head a layer."""
    return 2 * config.layers * config.head_dim * itemsize * tokens


def crossing(config: GriffinConfig, itemsize: int = 4) -> float:
    """Seconds of speech after which the cache of a Transformer of that depth is larger than Griffin's state."""
    return griffin_bytes(config, itemsize) / cache_bytes(config, 1, itemsize) / TOKEN_RATE


def memory(width: int = 256, layers: int = 9, window: int = 512, minutes: float = 60.0, height: int = 400) -> go.Figure:
    """Bytes of float32 over the length of a story: Griffin's state, and the cache of a Transformer of the same depth.

    window: tokens. Heads are a quarter of the width, 256 at most, as in the presets lab, 2b and 9b.
    """
    head_dim = min(256, width // 4)
    shape = dict(width=width, layers=layers, heads=width // head_dim, head_dim=head_dim, window=window)
    config = GriffinConfig.preset("lab", **shape)
    seconds = np.geomspace(1, max(2.0, 60 * minutes), 60)
    state, cache = griffin_bytes(config), cache_bytes(config, 1) * TOKEN_RATE * seconds
    figure, cross = go.Figure(), crossing(config)
    for name, bytes_ in (("Griffin", np.full_like(seconds, state)), ("SpeechTransformer", cache)):
        figure.add_scatter(
            x=seconds.round(2), y=(bytes_ / 1e6).round(4), name=name, line={"color": COLOURS[name], "width": 3},
            hovertemplate="%{x:.0f} s: %{y:.3g} MB",
        )  # fmt: skip
    figure.add_scatter(
        x=[round(cross, 2)], y=[round(state / 1e6, 4)], name=f"as large, at {_spoken(cross)}", mode="markers",
        marker={"color": style.TRUTH, "size": 10, "symbol": "diamond"}, hoverinfo="skip",
    )  # fmt: skip
    _over_speech(figure, seconds[-1])
    figure.update_yaxes(title_text="megabytes a story, float32", type="log", dtick=1, tickformat=",~g")
    message = f"After {_spoken(seconds[-1])}: {_size(state)} of state against {_size(cache[-1])} of keys and values"
    return style.styled(figure, message, height).update_layout(
        margin={"b": 65, "r": 30}
    )  # the last tick is at the edge


def flat(report: Report | None, preset: str = "lab", height: int = 460) -> go.Figure:
    """Time a token, and memory beyond that at the first mark, on the way to a million tokens (`lab bench flat`).

    Griffin's memory is the most that its whole process grew by; the Transformer's is that of its keys and values, by
    arithmetic. preset: of the models that were measured. Raises LabError for the report of another bench.
    """
    if report is None:
        empty = go.Figure(layout={"xaxis": {"visible": False}, "yaxis": {"visible": False}})
        return style.styled(empty, _missing("flat"), height=100)
    figure = make_subplots(1, 2, column_widths=[0.55, 0.45], horizontal_spacing=0.12)
    griffin = _rows(report, r"Griffin, token (\d+)")
    for name, rows in (("Griffin", griffin), ("SpeechTransformer", _rows(report, r"SpeechTransformer, token (\d+)"))):
        spreads = [_spread(row) for row in rows.values()]
        figure.add_scatter(
            x=list(rows), y=[round(spread.median, 4) for spread in spreads], name=f"{name}, {_where(report)}",
            line={"color": COLOURS[name], "width": 3}, mode="lines+markers", legendgroup=name,
            error_y={
                "array": [round(spread.high - spread.median, 4) for spread in spreads],
                "arrayminus": [round(spread.median - spread.low, 4) for spread in spreads],
            },
        )  # fmt: skip
    first, last = min(griffin), max(griffin)
    grown = _spread(_rows(report, r"resident memory, .* on the way to (\d+)")[last]).median
    config, tokens = TransformerConfig.preset(preset), np.linspace(first, last, 40).round()
    cache = [(cache_bytes(config, int(at)) - cache_bytes(config, first)) / 1e6 for at in tokens]
    hours = (tokens / TOKEN_RATE / 3600).round(3)
    for name, megabytes, how, dash in (
        ("Griffin", np.full(len(hours), round(grown, 1)), "whole process, at most", "solid"),
        ("SpeechTransformer", np.round(cache, 1), "keys and values, by arithmetic", "dot"),
    ):
        figure.add_scatter(
            x=hours, y=megabytes, name=f"{name}, {how}", mode="lines", legendgroup=name,
            line={"color": COLOURS[name], "width": 3, "dash": dash}, cliponaxis=False, row=1, col=2,
        )  # fmt: skip
    lengths = [f"{at:,}<br>{_spoken(at / TOKEN_RATE)}" for at in griffin]
    figure.update_xaxes(title_text="tokens so far", type="log", tickvals=list(griffin), ticktext=lengths, row=1, col=1)
    ticks = [number * 10**power for power in range(-2, 4) for number in (1, 2, 5)]
    figure.update_yaxes(title_text="milliseconds a token", type="log", tickvals=ticks, row=1, col=1)
    figure.update_xaxes(title_text="hours of speech so far", rangemode="tozero", row=1, col=2)
    figure.update_yaxes(title_text=f"MB beyond token {first:,}", rangemode="tozero", row=1, col=2)
    message = f"Token {last:,} takes {griffin[last].ratio:.2f} times as long as token {first:,}; "
    message += f"memory grew by {grown:.1f} MB"
    return _legend_below(style.styled(figure, message, height))


def efficiency(report: Report | None, height: int = 460) -> go.Figure:
    """Tokens a second from one memory, and Griffin's over the Transformer's: measured beside published (Fig. 6, 8).

    report: of `lab bench throughput`; None draws what was published alone. Raises LabError for that of another bench.
    """
    figure = make_subplots(1, 2, horizontal_spacing=0.12)
    rows = {} if report is None else _rows(report, r"throughput, (\d+) tokens")
    _measured(figure, report, rows)
    _published(figure, "Fig. 6")
    ratios = {tokens: row.ratio for tokens, row in rows.items() if row.ratio}
    if report is not None:
        _curve(figure, "Griffin", ratios, f"ratio, {_where(report)}", 2)
    there = {reading.tokens: reading.value for reading in published("Fig. 8")[PAPER]}
    _curve(figure, PAPER, there, f"ratio, published in Fig. 8, {CHIP}", 2, theirs=True)
    for column in (1, 2):
        _over_speech(figure, max(*there, *rows) / TOKEN_RATE, row=1, col=column)
    figure.add_hline(1, line={"color": style.TRUTH, "width": 1, "dash": "dot"}, row=1, col=2)  # equally fast
    figure.update_yaxes(
        title_text="tokens a second, all stories together", type="log", dtick=1, tickformat=",", row=1, col=1
    )
    figure.update_yaxes(title_text="times the Transformer's", type="log", dtick=1, tickformat="~g", row=1, col=2)
    if not ratios:
        return _legend_below(style.styled(figure, _missing("throughput"), height))
    far = max(ratios)
    message = f"At {_spoken(far / TOKEN_RATE)} of speech: {ratios[far]:.0f} times the Transformer's tokens, measured"
    message += f"; {there[far]:.0f} times, published" if far in there else ""
    return _legend_below(style.styled(figure, message, height))


def latency(report: Report | None, height: int = 460) -> go.Figure:
    """Seconds of work to the end of one story: measured beside published (Fig. 7), and real time.

    report: of `lab bench latency`; None draws what was published alone. Raises LabError for that of another bench.
    """
    figure = make_subplots(1, 1)
    rows = {} if report is None else _rows(report, r"latency, (\d+) tokens")
    _measured(figure, report, rows)
    _published(figure, "Fig. 7")
    lengths = [tokens for curve in published("Fig. 7").values() for tokens, *_ in curve]
    ends = np.array([min(*lengths, *rows), max(*lengths, *rows)]) / TOKEN_RATE
    figure.add_scatter(x=ends, y=ends, name="real time", mode="lines", line={"color": style.TRUTH, "dash": "dot"})
    _over_speech(figure, ends[-1])
    figure.update_yaxes(title_text="seconds of work, one story", type="log", dtick=1, tickformat="~g")
    if not rows:
        return _legend_below(style.styled(figure, _missing("latency"), height))
    far = max(rows)
    ours, theirs = (f"{spread.median:.0f} s" if spread else "too long" for spread in (rows[far].ours, rows[far].theirs))
    message = f"{_spoken(far / TOKEN_RATE)} of speech: {ours} of work for Griffin, {theirs} for the Transformer"
    return _legend_below(style.styled(figure, message, height))


def _rows(report: Report, pattern: str) -> dict[int, Row]:
    """What was measured under such a name, by the number of tokens in it."""
    found = {int(match[1]): row for row in report.rows if row.ours and (match := re.fullmatch(pattern, row.name))}
    if not found:
        raise LabError(f"the report of `{report.command}` has no row {pattern!r}; give that of another bench")
    return found


def _spread(row: Row) -> Spread:
    assert row.ours is not None
    return row.ours


def _measured(figure: go.Figure, report: Report | None, rows: dict[int, Row]) -> None:
    if report is not None:
        ours = {tokens: _spread(row).median for tokens, row in rows.items()}
        theirs = {tokens: row.theirs.median for tokens, row in rows.items() if row.theirs}
        _curve(figure, "Griffin", ours, f"Griffin, {_where(report)}")
        _curve(figure, "SpeechTransformer", theirs, f"SpeechTransformer, {_where(report)}")


def _published(figure: go.Figure, name: str) -> None:
    for model, curve in published(name).items():
        values = {reading.tokens: reading.value for reading in curve}
        _curve(figure, model, values, f"{model}, published in {name}, {CHIP}", theirs=True)


def _curve(
    figure: go.Figure, model: str, values: dict[int, float], name: str, column: int = 1, theirs: bool = False
) -> None:
    """values: by tokens. What others have published is dashed and thin, with open marks."""
    line = {"color": COLOURS[model], "width": 1.5 if theirs else 3, "dash": "dash" if theirs else "solid"}
    figure.add_scatter(
        x=[tokens / TOKEN_RATE for tokens in values], y=[float(f"{value:.4g}") for value in values.values()], name=name,
        mode="lines+markers", line=line, marker={"size": 8, "symbol": "circle-open" if theirs else "circle"},
        hovertemplate="%{x:.0f} s: %{y:.3g}", row=1, col=column,
    )  # fmt: skip


def _where(report: Report) -> str:
    machine = report.machine
    return f"measured, {machine['chip']}" + ("" if machine["gpu"] else f", {machine['cores']} cores")


def _missing(name: str) -> str:
    return f"Not measured yet: `lab bench {name}` saves a report in data/bench, and it is drawn here"


def _over_speech(figure: go.Figure, longest: float, **where: int) -> None:
    """A logarithmic axis of seconds, with ticks that can be read as time."""
    ticks = {1: "1 s", 10: "10 s", 60: "1 min", 600: "10 min", 3600: "1 h", 36_000: "10 h", 360_000: "100 h"}
    shown = {at: text for at, text in ticks.items() if at <= longest}
    figure.update_xaxes(
        title={"text": "length of the story, in speech", "standoff": 8}, type="log",
        tickvals=list(shown), ticktext=list(shown.values()), **where,
    )  # fmt: skip


def _legend_below(figure: go.Figure) -> go.Figure:
    """Where names are too long to stand beside the title."""
    legend = {"orientation": "h", "x": 0, "xanchor": "left", "y": -0.3, "yanchor": "top"}
    return figure.update_layout(legend=legend, margin={"b": 140})


def _spoken(seconds: float) -> str:
    scale, unit = next((scale, unit) for scale, unit in ((3600, "h"), (60, "min"), (0, "s")) if seconds >= scale)
    return f"{seconds / max(scale, 1):.1f}".removesuffix(".0") + f" {unit}"


def _size(bytes_: float) -> str:
    scale, unit = next((scale, unit) for scale, unit in ((1e9, "GB"), (1e6, "MB"), (0, "kB")) if bytes_ >= scale)
    return f"{bytes_ / max(scale, 1e3):.1f}".removesuffix(".0") + f" {unit}"
