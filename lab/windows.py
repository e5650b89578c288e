"""Where windows start, overlap and join: integer arithmetic for the tokenizer and for the voice.

A long stream is cut into windows that overlap; each is worked on alone; at an overlap the first half comes
from the earlier window and the second half from the later one (SpeechSSM, arXiv 2412.18603, Fig. 4). With
window W, overlap O, stride S = W - O and N items there are K = 1 windows if N <= W, else 1 + ceil((N - W) /
S), and the seams fall at W - O/2, W - O/2 + S, ... Units are whatever the caller counts in: tokens, frames,
samples.

Windows may also grow: from a short first one each is twice as long as the one before, until they are W. Who listens
to a stream waits for the first window alone, and each of the others is worked on while the ones before are heard.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from numbers import Integral
from typing import NamedTuple, TypeVar

from lab.errors import LabError

Item = TypeVar("Item")

TOKEN_RATE = 25  # semantic tokens a second
TOKEN_HOP = 640  # samples of a token, at 16 kHz


class Windowing(NamedTuple):
    """Length of a window and what neighbours share; `plan(total, *windowing)` takes both."""

    window: int
    overlap: int


class Growing(NamedTuple):
    """As `Windowing`, but from a window of length `first` on each is twice as long as the one before, up to `window`.

    Until then neighbours share a quarter of the earlier one, at most `overlap`.
    """

    window: int
    overlap: int
    first: int


TOKENIZATION = Windowing(750, 100)  # 30 s and 4 s of tokens at 25 Hz (paper Fig. 4a): seams at 28 + 26n s
SYNTHESIS = Windowing(675, 100)  # 27 s of new tokens beside the prompt (paper Fig. 4b): seams at 25 + 23n s
LIVE = Growing(*SYNTHESIS, first=50)  # 2, 4, 8, 16 and then 27 s: seams at 1.76, 5.04, 11.56, 24.56 + 23n s
SPEAKER_PROMPT = 75  # tokens: 3 s of the speaker in front of every synthesis window


@dataclass(frozen=True)
class Window:
    """One window. All four positions are global: the window sees [start, stop) and answers for
    [keep_start, keep_stop).

    `stop` never passes the end of the stream, so the last window may be shorter than the others. The voice
    speaks it as it is; the tokenizer, which must never see an end, completes it to the full window with
    repeated padding (paper Fig. 4a) and drops what it gets beyond `stop`.
    """

    start: int
    stop: int
    keep_start: int
    keep_stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def kept(self, margin: int = 0) -> slice:
        """Where the kept part lies within this window's own output, as a slice.

        margin: items to take beyond each cut, for a cross-fade; at most half the overlap. The two ends of the
        stream are no cuts and get none, so neighbours' slices share exactly 2 * margin items.
        """
        before = margin if self.keep_start > 0 else 0
        after = margin if self.keep_stop < self.stop else 0
        start, stop = self.keep_start - before, self.keep_stop + after
        if margin < 0 or start < self.start or stop > self.stop:
            raise LabError(f"a margin of {margin} does not fit {self}; give at most half the overlap")
        return slice(start - self.start, stop - self.start)

    def scaled(self, factor: int) -> Window:
        """The same window in a unit `factor` times finer: 640 turns tokens into samples at 16 kHz."""
        positions = (self.start, self.stop, self.keep_start, self.keep_stop)
        return Window(*(position * factor for position in positions))


def plan(total: int, window: int, overlap: int, first: int | None = None) -> list[Window]:
    """The windows over `total` items; their kept parts tile [0, total) without gap or repeat.

    total >= 1; overlap even (the cut is its middle), at least 0 and less than window; first from 1 to window;
    LabError otherwise. Example (paper Fig. 4a): plan(9, 5, 2) keeps 4, 3 and 2 items.
    """
    _check(window, overlap, first)
    if not isinstance(total, Integral) or total < 1:
        raise LabError(f"nothing to cut into windows: the length is {total}; give an integer, at least 1")
    found = []
    for part in _endless(window, overlap, first):
        if part.stop >= total:
            break
        found.append(part)
    return [*found, replace(part, stop=total, keep_stop=total)]


def stream(
    items: Iterable[Item], window: int, overlap: int, first: int | None = None
) -> Iterator[tuple[Window, list[Item]]]:
    """`plan` for a stream that is still arriving: each window, with its items, as soon as it is certain.

    A window is certain when one item beyond it has come (so it is not the last, and its end is cut) or when
    the stream has ended. No item is drawn before the window that needs it is asked for, and at most window
    + 1 are held, so a stream may go on for ever. The windows are those of `plan`; an empty stream gives
    none. Raises LabError as `plan` does.
    """
    _check(window, overlap, first)
    return _stream(items, _endless(window, overlap, first))


def _stream(items: Iterable[Item], parts: Iterator[Window]) -> Iterator[tuple[Window, list[Item]]]:
    held: list[Item] = []
    part = next(parts)
    for item in items:
        held.append(item)
        if len(held) > len(part):
            yield part, held[: len(part)]
            before, part = part, next(parts)
            del held[: part.start - before.start]
    if held:
        end = part.start + len(held)
        yield replace(part, stop=end, keep_stop=end), held


def seams(windows: list[Window]) -> list[int]:
    """Where one window hands over to the next: K - 1 global positions."""
    return [window.keep_start for window in windows[1:]]


def _endless(window: int, overlap: int, first: int | None) -> Iterator[Window]:
    """The windows of a stream without end."""
    start, keep_start, length = 0, 0, first or window
    while True:
        shared = overlap if length == window else min(overlap, length // 8 * 2)  # even
        stop = start + length
        yield Window(start, stop, keep_start, stop - shared // 2)
        start, keep_start, length = stop - shared, stop - shared // 2, min(2 * length, window)


def _check(window: int, overlap: int, first: int | None) -> None:
    if not isinstance(window, Integral) or not isinstance(overlap, Integral):
        raise LabError(f"windows of {window!r} that overlap by {overlap!r}; give integers")
    if not 0 <= overlap < window:
        raise LabError(f"windows of {window} cannot overlap by {overlap}; give 0 <= overlap < window")
    if overlap % 2:
        raise LabError(f"an overlap of {overlap} has no middle to cut at; give an even number")
    if first is not None and not (isinstance(first, Integral) and 1 <= first <= window):
        raise LabError(f"a first window of {first!r}: give an integer from 1 to {window}, the length of the others")
