"""Run every notebook from top to bottom and store its outputs: `make notebooks`.

What must not be stored is dropped (widget state, and views, which die with their kernel); each figure gets a picture
beside it, and each explorer the drawings of its controls (LAB_STORE), for pages without a kernel. A hash of the code
and of the stored figures that it reads is kept, so that a test can tell an output that is older than its source.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from tests.notebooks.static import illustrate

FOLDER = Path(__file__).parents[2] / "notebooks"
DATA = FOLDER.parent / "data"
# What code reads of DATA, by what it says.
READS = {
    r"coherence\.Report\.load\(": "measured/coherence.json",
    r'"evaluation\.json\.gz"': "measured/evaluation.json.gz",
    r"from lab\.evaluate\.passes import": "measured/passes.json",
    r"cards\.checked\(": "bundle/bundle.json",
    r'saved\("(\w+)"\)': r"bench/\1-*.json",
}
VIEW = "application/vnd.jupyter.widget-view+json"


def source_hash(notebook: nbformat.NotebookNode) -> str:
    code = "\n\0".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    told = hashlib.sha256(code.encode())
    for path in reads(code):
        told.update(path.read_bytes())
    return told.hexdigest()[:16]


def reads(code: str) -> list[Path]:
    """The stored figures that the code of a notebook reads."""
    patterns = {match.expand(path) for said, path in READS.items() for match in re.finditer(said, code)}
    return sorted(path for pattern in patterns for path in DATA.glob(pattern))


def strip(notebook: nbformat.NotebookNode) -> None:
    """Drop what belongs to one run, and keep what a page shows without it: plotly figures, posters, clips, counts."""
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # times: a difference in every cell of every commit
        for output in cell.get("outputs", []):
            output.get("data", {}).pop(VIEW, None)
            output.get("metadata", {}).pop(VIEW, None)


def execute(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(notebook, timeout=900, resources={"metadata": {"path": str(path.parent)}})
    client.execute(env={**os.environ, "LAB_PROFILE": "laptop", "LAB_STORE": "1"})
    strip(notebook)
    illustrate([notebook])
    notebook.metadata["lab"] = {"executed": source_hash(notebook)}
    part = path.with_suffix(".part")
    nbformat.write(notebook, part)
    part.replace(path)


if __name__ == "__main__":
    for path in [Path(name) for name in sys.argv[1:]] or sorted(FOLDER.glob("*.ipynb")):
        started = time.monotonic()
        execute(path)
        print(f"{path.name}: {time.monotonic() - started:.0f} s, {path.stat().st_size / 1e3:.0f} kB", flush=True)
