"""Figures that answer to controls: `explore(draw, overlap=IntSlider(...))`."""

from __future__ import annotations

import base64
import html
import inspect
import json
import os
import zlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, Protocol

import ipywidgets
import numpy as np
import plotly.graph_objects as go

from lab.errors import LabError
from lab.view.links import Links

PAGE = "application/vnd.speechssm-lab.explorer+json"  # what `make html` needs beside the figure
PLOTLY = "application/vnd.plotly.v1+json"
KEPT = 64  # drawings of an explorer: a slider goes back and forth
STEPS = 9  # places of a slider in a page without a kernel, at which it is drawn ahead
STEP, NARROW, WIDE = 4, 120, 400  # pixels: of a step of a slider, which a pointer has to hit; of its track, from and to


class Seeks(Protocol):
    """What can be made to play from a second on, as `lab.view.Player` can."""

    def seek(self, seconds: float) -> None: ...


class Explorer(ipywidgets.VBox):
    """Controls above the figure that `draw(**values)` makes of them.

    draw: a plain function of the controls' values. It is called once here, so that the defaults are seen, and then at
        each move to values that are not among the last KEPT: it should take less than 100 ms.
    controls: ipywidgets that have a `value`, by the name of draw's parameter; their description tells the unit.
    player: a click in the figure makes it play from that second; the x axis must be in seconds.
    settings: what the prose speaks of, by name, as a dict of values each: a button that sets the controls so, and what
        `Links` in the prose do.
    hear: makes a `Player` of the controls' values when its button is pressed; it stands below the figure, in place of
        the one before. price: what the button says it costs, such as "about 5 s". A page without a kernel has the
        sounds of the settings.

    `figure` is the live figure; it is updated in place and keeps the reader's zoom. One a notebook: plotly's live
    figure brings 5 MB of code into the page, each time.
    Raises LabError for a control that is none, one that draw has no parameter for, and a draw that makes no figure.
    """

    def __init__(
        self,
        draw: Callable[..., go.Figure],
        *,
        player: Seeks | None = None,
        settings: Mapping[str, Mapping[str, Any]] | None = None,
        hear: Callable[..., Any] | None = None,
        price: str = "",
        **controls: Any,
    ):
        self.draw, self.controls, self.player, self.hear = draw, controls, player, hear
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
        for name, values in (settings or {}).items():
            if unknown := values.keys() - controls.keys():
                raise LabError(f"the setting {name!r} sets {', '.join(unknown)}; there are {', '.join(controls)}")
        self.settings, self._sound = dict(settings or {}), None
        self._drawings: dict[tuple[Any, ...], go.Figure] = {}
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
            if hasattr(control, "readout"):  # beside the description, and 80 pixels of number
                track = min(max(NARROW, STEP * _steps(control)), WIDE)
                control.layout.min_width = f"calc({len(control.description)}ch + {track + 80}px)"
            control.observe(self._moved, "value")
        buttons = [button(name, partial(self._set, values)) for name, values in self.settings.items()]
        hears = [button(f"Hear it{price and f' ({price})'}", self._heard)] if hear else []
        rows = [row for row in ([*controls.values(), self._said], buttons, hears) if row]
        bars = [ipywidgets.Box(row, layout={"flex_flow": "row wrap"}) for row in rows]
        links = [Links(self.settings, lambda name: self._set(self.settings[name], None))] if self.settings else []
        self._shown = *bars, self.figure, *links
        super().__init__(self._shown)

    @property
    def values(self) -> dict[str, Any]:
        return {name: control.value for name, control in self.controls.items()}

    def _set(self, values: Mapping[str, Any], _button: Any) -> None:
        with ExitStack() as held:  # one drawing for all of them
            for control in self.controls.values():
                control.unobserve(self._moved, "value")
                held.callback(control.observe, self._moved, "value")
            for name, value in values.items():
                self.controls[name].value = value
        self._moved(None)

    def _heard(self, button: ipywidgets.Button) -> None:
        self._sound, wrong = remade(self._sound, button, lambda: self.hear and self.hear(**self.values))
        self._say(wrong)
        self.children = (*self._shown, *filter(None, [self._sound]))

    def _draw(self, **values: Any) -> go.Figure:
        """What `draw` makes of values, or made of them not long ago; the oldest drawing makes room."""
        key = tuple(values.values())  # in the order of the controls
        known = all(isinstance(value, Hashable) for value in key)
        figure = self._drawings.pop(key, None) if known else None
        if figure is None:
            figure = self.draw(**values)
        if not isinstance(figure, go.Figure):
            raise LabError(f"what draws returned {type(figure).__name__}; return a plotly Figure")
        if known:
            self._drawings[key] = figure
        if len(self._drawings) > KEPT:
            del self._drawings[next(iter(self._drawings))]
        return figure

    def _moved(self, _change: Any) -> None:
        try:
            self._show(self._draw(**self.values))
            self._say("")
        except Exception as error:  # what a callback raises is not seen in a notebook
            self._say(told(error))

    def _say(self, text: str) -> None:
        self._said.value = f'<span role="status">{html.escape(text)}</span>'

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
        """The widget, and for a page without a kernel the figure as it is now; where notebooks are stored (LAB_STORE
        is set), what the controls would make of it as well."""
        figure = json.loads(self.drawn.to_json())
        made = {**super()._repr_mimebundle_(**kwargs), PLOTLY: figure}
        return {**made, PAGE: self.moves()} if os.environ.get("LAB_STORE") else made

    def moves(self) -> dict[str, Any]:
        """What a page without a kernel can show: each control at up to STEPS places, and each setting, the others as
        they stand now. A drawing is what differs from the figure; all are packed as deflated JSON in base64."""
        now, base = self.values, json.loads(self.drawn.to_json())

        def drawn(values: Mapping[str, Any]) -> dict[str, Any]:
            return differences(base, json.loads(self._draw(**{**now, **values}).to_json()))

        controls = []
        for name, control in self.controls.items():
            values, texts = map(list, zip(*_places(control), strict=True))
            drawings = [drawn({name: value}) for value in values]
            at = values.index(control.value)
            controls.append({"name": control.description or name, "texts": texts, "drawings": drawings, "at": at})
        settings = [(name, drawn(values)) for name, values in self.settings.items()]
        if self.hear is None:
            return kept(controls, settings)
        heard = (self.hear(**{**now, **values}) for values in self.settings.values())
        return kept(controls, settings, [widget._repr_mimebundle_()[0]["text/html"] for widget in heard])


