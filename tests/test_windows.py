from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.errors import LabError
from lab.windows import LIVE, SPEAKER_PROMPT, SYNTHESIS, TOKENIZATION, Growing, Window, Windowing, plan, seams, stream


@st.composite
def windowings(draw: st.DrawFn) -> tuple[int, int]:
    overlap = 2 * draw(st.integers(0, 20))
    return overlap + draw(st.integers(1, 60)), overlap


@st.composite
def growing(draw: st.DrawFn) -> tuple[int, int, int | None]:
    window, overlap = draw(windowings())
    return window, overlap, draw(st.none() | st.integers(1, window))


def kept(windows: list[Window]) -> list[int]:
    return [position for w in windows for position in range(w.keep_start, w.keep_stop)]


def test_toy_case_of_the_paper() -> None:
    windows = plan(9, 5, 2)
    assert windows == [Window(0, 5, 0, 4), Window(3, 8, 4, 7), Window(6, 9, 7, 9)]
    assert [w.keep_stop - w.keep_start for w in windows] == [4, 3, 2]
    assert [w.kept() for w in windows] == [slice(0, 4), slice(1, 4), slice(1, 3)]
    assert seams(windows) == [4, 7]


def test_seams_of_the_paper() -> None:
    assert [s / 25 for s in seams(plan(25 * 120, *TOKENIZATION))] == [28, 54, 80, 106]
    assert [s / 25 for s in seams(plan(25 * 90, *SYNTHESIS))] == [25, 48, 71]
    assert SYNTHESIS.window + SPEAKER_PROMPT == TOKENIZATION.window == 30 * 25


@pytest.mark.parametrize("windowing", [TOKENIZATION, SYNTHESIS, (5, 2), (1, 0), (4, 0), (7, 6)])
def test_every_total_is_tiled(windowing: tuple[int, int]) -> None:
    window, overlap = windowing
    totals = range(1, 3 * window + 2) if window < 100 else [*range(1, 4), *range(window - 2, 2 * window + 2)]
    for total in totals:
        windows = plan(total, window, overlap)
        assert windows[0].keep_start == 0 and windows[-1].keep_stop == windows[-1].stop == total
        assert all(a.keep_stop == b.keep_start for a, b in zip(windows, windows[1:], strict=False))


@given(st.integers(1, 3000), windowings())
def test_plan(total: int, windowing: tuple[int, int]) -> None:
    window, overlap = windowing
    windows = plan(total, window, overlap)
    stride = window - overlap
    assert len(windows) == (1 if total <= window else 1 + -(-(total - window) // stride))
    assert kept(windows) == list(range(total))
    assert [w.start for w in windows] == [k * stride for k in range(len(windows))]
    assert all(len(w) == window for w in windows[:-1]) and 1 <= len(windows[-1]) <= window
    assert all(w.start <= w.keep_start < w.keep_stop <= w.stop for w in windows)
    for left, right in zip(windows, windows[1:], strict=False):  # half the overlap on either side of a seam
        assert left.stop - left.keep_stop == right.keep_start - right.start == overlap // 2
        assert right.stop - right.keep_start > overlap // 2


@given(st.integers(1, 3000), growing())
def test_windows_grow(total: int, windowing: tuple[int, int, int | None]) -> None:
    window, overlap, first = windowing
    windows = plan(total, *windowing)
    assert kept(windows) == list(range(total))
    lengths = [min(window, (first or window) * 2**k) for k in range(len(windows))]
    assert [len(w) for w in windows[:-1]] == lengths[:-1] and 1 <= len(windows[-1]) <= lengths[-1]
    assert all(w.start <= w.keep_start < w.keep_stop <= w.stop for w in windows)
    for left, right in zip(windows, windows[1:], strict=False):
        shared = left.stop - right.start
        assert left.stop - left.keep_stop == right.keep_start - right.start == shared // 2
        assert shared == overlap if len(left) == window else 4 * shared <= len(left) and shared <= overlap
    if windows[-1].start > 2 * window:
        assert len(windows[-2]) == window


def test_live_windows_begin_at_once_and_become_those_of_the_paper() -> None:
    windows = plan(25 * 120, *LIVE)
    assert [len(w) / 25 for w in windows[:-1]] == [2, 4, 8, 16, *[27] * 4]
    assert [s / 25 for s in seams(windows)] == pytest.approx([1.76, 5.04, 11.56, *(24.56 + 23 * n for n in range(5))])
    assert LIVE.first < SPEAKER_PROMPT  # a prompt is enough to begin with


@given(st.integers(1, 1500), growing(), st.data())
def test_margins_overlap_by_the_fade(total: int, windowing: tuple[int, int, int | None], data: st.DataObject) -> None:
    windows = plan(total, *windowing)
    least = min((left.stop - right.start for left, right in zip(windows, windows[1:], strict=False)), default=0)
    margin = data.draw(st.integers(0, least // 2))
    reached = [range(total)[w.start : w.stop][w.kept(margin)] for w in windows]
    assert reached[0].start == 0 and reached[-1].stop == total
    assert all(a.stop - b.start == 2 * margin for a, b in zip(reached, reached[1:], strict=False))


@given(st.integers(0, 1500), growing())
def test_a_stream_gives_the_windows_of_the_plan(total: int, windowing: tuple[int, int, int | None]) -> None:
    pieces = list(stream(range(total), *windowing))
    assert [w for w, _ in pieces] == (plan(total, *windowing) if total else [])
    assert all(items == list(range(w.start, w.stop)) for w, items in pieces)


@pytest.mark.parametrize("windowing", [SYNTHESIS, LIVE])
def test_a_stream_draws_no_more_than_it_needs(windowing: Windowing | Growing) -> None:
    drawn: list[int] = []

    def tokens() -> Iterator[int]:
        while True:
            drawn.append(len(drawn))
            yield drawn[-1]

    for window, items in islice(stream(tokens(), *windowing), 20):
        assert len(drawn) == window.stop + 1 and items == drawn[window.start : window.stop]


def test_scaled_to_samples() -> None:
    assert Window(575, 1250, 625, 1200).scaled(640) == Window(368_000, 800_000, 400_000, 768_000)


@pytest.mark.parametrize(
    ("total", "window", "overlap", "said"),
    [
        (0, 5, 2, "length is 0"),
        (-3, 5, 2, "length is -3"),
        (9, 5, 5, "overlap by 5"),
        (9, 5, 6, "overlap by 6"),
        (9, 0, 0, "windows of 0"),
        (9, -5, -6, "windows of -5"),
        (9, 5, -2, "overlap by -2"),
        (9, 5, 3, "overlap of 3"),
    ],
)
def test_what_cannot_be_planned(total: int, window: int, overlap: int, said: str) -> None:
    with pytest.raises(LabError, match=said):
        plan(total, window, overlap)
    if total > 0:
        with pytest.raises(LabError, match=said):
            stream([], window, overlap)


@pytest.mark.parametrize("first", [0, -1, 6, 2.5, "2"])
def test_windows_grow_from_a_window(first: Any) -> None:
    for cut in (lambda: plan(9, 5, 2, first), lambda: stream([], 5, 2, first)):
        with pytest.raises(LabError, match="a first window of .*: give an integer from 1 to 5"):
            cut()


def test_a_margin_stays_within_the_overlap() -> None:
    for margin in (51, -1):
        with pytest.raises(LabError, match=f"margin of {margin}"):
            plan(2000, *TOKENIZATION)[1].kept(margin)
