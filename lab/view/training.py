"""Training seen: the learning rate of a schedule, the curves in log.csv, and a run while it goes."""

from __future__ import annotations

import asyncio
import csv
import html
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar

import ipywidgets
import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from lab.errors import LabError
from lab.train.loop import Compute, Schedule
from lab.view import style
from lab.view.style import axes, line, styled

# Of each model the curve that says most, and its unit.
CURVES = {
    "tokenizer": ("ctc", "CTC, nats a character"),
    "codec": ("log-mel", "log-mel L1, nepers"),
    "griffin": ("loss", "cross-entropy, nats a token"),
    "soundstorm": ("loss", "cross-entropy, nats a code"),
}
T = TypeVar("T")


def learning_rate(steps: int = 2600, warmup: int = 150, floor: float = 0.05, peak: float = 2e-3) -> go.Figure:
    """The learning rate of every step; by default the laptop's schedule of the language models."""
    schedule = Schedule(steps, learning_rate=peak, warmup=warmup, floor=floor)
    at = np.unique(np.linspace(0, steps - 1, 300).round().astype(int))
    figure, rates = go.Figure(), [schedule.rate(int(step)) for step in at]
    line(figure, at, rates, "", style.CONTINUATION, "step %{x}: %{y:.2e}<extra></extra>")
    axes(figure, "step", {"title_text": "learning rate", "rangemode": "tozero", "exponentformat": "power"})
    last = schedule.rate(steps) / peak
    return styled(figure, f"Up in {warmup} steps, then down a cosine to {last:.3g} of the peak", 320)


def read_log(folder: Path) -> dict[str, np.ndarray]:
    """log.csv of a run: for each name (N, 3) of step, seconds and value; nothing where there is none yet."""
    rows: dict[str, list[tuple[float, float, float]]] = {}
    path = Path(folder) / "log.csv"
    whole = path.read_text().rpartition("\n")[0] if path.exists() else ""  # the last line may be on its way
    for step, seconds, name, value in csv.reader(whole.splitlines()):
        rows.setdefault(name, []).append((float(step), float(seconds), float(value)))
    return {name: np.array(values) for name, values in rows.items()}


def curves(work: Path) -> go.Figure:
    """The curve of each model of CURVES that was trained below `work`. Raises LabError where there is none."""
    found = {name: read_log(Path(work) / name) for name in CURVES}
    found = {name: logged for name, logged in found.items() if CURVES[name][0] in logged}
    if not found:
        raise LabError(f"there is no log.csv of a model below {work}; train one first")
    columns = min(2, len(found))
    titles = [f"{name}: {CURVES[name][1]}" for name in found]  # beside the axes of two rows they would run together
    figure = make_subplots(-(-len(found) // columns), columns, subplot_titles=titles, vertical_spacing=0.3)
    for number, (name, logged) in enumerate(found.items()):
        place = {"row": number // columns + 1, "col": number % columns + 1}
        steps, seconds, values = logged[CURVES[name][0]].T
        shown = {"customdata": seconds.round(1), "showlegend": False, **place}
        hover = "step %{x}, %{customdata} s: %{y}<extra></extra>"
        line(figure, steps.astype(int), values.round(3), "", style.CONTINUATION, hover, 2, **shown)
    axes(figure, "step")
    minutes = sum(logged[CURVES[name][0]][-1, 1] for name, logged in found.items()) / 60
    return styled(figure, f"Training loss of {len(found)} models, {minutes:.1f} minutes in all", 480)


class Watch(ipywidgets.VBox, Generic[T]):
    """Training in a thread of its own, seen as it goes: steps, the last loss and its curve, and a button that stops it.

    work(compute) is to hand `compute` to `fit`, which logs into `folder / name` for each name of `steps`. A run that
    was stopped has saved.
    """

    def __init__(self, work: Callable[[Compute], T], folder: Path, steps: Mapping[str, int], seconds: float = 0.5):
        if not steps or not steps.keys() <= CURVES.keys():
            raise LabError(f"there is no curve for {', '.join(steps) or 'nothing'}; steps are of {', '.join(CURVES)}")
        self.folder, self.steps, self.seconds = Path(folder), dict(steps), seconds
        self._work = work
        self._result: list[T] = []
        self._error: BaseException | None = None
        self._compute = Compute(log_every=max(1, min(steps.values()) // 40), progress=False)
        self._table = ipywidgets.HTML(self._drawn())
        self.halt = ipywidgets.Button(description="Stop", layout={"width": "auto"})
        self.halt.on_click(lambda _: self.stop())
        super().__init__([self._table, self.halt])
        self._worker = threading.Thread(target=self._run, daemon=True)
        self._worker.start()
        threading.Thread(target=self._look, daemon=True).start()

    def stop(self) -> None:
        """End the run after the step that is on its way."""
        self._compute.stop.set()

    async def done(self) -> T:
        """What `work` returned, when it has; the page is alive meanwhile. Raises what `work` raised.

        Raises LabError for a run that was stopped.
        """
        while self._worker.is_alive():
            await asyncio.sleep(0.1)
        self._table.value = self._drawn()
        if isinstance(self._error, KeyboardInterrupt):
            raise LabError("the run was stopped; run the cell that began it again, and it goes on")
        if self._error is not None:
            raise self._error
        return self._result[0]

    def _run(self) -> None:
        try:
            self._result.append(self._work(self._compute))
        except BaseException as error:  # done() raises it where somebody sees it
            self._error = error

    def _look(self) -> None:
        while self._worker.is_alive():
            self._worker.join(self.seconds)
            self._table.value = self._drawn()
        self.halt.disabled = True

    def _drawn(self, curve: bool = True) -> str:
        lines = []
        for name, steps in self.steps.items():
            logged = read_log(self.folder / name).get(CURVES[name][0], np.zeros((0, 3)))
            step = int(logged[-1, 0]) if len(logged) else 0
            last = f"{logged[-1, 2]:.3g} {html.escape(CURVES[name][1])}" if len(logged) else ""
            drawn = _sparkline(logged[:, 2]) if curve and len(logged) > 1 else ""
            lines.append(
                f'<tr><td>{name}</td><td><progress aria-label="{name}" max="{steps}" value="{step}"></progress></td>'
                f"<td>{step} of {steps} steps</td><td>{drawn}</td><td>{last}</td></tr>"
            )
        return f'<table role="status">{"".join(lines)}</table>'

    def __repr__(self) -> str:
        return f"Watch({', '.join(f'{name}: {steps} steps' for name, steps in self.steps.items())})"

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        """The widget, and a table for a page without a kernel."""
        return {**super()._repr_mimebundle_(**kwargs), "text/html": self._drawn(curve=False)}


def _sparkline(values: np.ndarray) -> str:
    """A curve (N,) without axes, N >= 2, as SVG of 160 x 24 pixels."""
    heights = 23 - 22 * (values - values.min()) / max(float(np.ptp(values)), 1e-9)
    points = " ".join(f"{x:.0f},{y:.1f}" for x, y in zip(np.linspace(0, 160, len(values)), heights, strict=True))
    line = f'<polyline points="{points}" fill="none" stroke="{style.CONTINUATION}" stroke-width="2"/>'
    return f'<svg width="160" height="24" aria-hidden="true">{line}</svg>'
