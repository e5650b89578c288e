"""Files that are whole or not there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lab.errors import LabError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Where to write what takes the place of `path` in the end, if nothing fails. LabError where it cannot be written.

    The name to write to is in the same folder and has the same suffix.
    """
    part = path.with_name(f".{path.stem}.part{path.suffix}")
    try:
        yield part
        part.replace(path)
    except OSError as error:
        raise LabError(f"cannot write {path}: {error.strerror or error}; give a folder you can write to") from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)
