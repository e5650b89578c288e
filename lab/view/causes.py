"""Figures of causes: the seconds that put into h what is there at a word, the parts of a state that know a name."""

from __future__ import annotations

import html
import json
import os
from collections.abc import Callable, Sequence
from functools import partial
from textwrap import wrap
from typing import Any

import ipywidgets
import numpy as np
import plotly.graph_objects as go
import torch
from torch import Tensor

from lab.language import Griffin
from lab.measure import causes
from lab.measure.causes import PARTS, WINDOW, Cell, Map, Mention
from lab.measure.state import Trace
from lab.tokens import TOKEN_RATE, Tokenizer
from lab.view import style
from lab.view.explore import PAGE, PLOTLY, button, kept
from lab.view.hearing import Hearing, sounds
from lab.view.player import Player
from lab.view.style import axes, styled
from lab.view.tracks import Marks, Words
from lab.voice import Synthesizer, VoicePrompt

LEAD = 3 * TOKEN_RATE  # tokens of the story that are heard before what was exchanged


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
    columns: dict[str, Any] = {"tickvals": list(PARTS), "ticktext": ["<br>".join(wrap(part, 11)) for part in PARTS]}
    columns |= {"side": "top", "showline": False, "ticks": ""}
    axes(figure, columns, {"autorange": "reversed", "showgrid": False})
    kept = found.gained["all layers", WINDOW].value
    of_h = max(100 * found.gained["all layers", part].value for part in PARTS[:2])
    message = f"The other hero's name gains {100 * kept:.0f} points from {WINDOW}, {of_h:.0f} at most from a half of h"
    return styled(figure, message, 400).update_layout(margin_t=110)


class Heard(Hearing):
    """`cause_map` as a table of buttons: each plays how a story goes on with that cell exchanged.

    hear: makes a `Player` of a cell, or of None for the story as it is. stored: cells whose sound a stored notebook and
    a page without a kernel keep, where LAB_STORE is set, besides that of None.
    """

    def __init__(self, found: Map, hear: Callable[[Cell | None], Player], stored: Sequence[Cell] = ()) -> None:
        self.figure, self.hear, self.stored = cause_map(found), hear, (None, *stored)
        self._pressed: ipywidgets.Button | None = None
        table: list[ipywidgets.Widget] = [ipywidgets.Label(text) for text in ("", *PARTS)]
        for layer in found.layers:
            table.append(ipywidgets.Label(layer))
            for part in PARTS:
                gain = found.gained.get((layer, part))
                table.append(ipywidgets.Label() if gain is None else self._cell((layer, part), 100 * gain.value))
        columns = f"max-content repeat({len(PARTS)}, minmax(70px, 150px))"
        grid = ipywidgets.GridBox(table, layout={"grid_template_columns": columns, "grid_gap": "3px 6px"})
        title = ipywidgets.HTML(f"<b>{html.escape(self.figure.layout.title.text)}</b>")
        alone = button("Hear it with nothing exchanged", partial(self._heard, None))
        alone.layout.align_self = "flex-start"
        super().__init__(title, grid, alone)

    def _cell(self, cell: Cell, points: float) -> ipywidgets.Button:
        share = min(max(points / 60, 0), 1)  # of the scale of `cause_map`
        made = button(f"{points:+.0f}", partial(self._heard, cell), _named(cell))
        made.style = {"button_color": style.see_through(style.SEAM, round(0.06 + 0.94 * share, 2))}
        made.style.text_color = "white" if points > 20 else "var(--jp-content-font-color1)"
        return made

    def _heard(self, cell: Cell | None, pressed: ipywidgets.Button) -> None:
        if self._pressed is not None:
            self._pressed.layout.border = None
        self._pressed, pressed.layout.border = pressed, f"2px solid {style.INK}"
        self._play(partial(self.hear, cell), pressed)

    def __repr__(self) -> str:
        return f"Heard({len(self._shown[1].children)} cells)"

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        """The widget, and for a page without a kernel the map and the sounds of some of its cells."""
        made = {**super()._repr_mimebundle_(**kwargs), PLOTLY: json.loads(self.figure.to_json())}
        if not os.environ.get("LAB_STORE"):
            return made
        heard = sounds(self.hear(cell) for cell in self.stored)
        return {**made, PAGE: kept([], [(_named(cell), {}) for cell in self.stored], heard)}


def _named(cell: Cell | None) -> str:
    return "nothing exchanged" if cell is None else f"{cell[1]}, {cell[0]}"


def hearing(
    tokenizer: Tokenizer,
    model: Griffin,
    voice: Synthesizer,
    prompt: VoicePrompt,
    mention: Mention,
    slow: Sequence[Tensor],
    seconds: float = 6,
    seed: int = 0,
) -> Callable[[Cell | None], Player]:
    """For `Heard(hear=...)`: the story before a mention, and how it goes on; slow: as of `measure.causes.exchange`."""

    def hear(cell: Cell | None) -> Player:
        new = causes.told_on(model, mention, cell, slow, round(seconds * TOKEN_RATE), seed)
        caption = f"{LEAD / TOKEN_RATE:g} s of a story about {mention.heroes[0]}, then {seconds:g} s with "
        changed = "nothing exchanged" if cell is None else f"the {_named(cell)}, of the one about {mention.heroes[1]}"
        return going_on(tokenizer, voice, prompt, mention, new, mention.heroes, caption + changed)

    return hear


def going_on(
    tokenizer: Tokenizer,
    voice: Synthesizer,
    prompt: VoicePrompt,
    mention: Mention,
    new: Tensor,
    heroes: tuple[str, str],
    caption: str,
) -> Player:
    """The story before a mention, for LEAD, and tokens (T,) that go on: where they name the two heroes, and in the
    caption what is said anew."""
    tokens = torch.cat([mention.heard[0][-LEAD:], new])
    words = tokenizer.words(tokens)
    said = " ".join(word for start, _, word in words if start >= LEAD / TOKEN_RATE)
    named = [
        Marks(name, [start for start, _, word in words if word == name], colour)
        for name, colour in zip(heroes, (style.PROMPT, style.SEAM), strict=True)
    ]
    sound = voice.speak(tokens, prompt, seed=0)
    text = f"{caption}: “{said}”"
    return Player(sound, [Words("heard", words), *named], text, [LEAD / TOKEN_RATE], play=True)
