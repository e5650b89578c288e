"""The path of the state beside the player's lanes: where it is at a moment, and the words that it carries."""

from __future__ import annotations

import numpy as np
import pytest

from tests.browser.lab import Notebook
from tests.browser.shown import SETUP, Shown

CORNERS = [(-1, -1), (1, -1), (1, 1), (-1, 1)]  # of a square, a second each, five times around
CELLS = (
    SETUP,
    f"""
path = np.array({CORNERS} * 5)
words = [(k, k + 0.6, f"word{{k}}") for k in range(20)]
tracks = [Words("heard", words), Trajectory("h", path, ("axis 1, 60 %", "axis 2, 20 %"), rate=1)]
square = Player(tone(300, 20), tracks, "a square")
square
""",
)


@pytest.fixture(scope="module")
def square(notebook: Notebook) -> Shown:
    return Shown(notebook, 1)


def moved(square: Shown, seconds: float) -> tuple[float, float, str]:
    """Pixels across and down, and the words that are shown, at a moment."""
    slider = square.root.get_by_role("slider", name="position in seconds")
    slider.focus()
    slider.press("Home")
    for _ in range(int(seconds)):
        slider.press("ArrowRight")
    for _ in range(round(10 * (seconds % 1))):
        slider.press("Shift+ArrowRight")
    square.until(f"Math.abs(data.position - {seconds}) < 1e-3")
    at = square.root.locator(".trajectory canvas").evaluate("canvas => ({...canvas.dataset})")
    return float(at["x"]), float(at["y"]), at["words"]


def test_the_path_is_where_the_moment_is(square: Shown):
    corners = np.array([moved(square, second)[:2] for second in range(4)])
    across, up = corners[1, 0] - corners[0, 0], corners[0, 1] - corners[3, 1]
    assert across > 100 and across == pytest.approx(up, abs=0.1)  # a square is one, and its y rises upwards
    np.testing.assert_allclose(corners, corners[0] + across * np.array([(0, 0), (1, 0), (1, -1), (0, -1)]), atol=0.1)
    np.testing.assert_allclose(moved(square, 5.3)[:2], corners[1] * 0.7 + corners[2] * 0.3, atol=0.1)
    drawn = """(canvas, [x, y]) => canvas.getContext("2d")
        .getImageData(x * devicePixelRatio, y * devicePixelRatio, 1, 1).data[3]"""
    canvas = square.root.locator(".trajectory canvas")
    dot, middle = (canvas.evaluate(drawn, at.tolist()) for at in (np.array(moved(square, 6)[:2]), corners.mean(0)))
    assert (dot, middle) == (255, 0)  # nothing runs through the middle of the square
    assert "across axis 1, 60 %, up axis 2, 20 %" in (canvas.get_attribute("aria-label") or "")


def test_words_move_with_the_sound_and_stay_where_they_were_said(square: Shown):
    assert moved(square, 0.3)[2] == "word0"
    assert moved(square, 4.3)[2] == "word4 word3 word2 word1"  # 3 s after its end a word is gone: word1 is 2.7 s old
    assert moved(square, 4.8)[2] == "word4 word3 word2"


def test_it_runs_while_the_sound_plays(notebook: Notebook, square: Shown):
    before = moved(square, 1)[:2]
    square.button("Play").click()
    square.hears(300)
    square.until("data.position > 2.3")
    now = square.root.locator(".trajectory canvas").evaluate("canvas => [+canvas.dataset.x, +canvas.dataset.y]")
    assert np.abs(np.subtract(now, before)).max() > 20
    square.pause()


def test_a_click_on_the_path_plays_that_moment(square: Shown):
    x, y, _ = moved(square, 2)
    moved(square, 12)
    square.root.locator(".trajectory canvas").click(position={"x": x + 3, "y": y - 3})
    square.hears(300)
    assert 2 <= square["position"] < 5  # the first of the five moments there
    square.pause()


def test_both_themes_are_readable(notebook: Notebook, square: Shown):
    """The ink of axes and words follows the theme; the pictures are for people."""
    ink = """canvas => canvas.getContext("2d")
        .getImageData(24 * devicePixelRatio, 60 * devicePixelRatio, 1, 1).data[0]"""
    shades = []
    for dark in (False, True):
        notebook.theme(dark)
        notebook.page.wait_for_timeout(500)
        notebook.picture(f"trajectory-{'dark' if dark else 'light'}", square.root)
        shades.append(square.root.locator(".trajectory canvas").evaluate(ink))
    notebook.theme(False)
    assert shades[0] < 100 and shades[1] > 150


def test_nothing_failed_and_nothing_was_fetched(notebook: Notebook):
    assert notebook.errors() == [] and notebook.console == [] and notebook.external == []
