"""One look for every figure, one colour for each thing, in Okabe and Ito's colour-blind-safe palette."""

from __future__ import annotations

import plotly.graph_objects as go

PROMPT, CONTINUATION, SEAM, TRANSFORMER, TRUTH = "#0072B2", "#009E73", "#D55E00", "#CC79A7", "#555555"
WAVE, STATE = "#56B4E9", "#E69F00"
EARLIER, LATER, DROPPED, SILENCE = "#56B4E9", "#E69F00", "#DDDDDD", "#000000"  # windows, and what is in none
GRIFFIN_30S = "#000000"  # beside Griffin and SpeechTransformer
OTHER_PROMPT = "#000000"  # a second voice beside the first
SLOW, FAST = "#00224E", "#958F78"  # channels of the state, by half-life

_TEMPLATE = go.layout.Template(
    layout=go.Layout(
        font={"family": "system-ui, sans-serif", "size": 13, "color": "#333"},
        title={"x": 0, "xanchor": "left", "xref": "paper", "font": {"size": 16}},
        paper_bgcolor="white",
        plot_bgcolor="white",
        xaxis={
            "showgrid": False,
            "zeroline": False,
            "ticks": "outside",
            "linecolor": "#999",
            "showline": True,
        },
        yaxis={"showgrid": True, "gridcolor": "#eee", "zeroline": False, "linecolor": "#999"},
        margin={"l": 70, "r": 20, "t": 60, "b": 50},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 1, "xanchor": "right"},
    )
)


def styled(figure: go.Figure, message: str, height: int) -> go.Figure:
    """The house look, with the figure's one message as its title. A small template of our own keeps notebooks small."""
    return figure.update_layout(template=_TEMPLATE, title_text=message, height=height)
