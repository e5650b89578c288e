"""How a story sounds, minute by minute: outside judges of the voice, with intervals over stories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from lab.errors import LabError
from lab.view import style
from lab.view.coherence import SYSTEMS
from lab.view.style import axes, line, styled

JUDGES = {
    "MOS": "predicted MOS, 1 to 5",
    "SpkrSim": "cosine with the prompt",
}  # and what an axis says of each


def sound_by_minute(minutes: Mapping[str, Sequence[Mapping[str, Any]]]) -> go.Figure:
    """Predicted MOS and speaker similarity after each minute, a panel each, a line for each system with 95 % intervals.

    minutes: of the names in `coherence.SYSTEMS`, the minutes of their row's summary, as `lab evaluate` writes it.
    Raises LabError for a minute that JUDGES have not heard.
    """
    titles = "how natural: DistillMOS", "the same voice: SpkrSim"
    figure = make_subplots(1, 2, horizontal_spacing=0.1, subplot_titles=titles)
    said = []
    for system, told in minutes.items():
        name, colour = SYSTEMS[system][0].split(",")[0], SYSTEMS[system][1]
        x = list(range(1, len(told) + 1))
        for column, judge in enumerate(JUDGES, 1):
            found = [_judged(minute, judge) for minute in told]
            value, low, high = ([round(each[part], 3) for each in found] for part in ("value", "low", "high"))
            shown: dict[str, Any] = {"legendgroup": system, "row": 1, "col": column}
            style.band(figure, x, low, high, colour, **shown)
            shown |= {"showlegend": column == 1, "mode": "lines+markers", "marker": {"size": 5}}
            line(figure, x, value, name, colour, "minute %{x}: %{y}", 2.5, style.DASHES[colour], **shown)
        first, last = (_judged(told[at], "MOS")["value"] for at in (0, -1))
        said.append(f"{name} {first:.1f} to {last:.1f}")
    for column, label in enumerate(JUDGES.values(), 1):
        axes(figure, "minute after the prompt", label, row=1, col=column)
    figure.update_xaxes(dtick=2, tick0=0)
    message = f"MOS, first to last minute: {', '.join(said)}"
    return style.legend_below(styled(figure, message, 420)).update_layout(title_font_size=14)  # it is long


def _judged(minute: Mapping[str, Any], judge: str) -> Mapping[str, float]:
    """The estimate of a judge, whichever model it was."""
    found = next((each for name, each in minute.items() if name.startswith(f"{judge} (")), None)
    if found is None:
        raise LabError(f"a minute has no {judge}; `lab evaluate --ears` with a judge of it measures it")
    return found
