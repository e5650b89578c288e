"""Coherence over the length of a story: curves of many stories, published ones beside, fits as a table."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from lab.errors import LabError
from lab.measure import coherence
from lab.measure.ablation import INTACT, NEITHER, NO_H, NO_WINDOWS
from lab.measure.coherence import PROMPT_SECONDS, SERIES, TRUTH, Report, Span
from lab.measure.recall import BEYOND
from lab.view import style
from lab.view.style import axes, line, styled
from lab.view.tracks import Heat

CLOSE = 0.4  # of a cosine above another: the dark end of maps
MAP_SECONDS = 30.0  # of a column of the map: about 100 words

# what continued the prompts: name, colour
SYSTEMS = {
    TRUTH: ("ground truth", style.TRUTH),
    "griffin": ("Griffin", style.CONTINUATION),
    "griffin30": ("Griffin-30s", style.GRIFFIN_30S),
    "transformer": ("SpeechTransformer, slide-and-prompt", style.TRANSFORMER),
}
# what continued them in the paper: colour, dash; the others were extended by slide-and-prompt
_PAPER = {
    TRUTH: (style.TRUTH, "dash"),
    "SpeechSSM-2B": (style.CONTINUATION, "solid"),
    "SpeechSSM-9B": (style.CONTINUATION, "dot"),
    "SpeechSSM-2B, 16 min segments": (style.CONTINUATION, "dashdot"),
    "Transformer": (style.TRANSFORMER, "longdash"),
}
_EXTENDED = ("#aaa", "solid")
# what is asked with so much of the state taken away: name, colour, pattern
_ABLATED = {
    INTACT: ("as it is", style.CONTINUATION, ""),
    NO_WINDOWS: ("windows forgotten", style.STATE, "/"),
    NO_H: ("h zeroed", style.SLOW, "."),
    NEITHER: ("both", style.TRUTH, "x"),
}
_ASKED = re.compile(rf"asked for (\w+), {BEYOND:g} s or more after it was last said(?:, (.+))?, chance (.+)")


def coherence_decay(report: Report, series: str = "named", fitted: bool = True) -> go.Figure:
    """One of `coherence.SERIES` over the length of a story: each system, 95 % intervals, a fitted decay (dotted).

    Raises LabError for a series of another name.
    """
    if series not in SERIES:
        raise LabError(f"there is no series {series!r}; there are {', '.join(SERIES)}")
    figure, last = go.Figure(), []
    for system, scores in report.scores.items():
        name, colour = SYSTEMS[system]
        curve, dash = coherence.curve(scores, series), style.DASHES[colour]
        style.band(figure, curve.x, curve.low.round(3), curve.high.round(3), colour, legendgroup=system)
        shown: dict[str, Any] = {"legendgroup": system, "mode": "lines+markers", "marker": {"size": 5}}
        line(figure, curve.x, curve.value.round(3), name, colour, width=2.5, dash=dash, **shown)
        if fitted and np.isfinite(curve.value).sum() >= coherence.POINTS:
            found = coherence.fit(curve.x, curve.value)
            shown = {"legendgroup": system, "showlegend": False, "name": f"{name}, fitted: {describe(found, series)}"}
            line(figure, curve.x, found.at(curve.x).round(3), colour=colour, width=1.5, dash="dot", **shown)
        end = f"{curve.value[-1]:.2f}" if len(curve.value) and np.isfinite(curve.value[-1]) else "none"
        last.append(f"{name.split(',')[0]} {end}")
    axes(figure, SERIES[series].axis, SERIES[series].label)
    what = SERIES[series].label.rpartition(",")[0] or SERIES[series].label
    message = f"{what[0].upper()}{what[1:]}<br>at the end: {', '.join(last)}"
    return style.legend_below(styled(figure, message, 460), 90).update_layout(title={"font_size": 14, "y": 0.96})


def coherence_map(report: Report, seconds: float = MAP_SECONDS) -> go.Figure:
    """How much closer every 100 words are to their prompt than to the openings of other stories, a row a story.

    Clear at 0 and below, where they could be out of any story, and where nothing is said. seconds: of a column. Beside
    the name of a system stands its mean.
    """
    columns = math.ceil(60 * report.minutes / seconds)
    rows: dict[str, np.ndarray] = {}
    ticks = {}
    for number, (system, scores) in enumerate(report.scores.items()):
        rows[" " * number] = np.full(columns, np.nan)  # a line between systems
        first = len(rows)
        for told in scores:
            row = rows[f"{SYSTEMS[system][0]}: story {told.story}, {told.hero}"] = np.full(columns, np.nan)
            for span in told.spans:
                row[int(span.start / seconds) : math.ceil(span.stop / seconds)] = span.likeness - span.elsewhere
        found = np.concatenate(list(rows.values())[first:])
        mean = f"{found[np.isfinite(found)].mean():.2f}" if np.isfinite(found).any() else "nothing said"
        ticks[first + (len(scores) - 1) / 2] = f"{SYSTEMS[system][0].replace(', ', '<br>')}<br>{mean}"
    figure = go.Figure()
    figure.add_heatmap(
        z=np.round(list(rows.values()), 3), x0=seconds / 120, dx=seconds / 60, y=list(rows), zmin=0, zmax=CLOSE,
        hoverongaps=False, colorscale=style.fading(style.CONTINUATION), ygap=1,
        colorbar=style.scale("closer to its own prompt, cosine"),
        hovertemplate="minute %{x:.1f}: %{z:.2f}<extra>%{y}</extra>",
    )  # fmt: skip
    names = {"tickvals": list(ticks), "ticktext": list(ticks.values()), "autorange": "reversed", "automargin": True}
    axes(figure, "minutes after the prompt", {**names, "showgrid": False})
    return styled(figure, "How much closer 100 words are to their own prompt than to the openings of others", 480)


def coherence_lane(spans: Mapping[str, Sequence[Span]], seconds: float, after: float = PROMPT_SECONDS) -> Heat:
    """The same of stories that are heard, on the clock of a `Player`: a row each, a column a second, `after` a prompt.

    Where spans overlap, their mean.
    """
    rows = np.zeros((len(spans), math.ceil(seconds)))
    for row, told in zip(rows, spans.values(), strict=True):
        for second in range(len(row)):
            over = [s.likeness - s.elsewhere for s in told if s.start <= second - after < s.stop]
            row[second] = np.mean(over) / CLOSE if over else 0
    first, *_, last = [*spans, ""] if len(spans) == 1 else spans
    return Heat("closer to its prompt", rows, 1, (first, last))


def coherence_published(report: Report) -> go.Figure:
    """SC-L here and SC-L as published: another embedding, other stories, other lengths; only the shapes compare."""
    titles = f"here: {report.embedder}", "published: Gecko (Park et al. 2025)"
    figure = make_subplots(1, 2, horizontal_spacing=0.09, subplot_titles=titles)
    for system, scores in report.scores.items():
        name, colour = SYSTEMS[system]
        curve, dash = coherence.curve(scores, "SC-L"), style.DASHES[colour]
        line(figure, curve.x, curve.value.round(3), name, colour, width=2.5, dash=dash, **_group("here", 1))
    for name, points in coherence.published().items():
        colour, dash = _PAPER.get(name, _EXTENDED)
        line(figure, list(points), list(points.values()), name, colour, width=2, dash=dash, **_group("published", 2))
    axes(figure, "words after the prompt")
    axes(figure, y=SERIES["SC-L"].label, row=1, col=1)
    styled(figure, "SC-L over the length of a story: measured here, and as published", 480)
    return style.legend_beside(figure).update_layout(legend_font_size=11, margin_t=80)


def _group(name: str, column: int) -> dict[str, Any]:
    group = {"legendgroup": name, "legendgrouptitle_text": name, "row": 1, "col": column}
    return {**group, "mode": "lines+markers", "marker": {"size": 5}}


def recalled(figures: Mapping[str, Mapping[str, Any]]) -> go.Figure:
    """What a Griffin answers of each fact that has left every window, as it is and with its state taken away.

    Bars: 95 % intervals over stories; dashes: chance. figures: of its card, by `lab measure recall`. Raises LabError
    where there are none.
    """
    found: dict[str, dict[str, Mapping[str, Any]]] = {}
    chances: dict[str, float] = {}
    for name, told in figures.items():
        if match := _ASKED.fullmatch(name):
            found.setdefault(match[1], {})[match[2] or INTACT] = told
            chances[match[1]] = float(match[3])
    if not found:
        raise LabError("these weights were never asked; `lab measure recall --save` asks them")
    facts = sorted(found, key=lambda fact: (fact == "all", -found[fact][INTACT]["value"]))
    places = [f"{fact}<br>{found[fact][INTACT]['of']} asked" for fact in facts]
    figure = go.Figure()
    for ablation, (name, colour, pattern) in _ABLATED.items():
        value, low, high = (
            np.array([100 * found[fact][ablation][key] for fact in facts]) for key in ("value", "low", "high")
        )
        figure.add_bar(
            x=places, y=value.round(1), name=name, marker={"color": colour, "pattern": {"shape": pattern}},
            error_y={"array": (high - value).round(1), "arrayminus": (value - low).round(1), "thickness": 1},
            hovertemplate="%{x}: %{y} % right",
        )  # fmt: skip
    dash = {"symbol": "line-ew-open", "size": 50, "color": style.INK, "line": {"width": 2}}
    by_chance = [round(100 * chances[fact]) for fact in facts]
    figure.add_scatter(
        x=places, y=by_chance, name="chance", mode="markers", marker=dash, hovertemplate="%{y} % by chance"
    )
    axes(figure, y={"title_text": "right, %", "range": [0, 100]})
    best = facts[0]
    with_h, without = (100 * found[best][ablation]["value"] for ablation in (NO_WINDOWS, NO_H))
    message = f"After {BEYOND:g} s, {best}: {with_h:.0f} % by h alone, {without:.0f} % by the windows alone"
    return style.legend_below(styled(figure, message, 420))


def coherence_fits(report: Report, series: str = "hero", draws: int = 200) -> str:
    """The fitted decays as a table in markdown, with 95 % intervals over stories.

    No half-life where start and floor may be the same, and nowhere a bound of the fit as if it had been measured.
    """
    unit = "words" if SERIES[series].step > 1 else "minutes"
    lines = [f"| {SERIES[series].label} | start | floor | half of the way in, {unit} |", "| --- | --- | --- | --- |"]
    for system, scores in report.scores.items():
        try:
            found, low, high = coherence.decay(scores, series, draws)
        except LabError as error:
            lines.append(f"| {SYSTEMS[system][0]} | {error} | | |")
            continue
        ends = zip(found[:2], low[:2], high[:2], strict=True)
        cells = [_level(value, f" ({_level(below)} to {_level(above)})") for value, below, above in ends]
        length = float(np.ptp(coherence.curve(scores, series).x))
        level = f"start and floor not told apart by {len(scores)} stories"
        half = _half(found.half, low.half, high.half, length) if low.start > high.floor else level
        lines.append(f"| {SYSTEMS[system][0]} | {' | '.join([*cells, half])} |")
    return "\n".join(lines)


def _level(value: float, interval: str = "") -> str:
    """A start or a floor: the fit keeps both from 0 to 1, and one that it had to keep there was not measured."""
    told = f"{value:.2f}"
    return f"its bound {value:.0f}" if told in ("0.00", "1.00") else told + interval


def _half(value: float, low: float, high: float, length: float) -> str:
    """A half-life with its interval, of a story of that length."""
    if value >= length:
        return "longer than was told"
    digits = 0 if length > 100 else 1
    last = f"{high:.{digits}f}" if high < length else "longer than was told"
    return f"{value:.{digits}f} ({low:.{digits}f} to {last})"


def describe(decay: coherence.Decay, series: str) -> str:
    """A fit in words."""
    half = f"{decay.half:.0f} words" if SERIES[series].step > 1 else f"{decay.half:.1f} minutes"
    return f"{_level(decay.start)} to {_level(decay.floor)}, half of the way in {half}"
