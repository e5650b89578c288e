"""Links in the prose of a notebook that set what a figure below shows: `[so](#set:four%20times)`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import anywidget
import traitlets


class Links(anywidget.AnyWidget):
    """Nothing to see. A click on a link to one of `names` anywhere in the page calls `pressed` with the name.

    What stands behind `#set:` in the link is the name, with %20 for a space.
    """

    _esm = "\n".join((Path(__file__).parent / name).read_text() for name in ("page/shared.js", "links.js"))
    names = traitlets.List(traitlets.Unicode()).tag(sync=True)

    def __init__(self, names: Iterable[str], pressed: Callable[[str], None]):
        super().__init__(names=list(names))
        self.on_msg(lambda _, message, buffers: pressed(message["name"]))
