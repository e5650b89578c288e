"""Every notebook as its reader meets it: run in JupyterLab, opened cold, and as a page without a kernel."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import nbformat
import numpy as np
import pytest
from playwright.sync_api import Browser, Locator

from tests.browser.lab import PICTURES, STATUS, Notebook, Server
from tests.notebooks.execute import FOLDER
from tests.notebooks.export import EXPLORER, PLAYER, PLOTLY, export

NAMES = [path.stem for path in sorted(FOLDER.glob("*.ipynb"))]

SHOWN = "plot => JSON.stringify([plot.data, {...plot.layout, autosize: 0, width: 0, height: 0}])"
MOVED = f"([plot, before]) => ({SHOWN})(plot) !== before"
FITS = "plot => plot.data.length && plot._fullLayout.width >= 0.95 * plot.parentElement.clientWidth"
PAINTED = """plot => {
    window.painted = window.pressed = 0;
    const paint = () => requestAnimationFrame(() => { window.painted = performance.now(); });
    for (const done of ["plotly_afterplot", "plotly_update", "plotly_restyle", "plotly_relayout"]) plot.on(done, paint);
    document.addEventListener("keydown", () => { window.pressed = performance.now(); }, true);
}"""
LANES = """() => [...document.querySelectorAll(".lab-player .lanes")].every(lanes => {
    const canvases = [...lanes.querySelectorAll(".lane canvas")].filter(canvas => canvas.offsetParent);
    return new Set(canvases.map(canvas => Math.round(canvas.getBoundingClientRect().left))).size <= 1;
})"""
# plotly's renderer shows the picture stored beside a figure, until the pointer comes.
PICTURED = "count => [...document.querySelectorAll('.plot-img')].filter(e => e.naturalWidth > 300).length === count"
DRAWN = "count => document.querySelectorAll('.jp-OutputArea .js-plotly-plot:has(.main-svg)').length === count"
MOUNTED = """([players, controls]) => document.querySelectorAll(".lab-stored .lab-player").length === players
    && document.querySelectorAll(".lab-controls").length === controls"""
# What both look with: boxes of a part of a plot, by their texts, and whether two lie on each other.
BOXES = """() => [...document.querySelectorAll(".js-plotly-plot")].flatMap(plot => {
    const boxes = (part, of = plot) => [...of.querySelectorAll(part)].filter(e => e.textContent)
        .map(e => [e.textContent, e.getBoundingClientRect()]);
    const meet = (a, b) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1
        && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 1;
"""
OVERLAPS = f"""{BOXES}
    const titles = boxes(".infolayer [class$=title]").filter(([, box]) => box.width);
    return boxes(".legend").flatMap(([, box]) => titles.filter(([, title]) => meet(box, title)).map(([text]) => text));
}})"""
TICKS = f"""{BOXES}
    return [...plot.querySelectorAll(":is(.xaxislayer-above, .yaxislayer-above)")].flatMap(layer => {{
        const labels = boxes(":is(.xtick, .ytick) text", layer);
        return labels.flatMap(([text, box], at) => labels.slice(at + 1).filter(([, other]) => meet(box, other))
            .map(([other]) => `${{text}} on ${{other}}`));
    }});
}})"""
# A title of a figure that goes beyond it; that of an axis may be longer than the axis.
CUT = """() => [...document.querySelectorAll(".js-plotly-plot")].flatMap(plot => {
    const box = plot.getBoundingClientRect();
    return [...plot.querySelectorAll(".gtitle")].filter(title => title.getBoundingClientRect().right > box.right + 1)
        .map(title => title.textContent);
})"""
INKS = """() => [...document.querySelectorAll(".js-plotly-plot :is(.infolayer, .xaxislayer-above) text")]
    .filter(text => text.textContent && !text.closest(".annotation"))
    .map(text => [text.textContent, getComputedStyle(text).fill])"""
PLAYABLE = """() => {
    const clips = [...document.querySelectorAll(".jp-OutputArea-output audio")];
    return clips.length && clips.every(clip => clip.readyState >= 1);
}"""


def stored(name: str) -> nbformat.NotebookNode:
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


@pytest.fixture(scope="module", params=NAMES)
def cold(
    request: pytest.FixtureRequest, server: Server, opened: Callable[..., Notebook]
) -> Iterator[tuple[str, Notebook]]:
    """A notebook, by its name, of which nothing was run here, and that nobody trusts: as in a fresh clone."""
    shutil.copy(FOLDER / f"{request.param}.ipynb", server.root)
    notebook = opened(f"{request.param}.ipynb", kernel=False)
    notebook.page.set_default_timeout(240_000)
    yield request.param, notebook
    notebook.page.set_default_timeout(60_000)


@pytest.fixture(scope="module")
def ran(cold: tuple[str, Notebook]) -> tuple[str, Notebook, bool]:
    """The same after `Run all`, and whether all cells ran."""
    name, notebook = cold
    notebook.page.wait_for_function(STATUS, arg="idle")
    return name, notebook, notebook.run_all()


def test_it_shows_and_plays_when_opened_cold(cold: tuple[str, Notebook]):
    name, notebook = cold
    page = notebook.page
    page.wait_for_function(PICTURED, arg=str(stored(name)).count(PLOTLY))
    page.wait_for_function(PLAYABLE)
    assert "Error displaying widget" not in page.inner_text(".jp-Notebook")
    assert notebook.console == [] and notebook.external == []
    notebook.picture(f"{name}-cold")


def test_it_runs_in_jupyterlab(ran: tuple[str, Notebook, bool]):
    name, notebook, finished = ran
    assert notebook.errors() == [] and finished
    assert notebook.console == [] and notebook.external == []
    assert notebook.page.evaluate(LANES), "the lanes of a player are not on one clock"
    first = notebook.page.locator(".jp-OutputArea :is(.lab-player, .js-plotly-plot)").first
    first.scroll_into_view_if_needed()
    notebook.page.wait_for_timeout(500)  # a picture for people: let fonts and spectrograms settle
    notebook.picture(name, first)


def test_each_slider_moves_its_figure(ran: tuple[str, Notebook, bool]):
    name, notebook, _ = ran
    page = notebook.page
    explorer = page.locator(".jp-OutputArea-output:has(.jupyter-widgets):has(.js-plotly-plot)")
    assert explorer.count() == sum("explore(" in cell.source for cell in stored(name).cells if cell.cell_type == "code")
    if not explorer.count():
        return
    plot, took = explorer.locator(".js-plotly-plot"), []
    plot.scroll_into_view_if_needed()
    plot.evaluate(PAINTED)
    handles = explorer.locator(".noUi-handle").all()
    if not handles:
        before = plot.evaluate(SHOWN)
        explorer.locator("select").first.select_option(index=1)
        page.wait_for_function(MOVED, arg=[plot.element_handle(), before])
        return
    for key in ("ArrowRight", "ArrowLeft"):  # one by one: a busy kernel reads the last alone
        before = plot.evaluate(SHOWN)
        press(handles[0], key)
        page.wait_for_function(MOVED, arg=[plot.element_handle(), before])
    page.wait_for_function(FITS, arg=plot.element_handle())
    for handle in handles:
        back = float(handle.get_attribute("aria-valuenow") or 0) >= float(handle.get_attribute("aria-valuemax") or 0)
        for key in ["ArrowLeft", "ArrowRight"] * 3 if back else ["ArrowRight", "ArrowLeft"] * 3:
            before = plot.evaluate(SHOWN)
            press(handle, key)
            page.wait_for_function(MOVED, arg=[plot.element_handle(), before])
            page.wait_for_function("() => window.painted > window.pressed")
            took.append(page.evaluate("() => window.painted - window.pressed"))
    notebook.picture(f"{name}-explorer", explorer)
    assert notebook.console == []
    remember(name, took)


def test_links_in_the_prose_set_the_figure(ran: tuple[str, Notebook, bool]):
    name, notebook, _ = ran
    page = notebook.page
    links = {link.get_attribute("href"): link for link in page.locator('.jp-MarkdownOutput a[href^="#set:"]').all()}
    assert links.keys() == set(re.findall(r"\]\((#set:[^)]+)\)", "\n".join(cell.source for cell in stored(name).cells)))
    if not links:
        return
    explorer = page.locator(".jp-OutputArea-output:has(.jupyter-widgets):has(.js-plotly-plot)")
    plot, (first, *others) = explorer.locator(".js-plotly-plot"), links.values()
    moves = [partial(press, handle, "ArrowRight") for handle in explorer.locator(".noUi-handle").all()[:1]]
    for move in (*moves, *(link.click for link in (*others, first))):  # the first may tell how the figure stands
        before = plot.evaluate(SHOWN)
        move()
        page.wait_for_function(MOVED, arg=[plot.element_handle(), before])
    assert notebook.console == []


def contrast(colour: str, paper: float) -> float:
    """Of a colour rgb(...) with a grey page (WCAG 2.1): `paper` in sRGB, 0 to 1."""
    channels = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    light = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in (*channels, paper)]
    ink = 0.2126 * light[0] + 0.7152 * light[1] + 0.0722 * light[2]
    darker, lighter = sorted((ink, light[3]))
    return (lighter + 0.05) / (darker + 0.05)


def press(handle: Locator, key: str) -> None:
    """A key on the handle of a slider."""
    handle.focus()
    handle.press(key)


def remember(name: str, took: list[float]) -> None:
    """From key to painted figure: out/browser/NAME-latency.json, for people; a busy machine fails no test."""
    p50, p95 = np.percentile(took, [50, 95]).round(1)
    PICTURES.mkdir(parents=True, exist_ok=True)
    path = PICTURES / f"{name}-latency.json"
    path.write_text(json.dumps({"moves": len(took), "p50, ms": p50, "p95, ms": p95}, indent=1))
    print(f"{name}: slider to painted figure {p95:.0f} ms (95th percentile of {len(took)})")


@pytest.mark.parametrize("name", NAMES)
def test_its_page_needs_no_kernel_and_no_network(name: str, tmp_path: Path, browser: Browser):
    export([FOLDER / f"{name}.ipynb"], tmp_path)
    console: list[str] = []
    asked: list[str] = []
    context = browser.new_context(viewport={"width": 1100, "height": 1400}, offline=True)
    page = context.new_page()
    page.on("console", lambda message: console.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: console.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto((tmp_path / f"{name}.html").as_uri())
    page.wait_for_function(DRAWN, arg=str(stored(name)).count(PLOTLY))
    kept = str(stored(name))
    page.wait_for_function(MOUNTED, arg=[kept.count(PLAYER), kept.count(EXPLORER)])
    for width in (1024, 1280):
        page.set_viewport_size({"width": width, "height": 1400})
        page.wait_for_timeout(500)  # plotly follows the window after a while
        assert page.evaluate(OVERLAPS) == [], f"a legend lies on a title at {width} pixels"
        assert page.evaluate(TICKS) == [], f"labels of an axis lie on each other at {width} pixels"
        assert page.evaluate(CUT) == [], f"a title is cut off at {width} pixels"
    for scheme, paper in (("dark", 0.07), ("light", 1.0)):
        page.emulate_media(color_scheme=scheme)
        faint = [text for text, ink in page.evaluate(INKS) if contrast(ink, paper) < 3]
        assert faint == [], f"text of figures that cannot be read on a {scheme} page"
    PICTURES.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=PICTURES / f"{name}-page.png")
    for slider in page.locator(".lab-controls input").all()[:1]:
        plot = page.locator(".lab-figure:has(.lab-controls input) .js-plotly-plot").first
        before = plot.evaluate(SHOWN)
        slider.press("ArrowRight" if slider.input_value() == "0" else "ArrowLeft")
        page.wait_for_function(MOVED, arg=[plot.element_handle(), before])
        before = plot.evaluate(SHOWN)
        page.locator('a[href^="#set:"]').last.click()
        page.wait_for_function(MOVED, arg=[plot.element_handle(), before])
    for player in page.locator(".lab-stored .lab-player").all()[:1]:
        player.get_by_role("button", name="Play", exact=True).click()
        sounds = "player => player.dataset.playing === 'true' && player.dataset.level > 0.001"
        page.wait_for_function(sounds, arg=player.element_handle())
    page.set_viewport_size({"width": 390, "height": 844})
    page.reload()
    page.wait_for_function(DRAWN, arg=str(stored(name)).count(PLOTLY))
    page.screenshot(path=PICTURES / f"{name}-phone.png", full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "a phone has to scroll sideways"
    assert page.evaluate(OVERLAPS) == [], "on a phone a legend lies on a title"
    assert page.evaluate(TICKS) == [], "on a phone labels of an axis lie on each other"
    assert page.evaluate(CUT) == [], "on a phone a title is cut off"
    assert console == [] and all(url.startswith(("file:", "data:", "blob:")) for url in asked)
    context.close()
