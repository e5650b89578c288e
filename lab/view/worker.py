"""A thread that can be ended in the middle of its work."""

from __future__ import annotations

import ctypes
import threading

from lab.errors import LabError


class Stopped(BaseException):
    """Raised in a thread by `interrupt`. No Exception, so that the work does not catch it."""


def interrupt(thread: threading.Thread) -> None:
    """Raises Stopped in the thread, at its next line of Python."""
    identity = ctypes.c_ulong(thread.ident or 0)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(identity, ctypes.py_object(Stopped))


def reason(error: Exception) -> str:
    """What went wrong, in a line: a callback or a thread has nobody to raise it to."""
    return str(error) if isinstance(error, LabError) else f"{type(error).__name__}: {error}"
