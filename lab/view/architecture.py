"""The road from speech to speech as one picture, with the part lit that a notebook is about."""

from __future__ import annotations

import base64
import html
from collections.abc import Collection

from IPython.display import HTML

from lab.errors import LabError
from lab.view import style

# what stands in a box: its name, what it does, and what leaves it
PARTS = {
    "tokens": ("tokenizer", "hears what is said, not who says it", "25 tokens/s"),
    "language": ("language model", "Griffin: goes on, one token at a time", "more tokens"),
    "voice": ("voice", "SoundStorm: speaks like 3 s of anybody", "sound codes"),
    "codec": ("codec", "codes to a waveform, and back", "speech"),
}
# what a notebook may be about besides a box: where it lies, from one box to another, and what it is called
BESIDES = {
    "state": ("language", "language", "its state, of fixed size"),
    "windows": ("tokens", "codec", "30 s windows, joined where they overlap"),
    "training": ("tokens", "codec", "each learns from the one before"),
    "measures": ("language", "codec", "what people and measures say of it"),
}
_WIDTH, _GAP = 158, 66  # of a box, and between two
_LIT, _DIM = style.PROMPT, "#808080"


def road(*lit: str) -> HTML:
    """The architecture as a picture (SVG), in which the parts of these names are lit: PARTS or BESIDES.

    Readable on light pages and dark ones, and by a screen reader. Raises LabError for another name.
    """
    if unknown := [name for name in lit if name not in {**PARTS, **BESIDES}]:
        raise LabError(f"there is no part {unknown[0]!r}; there are {', '.join({**PARTS, **BESIDES})}")
    names = list(PARTS)
    shapes = [_box(at, name, name in lit) for at, name in enumerate(names)]
    shapes += [_arrow(at, "speech" if not at else PARTS[names[at - 1]][2]) for at in range(len(names) + 1)]
    shapes += [_brace(name) for name in BESIDES if name in lit]
    width, height = len(names) * _WIDTH + (len(names) + 1) * _GAP, 124 if BESIDES.keys() & set(lit) else 80
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="system-ui, sans-serif">'
        f"{''.join(shapes)}</svg>"
    )
    data = base64.b64encode(svg.encode()).decode()
    alt = f"Speech goes through {', '.join(PARTS[name][0] for name in names)}. Lit: {_called(lit)}."
    return HTML(
        f'<img alt="{html.escape(alt)}" style="width:100%;max-width:{width}px" src="data:image/svg+xml;base64,{data}">'
    )


def _called(lit: Collection[str]) -> str:
    return ", ".join(PARTS[name][0] if name in PARTS else BESIDES[name][2] for name in lit) or "nothing"


def _left(at: int) -> int:
    return _GAP + at * (_WIDTH + _GAP)


def _box(at: int, name: str, lit: bool) -> str:
    title, does, _ = PARTS[name]
    x, ink = _left(at), "white" if lit else _DIM
    words, half = does.split(), (len(does) + 1) // 2
    lines, length = ["", ""], 0
    for word in words:  # in two lines of like length
        lines[length > half - 4] += f"{word} "
        length += len(word) + 1
    text = f'<text x="{x + _WIDTH / 2}" y="28" text-anchor="middle" font-size="16" font-weight="600">{title}</text>'
    for number, part in enumerate(lines):
        text += f'<text x="{x + _WIDTH / 2}" y="{47 + 15 * number}" text-anchor="middle" font-size="12">{part}</text>'
    fill, stroke = (_LIT, _LIT) if lit else ("none", _DIM)
    return f'<rect x="{x}" y="6" width="{_WIDTH}" height="68" rx="8" fill="{fill}" stroke="{stroke}"/>' + (
        f'<g fill="{ink}">{text}</g>'
    )


def _arrow(at: int, says: str) -> str:
    """The arrow that enters the box `at`, or leaves the last one, with what goes along it."""
    x, y = _left(at) - _GAP, 40
    path = f"M{x + 4} {y}h{_GAP - 10}m-7 -5l7 5l-7 5"
    lines = says.split(" ", 1) if len(says) > 9 else [says]
    text = "".join(
        f'<text x="{x + _GAP / 2}" y="{y + 16 + 12 * k}" text-anchor="middle" font-size="10.5">{part}</text>'
        for k, part in enumerate(lines)
    )
    return f'<path d="{path}" fill="none" stroke="{_DIM}" stroke-width="1.5"/><g fill="{_DIM}">{text}</g>'


def _brace(name: str) -> str:
    first, last, says = BESIDES[name]
    names = list(PARTS)
    left, right = _left(names.index(first)), _left(names.index(last)) + _WIDTH
    path = f'<path d="M{left} 84v10H{right}v-10" fill="none" stroke="{_LIT}" stroke-width="3"/>'
    place = f'x="{(left + right) / 2}" y="116" text-anchor="middle" fill="{_LIT}"'
    return f'{path}<text {place} font-size="15" font-weight="600">{says}</text>'
