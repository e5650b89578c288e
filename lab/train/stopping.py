"""Signals that ask a run to end, so that it saves what it has first."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def stopping(stop: threading.Event) -> Iterator[list[int]]:
    """Signals that ask a run to end set `stop`; a second one interrupts at once. Gives those that came. Only the main
    thread hears of them; one that was ignored before (nohup) stays so."""
    came: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield came
        return

    def ask(number: int, frame: Any) -> None:
        stop.set()
        came.append(number)
        signal.signal(number, signal.default_int_handler)

    asking = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, ask) for number in asking if signal.getsignal(number) != signal.SIG_IGN}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
