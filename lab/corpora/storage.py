"""Files, and addresses of fsspec, open for bytes: http://, s3://, gs://, tar://MEMBER::ADDRESS.

What a storage has against being read is of two kinds. A file that is not there will not be there in a minute: that is a
LabError. A network that is lost, a server that is busy or a key that has run out may be mended: Unreachable, after
which the same is tried again, now or by the same command later.
"""

from __future__ import annotations

import errno
import io
import os
import tarfile
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import lru_cache
from typing import Any

import fsspec

from lab.errors import LabError


class Unreachable(LabError):
    """What cannot be read now, for a reason that may pass."""


_LASTING = (
    FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError, tarfile.TarError,
    ValueError, TypeError, LookupError, AttributeError, NotImplementedError,
)  # fmt: skip
_LASTING_NUMBERS = {errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL}  # of the system, which have no class
_PASSING = {401, 403, 407, 408, 425, 429}  # HTTP: a key that has run out, a server that is busy; and all from 500 on


def passes(error: BaseException) -> bool:
    """Whether what a storage raised may go well another time, by its first cause: fsspec calls any trouble that it has
    with HTTP a file that is not there."""
    while error.__cause__ is not None:
        error = error.__cause__
    if status := _status(error):
        return status >= 500 or status in _PASSING
    return not isinstance(error, _LASTING) and getattr(error, "errno", None) not in _LASTING_NUMBERS


def _status(error: BaseException) -> int:
    """Of HTTP, as aiohttp and botocore tell it; 0 for what is no answer of a server."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        return int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    told = getattr(error, "status", 0)
    return told if isinstance(told, int) else 0


@contextmanager
def reached(address: str) -> Iterator[None]:
    """LabError, or Unreachable, for what the storage of a file or address has against what is done with it."""
    try:
        yield
    except LabError as error:
        if isinstance(error, Unreachable) or not (isinstance(error.__cause__, OSError) and passes(error.__cause__)):
            raise
        raise Unreachable(str(error)) from error
    except ImportError as error:  # the package for s3:// or gs:// is not there: it says which
        raise LabError(f"cannot read {address}: {error}") from None
    except Exception as error:  # each kind of storage has its own
        if (may_pass := passes(error)) or not isinstance(error, FileNotFoundError):
            said = " ".join(str(_told(error)).split()) or type(error).__name__
            kind = Unreachable if may_pass else LabError
            raise kind(f"cannot read {address}: {said[:200]}; give one that can be reached from here") from error
        raise LabError(f"there is nothing at {address}; look at its name") from None


def _told(error: BaseException) -> BaseException:
    """The error that says most: of a FileNotFoundError, which has the address alone, its cause."""
    return error.__cause__ if isinstance(error, FileNotFoundError) and error.__cause__ else error


def opened(address: str) -> Any:
    """A file or address, open for bytes. It raises LabError, or Unreachable, here and whenever it is read."""
    with reached(address):
        if address.startswith("tar://"):
            name, _, where = address.removeprefix("tar://").partition("::")
            with _TARS:
                return _Opened(address, storage := archive(where), storage.open(name, "rb"), _TARS)
        storage, name = fsspec.core.url_to_fs(address)
        return _Opened(address, storage, storage.open(name, "rb"))


@lru_cache(maxsize=16)
def archive(where: str) -> Any:
    """A tar as a storage of fsspec, which would go through the whole of it for each file that is opened."""
    return fsspec.filesystem("tar", fo=where)


_TARS = threading.Lock()  # members of a tar are read through one file, which has one place


class _Opened(io.RawIOBase):
    """A file of a storage whose errors are those of `reached`. The storage of a tar would close with the last who
    knows of it."""

    def __init__(self, address: str, storage: Any, file: Any, turn: AbstractContextManager[Any] | None = None):
        self._address, self._storage, self._file, self._turn = address, storage, file, turn or nullcontext()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return bool(self._file.seekable())

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        with reached(self._address), self._turn:
            return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        return int(self._file.tell())

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        with reached(self._address), self._turn:
            data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()
