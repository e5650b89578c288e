"""Files that are whole or not there, and folders that one process at a time may change."""

from __future__ import annotations

import errno
import os
import tarfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

from lab.errors import LabError

try:
    import fcntl
except ImportError:  # Windows, which has no lock on a folder: there nobody waits
    fcntl = None  # type: ignore[assignment]


@contextmanager
def _writing(path: Path, to: str = "to ") -> Iterator[None]:
    """LabError for what the system has against writing there."""
    try:
        yield
    except (OSError, ValueError) as error:  # ValueError: a name that cannot be encoded
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        raise LabError(f"cannot write {to}{str(path)!r}: {reason}; give a folder you can write to") from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Where to write what takes the place of `path` in the end, if nothing fails. LabError where it cannot be written.

    The name to write to is in the same folder, of nobody else, and has the same suffix. The file obeys the umask.
    """
    part = path.with_name(f".{path.stem[:100]}.{uuid.uuid4().hex[:8]}.part{path.suffix}")
    try:
        with _writing(path, to=""):
            if len(os.fsencode(path.name)) > 255:  # the name to write to is shorter
                raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
            part.open("xb").close()
            mode = part.stat().st_mode
            yield part
            part.chmod(mode)  # some libraries write through a file of their own that nobody else may read
            part.replace(path)
    finally:
        with suppress(OSError, ValueError):
            part.unlink(missing_ok=True)


def made(folder: Path) -> Path:
    """The folder, made with those above it where it is missing. LabError where it cannot be."""
    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def locked(folder: Path, *, wait: float = 60.0, doing: str = "writing to") -> Iterator[None]:
    """`folder` for this process alone, among those that ask; it ends with the process, whatever ends that.

    Raises LabError if another one has it for `wait` seconds, or where there is no such folder.
    """
    with _writing(folder):
        handle = os.open(folder, os.O_RDONLY)
    try:
        end = time.monotonic() + wait
        while fcntl is not None:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= end:
                    who = _holder(handle)
                    raise LabError(f"{who} is {doing} {folder}; wait for its end or give another") from None
                time.sleep(0.05)
            except OSError:  # a file system without locks
                break
        yield
    finally:
        os.close(handle)


def _holder(handle: int) -> str:
    """Who has the lock on an open folder, where Linux says it."""
    with suppress(OSError):
        for line in Path("/proc/locks").read_text().splitlines():
            words = line.split()  # 1: FLOCK ADVISORY WRITE 4711 08:01:131 0 EOF
            if words[1] == "FLOCK" and words[5].endswith(f":{os.fstat(handle).st_ino}") and int(words[4]) > 0:
                return f"process {words[4]}"
    return "another process"


def same_file(first: str | Path, second: str | Path) -> bool:
    """Whether two names are of one file, also by links; False where one of them is of none."""
    try:
        return os.path.samefile(first, second)
    except (OSError, ValueError):
        return False


def unpack(archive: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> None:
    """One member of an archive into `folder`, as tarfile's filter "data" does it, which Python 3.11.0 to 3.11.3 lack.

    Raises tarfile.TarError for what would be outside of it, without the filter for links, too.
    """
    if hasattr(tarfile, "data_filter"):
        archive.extract(member, folder, filter="data")
        return
    name = PurePosixPath(member.name)
    if name.is_absolute() or ".." in name.parts or not (member.isfile() or member.isdir()):
        raise tarfile.TarError(f"{member.name} is a link or outside of the folder")
    archive.extract(member, folder, set_attrs=False)  # neither its owner nor its rights
