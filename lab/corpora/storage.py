"""Files, and addresses of fsspec, open for bytes: http://, s3://, gs://, tar://MEMBER::ADDRESS.

What a storage has against being read is of two kinds. A file that is not there will not be there in a minute: that is a
LabError. A network that is lost, a server that is busy or a key that has run out may be mended: Unreachable, after
which the same is tried again, now or by the same command later. A fault of our own code is neither, and stays one.
Where nothing is there, though, a disk may not be mounted: Absent, for those who would do without it for good.
"""

from __future__ import annotations

import errno
import io
import os
import tarfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import lru_cache
from typing import Any, TypeVar

import fsspec

from lab import extras
from lab.console import console
from lab.errors import LabError

WAITS = (1.0, 2.0, 4.0, 8.0, 16.0)  # seconds before what cannot be reached is tried again
T = TypeVar("T")


class Unreachable(LabError):
    """What cannot be read now, for a reason that may pass."""


class Absent(LabError):
    """What is not there, or may not be read."""


# Packages whose errors, besides OSError, are of a network, a server or a storage
_CLIENTS = {"aiobotocore", "aiohttp", "asyncio", "azure", "botocore", "fsspec", "gcsfs", "google", "urllib3"}
_UNFIT = (ValueError, EOFError, NotImplementedError, tarfile.TarError, zlib.error)  # an address, or what is in a tar
_LASTING = FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError, ValueError
_ABSENT = FileNotFoundError, NotADirectoryError, PermissionError
_LASTING_NUMBERS = {errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL}  # of the system, which have no class
_PASSING = {401, 403, 407, 408, 425, 429}  # HTTP: a key that has run out, a server that is busy; and all from 500 on


def passes(error: BaseException) -> bool:
    """Whether it is what a storage raises and may go well another time, by the first cause of that kind: fsspec calls
    any trouble that it has with HTTP a file that is not there."""
    causes: list[BaseException] = [error]
    while (cause := causes[-1].__cause__) is not None:
        causes.append(cause)
    first = next(filter(_of_storage, reversed(causes)), None)
    if first is None:
        return False
    if status := _status(first):
        return status >= 500 or status in _PASSING
    return not isinstance(first, _LASTING) and getattr(first, "errno", None) not in _LASTING_NUMBERS


def _of_storage(error: BaseException) -> bool:
    """Of the system, or of a client of storages."""
    return isinstance(error, OSError) or any(kind.__module__.split(".")[0] in _CLIENTS for kind in type(error).__mro__)


def _status(error: BaseException) -> int:
    """Of HTTP, as aiohttp and botocore tell it; 0 for what is no answer of a server."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        return int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    told = getattr(error, "status", 0)
    return told if isinstance(told, int) else 0


@contextmanager
def reached(address: str) -> Iterator[None]:
    """LabError, Unreachable or Absent, for what the storage of a file or address has against what is done with it."""
    local = "://" not in address
    try:
        yield
    except LabError as error:
        if isinstance(error, Unreachable | Absent) or not isinstance(error.__cause__, OSError):
            raise
        raise _kind(error.__cause__)(str(error)) from error
    except ImportError as error:
        if local:
            raise
        raise without_package(address, error) from None
    except Exception as error:  # each kind of storage has its own
        if not (isinstance(error, OSError) if local else _of_storage(error) or isinstance(error, _UNFIT)):
            raise
        if (kind := _kind(error)) is Unreachable or not isinstance(error, FileNotFoundError):
            said = " ".join(str(_told(error)).split()) or type(error).__name__
            raise kind(f"cannot read {address}: {said[:200]}; give one that can be reached from here") from error
        raise Absent(f"there is nothing at {address}; look at its name") from None


def without_package(address: str, error: ImportError) -> LabError:
    """For an address of a kind whose package is not installed, as fsspec says."""
    cause = error.__cause__
    ours = isinstance(cause, ImportError) and cause.name in extras.MODULES["storage"]
    brings = "; `pip install speechssm-lab[storage]` brings it" if ours else ""
    return LabError(f"cannot read {address}: {error}{brings}")


def _kind(error: BaseException) -> type[LabError]:
    return Unreachable if passes(error) else Absent if isinstance(error, _ABSENT) else LabError


def _told(error: BaseException) -> BaseException:
    """The error that says most: of a FileNotFoundError, which has the address alone, its cause."""
    return error.__cause__ if isinstance(error, FileNotFoundError) and error.__cause__ else error


def reason(error: LabError) -> str:
    """What was wrong, without the advice: in a corpus of thousands nobody mends one file."""
    return str(error).rpartition("; ")[0] or str(error)


def tried(read: Callable[[], T], wait: Callable[[float], object] = time.sleep) -> T:
    """What `read` gives. Where that is Unreachable it is tried again, later and later, unless `wait` tells to end.

    Raises Unreachable for what stays so.
    """
    for seconds in WAITS:
        try:
            return read()
        except Unreachable as error:
            console.print(f"{reason(error)}; trying again in {seconds:g} s")
            if wait(seconds):
                raise
    return read()


def served(read: Callable[[], T], left_out: list[str]) -> T | None:
    """What `read` gives, tried again where that helps; None for what cannot serve, and into `left_out` goes why.

    Raises Unreachable for what stays so: it may be good, and nobody could tell later that it is missing.
    """
    try:
        return tried(read)
    except Unreachable:
        raise
    except LabError as error:
        left_out.append(reason(error))
        return None


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
