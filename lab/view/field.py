"""The systems of the field beside each other: what is theirs alone in one picture, and what is heard on one clock."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from IPython.display import HTML

from lab.errors import LabError
from lab.measure.coherence import Span
from lab.measure.minutes import Words
from lab.view import style, tracks
from lab.view.coherence import coherence_lane
from lab.view.player import Player


class Idea(NamedTuple):
    """A row of the picture: what is read, who goes on, who speaks; and which of them nobody else has."""

    name: str
    colour: str
    boxes: tuple[str, str, str]
    lit: int


IDEAS = {
    "griffin": Idea(
        "SpeechSSM", style.CONTINUATION,
        ("tokens that tell|what is said", "Griffin: a state|of fixed size", "in the prompt's voice:|SoundStorm"), 1,
    ),
    "transformer+3s": Idea(
        "SpeechTransformer", style.TRANSFORMER,
        ("the same tokens", "Transformer: keeps|all it has read", "the same voice"), 1,
    ),
    "gslm+3s": Idea(
        "GSLM", "#4A6FA5", ("200 clusters of sound,|no repeats", "Transformer", "one voice, which|guesses how long"), 0,
    ),
    "twist+3s": Idea(
        "TWIST", style.OTHER_PROMPT, ("500 coarser clusters", "Transformer that|could write first", "one voice"), 1,
    ),
    "spiritlm+3s": Idea(
        "Spirit LM", "#0072B2", ("clusters and letters|by turns", "one Transformer|for both", "one voice"), 0,
    ),
    "audiolm-refined+3s": Idea(
        "AudioLM", style.SEAM,
        ("tokens that tell|what is said", "Transformer", "one more for coarse|codes, then the codec"), 2,
    ),
}  # fmt: skip
BEFORE, AFTER = 2.0, 8.0  # seconds around the end of the prompt that a page keeps without a kernel
_LEFT, _WIDTH, _GAP, _ROW = 188, 190, 34, 62


def ideas(*systems: str) -> HTML:
    """Each system as a row from speech to speech (SVG), what it alone has lit; all of IDEAS, or these.

    Raises LabError for a system that is not in IDEAS.
    """
    if unknown := [system for system in systems if system not in IDEAS]:
        raise LabError(f"there is no system {unknown[0]!r}; there are {', '.join(IDEAS)}")
    rows = [IDEAS[system] for system in systems or IDEAS]
    heads = ("what is read", "who goes on", "who speaks")
    shapes = [_text(_x(at) + _WIDTH / 2, 16, head, style.INK, 12) for at, head in enumerate(heads)]
    for number, row in enumerate(rows):
        y = 28 + number * _ROW
        shapes.append(_text(_LEFT - 14, y + 29, row.name, row.colour, 15, "end", 600))
        for at, says in enumerate(row.boxes):
            lit = at == row.lit
            paint = f'fill="{row.colour if lit else "none"}" stroke="{row.colour if lit else style.INK}"'
            shapes.append(f'<rect x="{_x(at)}" y="{y}" width="{_WIDTH}" height="48" rx="7" {paint}/>')
            lines = says.split("|")
            for line, part in enumerate(lines):
                top = y + 28 - 8 * (len(lines) - 1) + 16 * line
                shapes.append(_text(_x(at) + _WIDTH / 2, top, part, "white" if lit else style.INK, 13))
            if at:
                shapes.append(f'<path d="M{_x(at) - _GAP + 5} {y + 24}h{_GAP - 10}m-6 -4l6 4l-6 4" {_STROKE}/>')
    width, height = _x(2) + _WIDTH + 10, 28 + len(rows) * _ROW
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="system-ui, sans-serif">'
        f"{''.join(shapes)}</svg>"
    )
    told = "; ".join(f"{row.name}: {row.boxes[row.lit].replace('|', ' ')}" for row in rows)
    data = base64.b64encode(svg.encode()).decode()
    alt = html.escape(f"What each system alone has: {told}.")
    return HTML(f'<img alt="{alt}" style="width:100%;max-width:{width}px" src="data:image/svg+xml;base64,{data}">')


def field_player(
    sounds: Mapping[str, np.ndarray],
    words: Mapping[str, Words],
    spans: Mapping[str, Sequence[Span]],
    mos: Mapping[str, Sequence[float]],
    prompt: float,
    every: float = 5.0,
    caption: str = "",
) -> Player:
    """Waveforms (N,) of systems by their names in IDEAS on one clock; below, how close each is to its prompt, the
    predicted MOS of every `every` seconds after `prompt` seconds where it is known, and the words heard in each."""
    names = {system: IDEAS[system].name for system in sounds}
    lasts = max(len(sound) for sound in sounds.values()) / 16_000
    lanes: list[tracks.Track | Sequence[tracks.Curve]] = []
    if any(spans.values()):
        lanes.append(coherence_lane({names[system]: spans[system] for system in sounds}, lasts, prompt))
    judged = [
        tracks.Curve(
            f"MOS of {names[system]}",
            [prompt + every * (at + 0.5) for at in range(len(found))],
            found,
            colour=IDEAS[system].colour,
        )
        for system, found in mos.items()
        if len(found)
    ]
    lanes += [judged] if judged else []
    lanes += [tracks.Words(names[system], words[system]) for system in sounds]
    clip = max(0.0, prompt - BEFORE), BEFORE + AFTER
    return Player({names[system]: sound for system, sound in sounds.items()}, lanes, caption, clip=clip)


_STROKE = f'fill="none" stroke="{style.INK}" stroke-width="1.5"'


def _x(at: int) -> int:
    return _LEFT + at * (_WIDTH + _GAP)


def _text(x: float, y: float, says: str, ink: str, size: int, anchor: str = "middle", weight: int = 400) -> str:
    place = f'x="{x}" y="{y}" text-anchor="{anchor}" font-size="{size}" font-weight="{weight}" fill="{ink}"'
    return f"<text {place}>{html.escape(says)}</text>"
