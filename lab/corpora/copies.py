"""Files that are copies of others, byte for byte, whatever they are called."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from contextlib import suppress
from functools import partial


def among(files: Sequence[str], before: Sequence[str] = ()) -> dict[str, str]:
    """Each file that has copies -> the first of them, `before` coming first; not where all are of `before`.

    Read are only those that are of one size, and whole only those that begin alike. What cannot be read is no copy.
    """
    groups, new = [list(dict.fromkeys([*before, *files]))] if files else [], set(files)
    for tell in (os.path.getsize, partial(_digest, size=2**16), _digest):
        alike: dict[tuple[int, int | bytes], list[str]] = {}
        for number, group in enumerate(groups):
            for path in group:
                with suppress(OSError, ValueError):  # ValueError: no name of a file; whoever reads it hears of both
                    alike.setdefault((number, tell(path)), []).append(path)
        groups = [group for group in alike.values() if len(group) > 1 and not new.isdisjoint(group)]
    return {path: group[0] for group in groups for path in group}


def _digest(path: str, size: int = -1) -> bytes:
    """Of the first `size` bytes, or of all."""
    with open(path, "rb") as file:
        if size < 0:
            return hashlib.file_digest(file, "sha256").digest()
        return hashlib.sha256(file.read(size)).digest()
