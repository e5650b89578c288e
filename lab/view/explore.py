"""Figures that answer to controls: `explore(draw, overlap=IntSlider(...))`."""

from __future__ import annotations

import html
import inspect
import json
from collections.abc import Callable
from typing import Any, Protocol

import ipywidgets
import numpy as np
import plotly.graph_objects as go

from lab.errors import LabError


class Seeks(Protocol):
    """What can be made to play from a second on, as `lab.view.Player` can."""

    def seek(self, seconds: float) -> None: ...


class Explorer(ipywidgets.VBox):
    """Controls above the figure that `draw(**values)` makes of them.

    draw: a plain function of the controls' values. It is called once here, so that the defaults are seen, and then at
        each move: it should take less than 100 ms.
    controls: ipywidgets that have a `value`, by the name of draw's parameter; their description tells the unit.
    player: a click in the figure makes it play from that second; the x axis must be in seconds.

    `figure` is the live figure; it is updated in place and keeps the reader's zoom. One a notebook: plotly's live
    figure brings 5 MB of code into the page, each time.
    Raises LabError for a control that is none, one that draw has no parameter for, and a draw that makes no figure.
    """

    def __init__(self, draw: Callable[..., go.Figure], *, player: Seeks | None = None, **controls: Any):
        self.draw, self.controls, self.player = draw, controls, player
        for name, control in controls.items():
            if not isinstance(control, ipywidgets.ValueWidget):
                kind = type(control).__name__
                raise LabError(f"the control {name!r} is of type {kind}; give an ipywidget such as IntSlider")
        if player is not None and not hasattr(player, "seek"):
            raise LabError(f"a click cannot seek in {type(player).__name__}; give a lab.view.Player")
        try:
            inspect.signature(draw).bind(**self.values)
        except (TypeError, ValueError) as error:
            raise LabError(f"the controls are not the parameters of what draws: {error}") from error
        self.drawn = self._draw(**self.values)
        self._fitted = False  # since a move: a cell that is out of sight when it is drawn has no width
        figure = go.Figure(self.drawn)
        if player is not None:
            figure.update_layout(hovermode="x")  # a click then finds the nearest x, anywhere in the plot
        self.figure = _Figure(figure)
        self.figure.observe(self._fit, "_view_count")
        self._listen()
        self._said = ipywidgets.HTML()
        for control in controls.values():
            control.style.description_width = "initial"  # ipywidgets' 80 pixels cut a unit off
            control.layout.width = "auto"
            if hasattr(control, "readout"):  # 160 pixels of slider and 80 of number, beside the description
                control.layout.min_width = f"calc({len(control.description)}ch + 240px)"
            control.observe(self._moved, "value")
        bar = ipywidgets.Box([*controls.values(), self._said], layout={"flex_flow": "row wrap"})
        super().__init__([bar, self.figure])

    @property
    def values(self) -> dict[str, Any]:
        return {name: control.value for name, control in self.controls.items()}

    def _draw(self, **values: Any) -> go.Figure:
        figure = self.draw(**values)
        if not isinstance(figure, go.Figure):
            raise LabError(f"what draws returned {type(figure).__name__}; return a plotly Figure")
        return figure

    def _moved(self, _change: Any) -> None:
        try:
            self._show(self._draw(**self.values))
            said = ""
        except Exception as error:  # what a callback raises is not seen in a notebook
            said = str(error) if isinstance(error, LabError) else f"{type(error).__name__}: {error}"
        self._said.value = f'<span role="status">{html.escape(said)}</span>'

    def _show(self, figure: go.Figure) -> None:
        before, self.drawn = self.drawn, figure
        if not self._fitted:
            self._fitted = True
            self._fit(None)
        with self.figure.batch_update():  # one message
            if same := [trace.type for trace in before.data] == [trace.type for trace in figure.data]:
                for shown, old, new in zip(self.figure.data, before.data, figure.data, strict=True):
                    _follow(shown, old, new)
            _follow(self.figure.layout, before.layout, figure.layout)
        if not same:
            self.figure.data = ()
            self.figure.add_traces(figure.data)
            self._listen()

    def _fit(self, _change: Any) -> None:
        """Plotly draws before the figure is in the page, and takes 700 pixels; have it take the width of the cell."""
        self.figure._send_relayout_msg({"autosize": True, "height": self.drawn.layout.height})

    def _listen(self) -> None:
        if self.player is not None:
            for trace in self.figure.data:
                trace.on_click(self._clicked)

    def _clicked(self, _trace: go.Scatter, points: Any, _state: Any) -> None:
        if points.xs and self.player is not None:  # plotly calls every trace, also those without a point near the click
            self.player.seek(float(points.xs[0]))

    def __repr__(self) -> str:
        return f"Explorer({', '.join(f'{name}={value!r}' for name, value in self.values.items())})"

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        """The widget, and the figure as it is now for a page without a kernel."""
        figure = json.loads(self.drawn.to_json())
        return {**super()._repr_mimebundle_(**kwargs), "application/vnd.plotly.v1+json": figure}


explore = Explorer  # as it is called in notebooks


class _Figure(go.FigureWidget):
    """Opens when it is whole. Plotly's opens empty and sends the figure after it: a slow page draws the empty one."""

    _whole = False

    def __init__(self, figure: go.Figure):
        super().__init__(figure)
        self._whole = True
        self.open()

    def open(self) -> None:
        if self._whole:
            super().open()


def _follow(shown: Any, old: Any, new: Any) -> None:
    """Set what differs between two drawings of a trace or a layout. The reader's own changes stay: zoom, legend."""
    for name in {*old.to_plotly_json(), *new.to_plotly_json()}:
        arrays = isinstance(old[name], np.ndarray) or isinstance(new[name], np.ndarray)
        if not (np.array_equal(old[name], new[name]) if arrays else old[name] == new[name]):
            shown[name] = new[name]
