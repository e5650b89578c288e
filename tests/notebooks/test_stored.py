"""What a notebook stores: outputs that belong to its code, contracts that nbval can compare, nothing from outside."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest

from tests.notebooks.execute import FOLDER, source_hash

NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
CONTRACTS = 5


def test_there_are_notebooks():
    assert [path.name for path in NOTEBOOKS][:1] == ["00_hear_it.ipynb"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_stored_outputs(path: Path):
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    contracts = [cell for cell in code if "# NBVAL_CHECK_OUTPUT" in cell.source.splitlines()]

    assert path.stat().st_size < 1_000_000
    assert "widgets" not in notebook.metadata
    assert notebook.metadata["lab"]["executed"] == source_hash(notebook), (
        "outputs are older than the code: make notebooks"
    )
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    # nbval silently compares nothing where the count or the output is missing
    assert len(contracts) >= CONTRACTS and all(cell.outputs for cell in contracts)
    for cell in code:
        for output in cell.outputs:
            assert output.output_type != "error"
            assert not re.search(r"""(src|href)=\\?["']https?://""", str(output)), "an output that needs the network"
            assert "application/vnd.jupyter.widget-view+json" not in output.get("data", {}), "dies with its kernel"
