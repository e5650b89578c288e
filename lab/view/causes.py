"""Figures of causes: the seconds that put into h what is there at a word, the parts of a state that know a name."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from lab.measure.causes import PARTS, WINDOW, Map
from lab.measure.state import Trace
from lab.tokens import TOKEN_RATE
from lab.view import style
from lab.view.style import axes, styled


def seconds(traces: Sequence[Trace], shares: Sequence[np.ndarray], word: tuple[float, float, str]) -> go.Figure:
    """The seconds that put into h what is there at the end of a word, a row a layer.

    shares: `measure.causes.seconds_in` of each trace, (seconds, T). word: as `Tokenizer.words` gives it.
    """
    _, stop, said = word
    at = min(round(stop * TOKEN_RATE), shares[0].shape[1] - 1)
    rows = 100 * np.stack([each[: at // TOKEN_RATE + 1, at] for each in shares])  # (layers, seconds)
    names = [f"layer {trace.layer + 1}" for trace in traces]
    figure = go.Figure()
    figure.add_heatmap(
        z=np.sqrt(rows.clip(0, 100)).round(2), x0=0.5, dx=1, y=names, customdata=rows.round(1), zmin=0, zmax=10,
        colorscale=style.fading(style.SEAM), xgap=1, ygap=6,
        colorbar=style.scale("share of h", tickvals=[0, 1, 3.16, 7.07], ticktext=["0", "1 %", "10 %", "50 %"]),
        hovertemplate="from %{x:.1f} s: %{customdata} % of h<extra>%{y}</extra>",
    )  # fmt: skip
    axes(figure, "seconds of speech", {"autorange": "reversed", "showgrid": False, "automargin": True})
    last, since = (f"{row[-2:].sum():.0f}" for row in rows), max(0, rows.shape[1] - 2)
    message = f"“{said}” at {stop:.1f} s: {', '.join(last)} % of h, layer by layer, came in since {since} s"
    return styled(figure, message, 280)


def cause_map(found: Map) -> go.Figure:
    """How much likelier the other hero's name gets where a part of a layer's state is that of the other story."""
    z = [
        [100 * found.gained[layer, part].value if (layer, part) in found.gained else None for part in PARTS]
        for layer in found.layers
    ]
    figure = go.Figure()
    figure.add_heatmap(
        z=z, x=list(PARTS), y=list(found.layers), zmin=0, zmax=60, colorscale=style.fading(style.SEAM), xgap=4, ygap=4,
        hoverongaps=False, colorbar=style.scale("percentage points gained"),
        hovertemplate="%{y}, %{x}: %{z:+.1f} points<extra></extra>",
    )  # fmt: skip
    for (layer, part), gained in found.gained.items():  # a map's own texts would be black, on a dark page as well
        points = round(100 * gained.value)
        font = {"color": "white"} if points > 20 else {}
        figure.add_annotation(x=part, y=layer, text=f"{points:+d}", showarrow=False, font=font)
    axes(figure, {"side": "top", "showline": False, "ticks": ""}, {"autorange": "reversed", "showgrid": False})
    kept = found.gained["all layers", WINDOW].value
    of_h = max(100 * found.gained["all layers", part].value for part in PARTS[:2])
    message = f"The other hero's name gains {100 * kept:.0f} points from {WINDOW}, {of_h:.0f} at most from a half of h"
    return styled(figure, message, 400).update_layout(margin_t=110)
