"""One look for every figure, one colour for each thing, in Okabe and Ito's colour-blind-safe palette.

Figures are transparent, so that they stand on a light page and on a dark one: what is a line or text by itself has a
contrast of 3 or more with both. Griffin and SpeechTransformer differ in hue, in lightness (L* 58 and 41) and in dash.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go

PROMPT, CONTINUATION, SEAM, TRANSFORMER, TRUTH = "#0072B2", "#009E73", "#D55E00", "#A8367E", "#7A7A7A"
WAVE, STATE = "#56B4E9", "#E69F00"
EARLIER, LATER, DROPPED, SILENCE = "#56B4E9", "#E69F00", "#BBBBBB", "#B07A00"  # windows, and what is in none
GRIFFIN_30S = "#B07A00"  # beside Griffin and SpeechTransformer
OTHER_PROMPT = "#B07A00"  # a second voice beside the first
SLOW, FAST = "#4A6FA5", "#958F78"  # channels of the state, by half-life
SERIES = STATE, SLOW, FAST, TRUTH  # of up to four lines or bars
DASHES = {CONTINUATION: "solid", TRANSFORMER: "longdash", GRIFFIN_30S: "dashdot", TRUTH: "dash"}  # of whole systems
CLEAR = "rgba(0,0,0,0)"
INK = "#757575"  # 4.6 to 1 on white, 4.1 to 1 on JupyterLab's dark; where styles may be set, PAGE sets the theme's own

_TEMPLATE = go.layout.Template(
    layout=go.Layout(
        font={"family": "system-ui, sans-serif", "size": 13, "color": INK},
        title={
            "x": 0,
            "xanchor": "left",
            "xref": "paper",
            "y": 1,
            "yanchor": "top",
            "pad": {"t": 12},
            "font": {"size": 16},
        },
        paper_bgcolor=CLEAR,
        plot_bgcolor=CLEAR,
        xaxis={"showgrid": False, "zeroline": False, "ticks": "outside", "linecolor": "#999", "showline": True},
        yaxis={"showgrid": True, "gridcolor": "rgba(128,128,128,0.2)", "zeroline": False, "linecolor": "#999"},
        margin={"l": 70, "r": 20, "t": 90, "b": 50},
        legend={"orientation": "h", "y": 1.01, "yanchor": "bottom", "x": 1, "xanchor": "right"},
    )
)


# What figures wear in a page that allows a style: the theme's colour of text.
PAGE = """<style>
.js-plotly-plot :is(.infolayer, .xaxislayer-above, .yaxislayer-above, .xaxislayer-below, .yaxislayer-below) text
{ fill: var(--jp-content-font-color1, #333) !important }
</style>"""


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


def band(figure: go.Figure, x: Any, low: Any, high: Any, colour: str, **options: Any) -> None:
    """Adds an interval around a line of the colour, between low and high."""
    edge = {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip", "showlegend": False, **options}
    figure.add_scatter(x=x, y=high, **edge)
    figure.add_scatter(x=x, y=low, fill="tonexty", fillcolor=see_through(colour, 0.15), **edge)


def points(figure: go.Figure, x: Any, y: Any, name: str, colour: str, hover: str, size: float, **options: Any) -> None:
    """Adds points that no line joins; hover is plotly's hovertemplate."""
    marker = {"size": size, "color": colour}
    figure.add_scatter(x=x, y=y, name=name, mode="markers", marker=marker, hovertemplate=hover, **options)


def fading(colour: str) -> list[tuple[float, str]]:
    """A colour scale for maps, from nothing to #rrggbb: no white box on a dark page."""
    return [(share, see_through(colour, share)) for share in (0, 1)]


def see_through(colour: str, share: float) -> str:
    """#rrggbb, of which so much is seen: 0 to 1."""
    parts = ",".join(str(int(colour[at : at + 2], 16)) for at in (1, 3, 5))
    return f"rgba({parts},{share})"


def seconds(value: float) -> str:
    """Two digits of a length of time, with its unit, and no power of ten."""
    return f"{value:.2g} s" if value < 10 else f"{value:.0f} s"


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


def scale(title: str, **properties: Any) -> dict[str, Any]:
    """A narrow colour bar, for a map: what its colours mean."""
    return {"title": {"text": title, "side": "right"}, "thickness": 10, "outlinewidth": 0, **properties}
