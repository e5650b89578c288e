"""What the notebooks store, and that the check for it finds each defect that it knows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode, v4

from tests.notebooks import execute, stored
from tests.notebooks.execute import FOLDER, VIEW, source_hash, strip

NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def test_there_are_notebooks():
    assert [path.name for path in NOTEBOOKS][:1] == ["00_hear_it.ipynb"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_stored_outputs(path: Path):
    defects = stored.defects(path)
    assert not defects, "\n".join(defects)


def sound() -> NotebookNode:
    """A small notebook without a defect."""
    cells = [v4.new_markdown_cell("# Title\n\n[the paper](https://arxiv.org/abs/2412.18603)")]
    for count in range(1, 6):
        output = v4.new_output("stream", name="stdout", text=f"{count}\n")
        cells.append(v4.new_code_cell(f"print({count})", execution_count=count, outputs=[output]))
        cells[-1].metadata["tags"] = [stored.TAG]
    html = '<img src="data:image/png;base64,aa"><audio controls src="data:audio/mpeg;base64,aa"></audio>'
    shown = v4.new_output("display_data", {"text/html": html})
    cells.append(v4.new_code_cell("explore(draw)", execution_count=6, outputs=[shown]))
    return v4.new_notebook(cells=cells)


def planted(tmp_path: Path, plant: Callable[[NotebookNode], object], hashed: bool = True) -> list[str]:
    notebook = sound()
    notebook.metadata["lab"] = {"executed": source_hash(notebook)}
    plant(notebook)
    if hashed:
        notebook.metadata["lab"] = {"executed": source_hash(notebook)}
    nbformat.write(notebook, tmp_path / "planted.ipynb")
    return stored.defects(tmp_path / "planted.ipynb")


def test_a_sound_notebook_has_no_defect(tmp_path: Path):
    assert planted(tmp_path, lambda notebook: None) == []


def shows(data: dict) -> Callable[[NotebookNode], object]:
    return lambda notebook: notebook.cells[-1].outputs.append(v4.new_output("display_data", data))


@pytest.mark.parametrize(
    ("defect", "plant"),
    [
        ("without a count", lambda notebook: notebook.cells[2].update(execution_count=None)),
        ("without a count", lambda notebook: notebook.cells.insert(1, notebook.cells.pop(2))),
        ("4 contract cells", lambda notebook: notebook.cells[2].metadata.pop("tags")),
        ("a marker in the code", lambda notebook: notebook.cells[2].update(source="# NBVAL_CHECK_OUTPUT\nprint(2)")),
        ("a tag that is not", lambda notebook: notebook.cells[2].metadata.update(tags=["nbval-check-outputs"])),
        ("prints nothing", lambda notebook: notebook.cells[2].update(outputs=[])),
        ("prints nothing", lambda notebook: notebook.cells[2].outputs[0].update(text="\n")),
        (
            "a warning",
            lambda notebook: notebook.cells[2].outputs.append(v4.new_output("stream", name="stderr", text="!")),
        ),
        ("outside its range", lambda n: n.cells[2].outputs[0].update(text="peak 0, which is not 0.05 to 1")),
        ("widget state", lambda notebook: notebook.metadata.update(widgets={"state": {}})),
        ("without a picture", shows({"application/vnd.plotly.v1+json": {"data": [], "layout": {}}})),
        ("a widget's view", shows({VIEW: {"model_id": "a"}, "text/plain": "Player"})),
        ("nothing is shown", shows({})),
        ("an error is stored", lambda n: n.cells[-1].outputs.append(v4.new_output("error", ename="LabError"))),
        ("needs the network: 'src", shows({"text/html": '<script src="https://cdn.example/plotly.js"></script>'})),
        ("needs the network: 'src", shows({"text/html": "<img src=//cdn.example/a.png>"})),
        ("needs the network: '<link", shows({"text/html": '<link rel="stylesheet" href="https://cdn.example/a.css">'})),
        ("needs the network: 'url", shows({"text/html": "<p style='background: url(https://cdn.example/a.png)'>"})),
        ("needs the network: 'import", shows({"text/html": '<script>import("https://cdn.example/a.js")</script>'})),
        ("needs the network: '![", shows({"text/markdown": "![a](https://cdn.example/a.png)"})),
        ("prose that needs", lambda n: n.cells.append(v4.new_markdown_cell('<img src="https://cdn.example/a.png">'))),
        ("a path of this machine", shows({"text/plain": f"{FOLDER.parent}/data/prompts"})),
        ("1.6 MB", shows({"text/plain": "a" * 1_600_000})),
        ("49 code cells", lambda n: n.cells.extend(v4.new_code_cell("1", execution_count=k) for k in range(7, 50))),
        ("more than one explorer", lambda n: n.cells.append(v4.new_code_cell("explore(other)", execution_count=7))),
    ],
)
def test_a_planted_defect_is_found(tmp_path: Path, defect: str, plant: Callable[[NotebookNode], object]):
    assert any(defect in found for found in planted(tmp_path, plant))


def test_an_output_older_than_its_code_is_found(tmp_path: Path):
    (found,) = planted(tmp_path, lambda notebook: notebook.cells[1].update(source="print(7)"), False)
    assert "older than the code" in found


def test_an_output_older_than_the_figures_it_reads_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(execute, "DATA", tmp_path)
    for name in ("measured/evaluation.json.gz", "bench/flat-chip.json", "bench/scan-chip.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}")
    notebook = sound()
    notebook.cells[1].source = 'Results.load(data_folder() / "measured" / "evaluation.json.gz"), speed.saved("flat")'
    assert [path.name for path in execute.reads(notebook.cells[1].source)] == ["flat-chip.json", "evaluation.json.gz"]
    notebook.metadata["lab"] = {"executed": source_hash(notebook)}
    nbformat.write(notebook, tmp_path / "read.ipynb")
    (tmp_path / "bench" / "scan-chip.json").write_text("[]")  # it does not read that
    assert not any("older" in found for found in stored.defects(tmp_path / "read.ipynb"))
    (tmp_path / "bench" / "flat-chip.json").write_text("[]")
    assert any("older" in found for found in stored.defects(tmp_path / "read.ipynb"))


def test_strip_keeps_what_a_page_shows_without_a_kernel():
    notebook = sound()
    notebook.metadata["widgets"] = {"state": {}}
    data = {VIEW: {"model_id": "a"}, "application/vnd.plotly.v1+json": {"data": []}, "text/plain": "Explorer()"}
    notebook.cells[-1].outputs = [v4.new_output("display_data", data)]
    notebook.cells[-1].metadata["execution"] = {"iopub.status.busy": "now"}
    strip(notebook)
    assert set(notebook.cells[-1].outputs[0].data) == {"application/vnd.plotly.v1+json", "text/plain"}
    assert "widgets" not in notebook.metadata and "execution" not in notebook.cells[-1].metadata
    assert notebook.cells[-1].execution_count == 6
