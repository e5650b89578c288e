"""The command `lab` in this process, for its tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from typer.testing import CliRunner

from lab import audio
from lab.cli import app

SECOND = "0.0167"  # minutes
RATE = audio.SAMPLE_RATE


def lab(*words: str | Path, stdin: bytes | None = None) -> Any:
    return CliRunner().invoke(app, [str(word) for word in words], input=stdin)


def refused(message: str, *words: str | Path, stdin: bytes | None = None) -> None:
    """One line of stderr with that in it, exit code 2, and nothing made."""
    before = {path: path.read_bytes() for path in Path().iterdir() if path.is_file()}
    result = lab(*words, stdin=stdin)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("lab: ") and message in line
    assert {path: path.read_bytes() for path in Path().iterdir() if path.is_file()} == before


def tones(seconds: float, peak: float = 0.1, rate: int = RATE) -> np.ndarray:
    return (peak * np.sin(np.arange(int(seconds * rate)) * 0.1)).astype(np.float32)