def kept(
    controls: Sequence[dict[str, Any]], settings: Sequence[tuple[str, dict[str, Any]]], sounds: Sequence[str] = ()
) -> dict[str, Any]:
    """What PAGE holds: controls and named settings with the `differences` that each makes, all packed into one; and
    the HTML that each setting is heard by."""
    drawings: list[dict[str, Any]] = []

    def number(drawing: dict[str, Any]) -> int:
        drawings.append(drawing)
        return len(drawings) - 1

    numbered = [{**control, "drawings": [number(each) for each in control["drawings"]]} for control in controls]
    named = [(name, number(drawing)) for name, drawing in settings]  # a notebook sorts what is a dict
    packed = zlib.compress(json.dumps(drawings, separators=(",", ":")).encode(), 9)
    page = {"controls": numbered, "settings": named, "drawings": base64.b64encode(packed).decode()}
    return {**page, "sounds": list(sounds)} if sounds else page


def button(name: str, pressed: Callable[[Any], None], tooltip: str | None = None) -> ipywidgets.Button:
    made = ipywidgets.Button(description=name, tooltip=tooltip, layout={"width": "auto"})
    made.on_click(pressed)
    return made


def remade(
    before: ipywidgets.Widget | None, pressed: ipywidgets.Button | None, make: Callable[[], Any]
) -> tuple[ipywidgets.Widget | None, str]:
    """What `make` makes in place of a widget, which is closed, and what went wrong; a button rests meanwhile."""
    if before is not None:
        before.close()
    if pressed is not None:
        pressed.disabled = True
    try:
        return make(), ""
    except Exception as error:  # what a callback raises is not seen in a notebook
        return None, told(error)
    finally:
        if pressed is not None:
            pressed.disabled = False


def told(error: Exception) -> str:
    """An error as a reader sees it below a widget."""
    return str(error) if isinstance(error, LabError) else f"{type(error).__name__}: {error}"


def differences(base: dict[str, Any], figure: dict[str, Any]) -> dict[str, Any]:
    """What has to be set in plotly's JSON of one figure to have another: by trace and in the layout; null takes away.

    Where the traces are not of the same number and types, all of them.
    """

    def between(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
        return {name: new.get(name) for name in {**old, **new} if old.get(name) != new.get(name)}

    layout = between(base["layout"], figure["layout"])
    if [trace["type"] for trace in base["data"]] != [trace["type"] for trace in figure["data"]]:
        return {"data": figure["data"], "layout": layout}
    traces = [between(old, new) for old, new in zip(base["data"], figure["data"], strict=True)]
    return {"traces": traces, "layout": layout}


def _places(control: Any) -> list[tuple[Any, str]]:
    """Values that a control can take, and as they are read: all options, or STEPS of a slider and its value."""
    if hasattr(control, "options"):
        options = control.options.items() if isinstance(control.options, Mapping) else control.options
        pairs = [option if isinstance(option, tuple) else (_read(option), option) for option in options]
        return [(value, text) for text, value in pairs]
    if isinstance(control.value, bool):
        return [(False, "no"), (True, "yes")]
    steps = np.linspace(0, _steps(control), STEPS).round()
    values = {control.min + control.step * float(step) for step in steps}
    if base := getattr(control, "base", None):  # a logarithmic slider's ends are exponents
        values = {base**value for value in values}
    kind = type(control.value)
    near = {kind(round(value, 9)) for value in values if not np.isclose(value, control.value)}
    return [(value, format(value, control.readout_format)) for value in sorted({*near, control.value})]


def _steps(slider: Any) -> int:
    """From one end to the other."""
    if hasattr(slider, "options"):
        return len(slider.options) - 1
    return round((slider.max - slider.min) / slider.step)


def _read(option: Any) -> str:
    return f"{option:g}" if isinstance(option, float) else str(option)


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
