"""Run every notebook from top to bottom and store its outputs: `make notebooks`.

What must not be stored is dropped (widget state), and a hash of the code is kept, so that a test can tell an output
that is older than its source.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[2] / "notebooks"


def source_hash(notebook: nbformat.NotebookNode) -> str:
    code = "\n\0".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    return hashlib.sha256(code.encode()).hexdigest()[:16]


def execute(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=900, resources={"metadata": {"path": str(path.parent)}}).execute()
    notebook.metadata.pop("widgets", None)
    notebook.metadata["lab"] = {"executed": source_hash(notebook)}
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # times of this run: a difference in every cell of every commit
    part = path.with_suffix(".part")
    nbformat.write(notebook, part)
    part.replace(path)


if __name__ == "__main__":
    for path in [Path(name) for name in sys.argv[1:]] or sorted(FOLDER.glob("*.ipynb")):
        print(path.name, flush=True)
        execute(path)
