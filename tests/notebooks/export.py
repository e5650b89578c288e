"""The notebooks as pages that need no kernel and no network: `make html`.

nbconvert's own pages fetch require.js, MathJax, Mermaid and a widget manager from elsewhere, and show no plotly figure.
Here plotly.js lies beside the pages, formulas become MathML, and what plays is in the page: the players' stored clips.
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

ROOT = Path(__file__).parents[2]
PLOTLY = "application/vnd.plotly.v1+json"

_TEMPLATE = """
{%- extends 'lab/index.html.j2' -%}
{%- block html_head_js -%}<script src="plotly.min.js"></script>{%- endblock -%}
{%- block html_head_js_mathjax -%}{%- endblock -%}
{%- block html_head_js_mermaidjs -%}{%- endblock -%}
{%- block jupyter_widgets -%}{%- endblock -%}
{%- block html_head_css -%}<style>math { font-family: math; font-size: 1.15em }</style>{%- endblock -%}
"""

_INDEX = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>SpeechSSM Lab</title><style>
:root {{ color-scheme: light dark }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 760px; margin: 40px auto; padding: 0 16px }}
li {{ list-style: none; display: flex; gap: 16px; align-items: center; margin: 20px 0 }}
ul {{ padding: 0 }} img {{ width: 200px; border: 1px solid #8884; background: white; flex: none }}
a {{ font-weight: 600 }}
</style></head><body><h1>SpeechSSM Lab</h1>
<p>The notebooks with their stored figures and sound. To run them: <code>make lab</code>.</p>
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
    exporter = _Exporter(raw_template=_TEMPLATE)
    pages, rows = [], []
    for path in notebooks:
        notebook = nbformat.read(path, as_version=4)
        heading = Heading.of(notebook)
        notebook.metadata["title"] = heading.title
        _draw(notebook)
        page, _ = exporter.from_notebook_node(notebook)
        pages.append(folder / f"{path.stem}.html")
        pages[-1].write_text(re.sub(r'href="(\w+)\.ipynb', r'href="\1.html', page))
        rows.append(_row(heading, path.stem, folder))
    (folder / "index.html").write_text(_INDEX.format(rows="\n".join(rows)))
    return pages


def _draw(notebook: nbformat.NotebookNode) -> None:
    """Have plotly.js draw each stored figure."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if figure := output.get("data", {}).get(PLOTLY):
                data, layout = (json.dumps(figure[part]).replace("</", "<\\/") for part in ("data", "layout"))
                place = "document.currentScript.previousElementSibling"
                script = f"<script>Plotly.newPlot({place}, {data}, {layout}, {{responsive: true}})</script>"
                output["data"] = nbformat.from_dict({"text/html": f'<div class="plotly"></div>{script}'})


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
