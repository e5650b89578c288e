"""Pictures of the state: how long a channel remembers, what it holds over a story, what follows when it is changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
import torch
from plotly.colors import sample_colorscale
from plotly.subplots import make_subplots
from scipy.stats import spearmanr

from lab.errors import LabError
from lab.measure.state import Probe, Trace, half_life, initial_half_lives
from lab.tokens import TOKEN_RATE
from lab.view import style

Words = Sequence[tuple[float, float, str]]  # start and stop, in seconds, and the word
LASTING = {"a phone": 0.08, "a word": 0.3, "a sentence": 2.5, "a minute": 60.0}  # seconds, in the story world
LOUDEST = 2.0  # times a channel's root mean square: the dark end of the map


def memory_curves(decay: float, gates: Sequence[float] = (1.0, 0.5, 0.1, 0.02), height: int = 380) -> go.Figure:
    """How much of what a channel held is left after so many seconds, for recurrence gates that stay as they are.

    decay: softplus(Lambda) of the channel.
    """
    figure, seconds = go.Figure(), np.geomspace(1 / TOKEN_RATE, 300, 120)
    half_lives = [float(half_life(torch.tensor(decay), gate)) for gate in gates]
    for gate, half, colour in zip(gates, half_lives, _ordered(len(gates)), strict=True):
        left = 100 * 0.5 ** (seconds / half)
        figure.add_scatter(
            x=_digits(seconds), y=left.round(1), mode="lines", name=f"r = {gate:g}", line={"color": colour, "width": 3},
            hovertemplate="after %{x} s: %{y} %<extra></extra>",
        )  # fmt: skip
    _lasting(figure, "x")
    figure.update_xaxes(title_text="seconds later", type="log", **_TICKS)
    figure.update_yaxes(title_text="still held, %")
    message = f"One channel, half-lives from {min(half_lives):.2g} to {max(half_lives):.2g} s: the gate decides"
    return style.styled(figure, message, height)


def half_lives(traces: Sequence[Trace], height: int = 400) -> go.Figure:
    """The half-life of every channel of every recurrent layer, sorted, at the gates that were met."""
    figure, found = go.Figure(), [trace.half_lives.sort().values.numpy() for trace in traces]
    for trace, seconds, colour in zip(traces, found, _ordered(len(traces)), strict=True):
        figure.add_scatter(
            x=np.linspace(0, 100, len(seconds)).round(1), y=_digits(seconds), mode="lines", name=_name(trace.layer),
            line={"color": colour, "width": 3}, hovertemplate="%{x} % of channels last less than %{y} s<extra></extra>",
        )  # fmt: skip
    _lasting(figure, "y")
    figure.update_xaxes(title_text="channels, % of the layer, from the most forgetful")
    figure.update_yaxes(title_text="half-life, seconds of speech", type="log", **_TICKS)
    low, high = np.percentile(np.concatenate(found), [5, 95])
    message = f"The same speech, remembered for {low:.1g} s to {high:.1g} s (half-lives; 5 % of channels beyond either)"
    return style.styled(figure, message, height)


def initialisations(traces: Sequence[Trace] = (), height: int = 400) -> go.Figure:
    """How half-lives are spread: both initialisations with gates half open, and a trained model at the gates it met."""
    spreads = {
        "the paper's: a⁸ in [0.9, 0.999]": (initial_half_lives("paper"), style.STATE, "solid"),
        "RecurrentGemma's code: a in [0.9, 0.999]": (initial_half_lives("recurrentgemma"), style.TRANSFORMER, "dash"),
    }
    if traces:
        spreads["this model, trained"] = (torch.cat([trace.half_lives for trace in traces]), style.TRUTH, "dot")
    figure, edges = go.Figure(), np.geomspace(0.01, 1000, 51)
    for name, (seconds, colour, dash) in spreads.items():
        shares = np.histogram(seconds.numpy(), edges)[0] / len(seconds)
        figure.add_scatter(
            x=_digits(np.sqrt(edges[1:] * edges[:-1])), y=(100 * shares).round(2), mode="lines", name=name,
            line={"color": colour, "dash": dash, "width": 3, "shape": "hvh"},
            hovertemplate="%{y} % of channels around %{x} s<extra></extra>",
        )  # fmt: skip
    _lasting(figure, "x")
    figure.update_xaxes(title_text="half-life, seconds of speech", type="log", **_TICKS)
    figure.update_yaxes(title_text="channels, %")
    paper, gemma = (float(initial_half_lives(kind).max()) for kind in ("paper", "recurrentgemma"))
    message = f"Where the exponent stands decides whether training starts from {paper:.0f} s of memory or {gemma:.0f} s"
    return style.styled(figure, message, height).update_layout(legend={"y": -0.28, "yanchor": "top"})


def state_map(traces: Sequence[Trace], words: Words = (), rows: int = 64, height: int = 560) -> go.Figure:
    """The state over time, a panel a layer: channels by half-life, dark where one holds more than it mostly does.

    Neighbours are averaged to `rows` rows and 2 tokens to a column; words stand where they are heard.
    """
    figure = make_subplots(len(traces), 1, shared_xaxes=True, vertical_spacing=0.05)
    for panel, trace in enumerate(traces, 1):
        size = trace.hidden.square().mean(0).sqrt().clamp(min=1e-9)  # (L,)
        share = (trace.hidden.abs() / size)[:, trace.order].numpy()  # (T, L)
        share = share[: len(share) // 2 * 2].reshape(len(share) // 2, 2, -1).mean(1)
        share = np.stack([part.mean(1) for part in np.array_split(share, min(rows, share.shape[1]), 1)])
        sorted_, wanted = trace.half_lives[trace.order].numpy(), np.array([0.1, 1, 10])
        at = np.searchsorted(sorted_, wanted) / len(sorted_) * len(share)
        shown = (at > 0) & (at < len(share))
        figure.add_heatmap(
            z=(np.minimum(share / LOUDEST, 1) * 255).astype(np.uint8),
            x0=1 / TOKEN_RATE, dx=2 / TOKEN_RATE, y0=0.5, dy=1,
            colorscale="Cividis", reversescale=True, showscale=False, row=panel, col=1,
            hovertemplate="%{x:.1f} s<extra>" + _name(trace.layer) + "</extra>",
        )  # fmt: skip
        figure.update_yaxes(
            title_text=f"{_name(trace.layer)}<br>half-life", tickvals=at[shown].round(1), autorange="reversed",
            showgrid=False,
            ticktext=[f"{seconds:g} s" for seconds in wanted[shown]], row=panel, col=1,
        )  # fmt: skip
    for start, _, word in words:
        figure.add_annotation(
            x=round(start, 2), y=0, yref="paper", text=word, textangle=-90, showarrow=False, yanchor="top",
            xanchor="left", font={"size": 9},
        )  # fmt: skip
    figure.update_xaxes(showticklabels=False, ticks="")
    figure.update_xaxes(
        side="top", showticklabels=True, ticks="outside", title_text="seconds of speech", title_standoff=4, row=1, col=1
    )
    styled = style.styled(figure, "Above, what changes with every sound; below, what stays for sentences", height)
    return styled.update_layout(title={"y": 0.98, "yanchor": "top"}, margin={"t": 90, "b": 70 if words else 20})


def channel(traces: Sequence[Trace], layer: int, rank: int, times: float = 1.0, height: int = 420) -> go.Figure:
    """One channel over time: what it holds, and the half-life that its gate gives it at each moment.

    layer: counted among traces. rank: in percent of the layer's channels, from the most forgetful. times: what its
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
        figure.add_scatter(
            x=seconds, y=_digits(held.numpy()), mode="lines", name=name, line={"color": colour, "width": width},
            hovertemplate="%{x:.2f} s: %{y}<extra></extra>", row=1, col=1,
        )  # fmt: skip
    figure.add_scatter(
        x=seconds, y=_digits(moment), mode="lines", line={"color": style.STATE, "width": 1}, showlegend=False,
        hovertemplate="at %{x:.2f} s: a half-life of %{y} s<extra></extra>", row=2, col=1,
    )  # fmt: skip
    figure.update_yaxes(title_text="h, what it holds", row=1, col=1)
    figure.update_yaxes(title_text="half-life, s", type="log", **_TICKS, row=2, col=1)
    figure.update_xaxes(title_text="seconds of speech", row=2, col=1)
    mean = float(trace.half_lives[index]) / times
    message = f"{_name(trace.layer)}, channel {index}: half-life {mean:.2g} s at the gates of this speech"
    return style.styled(figure, message, height)


