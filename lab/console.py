"""Messages and progress on standard error: never wrapped or cut in a file, and never the reason for a failure."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import IO, Any, cast

from rich.console import Console, ConsoleDimensions

WIDE = 10_000  # columns where nobody's window has a width: rich would take 80


class Unfailing:
    """sys.stderr, whatever it is at the time; a closed or full one loses the message, not an hour of speech."""

    def write(self, text: str) -> int:
        with suppress(OSError, ValueError, AttributeError):  # full, closed, None
            sys.stderr.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError, AttributeError):
            sys.stderr.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stderr, name)


class Plain(Console):
    """A rich console that takes text literally: [x] and :x: may be part of a file's name."""

    def __init__(self, **options: Any):
        super().__init__(highlight=False, markup=False, emoji=False, soft_wrap=True, **options)

    @property  # type: ignore[misc]  # nobody sets it
    def size(self) -> ConsoleDimensions:
        measured = super().size
        return measured if self.is_terminal or self.is_jupyter else ConsoleDimensions(WIDE, measured.height)

    def on_broken_pipe(self) -> None:
        raise  # as any other error: rich would end the process here, with 1


console = Plain(file=cast(IO[str], Unfailing()))
