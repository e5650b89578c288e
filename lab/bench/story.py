"""A story as whoever asked for it waits for it: its first sound, whether it goes on in time, its speed and memory."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from lab.bench.flat import resident
from lab.bench.report import Asked, Row
from lab.bench.timing import Spread, exactly, spread
from lab.errors import LabError

if TYPE_CHECKING:
    from lab.speech import Chunk

FIRST_PIECE, ON_DISK, SPEED = Asked("at most", 1.0, 0.4), Asked("at most", 3.0, 1.5), Asked("at least", 10, 20)
FIRST_EVER = Asked("at most", 12.0, 5.0)
IMPORT, GROWTH = Asked("at most", 2.0, 1.0), Asked("at most", 10, 2)


def rows(
    seconds: float = 120.0, rounds: int = 5, processes: int = 3, tokens: int = 90_000, cold: bool = True
) -> list[Row]:
    """The bundle goes on from the first prompt by `seconds`; by `tokens`, an hour, for its memory. processes: new ones,
    to the import and to the first audio on disk. cold: also where nothing was compiled but by setup, half a minute."""
    from lab.corpora.prompts import prompts  # here, as no other bench needs audio: a bare GPU machine may lack that
    from lab.speech import SpeechSSM
    from lab.tokens import TOKEN_RATE

    ssm, prompt, longest = SpeechSSM.load(), prompts()[0].path, tokens / TOKEN_RATE
    firsts = []
    for seed in range(1 + rounds):
        began = time.perf_counter()
        next(ssm.stream(prompt, seed=seed))
        firsts.append(time.perf_counter() - began)
    began = time.perf_counter()
    made, took, silent = listened(ssm.stream(prompt, seconds), began)
    on_disk, imported = _on_disk(prompt, processes), spread([_imported() for _ in range(processes)])
    first, added = _first_ever(prompt) if cold else (None, "left out")
    growth = grown(ssm.stream(prompt, longest, keep_tokens=False), min(60.0, longest / 2))
    return [
        Row("seconds to the first piece of a stream, warm", "s", spread(firsts[1:]), asked=FIRST_PIECE),
        Row("`lab story` in a new process, to its first audio on disk", "s", on_disk, asked=ON_DISK),
        Row("the same, the first after setup", "s", first, asked=FIRST_EVER, note=added),
        Row(f"silence while {made:.0f} s play as they are made", "s", exactly(silent), asked=Asked("at most", 0, 0)),
        Row(f"speech of {made:.0f} s", "s of speech a second", exactly(made / took), asked=SPEED),
        Row("import of lab.speech in a new process", "s", imported, asked=IMPORT),
        Row(f"resident memory, most above that at minute 1 of {longest / 60:g}", "MB", exactly(growth), asked=GROWTH),
    ]


def listened(stream: Iterable[Chunk], began: float) -> tuple[float, float, float]:
    """Seconds of speech, of making it since `began`, and of silence for who plays each chunk as soon as it can."""
    made, played_until, silent = 0.0, 0.0, 0.0
    for chunk in stream:
        now = time.perf_counter() - began
        if made:
            silent += max(0.0, now - played_until)
        played_until = max(played_until, now) + chunk.seconds - made
        made = chunk.seconds
    return made, now, silent


def grown(stream: Iterable[Chunk], after: float) -> float:
    """MB of resident memory, at most, above those at the first chunk that ends `after` seconds of speech."""
    seen = [resident() for chunk in stream if chunk.seconds >= after]
    return (max(seen) - seen[0]) / 1e6


def _imported() -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import lab.speech"], check=True)
    return time.perf_counter() - began


def _first_ever(prompt: Path) -> tuple[Spread, str]:
    """Seconds to the first audio on disk with caches of their own, that only setup has filled; and what was added."""
    with TemporaryDirectory() as folder:
        own = {"NUMBA_CACHE_DIR": f"{folder}/numba", "PYTHONPYCACHEPREFIX": f"{folder}/bytecode"}
        environment = os.environ | own
        subprocess.run([sys.executable, "-m", "lab.language.compile"], check=True, env=environment, capture_output=True)
        compiled = len([*Path(folder).rglob("*.nbc")])
        seconds = _on_disk(prompt, 1, environment)
        more = len([*Path(folder).rglob("*.nbc")]) - compiled
        return seconds, f"of what numba compiles setup made {compiled} files, this story {more} more"


def _on_disk(prompt: Path, processes: int, environment: dict[str, str] | None = None) -> Spread:
    from lab.audio.writing import HEADER

    found = []
    for _ in range(processes):
        with TemporaryDirectory() as folder:
            began, words = time.perf_counter(), ("story", str(prompt), "-o", f"{folder}/story.wav")
            process = subprocess.Popen(
                [sys.executable, "-m", "lab", *words], stderr=subprocess.DEVNULL, env=environment
            )
            try:
                while not any(path.stat().st_size > HEADER for path in Path(folder).iterdir()):
                    if process.poll() is not None:
                        raise LabError(f"`lab story {prompt}` ended before it spoke; run it to see why")
                    time.sleep(0.01)
                found.append(time.perf_counter() - began)
            finally:
                process.kill()
                process.wait()
    return spread(found)