def aftermath(bits: Mapping[str, np.ndarray], height: int = 400) -> go.Figure:
    """How far predictions are off after each of several changes of the state, bits (T,), averaged over a second."""
    figure = go.Figure()
    dashes = ("solid", "dash", "dot", "dashdot")
    colours = (style.STATE, style.SLOW, style.FAST, style.TRUTH)
    for (name, off), colour, dash in zip(bits.items(), colours, dashes, strict=False):
        smooth = np.convolve(off, np.full(TOKEN_RATE, 1 / TOKEN_RATE), "valid")
        figure.add_scatter(
            x=((np.arange(len(smooth)) + TOKEN_RATE / 2) / TOKEN_RATE).round(2),
            y=_digits(np.maximum(smooth, 1e-6)), mode="lines", name=name,
            line={"color": colour, "dash": dash, "width": 2},
            hovertemplate="%{x:.1f} s later: %{y} bits<extra></extra>",
        )  # fmt: skip
    figure.update_xaxes(title_text="seconds after the change")
    figure.update_yaxes(title_text="off by, bits a token", type="log", dtick=1, exponentformat="power")
    left = {name: 100 * off[TOKEN_RATE : 2 * TOKEN_RATE].mean() / off[:TOKEN_RATE].mean() for name, off in bits.items()}
    most, least = max(left, key=left.__getitem__), min(left, key=left.__getitem__)
    message = f"A second later {left[most]:.0f} % of the error is left with {most}, {left[least]:.0f} % with {least}"
    return style.styled(figure, message, height)


