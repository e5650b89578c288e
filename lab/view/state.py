"""Figures of the state: how long a channel remembers, what it holds over a story, what a changed state predicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Literal

import numpy as np
import plotly.graph_objects as go
import torch
from plotly.colors import sample_colorscale
from plotly.subplots import make_subplots
from scipy.stats import spearmanr

from lab.errors import LabError
from lab.measure.state import Probe, Trace, half_life, initial_half_lives, principal
from lab.tokens import TOKEN_RATE
from lab.view import style
from lab.view.style import axes, digits, line, points, styled
from lab.view.tracks import Causes, Heat, Trajectory

Words = Sequence[tuple[float, float, str]]  # start and stop, in seconds, and the word
DURATIONS = {"a phone": 0.08, "a word": 0.3, "a sentence": 2.5, "a minute": 60.0}  # seconds, in the story world
LOUDEST = 2.0  # times a channel's root mean square: the dark end of the map

_SECONDS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000)
_log_seconds = partial(style.log, tickvals=_SECONDS, ticktext=[f"{seconds:g}" for seconds in _SECONDS])


def memory_curves(decay: float, gates: Sequence[float] = (1.0, 0.5, 0.1, 0.02)) -> go.Figure:
    """How much of what a channel held is left after so many seconds, for recurrence gates that stay as they are.

    decay: softplus(Lambda) of the channel.
    """
    figure, seconds = go.Figure(), np.geomspace(1 / TOKEN_RATE, 300, 120)
    half_lives = [float(half_life(torch.tensor(decay), gate)) for gate in gates]
    for gate, half, colour in zip(gates, half_lives, _ordered(len(gates)), strict=True):
        left = (100 * 0.5 ** (seconds / half)).round(1)
        line(figure, digits(seconds), left, f"r = {gate:g}", colour, "after %{x} s: %{y} %<extra></extra>")
    _mark_durations(figure, "x")
    axes(figure, _log_seconds("seconds later"), "still held, %")
    shortest, longest = (style.seconds(each) for each in (min(half_lives), max(half_lives)))
    message = f"One channel: its half-life is {shortest} to {longest}, by its recurrence gate"
    return styled(figure, message, 380)


def half_lives(traces: Sequence[Trace]) -> go.Figure:
    """The half-life of every channel of every recurrent layer, sorted, at the gates that were met."""
    figure, found = go.Figure(), [trace.half_lives.sort().values.numpy() for trace in traces]
    for trace, seconds, colour in zip(traces, found, _ordered(len(traces)), strict=True):
        share, hover = np.linspace(0, 100, len(seconds)).round(1), "%{x} % of channels last less than %{y} s"
        line(figure, share, digits(seconds), _name(trace.layer), colour, hover + "<extra></extra>")
    _mark_durations(figure, "y")
    axes(figure, "channels, % of the layer, by half-life", _log_seconds("half-life, seconds of speech"))
    low, high = map(style.seconds, np.percentile(np.concatenate(found), [5, 95]))
    return styled(figure, f"Nine channels of ten have a half-life of {low} to {high} on this speech", 400)


def initialisations(traces: Sequence[Trace] = ()) -> go.Figure:
    """How half-lives are spread: at the start, with gates half open, and of a trained model at the gates it met."""
    spreads = {
        "the paper's: a⁸ in [0.9, 0.999]": (initial_half_lives("paper"), style.STATE, "solid"),
        "RecurrentGemma's code: a in [0.9, 0.999]": (initial_half_lives("recurrentgemma"), style.TRANSFORMER, "dash"),
        "this lab's: the paper's, one in four longer": (initial_half_lives("minutes"), style.CONTINUATION, "dashdot"),
    }
    if traces:
        spreads["this model, trained"] = (torch.cat([trace.half_lives for trace in traces]), style.TRUTH, "dot")
    figure, edges = go.Figure(), np.geomspace(0.01, 1000, 51)
    centres, hover = digits(np.sqrt(edges[1:] * edges[:-1])), "%{y} % of channels around %{x} s<extra></extra>"
    for name, (seconds, colour, dash) in spreads.items():
        shares = (100 * np.histogram(seconds.numpy(), edges)[0] / len(seconds)).round(2)
        line(figure, centres, shares, name, colour, hover, dash=dash, line_shape="hvh")
    _mark_durations(figure, "x")
    axes(figure, _log_seconds("half-life, seconds of speech"), "channels, %")
    paper, gemma = (float(initial_half_lives(kind).max()) for kind in ("paper", "recurrentgemma"))
    message = f"Longest half-life before training: {paper:.0f} s in the paper, {gemma:.0f} s in RecurrentGemma's code"
    return style.legend_below(styled(figure, message, 400))


def state_map(traces: Sequence[Trace], words: Words = (), rows: int = 64) -> go.Figure:
    """The state over time, a panel a layer: channels by half-life, dark where one holds more than it mostly does.

    Neighbours are averaged to `rows` rows and 2 tokens to a column; words stand where they are heard.
    """
    figure = make_subplots(len(traces), 1, shared_xaxes=True, vertical_spacing=0.05)
    for panel, trace in enumerate(traces, 1):
        share = _held(trace, rows)
        ordered, wanted = trace.half_lives[trace.order].numpy(), np.array([0.1, 1, 10])
        at = np.searchsorted(ordered, wanted) / len(ordered) * len(share)
        shown = (
            (at > 0) & (at < len(share)) & (np.diff(at, prepend=-len(share)) > len(share) / 8)
        )  # no label on another
        figure.add_heatmap(
            z=(share * 255).astype(np.uint8), x0=1 / TOKEN_RATE, dx=2 / TOKEN_RATE, y0=0.5,
            dy=1, colorscale=style.fading(style.SLOW), row=panel, col=1, showscale=panel == 1,
            colorbar=style.scale("|h|, times its usual", tickvals=[0, 127.5, 255], ticktext=["0", "1", "2"]),
            hovertemplate="%{x:.1f} s<extra>" + _name(trace.layer) + "</extra>",
        )  # fmt: skip
        ticks = {"tickvals": at[shown].round(1), "ticktext": [f"{seconds:g} s" for seconds in wanted[shown]]}
        title = f"{_name(trace.layer)}<br>half-life"
        axes(figure, y={"title_text": title, "autorange": "reversed", "showgrid": False, **ticks}, row=panel, col=1)
    for start, _, word in words:
        figure.add_annotation(
            x=round(start, 2), y=0, yref="paper", text=word, textangle=-90, showarrow=False, yanchor="top",
            xanchor="left", font={"size": 9},
        )  # fmt: skip
    axes(figure, {"showticklabels": False, "ticks": ""})
    top = {"side": "top", "showticklabels": True, "ticks": "outside", "title_standoff": 4}
    axes(figure, {**top, "title_text": "seconds of speech"}, row=1, col=1)
    styled(figure, "The state over time, channels by half-life: dark where one holds more than usual", 560)
    return figure.update_layout(title={"y": 0.98, "yanchor": "top"}, margin={"t": 90, "b": 70 if words else 20})


def _held(trace: Trace, rows: int) -> np.ndarray:
    """What channels hold, 1 where it is LOUDEST times their root mean square and more: (rows, T / 2), by half-life."""
    size = trace.hidden.square().mean(0).sqrt().clamp(min=1e-9)  # (L,)
    share = (trace.hidden.abs() / size)[:, trace.order].numpy()  # (T, L)
    share = share[: len(share) // 2 * 2].reshape(len(share) // 2, 2, -1).mean(1)
    share = np.stack([part.mean(1) for part in np.array_split(share, min(rows, share.shape[1]), 1)])
    return np.minimum(share / LOUDEST, 1)


def state_lane(trace: Trace, rows: int = 24) -> Heat:
    """A panel of `state_map`, on the clock of a `Player`."""
    shortest, *_, longest = trace.half_lives[trace.order].tolist()
    ends = f"{shortest:.1g} s", f"{longest:.0f} s"
    return Heat(f"{_name(trace.layer)}, by half-life", _held(trace, rows), TOKEN_RATE / 2, ends)


def state_trajectory(trace: Trace, half: Literal["fast", "slow"]) -> Trajectory:
    """h of the channels of one half, by half-life, along its two principal axes, beside the lanes of a `Player`."""
    middle = len(trace.order) // 2
    channels = trace.order[middle:] if half == "slow" else trace.order[:middle]
    found = principal(trace.hidden[:, channels])
    shares = enumerate(100 * found.shares, 1)
    axes = [f"principal axis {number}: {share:.0f} % of the variance" for number, share in shares]
    shortest, longest = (float(digits(trace.half_lives[channels[end]])) for end in (0, -1))
    name = f"{_name(trace.layer)}, the {half} half of h: half-lives of {shortest:g} to {longest:g} s"
    colour = style.SLOW if half == "slow" else style.FAST
    return Trajectory(name, found.points, (axes[0], axes[1]), colour=colour)


def seconds_lane(trace: Trace, shares: np.ndarray) -> Causes:
    """`measure.causes.seconds_in` (seconds, T) of a layer on the clock of a `Player`, 5 times a second."""
    return Causes(f"{_name(trace.layer)}, from when", shares[:, ::5], TOKEN_RATE / 5)


def channel(traces: Sequence[Trace], layer: int, rank: int, times: float = 1.0) -> go.Figure:
    """One channel over time: what it holds, and the half-life that its gate gives it at each moment.

    layer: counted among traces. rank: in percent of the layer's channels, from the shortest half-life. times: what its
    decay is multiplied with, over the same inputs and gates; 1 shows the channel as it is.
    """
    if not (0 <= layer < len(traces) and 0 <= rank <= 100):
        raise LabError(f"there is no layer {layer} of {len(traces)} with a channel at {rank} %")
    trace = traces[layer]
    index = int(trace.order[round(rank / 100 * (len(trace.order) - 1))])
    seconds = (np.arange(len(trace.x)) / TOKEN_RATE).round(2)
    moment = half_life(times * trace.decay[index], trace.recurrence_gate[:, index]).numpy()
    figure = make_subplots(2, 1, shared_xaxes=True, row_heights=[0.6, 0.4], vertical_spacing=0.06)
    for name, held, colour, width in (
        ("as trained", trace.hidden[:, index], style.TRUTH, 1),
        (f"decay × {times:g}", trace.replay(index, times), style.STATE, 2),
    ):
        hover = "%{x:.2f} s: %{y}<extra></extra>"
        line(figure, seconds, digits(held.numpy()), name, colour, hover, width, row=1, col=1)
    hover = "at %{x:.2f} s: a half-life of %{y} s<extra></extra>"
    line(figure, seconds, digits(moment), "", style.STATE, hover, 1, showlegend=False, row=2, col=1)
    axes(figure, y="h, the state", row=1, col=1)
    axes(figure, "seconds of speech", _log_seconds("half-life, s"), row=2, col=1)
    mean = float(trace.half_lives[index]) / times
    message = f"{_name(trace.layer)}, channel {index}: half-life {style.seconds(mean)} at the gates of this speech"
    return styled(figure, message, 420)


def divergence(bits: Mapping[str, np.ndarray]) -> go.Figure:
    """How far predictions are off after each of several changes of the state, bits (T,), averaged over a second."""
    figure, hover = go.Figure(), "%{x:.1f} s later: %{y} bits<extra></extra>"
    dashes = ("solid", "dash", "dot", "dashdot")
    for (name, off), colour, dash in zip(bits.items(), style.SERIES, dashes, strict=False):
        smooth = np.convolve(off, np.full(TOKEN_RATE, 1 / TOKEN_RATE), "valid")
        seconds = ((np.arange(len(smooth)) + TOKEN_RATE / 2) / TOKEN_RATE).round(2)
        line(figure, seconds, digits(np.maximum(smooth, 1e-6)), name, colour, hover, 2, dash)
    axes(figure, "seconds after the change", style.log("off by, bits a token", dtick=1, exponentformat="power"))
    left = {name: 100 * off[TOKEN_RATE : 2 * TOKEN_RATE].mean() / off[:TOKEN_RATE].mean() for name, off in bits.items()}
    most, least = max(left, key=left.__getitem__), min(left, key=left.__getitem__)
    message = f"A second later {left[most]:.0f} % of the error is left with {most}, {left[least]:.0f} % with {least}"
    return styled(figure, message, 400)


def probe_accuracy(probes: Mapping[str, Sequence[Probe]], layers: Sequence[str], chance: float) -> go.Figure:
    """Share of held-out states that a probe classifies rightly, by layer and by the channels it sees; bars: two
    standard errors over stories."""
    figure, patterns = go.Figure(), ("", "/", ".", "x")
    for (name, found), colour, pattern in zip(probes.items(), style.SERIES, patterns, strict=False):
        figure.add_bar(
            x=list(layers), y=[round(100 * each.accuracy, 1) for each in found], name=name,
            error_y={"array": [round(200 * each.error, 1) for each in found], "thickness": 1},
            marker={"color": colour, "pattern": {"shape": pattern}}, hovertemplate="%{x}: %{y} %<extra></extra>",
        )  # fmt: skip
    note = {"text": "chance", "yanchor": "bottom"}
    figure.add_hline(100 * chance, line={"color": style.TRUTH, "dash": "dash", "width": 1}, annotation=note)
    axes(figure, y={"title_text": "heroes found, % of held-out states", "range": [0, 100]})
    best = max(each.accuracy for found in probes.values() for each in found)
    message = f"Linear probes for the hero: {100 * best:.0f} % at best, {100 * chance:.0f} % by chance"
    return styled(figure, message, 400)


def probe_weights(traces: Sequence[Trace], probes: Sequence[Probe]) -> go.Figure:
    """The weight that a probe gives to each channel, against the half-life of that channel; a colour a layer."""
    figure, ranks = go.Figure(), []
    for trace, found, colour in zip(traces, probes, _ordered(len(traces)), strict=True):
        seconds = trace.half_lives.numpy()
        ranks.append(f"{spearmanr(seconds, found.weights).statistic:+.1f}")
        hover = "half-life %{x} s: %{y}<extra></extra>"
        points(figure, digits(seconds), digits(found.weights), _name(trace.layer), colour, hover, 5)
    _mark_durations(figure, "x")
    axes(figure, _log_seconds("half-life, seconds of speech"), "weight in the probe")
    return styled(figure, f"Probe weight against half-life, rank correlation by layer: {', '.join(ranks)}", 400)


def _name(layer: int) -> str:
    return f"layer {layer + 1}"


def _ordered(count: int) -> list[str]:
    """Colours for what has an order, from dark to light."""
    return sample_colorscale("Viridis", np.linspace(0.3, 0.8, count))  # seen on light pages and on dark ones


def _mark_durations(figure: go.Figure, axis: str) -> None:
    """Lines where a phone, a word, a sentence and a minute lie on a logarithmic axis of seconds."""
    pen, font = {"color": style.TRUTH, "width": 1, "dash": "dot"}, {"size": 11, "color": style.TRUTH}
    for name, seconds in DURATIONS.items():
        at = float(np.log10(seconds))  # annotations count in powers of 10, lines do not
        if axis == "x":
            figure.add_vline(seconds, line=pen)
            place = {"x": at, "y": 1, "yref": "paper", "xanchor": "left"}
        else:
            figure.add_hline(seconds, line=pen)
            place = {"x": 1, "xref": "paper", "y": at, "yanchor": "bottom", "xanchor": "right"}
        figure.add_annotation(text=name, showarrow=False, font=font, **place)
