"""The files of a shard: how they are begun, checked, gone on with and added to.

Each part is appended whole, the data first and then the line of documents.jsonl that counts it; what was not counted
is cut off when the work goes on.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from lab.corpora import worker
from lab.corpora.encoding import UNIT
from lab.corpora.source import Source
from lab.errors import LabError
from lab.files import replacing

HEADER, DOCUMENTS, TOKENS, CODES, PARTS = "shard.json", "documents.jsonl", "tokens.bin", "codes.bin", "parts"
_OF_A_PART = re.compile(r"\.?(\d{6,})-")  # how names begin in parts/, with a point where a file is half written


def read_header(folder: Path) -> dict[str, Any]:
    try:
        header = json.loads((folder / HEADER).read_text())
        return {key: header[key] for key in ("source", "tokenizer", "codec", "levels", "tokens", "skipped")}
    except (FileNotFoundError, NotADirectoryError):
        raise LabError(f"there is no shard in {folder}; make one with `lab shard`") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LabError(f"{folder / HEADER} is damaged ({error}); restore it or shard into another folder") from None


def read_parts(folder: Path, header: dict[str, Any]) -> list[dict[str, Any]]:
    """The lines of documents.jsonl; the last may have been cut, and counts for nothing then."""
    path = folder / DOCUMENTS
    try:
        lines = path.read_bytes().split(b"\n") if path.exists() else [b""]
        parts = [json.loads(line) for line in lines[:-1]]
    except (OSError, ValueError) as error:
        raise LabError(f"{path} is damaged ({error}); restore it or shard into another folder") from None
    if (counted := tokens_of(parts)) < header["tokens"]:
        found = f"{counted} tokens counted, {header['tokens']} expected"
        raise LabError(f"{path} is truncated: {found}; restore it or shard anew")
    return parts


def tokens_of(parts: Sequence[dict[str, Any]]) -> int:
    return sum(length for part in parts for length in part["documents"])


def agree(folder: Path, header: dict[str, Any], key: str, ours: object) -> None:
    if header[key] != ours:
        theirs, ours = header[key] or "none", ours or "none"
        raise LabError(f"{folder} was made with {key} {theirs}, and this is {key} {ours}; shard into another folder")


def mapped(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    _check_size(path, UNIT.itemsize * math.prod(shape))
    return np.memmap(path, UNIT, "c", shape=shape)  # "c": torch takes no array that it could not write to


def _check_size(path: Path, expected: int) -> None:
    found = path.stat().st_size if path.exists() else 0
    if found < expected:
        raise LabError(f"{path} is truncated: {found} bytes found, {expected} expected; restore it or shard anew")


def begin(folder: Path, header: dict[str, Any]) -> None:
    """A shard to add to: a new one, or one of the same source and models."""
    if not (folder / HEADER).exists():
        if any((folder / name).exists() for name in (DOCUMENTS, TOKENS, CODES)):
            raise LabError(f"{folder} has lost its {HEADER}; restore it or shard into another folder")
        write_header(folder, header)
    theirs = read_header(folder)
    for key in ("source", "tokenizer", "codec"):
        agree(folder, theirs, key, header[key])


def resume(folder: Path, header: dict[str, Any], source: Source) -> list[dict[str, Any]]:
    """The parts that are there, after cutting off what was written and not counted, and a last part that grew."""
    parts = _unchanged(folder, source)
    size = UNIT.itemsize * tokens_of(parts)
    _cut(folder / TOKENS, size)
    _cut(folder / CODES, header["levels"] * size)
    if (folder / DOCUMENTS).exists():
        _cut(folder / DOCUMENTS, sum(map(len, (folder / DOCUMENTS).read_bytes().splitlines(True)[: len(parts)])))
    return parts


def _unchanged(folder: Path, source: Source) -> list[dict[str, Any]]:
    """The parts that are there and are those of the source: the last one may have had fewer documents."""
    header = read_header(folder)
    parts = read_parts(folder, header)
    for number, part in enumerate(parts):
        if number not in source.parts or part.get("part", key := source.part(number)[0]) != key:
            if number + 1 < len(parts):
                raise LabError(f"{folder} was made from other documents than {source.name} has; shard into another")
            write_header(folder, header | {"tokens": tokens_of(parts[:-1])})
            return parts[:-1]
    return parts


def _cut(path: Path, size: int) -> None:
    _check_size(path, size)
    if path.exists():
        os.truncate(path, size)


def append(folder: Path, source: Source, number: int) -> dict[str, Any] | None:
    """Appends a part, if it is done: its line."""
    if number not in source.parts:
        return None
    path = worker.place(folder / PARTS, number, source.part(number)[0])
    if (line := worker.line(path)) is None:
        return None
    for name, array in safetensors.numpy.load_file(path).items():
        _write(folder / f"{name}.bin", array.tobytes())
    _write(folder / DOCUMENTS, json.dumps(line).encode() + b"\n")
    return line


def sweep(folder: Path, count: int) -> None:
    """Takes away what is left of parts that were appended, and the folder of the parts if no other is there."""
    for number, path in numbered(folder):
        if number < count:
            path.unlink(missing_ok=True)
    with suppress(OSError):
        (folder / PARTS).rmdir()


def numbered(folder: Path) -> Iterator[tuple[int, Path]]:
    """The number of its part and the path of each file in parts/; what a file system or somebody else put there is
    none of them."""
    for path in (folder / PARTS).glob("*"):
        if found := _OF_A_PART.match(path.name):
            yield int(found[1]), path


def _write(path: Path, data: bytes) -> None:
    """At the end of the file, and on the disk before anything else is."""
    if data:
        with path.open("ab") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())


def write_header(folder: Path, header: dict[str, Any]) -> None:
    with replacing(folder / HEADER) as part:
        part.write_text(json.dumps(header, indent=1) + "\n")
