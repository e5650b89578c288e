"""What a long story costs, in time and in memory: counted, measured by `lab bench`, and published, each labelled."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from lab import bench
from lab.bench import Report, Row, Spread
from lab.errors import LabError
from lab.language import GriffinConfig, TransformerConfig
from lab.paths import data_folder
from lab.tokens import TOKEN_RATE
from lab.view import style

PUBLISHED = data_folder() / "published" / "speed.json"
PAPER = "SpeechSSM-2B"  # as the paper calls its Griffin
COLOURS = {"Griffin": style.CONTINUATION, PAPER: style.CONTINUATION, "SpeechTransformer": style.TRANSFORMER}
CHIP = "TPU v5e"
MISSING = "Not measured yet: `lab bench {}` saves a report in data/bench, and it is drawn here"


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


def memory(width: int = 256, layers: int = 9, window: int = 512, minutes: float = 60.0) -> go.Figure:
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
        megabytes, hover = (bytes_ / 1e6).round(4), "%{x:.0f} s: %{y:.3g} MB"
        style.line(figure, seconds.round(2), megabytes, name, COLOURS[name], hover, dash=style.DASHES[COLOURS[name]])
    figure.add_scatter(
        x=[round(cross, 2)], y=[round(state / 1e6, 4)], name=f"as large, at {_spoken(cross)}", mode="markers",
        marker={"color": style.TRUTH, "size": 10, "symbol": "diamond"}, hoverinfo="skip",
    )  # fmt: skip
    _over_speech(figure, seconds[-1])
    style.axes(figure, y=style.log("megabytes a story, float32", dtick=1, tickformat=",~g"))
    message = f"After {_spoken(seconds[-1])}: {_size(state)} of state against {_size(cache[-1])} of keys and values"
    # the last tick is at the edge
    return style.styled(figure, message, 400).update_layout(margin={"b": 65, "r": 30})


def flat(report: Report | None, preset: str = "lab") -> go.Figure:
    """Time a token, and memory beyond that at the first mark, on the way to a million tokens (`lab bench flat`).

    Griffin's memory is the most that its whole process grew by; the Transformer's is that of its keys and values, by
    arithmetic. preset: of the models that were measured. Raises LabError for the report of another bench.
    """
    if report is None:
        empty = go.Figure(layout={"xaxis": {"visible": False}, "yaxis": {"visible": False}})
        return style.styled(empty, MISSING.format("flat"), 100)
    figure = make_subplots(1, 2, column_widths=[0.55, 0.45], horizontal_spacing=0.12)
    griffin = _rows(report, r"Griffin, token (\d+)")
    for name, rows in (("Griffin", griffin), ("SpeechTransformer", _rows(report, r"SpeechTransformer, token (\d+)"))):
        spreads = [_spread(row) for row in rows.values()]
        low, middle, high = np.array([(spread.low, spread.median, spread.high) for spread in spreads]).T
        bars = {"array": (high - middle).round(4), "arrayminus": (middle - low).round(4)}
        shown: dict[str, Any] = {"mode": "lines+markers", "legendgroup": name, "error_y": bars, "row": 1, "col": 1}
        shown["dash"] = style.DASHES[COLOURS[name]]
        style.line(figure, list(rows), middle.round(4).tolist(), f"{name}, {_where(report)}", COLOURS[name], **shown)
    first, last = min(griffin), max(griffin)
    grown = _spread(_rows(report, r"resident memory, .* on the way to (\d+)")[last]).median
    config, tokens = TransformerConfig.preset(preset), np.linspace(first, last, 40).round()
    cache = [(cache_bytes(config, int(at)) - cache_bytes(config, first)) / 1e6 for at in tokens]
    hours = (tokens / TOKEN_RATE / 3600).round(3)
    for name, megabytes, how, dash in (
        ("Griffin", np.full(len(hours), round(grown, 1)), "whole process, at most", "solid"),
        ("SpeechTransformer", np.round(cache, 1), "keys and values, by arithmetic", "longdash"),
    ):
        shown = {"legendgroup": name, "cliponaxis": False, "row": 1, "col": 2}
        style.line(figure, hours, megabytes, f"{name}, {how}", COLOURS[name], dash=dash, **shown)
    lengths = [f"{at:,}<br>{_spoken(at / TOKEN_RATE)}" for at in griffin]
    ticks = [number * 10**power for power in range(-2, 4) for number in (1, 2, 5)]
    x, y = style.log("tokens so far", tickvals=list(griffin), ticktext=lengths), style.log("milliseconds a token")
    style.axes(figure, x, {**y, "tickvals": ticks}, row=1, col=1)
    style.axes(figure, {"rangemode": "tozero"}, {"rangemode": "tozero"}, row=1, col=2)
    style.axes(figure, "hours of speech so far", f"MB beyond token {first:,}", row=1, col=2)
    message = f"Token {last:,} takes {griffin[last].ratio:.2f} times as long as token {first:,}; "
    message += f"memory grew by {grown:.1f} MB"
    return style.legend_below(style.styled(figure, message, 460), 150)


def efficiency(report: Report | None) -> go.Figure:
    """Tokens a second from one memory, and Griffin's over the Transformer's: measured beside published (Fig. 6, 8).

    Dotted: what the bandwidth and the arithmetic of the machine allow, measured in the same run.
    report: of `lab bench throughput`; None draws what was published alone. Raises LabError for that of another bench.
    """
    figure = make_subplots(1, 2, horizontal_spacing=0.12)
    rows = _measured(figure, report, r"throughput, (\d+) tokens")
    _published(figure, "Fig. 6")
    for name, pattern in (("Griffin", "throughput"), ("SpeechTransformer", "SpeechTransformer")):
        limits = _matching(report, pattern + r", (\d+) tokens")
        if limit := {tokens: row.predicted for tokens, row in limits.items() if row.predicted}:
            _curve(figure, name, limit, f"{name}, roofline", how="predicted")
    ratios = {tokens: row.ratio for tokens, row in rows.items() if row.ratio}
    if report is not None:
        _curve(figure, "Griffin", ratios, f"ratio, {_where(report)}", 2)
    there = {reading.tokens: reading.value for reading in published("Fig. 8")[PAPER]}
    _curve(figure, PAPER, there, f"ratio, published in Fig. 8, {CHIP}", 2, how="published")
    for column in (1, 2):
        _over_speech(figure, max(*there, *rows) / TOKEN_RATE, row=1, col=column)
    figure.add_hline(1, line={"color": style.TRUTH, "width": 1, "dash": "dot"}, row=1, col=2)  # equally fast
    speed, ratio = "tokens a second, all stories", "times the Transformer's"
    style.axes(figure, y=style.log(speed, dtick=1, tickformat=","), row=1, col=1)
    style.axes(figure, y=style.log(ratio, dtick=1, tickformat="~g"), row=1, col=2)
    message = MISSING.format("throughput")
    if ratios:
        far = max(ratios)
        message = (
            f"At {_spoken(far / TOKEN_RATE)} of speech: {ratios[far]:.0f} times the Transformer's tokens, measured"
        )
        message += f"; {there[far]:.0f} times, published" if far in there else ""
    return style.legend_below(style.styled(figure, message, 480), 150)


def latency(report: Report | None) -> go.Figure:
    """Seconds of work to the end of one story: measured beside published (Fig. 7), and real time. Griffin as it is
    stepped, and by torch, as SpeechTransformer is.

    report: of `lab bench latency`; None draws what was published alone. Raises LabError for that of another bench.
    """
    figure = make_subplots(1, 1)
    rows = _measured(figure, report, r"latency, (\d+) tokens")
    alike = _matching(report, r"latency, (\d+) tokens, both by torch")
    if report is not None and alike:
        by_torch = {tokens: _spread(row).median for tokens, row in alike.items()}
        _curve(figure, "Griffin", by_torch, f"Griffin by torch, {_where(report)}", how="by torch")
    _published(figure, "Fig. 7")
    lengths = [tokens for curve in published("Fig. 7").values() for tokens, *_ in curve]
    ends = np.array([min(*lengths, *rows), max(*lengths, *rows)]) / TOKEN_RATE
    style.line(figure, ends, ends, "real time", width=2, dash="dot")
    _over_speech(figure, ends[-1])
    style.axes(figure, y=style.log("seconds of work, one story", dtick=1, tickformat="~g"))
    message = MISSING.format("latency")
    if rows:
        compared = alike or rows
        row = compared[far := max(compared)]
        ours, theirs = (f"{each.median:.0f} s" if each else "no time" for each in (row.ours, row.theirs))
        message = f"{_spoken(far / TOKEN_RATE)} of speech take Griffin {ours}, SpeechTransformer {theirs}"
        if alike and far in rows:
            message = f"By torch, {message}; as stepped, Griffin {_spread(rows[far]).median:.0f} s"
    return style.legend_below(style.styled(figure, message, 460), 150)


def gpu(report: Report) -> go.Figure:
    """The recurrence on a GPU: each backend's bandwidth beside that of a copy, both ways; the title tells of decoding.

    report: of `lab bench gpu`. Raises LabError for that of another bench.
    """
    found: dict[str, dict[str, Row]] = {}
    for row in report.rows:
        if match := re.fullmatch(r"rg_lru (.+) float32, (\S+)", row.name):
            found.setdefault(match[1], {})[match[2]] = row
    decode = next((row for row in report.rows if row.name.startswith("decode, ")), None)
    if not found or decode is None:
        raise LabError(f"the report of `{report.command}` tells of no GPU; give that of `lab bench gpu`")
    figure, patterns = go.Figure(), ("", "/", ".", "x")
    for (what, rows), colour, pattern in zip(found.items(), style.SERIES, patterns, strict=False):
        measured = {name: round(100 * row.ratio, 1) for name, row in rows.items() if row.ratio}
        figure.add_bar(
            x=list(measured), y=list(measured.values()), name=what,
            marker={"color": colour, "pattern": {"shape": pattern}}, hovertemplate="%{x}: %{y} % of a copy",
        )  # fmt: skip
    style.axes(figure, "backend", {"title_text": "bandwidth, % of a copy's", "rangemode": "tozero"})
    chip, times = report.machine["chip"], f"{decode.ratio:.1f}" if decode.ratio else "no"
    message = f"{chip}: a token of {decode.name.split()[1]} takes {times} times what reading its weights does"
    return style.legend_below(style.styled(figure, message, 420), 110)


def _rows(report: Report, pattern: str) -> dict[int, Row]:
    """What was measured under such a name, by the number of tokens in it."""
    found = _matching(report, pattern)
    if not found:
        raise LabError(f"the report of `{report.command}` has no row {pattern!r}; give that of another bench")
    return found


def _matching(report: Report | None, pattern: str) -> dict[int, Row]:
    rows = report.rows if report else ()
    return {int(match[1]): row for row in rows if row.ours and (match := re.fullmatch(pattern, row.name))}


def _spread(row: Row) -> Spread:
    assert row.ours is not None
    return row.ours


def _measured(figure: go.Figure, report: Report | None, pattern: str) -> dict[int, Row]:
    rows = _rows(report, pattern) if report else {}
    if report:
        ours = {tokens: _spread(row).median for tokens, row in rows.items()}
        theirs = {tokens: row.theirs.median for tokens, row in rows.items() if row.theirs}
        _curve(figure, "Griffin", ours, f"Griffin, {_where(report)}")
        _curve(figure, "SpeechTransformer", theirs, f"SpeechTransformer, {_where(report)}")
    return rows


def _published(figure: go.Figure, name: str) -> None:
    for model, curve in published(name).items():
        values = {reading.tokens: reading.value for reading in curve}
        _curve(figure, model, values, f"{model}, published in {name}, {CHIP}", how="published")


def _curve(
    figure: go.Figure, model: str, values: dict[int, float], name: str, column: int = 1, how: str = "measured"
) -> None:
    """values: by tokens. how: measured, filled marks; published, thin with open marks; predicted, dotted without; by
    torch, dashed with crosses."""
    x, y = [tokens / TOKEN_RATE for tokens in values], [float(f"{value:.4g}") for value in values.values()]
    shape = "square" if COLOURS[model] == style.TRANSFORMER else "circle"
    marker = {"size": 8, "symbol": {"measured": shape, "by torch": "x"}.get(how, f"{shape}-open")}
    mode, width = "lines" if how == "predicted" else "lines+markers", 3 if how == "measured" else 1.5
    dash = {"predicted": "dot", "by torch": "dash"}.get(how, style.DASHES[COLOURS[model]])
    hover = "%{x:.0f} s: %{y:.3g}"
    style.line(figure, x, y, name, COLOURS[model], hover, width, dash, mode, marker=marker, row=1, col=column)


def _where(report: Report) -> str:
    machine = report.machine
    return f"measured, {machine['chip']}" + ("" if machine["gpu"] else f", {machine['cores']} cores")


def _over_speech(figure: go.Figure, longest: float, row: int | None = None, col: int | None = None) -> None:
    """A logarithmic axis of seconds, with ticks that can be read as time."""
    ticks = {1: "1 s", 10: "10 s", 60: "1 min", 600: "10 min", 3600: "1 h", 36_000: "10 h", 360_000: "100 h"}
    shown = {at: text for at, text in ticks.items() if at <= longest}
    x = style.log("length of the story, in speech", tickvals=list(shown), ticktext=list(shown.values()))
    style.axes(figure, {**x, "title_standoff": 8}, row=row, col=col)


def _spoken(seconds: float) -> str:
    scale, unit = next((scale, unit) for scale, unit in ((3600, "h"), (60, "min"), (0, "s")) if seconds >= scale)
    return f"{seconds / max(scale, 1):.1f}".removesuffix(".0") + f" {unit}"


def _size(bytes_: float) -> str:
    scale, unit = next((scale, unit) for scale, unit in ((1e9, "GB"), (1e6, "MB"), (0, "kB")) if bytes_ >= scale)
    return f"{bytes_ / max(scale, 1e3):.1f}".removesuffix(".0") + f" {unit}"
