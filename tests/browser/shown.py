"""A player in a page, for the tests of it: what is heard is measured before the loudspeaker.

The page tells what it plays in attributes: `data-position`, `data-level` and `data-pitch` of the last 128 ms,
`data-jump`, the largest step between two samples since it began to play (a click is a large one), `data-underruns`.
"""

from __future__ import annotations

from playwright.sync_api import Locator

from tests.browser.lab import Notebook

# The first cell of a notebook of players.
SETUP = """
import time
from pathlib import Path
import numpy as np
from lab.speech import Chunk
from ipywidgets import IntSlider
import plotly.graph_objects as go
from lab.view import Causes, Curve, Heat, Marks, Player, Ribbon, Trajectory, Words, explore

def tone(hertz, seconds, level=0.3):
    return (level * np.sin(2 * np.pi * hertz * np.arange(int(seconds * 16000)) / 16000)).astype(np.float32)

def chunks(speed, size, count, hertz=300, work=time.sleep):
    began, whole = time.monotonic(), tone(hertz, size * count)
    for k in range(count):
        work(max(0, began + speed * size * (k + 1) - time.monotonic()))
        yield Chunk(whole[int(k * size * 16000) : int((k + 1) * size * 16000)], size * (k + 1), 25 * k, 590_000)
"""


class Shown:
    """A player in the page."""

    def __init__(self, notebook: Notebook, index: int):
        self.show(notebook, notebook.run(index).locator(".lab-player"))

    @classmethod
    def of(cls, notebook: Notebook, root: Locator) -> Shown:
        shown = cls.__new__(cls)
        shown.show(notebook, root)
        return shown

    def show(self, notebook: Notebook, root: Locator) -> None:
        self.page, self.root = notebook.page, root
        self.root.locator(".plot").wait_for()
        self.root.scroll_into_view_if_needed()
        self.handle = self.root.element_handle()

    def __getitem__(self, name: str) -> float:
        return float(self.root.get_attribute(f"data-{name}") or "nan")

    def button(self, name: str):  # noqa: ANN201
        return self.root.get_by_role("button", name=name, exact=True)

    def until(self, condition: str, seconds: float = 20) -> None:
        """Waits for a condition on `data`, the attributes of the player."""
        script = f"root => {{ const data = root.dataset; return {condition}; }}"
        self.page.wait_for_function(script, arg=self.handle, timeout=1000 * seconds)

    def hears(self, hertz: float) -> None:
        self.until(f"data.level > 0.05 && Math.abs(data.pitch / {hertz} - 1) < 0.08")

    def at(self, share: float) -> tuple[float, float]:
        self.root.locator(".plot").scroll_into_view_if_needed()  # a cell that ran since may be in its place
        box = self.root.locator(".plot").bounding_box()
        assert box is not None
        return box["x"] + share * box["width"], box["y"] + 20

    def click(self, share: float) -> None:
        self.page.mouse.click(*self.at(share))
        self.until("data.playing === 'true'")  # shown with the next frame: `pause` reads it

    def pause(self) -> None:
        if self.root.get_attribute("data-playing") == "true":
            self.button("Pause").click()
        self.until("data.playing === 'false'")
