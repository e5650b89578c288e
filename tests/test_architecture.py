"""ARCHITECTURE.md is true: rooms import only what stands above them, and the table names it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROWS = [
    (re.findall(r"`(\w+)`", cells[1]), re.findall(r"\w+", cells[3]))
    for line in (ROOT / "ARCHITECTURE.md").read_text().splitlines()
    if (cells := line.split("|"))[1:] and cells[1].strip().startswith("`")
]
PLACE = {room: row for row, (rooms, _) in enumerate(ROWS) for room in rooms}
BASICS = set(ROWS[0][0])


def imports(room: str) -> Iterator[tuple[str, str]]:
    """The rooms that a room imports, anywhere in its files, and the file."""
    path = ROOT / "lab" / room
    for file in sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]:
        for node in ast.walk(ast.parse(file.read_text())):
            names = []
            if isinstance(node, ast.ImportFrom) and node.module == "lab":
                names = [f"lab.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            for name in names:
                package, *rest = name.split(".")
                if package == "lab" and rest and rest[0] not in (room, "__version__"):
                    yield rest[0], str(file.relative_to(ROOT))


def test_every_room_is_in_the_table() -> None:
    there = {path.stem for path in (ROOT / "lab").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert there - {"__init__", "__main__"} == set(PLACE)


@pytest.mark.parametrize("room", PLACE)
def test_a_room_imports_what_stands_above_it_and_is_named(room: str) -> None:
    named = set(ROWS[PLACE[room]][1])
    found = dict(imports(room))
    for other, file in found.items():
        assert PLACE[other] <= PLACE[room], f"{file} imports {other}, which stands below {room}"
        assert other in BASICS | named | set(ROWS[PLACE[room]][0]), f"{file} imports {other}: ARCHITECTURE.md says not"
    assert named <= set(found), f"{room} does not import {named - set(found)}"
