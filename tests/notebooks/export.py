"""The notebooks as pages that need no kernel and no network: `make html`, and `make site` for GitHub Pages.

nbconvert's own pages fetch require.js, MathJax, Mermaid and a widget manager from elsewhere, and show no plotly figure.
Here plotly.js lies beside the pages, formulas become MathML, and what plays is in the page: the players, of the stored
clips, and the figures' controls, whose drawings were made when the notebook was run (page.js).
"""

from __future__ import annotations

import html
import json
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import nbformat
from latex2mathml.converter import convert
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from plotly.offline import get_plotlyjs

from lab.view.player import CODE

ROOT = Path(__file__).parents[2]
PLOTLY = "application/vnd.plotly.v1+json"
PLAYER, EXPLORER = "application/vnd.speechssm-lab.player+json", "application/vnd.speechssm-lab.explorer+json"

_TEMPLATE = """
{%- extends 'lab/index.html.j2' -%}
{%- block html_head_js -%}<script src="plotly.min.js"></script><script>DRAW</script>{%- endblock -%}
{%- block html_head_js_mathjax -%}{%- endblock -%}
{%- block html_head_js_mermaidjs -%}{%- endblock -%}
{%- block jupyter_widgets -%}{%- endblock -%}
{%- block html_head_css -%}{{ super() }}<style>STYLE
@media (prefers-color-scheme: dark) { {% include "static/theme-dark.css" %} }</style>{%- endblock -%}
{%- block body_header -%}{{ super() }}{{ resources.navigation }}{%- endblock -%}
{%- block body_footer -%}{{ resources.navigation }}{{ resources.script }}{{ super() }}{%- endblock -%}
"""

# Fonts with a table for formulas, and then one that has at least the root and every browser knows.
_STYLE = """
math { font-family: "Latin Modern Math", "STIX Two Math", "Cambria Math", STIXGeneral, math, serif; font-size: 1.15em }
nav { display: flex; gap: 8px 24px; flex-wrap: wrap; justify-content: space-between; padding: 12px 0; font-size: 15px }
nav a { color: var(--jp-content-link-color, #0072b2) }
main { max-width: 1100px; margin: 0 auto; padding: 0 16px }
.lab-controls { display: flex; flex-wrap: wrap; gap: 6px 20px; align-items: center; margin: 8px 0; font-size: 13px }
.lab-controls label { display: inline-flex; gap: 6px; align-items: center }
.lab-controls output { min-width: 6ch; font-variant-numeric: tabular-nums }
.lab-controls small { opacity: .75; flex-basis: 100% }
.jp-RenderedHTMLCommon :is(table, .plotly) { max-width: 100% }
.jp-RenderedHTMLCommon table { display: block; overflow-x: auto }
@media (max-width: 600px) {
  main { padding: 0 8px } .jp-Notebook { padding: 0 } .jp-Prompt { display: none }
  .jp-Cell { padding-left: 0; padding-right: 0 } .jp-RenderedHTMLCommon { padding-right: 0; overflow-wrap: break-word }
  .jp-OutputArea-output, .highlight { overflow-x: auto } .jp-OutputArea-output pre { white-space: pre }
}
"""

