"""One look for every figure, one colour for each thing, in Okabe and Ito's colour-blind-safe palette."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go

PROMPT, CONTINUATION, SEAM, TRANSFORMER, TRUTH = "#0072B2", "#009E73", "#D55E00", "#CC79A7", "#555555"
WAVE, STATE = "#56B4E9", "#E69F00"
EARLIER, LATER, DROPPED, SILENCE = "#56B4E9", "#E69F00", "#DDDDDD", "#000000"  # windows, and what is in none
GRIFFIN_30S = "#000000"  # beside Griffin and SpeechTransformer
OTHER_PROMPT = "#000000"  # a second voice beside the first
SLOW, FAST = "#00224E", "#958F78"  # channels of the state, by half-life
SERIES = STATE, SLOW, FAST, TRUTH  # of up to four lines or bars

_TEMPLATE = go.layout.Template(
    layout=go.Layout(
        font={"family": "system-ui, sans-serif", "size": 13, "color": "#333"},
        title={"x": 0, "xanchor": "left", "xref": "paper", "font": {"size": 16}},
        paper_bgcolor="white",
        plot_bgcolor="white",
        xaxis={"showgrid": False, "zeroline": False, "ticks": "outside", "linecolor": "#999", "showline": True},
        yaxis={"showgrid": True, "gridcolor": "#eee", "zeroline": False, "linecolor": "#999"},
        margin={"l": 70, "r": 20, "t": 60, "b": 50},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 1, "xanchor": "right"},
    )
)


def styled(figure: go.Figure, message: str, height: int) -> go.Figure:
    """The house look, with what the figure shows as its title. A small template of our own keeps notebooks small."""
    return figure.update_layout(template=_TEMPLATE, title_text=message, height=height)


def line(
    figure: go.Figure, x: Any, y: Any, name: str = "", colour: str = TRUTH, hover: str = "", width: float = 3,
    dash: str = "solid", mode: str = "lines", **options: Any,
) -> None:  # fmt: skip
    """Adds a line; hover is plotly's hovertemplate."""
    pen = {"color": colour, "width": width, "dash": dash}
    figure.add_scatter(x=x, y=y, name=name, mode=mode, line=pen, hovertemplate=hover or None, **options)


def points(figure: go.Figure, x: Any, y: Any, name: str, colour: str, hover: str, size: float, **options: Any) -> None:
    """Adds points that no line joins; hover is plotly's hovertemplate."""
    marker = {"size": size, "color": colour}
    figure.add_scatter(x=x, y=y, name=name, mode="markers", marker=marker, hovertemplate=hover, **options)


Axis = str | dict[str, Any]  # its title, or that and more


def axes(figure: go.Figure, x: Axis = "", y: Axis = "", row: int | None = None, col: int | None = None) -> None:
    """Titles of the axes, or more of their properties, of all subplots or of the one at row and col."""
    for update, axis in ((figure.update_xaxes, x), (figure.update_yaxes, y)):
        if axis:
            update(**({"title_text": axis} if isinstance(axis, str) else axis), row=row, col=col)


def log(title: str, **properties: Any) -> dict[str, Any]:
    """A logarithmic axis, for `axes`."""
    return {"title_text": title, "type": "log", **properties}


def legend_below(figure: go.Figure, margin: int = 110) -> go.Figure:
    """Where names are too long to stand beside the title: `margin` pixels below the plot for axis and legend."""
    legend = {"orientation": "h", "x": 0, "xanchor": "left", "yref": "container", "y": 0, "yanchor": "bottom"}
    return figure.update_layout(legend=legend, margin_b=margin)


def legend_beside(figure: go.Figure) -> go.Figure:
    """Where a figure has many lines: one below the other, on the right."""
    return figure.update_layout(legend={"orientation": "v", "x": 1.02, "xanchor": "left", "y": 1, "yanchor": "top"})


def digits(values: Any) -> np.ndarray:
    """Three significant digits, as float32: what a notebook need not store."""
    values = np.asarray(values, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = 10.0 ** (2 - np.floor(np.log10(np.abs(np.where(values, values, 1)))))
        return (np.round(values * scale) / scale).astype(np.float32)
