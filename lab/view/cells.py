"""A heat map whose cells are pressed and heard, without the 5 MB of plotly's live figure."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import anywidget
import numpy as np
import plotly.graph_objects as go
import traitlets

from lab.view.explore import PAGE, PLOTLY, kept
from lab.view.hearing import Hearing, sounds
from lab.view.player import Player

Cell = tuple[int, int]  # row and column


class Cells(anywidget.AnyWidget):
    """The heat map of a figure, as plotly draws it; a cell that is pressed is given to `pressed`.

    Of the figure it takes values, names of rows, marks on the vertical axis, titles and the dark end of the colours.
    """

    _esm = "\n".join((Path(__file__).parent / name).read_text() for name in ("page/shared.js", "cells.js"))
    _css = Path(__file__).with_name("cells.css")
    map = traitlets.Dict().tag(sync=True)

    def __init__(self, figure: go.Figure, pressed: Callable[[Cell], None]):
        heat, layout = figure.data[0], figure.layout
        values = [[None if np.isnan(value) else float(value) for value in row] for row in np.array(heat.z, float)]
        drawn = {"values": values, "names": list(heat.y), "x0": heat.x0, "dx": heat.dx, "most": heat.zmax}
        drawn |= {"ticks": list(zip(layout.yaxis.tickvals, layout.yaxis.ticktext, strict=True))}
        drawn |= {"title": layout.title.text, "axis": layout.xaxis.title.text, "scale": heat.colorbar.title.text}
        super().__init__(map={**drawn, "colour": heat.colorscale[-1][1]})
        self.on_msg(lambda _, message, buffers: pressed((message["row"], message["column"])))


class Played(Hearing):
    """`Cells` of a figure, and below them the `Player` of the one that was pressed last.

    hear: makes it of a cell. stored: cells whose sound a page without a kernel keeps, where LAB_STORE is set.
    """

    def __init__(self, figure: go.Figure, hear: Callable[[Cell], Player], stored: Sequence[Cell] = ()):
        self.figure, self.hear, self.stored = figure, hear, stored
        super().__init__(Cells(figure, lambda cell: self._play(partial(self.hear, cell))))

    def __repr__(self) -> str:
        return f"Played({self.figure.layout.title.text!r})"

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        """The widget, and for a page without a kernel the figure and the sounds of some of its cells."""
        made = {**super()._repr_mimebundle_(**kwargs), PLOTLY: json.loads(self.figure.to_json())}
        if not os.environ.get("LAB_STORE"):
            return made
        heard = sounds(self.hear(cell) for cell in self.stored)
        return {**made, PAGE: kept([], [(self._named(cell), {}) for cell in self.stored], heard)}

    def _named(self, cell: Cell) -> str:
        """As page.js calls the place of a click."""
        heat, (row, column) = self.figure.data[0], cell
        return f"{heat.x0 + heat.dx * column:g}, {heat.y[row]}"
