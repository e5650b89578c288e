"""A picture beside each stored figure, for GitHub, nbviewer and nbconvert's basic pages, which draw no plotly.

Plotly draws it itself, in the Chromium of the browser tests: no Kaleido, and no network. `make notebooks` does it;
`python -m tests.notebooks.static` does it to stored notebooks without running them.
"""

from __future__ import annotations

import base64
import io
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat
from PIL import Image
from playwright.sync_api import Page, sync_playwright
from plotly.offline import get_plotlyjs

from tests.browser.lab import chromium

FOLDER = Path(__file__).parents[2] / "notebooks"
PLOTLY, PNG = "application/vnd.plotly.v1+json", "image/png"
WIDTH = 900  # pixels, about the width of a page of GitHub
DRAW = """async ({data, layout, width, height}) => {
    const font = {...layout.template?.layout?.font, color: "#333"};
    const page = {paper_bgcolor: "white", plot_bgcolor: "white", font};
    return await Plotly.toImage({data, layout: {...layout, ...page}}, {format: "png", width, height});
}"""


@contextmanager
def plotly() -> Iterator[Page]:
    """A page of a headless Chromium with plotly.js in it."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        try:
            page = browser.new_page(offline=True)
            page.add_script_tag(content=get_plotlyjs())
            yield page
        finally:
            browser.close()


def png(page: Page, figure: dict[str, Any], width: int = WIDTH, height: int | None = None) -> bytes:
    """A figure in plotly's JSON as a PNG, on white."""
    size = {"width": width, "height": height or figure["layout"].get("height", 450)}
    drawn = page.evaluate(DRAW, {"data": figure["data"], "layout": figure["layout"], **size})
    return indexed(Image.open(io.BytesIO(base64.b64decode(drawn.split(",", 1)[1]))).convert("RGB"))


def indexed(picture: Image.Image) -> bytes:
    """As a PNG of 256 colours at most. By an octree: median cut makes one colour of a few points in two."""
    packed = io.BytesIO()
    picture.quantize(256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(packed, "PNG", optimize=True)
    return packed.getvalue()


def illustrate(notebooks: Sequence[nbformat.NotebookNode]) -> None:
    """Put a picture into each output that has a figure and no picture."""
    outputs = [
        output
        for notebook in notebooks
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if PLOTLY in output.get("data", {}) and PNG not in output.data
    ]
    if not outputs:
        return
    with plotly() as page:
        for output in outputs:
            figure = json.loads(json.dumps(output.data[PLOTLY]))
            output.data[PNG] = base64.b64encode(png(page, figure)).decode()
            title = figure["layout"].get("title", {}).get("text", "a figure")
            output.metadata[PNG] = {"alt": title, "width": WIDTH}


if __name__ == "__main__":
    for path in [Path(name) for name in sys.argv[1:]] or sorted(FOLDER.glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        illustrate([notebook])
        nbformat.write(notebook, path)
        print(f"{path.name}: {path.stat().st_size / 1e3:.0f} kB")