def probe_accuracy(probes: Mapping[str, Sequence[Probe]], layers: Sequence[str], chance: float) -> go.Figure:
    """Share of held-out states that a probe reads rightly, by layer and by the channels it sees; bars: two standard
    errors over stories."""
    figure = go.Figure()
    colours = (style.STATE, style.SLOW, style.FAST, style.TRUTH)
    patterns = ("", "/", ".", "x")
    for (name, found), colour, pattern in zip(probes.items(), colours, patterns, strict=False):
        figure.add_bar(
            x=list(layers), y=[round(100 * each.accuracy, 1) for each in found], name=name,
            error_y={"array": [round(200 * each.error, 1) for each in found], "thickness": 1},
            marker={"color": colour, "pattern": {"shape": pattern}}, hovertemplate="%{x}: %{y} %<extra></extra>",
        )  # fmt: skip
    note = {"text": "chance", "bgcolor": "white", "opacity": 0.9}
    figure.add_hline(100 * chance, line={"color": style.TRUTH, "dash": "dash", "width": 1}, annotation=note)
    figure.update_yaxes(title_text="read rightly, %", range=[0, 100])
    best = max(each.accuracy for found in probes.values() for each in found)
    message = (
        f"A linear probe reads the hero from the state: {100 * best:.0f} % at best, {100 * chance:.0f} % by chance"
    )
    return style.styled(figure, message, 400)


def probe_weights(traces: Sequence[Trace], probes: Sequence[Probe], height: int = 400) -> go.Figure:
    """The weight that a probe gives to each channel, against the half-life of that channel; a colour a layer."""
    figure, ranks = go.Figure(), []
    for trace, found, colour in zip(traces, probes, _ordered(len(traces)), strict=True):
        seconds = trace.half_lives.numpy()
        ranks.append(spearmanr(seconds, found.weights).statistic)
        figure.add_scatter(
            x=_digits(seconds), y=_digits(found.weights), mode="markers", name=_name(trace.layer),
            marker={"color": colour, "size": 5}, hovertemplate="half-life %{x} s: %{y}<extra></extra>",
        )  # fmt: skip
    _lasting(figure, "x")
    figure.update_xaxes(title_text="half-life, seconds of speech", type="log", **_TICKS)
    figure.update_yaxes(title_text="weight in the probe")
    told = ", ".join(f"{rank:+.1f}" for rank in ranks)
    message = f"Do long memories carry the hero? Rank correlations, layer by layer: {told}"
    return style.styled(figure, message, height)


_SECONDS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000)
_TICKS = {"tickvals": _SECONDS, "ticktext": [f"{seconds:g}" for seconds in _SECONDS]}


def _name(layer: int) -> str:
    return f"layer {layer + 1}"


def _ordered(count: int) -> list[str]:
    """Colours for what has an order, from dark to light."""
    return sample_colorscale("Viridis", np.linspace(0, 0.8, count))


def _digits(values: np.ndarray) -> np.ndarray:
    """Three significant digits, as float32: what a notebook need not store."""
    with np.errstate(divide="ignore"):
        scale = 10.0 ** (2 - np.floor(np.log10(np.abs(np.where(values, values, 1)))))
    return (np.round(values * scale) / scale).astype(np.float32)


def _lasting(figure: go.Figure, axis: str) -> None:
    """Lines where a phone, a word, a sentence and a minute lie on a logarithmic axis of seconds."""
    line, font = {"color": style.TRUTH, "width": 1, "dash": "dot"}, {"size": 11, "color": style.TRUTH}
    for name, seconds in LASTING.items():
        at = float(np.log10(seconds))  # annotations count in powers of 10, lines do not
        if axis == "x":
            figure.add_vline(seconds, line=line)
            figure.add_annotation(x=at, y=1, yref="paper", text=name, showarrow=False, xanchor="left", font=font)
        else:
            figure.add_hline(seconds, line=line)
            figure.add_annotation(
                x=1, xref="paper", y=at, text=name, showarrow=False, yanchor="bottom", xanchor="right", font=font
            )
