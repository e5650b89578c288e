"""The notebooks as pages: everything that a page shows and plays is in its folder; tests/browser opens them."""

from __future__ import annotations

import base64
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import numpy as np
import plotly.graph_objects as go
import pytest
import soundfile
from ipywidgets import IntSlider
from nbconvert import HTMLExporter
from nbformat import v4

from lab.view import Player, explore, listen
from tests.notebooks.execute import FOLDER
from tests.notebooks.export import ROOT, Heading, export
from tests.notebooks.stored import FETCHED

NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


class Resources(HTMLParser):
    """What a page loads by itself: the addresses of scripts, pictures, sound and styles."""

    def __init__(self, page: str):
        super().__init__()
        self.found: list[tuple[str, str]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if value and (name in ("src", "poster", "srcset", "data") or (tag == "link" and name == "href")):
                self.found.append((tag, value))


@pytest.fixture
def page(tmp_path: Path) -> str:
    """A notebook of one cell of each kind, exported."""
    figure = v4.new_output("display_data", {"application/vnd.plotly.v1+json": go.Figure().to_plotly_json()})
    figure.data["application/vnd.plotly.v1+json"]["layout"] = {"title": {"text": "</script>"}}
    clip = v4.new_output("display_data", {"text/html": listen(np.zeros(8000, np.float32), "a clip").data})
    prose = "# A page\n\n**One sentence**, and more.\n\nIts $a^{r}$ and\n\n$$h_t = a h_{t-1}$$\n\n[next](01_next.ipynb)"
    cells = [v4.new_markdown_cell(prose), v4.new_code_cell("show()", execution_count=1, outputs=[figure, clip])]
    nbformat.write(v4.new_notebook(cells=cells), tmp_path / "00_page.ipynb")
    (made,) = export([tmp_path / "00_page.ipynb"], tmp_path / "html")
    return made.read_text()


def test_a_page_loads_nothing_from_elsewhere(page: str, tmp_path: Path):
    assert not FETCHED.search(page)
    loaded = [value for _, value in Resources(page).found if not value.startswith("data:")]
    assert loaded == ["plotly.min.js"] and (tmp_path / "html" / "plotly.min.js").stat().st_size > 1e6


def test_a_page_plays_its_clip(page: str):
    (clip,) = [value for tag, value in Resources(page).found if tag == "audio"]
    heard, rate = soundfile.read(io.BytesIO(base64.b64decode(clip.split(",")[1])))
    assert rate == 16_000 and len(heard) >= 8000


def test_a_page_draws_its_figure_and_cannot_be_broken_by_it(page: str):
    assert page.count("draw(plot, plot.figure)") == 1
    assert '"text": "<\\/script>"' in page


def test_formulas_need_no_script(page: str):
    prose = re.sub(r"<script.*?</script>", "", page.split("<main>")[1], flags=re.DOTALL)
    assert prose.count("<math") == 2 and 'display="block"' in prose and "$" not in prose


def test_links_lead_from_page_to_page(page: str, tmp_path: Path):
    assert 'href="01_next.html"' in page
    index = (tmp_path / "html" / "index.html").read_text()
    assert '<a href="00_page.html">A page</a><br>One sentence</span>' in index


def test_what_was_drawn_ahead_and_a_player_lie_in_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LAB_STORE", "1")
    explorer = explore(lambda hertz: go.Figure().add_scatter(y=[hertz]), hertz=IntSlider(value=2, min=1, max=3))
    player = Player(np.zeros(8000, np.float32), caption="</script>")
    shown = [explorer._repr_mimebundle_(), player._repr_mimebundle_()[0]]
    outputs = [v4.new_output("display_data", data) for data in shown]
    cells = [v4.new_markdown_cell("# One\n\n**a**"), v4.new_code_cell("show()", execution_count=1, outputs=outputs)]
    for name in ("00_one", "01_two"):
        nbformat.write(v4.new_notebook(cells=cells), tmp_path / f"{name}.ipynb")
    one, two = (page.read_text() for page in export(sorted(tmp_path.glob("*.ipynb")), tmp_path / "html"))
    assert one.count('<script type="application/json">') == 2 and one.count("<audio") == 1
    for kept in re.findall('<script type="application/json">(.*?)</script>', one, re.S):
        json.loads(kept)
    assert re.search('href="01_two.html" rel="next"', one) and re.search('href="00_one.html" rel="prev"', two)
    assert "<audio" in (tmp_path / "html" / "index.html").read_text()


def test_nbconverts_basic_page_shows_each_figure_and_plays():
    notebook = nbformat.read(NOTEBOOKS[1], as_version=4)  # of all others tests/notebooks/stored.py asks for pictures
    page, _ = HTMLExporter(template_name="basic").from_notebook_node(notebook)
    figures = str(notebook).count("application/vnd.plotly.v1+json")
    assert page.count("data:image/png;base64,") >= figures and page.count("<audio") > 0


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_notebook_becomes_a_page_of_its_own(path: Path, tmp_path: Path):
    (made,) = export([path], tmp_path)
    page = made.read_text()
    assert not FETCHED.search(page)
    resources = Resources(page).found
    assert all(value.startswith("data:") or (tmp_path / value).exists() for _, value in resources)
    assert any(tag == "audio" for tag, _ in resources)
    stored = str(nbformat.read(path, as_version=4))
    assert page.count("draw(plot, plot.figure)") == stored.count("application/vnd.plotly.v1+json")
    heading = Heading.of(nbformat.read(path, as_version=4))
    assert heading.title and heading.sentence


def test_the_readme_lists_every_notebook_with_its_picture():
    readme = (ROOT / "README.md").read_text()
    for path in NOTEBOOKS:
        picture = f"data/pictures/notebooks/{path.stem}.png"
        assert f'<a href="notebooks/{path.name}"><img src="{picture}"' in readme, path.name
        assert (ROOT / picture).stat().st_size <= 60_000
