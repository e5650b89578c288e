"""What is wrong with a stored notebook: outputs that do not belong to its code, contracts that compare nothing.

nbval compares nothing where a count is missing, and nothing where no cell asks for it, and passes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import nbformat

from tests.notebooks.execute import FOLDER, VIEW, source_hash
from tests.notebooks.static import PLOTLY, PNG

TAG = "nbval-check-output"  # of a cell whose output nbval compares: a contract
CONTRACTS, CELLS, BYTES = 5, 48, 1_500_000

# what a page fetches by itself; a link that somebody clicks is none
FETCHED = re.compile(
    r"""(?:\bsrc|\bposter|\bsrcset|<link[^>]*\bhref)\s*=\s*["']?\s*(?:https?:)?//"""
    r"""|\burl\(\s*["']?\s*(?:https?:)?//|@import|!\[[^\]]*\]\(\s*https?:|\b(?:from|import|fetch)\b[\s(]*["']https?:"""
)


def defects(path: Path) -> list[str]:
    """Each defect as one line; none is a sound notebook."""
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return [*_of_file(path, notebook, code), *_of_contracts(code), *_of_outputs(code), *_of_prose(notebook)]


def _of_file(path: Path, notebook: nbformat.NotebookNode, code: list[nbformat.NotebookNode]) -> Iterator[str]:
    if (size := path.stat().st_size) >= BYTES:
        yield f"{size / 1e6:.1f} MB; {BYTES / 1e6:.0f} MB is the limit"
    if len(code) > CELLS:
        yield f"{len(code)} code cells; {CELLS} are the limit"
    if sum(len(re.findall(r"\bexplore\(", cell.source)) for cell in code) > 1:
        yield "more than one explorer: each brings 5 MB into the page"
    if "widgets" in notebook.metadata:
        yield "widget state in the metadata"
    if notebook.metadata.get("lab", {}).get("executed") != source_hash(notebook):
        yield "outputs are older than the code, or than the figures that it reads: make notebooks"
    if [cell.execution_count for cell in code] != list(range(1, len(code) + 1)):
        yield "cells without a count, or out of order: make notebooks"


def _of_contracts(code: list[nbformat.NotebookNode]) -> Iterator[str]:
    contracts = [cell for cell in code if TAG in cell.metadata.get("tags", [])]
    if len(contracts) < CONTRACTS:
        yield f"{len(contracts)} contract cells; {CONTRACTS} are the least"
    for cell in code:
        if "NBVAL" in cell.source:
            yield f"a marker in the code, which readers see; tag the cell {TAG}: {cell.source[:40]!r}"
        for tag in cell.metadata.get("tags", []):
            if tag.startswith("nbval") and tag != TAG:
                yield f"a tag that is not {TAG}: {tag!r}"
    for cell in contracts:
        if not any(output.get("text", "").strip() for output in cell.outputs):
            yield f"a contract that prints nothing: {cell.source[:60]!r}"
        for output in cell.outputs:
            if found := re.search(r".*, which is not .*", output.get("text", "")):
                yield f"a value outside its range, see lab.view.contract: {found[0]!r}"
        if any(output.get("name") == "stderr" for output in cell.outputs):
            yield f"a warning in a contract: {cell.source[:60]!r}"


def _of_outputs(code: list[nbformat.NotebookNode]) -> Iterator[str]:
    for cell in code:
        for output in cell.outputs:
            text = "\n".join([output.get("text", ""), *map(str, output.get("data", {}).values())])
            if output.output_type == "error":
                yield f"an error is stored: {output.ename}"
            if PLOTLY in output.get("data", {}) and PNG not in output.data:
                yield f"a figure without a picture, which GitHub shows: {cell.source[:60]!r}"
            if VIEW in output.get("data", {}):
                yield "a widget's view: it dies with its kernel"
            if output.output_type in ("display_data", "execute_result") and not output.data:
                yield f"nothing is shown without a kernel: {cell.source[:60]!r}"
            if found := FETCHED.search(text):
                yield f"an output that needs the network: {found[0]!r}"
            if str(FOLDER.parent) in text:
                yield f"a path of this machine in an output: {cell.source[:60]!r}"


def _of_prose(notebook: nbformat.NotebookNode) -> Iterator[str]:
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and (found := FETCHED.search(cell.source)):
            yield f"prose that needs the network: {found[0]!r}"