_INDEX = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>SpeechSSM Lab</title><style>
:root {{ color-scheme: light dark }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 760px; margin: 40px auto; padding: 0 16px }}
li {{ list-style: none; display: flex; gap: 16px; align-items: center; margin: 20px 0 }}
ul {{ padding: 0 }} li img {{ width: 200px; border: 1px solid #8884; background: white; flex: none }}
@media (max-width: 600px) {{ li {{ flex-wrap: wrap }} }}
a {{ font-weight: 600 }}
</style></head><body><h1>SpeechSSM Lab</h1>
<p>Speech in, minutes or hours of new speech out. Ten seconds of a story, and how the lab goes on:</p>
{sound}
<p>The notebooks, with their figures and sound; nothing has to be installed. To run them: <code>make lab</code>.</p>
<ul>{rows}</ul></body></html>
"""


@dataclass(frozen=True)
class Heading:
    """What a notebook says of itself in its first cell: `# Title`, and the bold or plain sentence below."""

    title: str
    sentence: str

    @classmethod
    def of(cls, notebook: nbformat.NotebookNode) -> Heading:
        title, _, rest = notebook.cells[0].source.partition("\n")
        paragraph = " ".join(rest.strip().split("\n\n")[0].split())
        bold = re.match(r"\*\*(.+?)\*\*", paragraph)
        return cls(title.lstrip("# "), bold[1] if bold else re.split(r"(?<=\.) ", paragraph)[0])


class _Renderer(IPythonRenderer):
    def inline_math(self, body: str) -> str:
        return convert(body)

    def block_math(self, body: str) -> str:
        return convert(body, display="block")


class _Exporter(HTMLExporter):
    @jinja2.pass_context
    def markdown2html(self, context: Any, source: str) -> str:
        return MarkdownWithMath(renderer=_Renderer(escape=False, exclude_anchor_links=True)).render(source)


def export(notebooks: list[Path], folder: Path) -> list[Path]:
    """One page a notebook, plotly.min.js and index.html, in the folder. Returns the pages.

    Stored outputs are what a page shows; nothing is run. Pictures of data/pictures/notebooks go into the index.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "plotly.min.js").write_text(get_plotlyjs())
    drawing = Path(__file__).with_name("draw.js").read_text()
    exporter = _Exporter(raw_template=_TEMPLATE.replace("STYLE", _STYLE).replace("DRAW", drawing))
    pages, rows, sound = [], [], ""
    code = CODE + (Path(__file__).with_name("page.js")).read_text()
    style = (ROOT / "lab" / "view" / "player.css").read_text()
    script = f'<style>{style}</style><script type="module">{code}</script>'
    headings = {path: Heading.of(nbformat.read(path, as_version=4)) for path in notebooks}
    for path in notebooks:
        notebook = nbformat.read(path, as_version=4)
        heading = headings[path]
        notebook.metadata["title"] = heading.title
        sound = sound or _first_sound(notebook)
        _draw(notebook)
        page, _ = exporter.from_notebook_node(notebook, {"navigation": _navigation(path, headings), "script": script})
        pages.append(folder / f"{path.stem}.html")
        pages[-1].write_text(re.sub(r'href="(\w+)\.ipynb', r'href="\1.html', page))
        rows.append(_row(heading, path.stem, folder))
    (folder / "index.html").write_text(_INDEX.format(rows="\n".join(rows), sound=sound))
    return pages


def _draw(notebook: nbformat.NotebookNode) -> None:
    """Have plotly.js draw each stored figure, and page.js make its controls and the players."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            data, shown = output.get("data", {}), ""
            if figure := data.get(PLOTLY):
                place = "const plot = document.currentScript.previousElementSibling"
                drawn = _json({part: figure[part] for part in ("data", "layout")})
                script = f"<script>{{ {place}; plot.figure = {drawn}; draw(plot, plot.figure) }}</script>"
                kept = _kept(data[EXPLORER]) if EXPLORER in data else ""
                shown = f'<div class="lab-figure"><div class="plotly"></div>{script}{kept}</div>'
            elif PLAYER in data:
                shown = f'<div class="lab-stored">{data["text/html"]}{_kept(data[PLAYER])}</div>'
            if shown:
                output["data"] = nbformat.from_dict({"text/html": shown})


def _json(data: Any) -> str:
    return json.dumps(data).replace("</", "<\\/")


def _kept(data: Any) -> str:
    return f'<script type="application/json">{_json(data)}</script>'


def _first_sound(notebook: nbformat.NotebookNode) -> str:
    """The picture and clip of the notebook's first player, as stored."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return next((output.data["text/html"] for output in outputs if PLAYER in output.get("data", {})), "")


def _navigation(path: Path, headings: dict[Path, Heading]) -> str:
    """Links to the page before, to all pages, and to the next one."""
    paths = list(headings)
    at = paths.index(path)
    before, after = ([paths[k]] if 0 <= k < len(paths) else [] for k in (at - 1, at + 1))
    links = [f'<a rel="prev" href="{page.stem}.html">← {html.escape(headings[page].title)}</a>' for page in before]
    links.append('<a href="index.html">SpeechSSM Lab</a>')
    links += [f'<a rel="next" href="{page.stem}.html">{html.escape(headings[page].title)} →</a>' for page in after]
    return f"<nav>{' '.join(links)}</nav>"


def _row(heading: Heading, stem: str, folder: Path) -> str:
    picture = ROOT / "data" / "pictures" / "notebooks" / f"{stem}.png"
    image = ""
    if picture.exists():
        shutil.copy(picture, folder)
        image = f'<img src="{picture.name}" alt="">'
    title, sentence = html.escape(heading.title), html.escape(heading.sentence)
    return f'<li>{image}<span><a href="{stem}.html">{title}</a><br>{sentence}</span></li>'


if __name__ == "__main__":
    export(sorted((ROOT / "notebooks").glob("*.ipynb")), Path(sys.argv[1]))
    print(Path(sys.argv[1]) / "index.html")
