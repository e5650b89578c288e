"""The player's transport in a real page: seeking, looping, keys, speed, volume, themes. No pixels are compared."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lab import audio
from tests.browser.lab import STATUS, Notebook, Server
from tests.browser.shown import SETUP, Shown

STEPS = (220, 330, 440, 550)  # Hz, 20 s each: a busy machine may take seconds to look
CELLS = (
    SETUP,
    f"""
times = np.linspace(0, 80, 400)
words = "once upon a time there was a quiet owl that lived in a green tower by the slow river".split()
tracks = [
    Ribbon("tokens", np.random.default_rng(0).integers(0, 256, 2000)),
    Words("words", [(4 * k, 4 * k + 3.5, word) for k, word in enumerate(words)]),
    Curve("norm of the state", times, np.abs(np.sin(times / 6))),
    Marks("changes", [24.0, 65.5]),
    Heat("held", np.repeat(np.eye(4), 20, 1), 1, ("first", "last")),
    Causes("from when", np.eye(80), 1),
]
steps = Player(np.concatenate([tone(hertz, 20) for hertz in {STEPS}]), tracks, "four tones", seams=[20, 40, 60])
steps
""",
    """
while not Path("heard").exists():
    time.sleep(0.05)
""",
)
TRANSPORT, BUSY = 1, 2


@pytest.fixture(scope="module")
def steps(notebook: Notebook) -> Shown:
    return Shown(notebook, TRANSPORT)


def test_a_click_plays_that_moment(steps: Shown):
    for share, hertz in ((0.52, 440), (0.77, 550), (0.02, 220)):
        steps.click(share)
        steps.hears(hertz)
        assert 0 <= steps["position"] - 80 * share < 15
    assert steps["jump"] < 2 * 0.3 * 2 * np.pi * max(STEPS) / 16_000  # no click: twice the slope of the tones


def test_the_seconds_that_caused_what_is_pointed_at_light_up(steps: Shown):
    lit = """([root, name]) => {
        const lane = [...root.querySelectorAll(".lane")].find(each => each.querySelector(".name").textContent === name);
        const { width, height } = lane.lastChild, at = lane.lastChild.getContext("2d");
        return [0.13, 0.38, 0.63, 0.88].map(x => at.getImageData(x * width, height / 8, 1, 1).data[3]);
    }"""
    for share, expected in ((0.1325, [255, 0, 0, 0]), (0.8825, [0, 0, 0, 255])):
        steps.page.mouse.move(*steps.at(share))
        causes = f"args => {{ const found = ({lit})(args); return {expected}.every((x, i) => x === found[i]); }}"
        steps.page.wait_for_function(causes, arg=[steps.handle, "from when"])
    assert steps.page.evaluate(lit, [steps.handle, "held"]) == [255, 0, 0, 0]  # the first row alone, and only there
    assert "from when 100 % from 70 to 71 s" in steps.root.locator(".footer").inner_text()


def test_a_click_is_heard_while_the_kernel_works(notebook: Notebook, server: Server, steps: Shown):
    notebook.start(BUSY)
    notebook.page.wait_for_function(STATUS, arg="busy")
    steps.click(0.27)
    steps.hears(330)
    assert notebook.page.evaluate("() => window.done") is None  # the cell runs on
    (server.root / "heard").touch()
    notebook.page.wait_for_function("index => window.done === index", arg=BUSY)
    steps.pause()
    assert abs(notebook.evaluate("steps.seconds") - steps["position"]) < 0.01


def test_python_moves_the_player(notebook: Notebook, steps: Shown):
    notebook.evaluate("steps.seek(41)")
    steps.hears(440)
    notebook.evaluate("steps.seek(300)")  # beyond the end nothing is left to play
    steps.until("data.playing === 'false' && data.position > 79.99")
    notebook.evaluate("steps.seek(1, play=False)")
    steps.until("Math.abs(data.position - 1) < 1e-3")
    steps.pause()


def test_wheel_zooms_and_drag_loops(notebook: Notebook, steps: Shown):
    page = notebook.page
    steps.click(0.5)
    steps.pause()
    page.mouse.move(*steps.at(0.5))
    page.mouse.wheel(0, -1000)  # 32 times closer around 40 s: 2.5 s, from 38.75 to 41.25 s
    page.wait_for_timeout(300)
    page.mouse.down()
    page.mouse.move(*steps.at(0.75), steps=4)
    page.mouse.up()
    steps.hears(440)
    assert steps.root.get_by_text("Loop 40.00 to 40.6").is_visible()
    for _ in range(4):
        page.wait_for_timeout(400)  # 0.6 s is a round
        assert 40 <= steps["position"] <= 40.63
    assert steps["jump"] < 0.2
    notebook.picture("transport-loop", steps.root)
    page.keyboard.press("Escape")
    steps.pause()
    for _ in range(5):
        page.keyboard.press("-")


def test_keys_alone_suffice(notebook: Notebook, steps: Shown):
    page, cells = notebook.page, notebook.page.locator(".jp-Notebook .jp-Cell").count()
    focused = "() => document.activeElement.getAttribute('role')"
    steps.button("Play").focus()
    page.keyboard.press("Space")  # the button's own
    steps.until("data.playing === 'true'")
    page.keyboard.press("Space")
    steps.until("data.playing === 'false'")
    for _ in range(8):
        if page.evaluate(focused) == "slider":
            break
        page.keyboard.press("Tab")
    for key in ("Home", "ArrowRight", "ArrowRight", "ArrowRight", "ArrowRight", "ArrowLeft", "Shift+ArrowRight"):
        page.keyboard.press(key)
    steps.until("Math.abs(data.position - 3.1) < 1e-3")
    slider = steps.root.get_by_role("slider", name="position in seconds")
    assert slider.get_attribute("aria-valuenow") == "3.10"
    assert slider.get_attribute("aria-valuetext") == "3.1 s of 1:20.0"
    for key in ("[", "ArrowRight", "]"):
        page.keyboard.press(key)
    assert steps.root.get_by_text("Loop 3.10 to 4.10 s").is_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("Space")
    steps.hears(220)
    for key in ("b", "a", "Space", "End"):  # in JupyterLab's command mode b and a insert cells
        page.keyboard.press(key)
    steps.until("data.playing === 'false' && data.position > 79.99")
    assert page.locator(".jp-Notebook .jp-Cell").count() == cells


def test_twice_the_speed_keeps_the_pitch(notebook: Notebook, steps: Shown):
    clock = "() => globalThis[Symbol.for('speechssm-lab.player')].context.currentTime"
    steps.root.get_by_label("speed").select_option("2")
    notebook.evaluate("steps.seek(21)")
    steps.hears(330)
    began, at = steps["position"], notebook.page.evaluate(clock)
    notebook.page.wait_for_timeout(1500)
    passed = notebook.page.evaluate(clock) - at
    assert 1.6 < (steps["position"] - began) / passed < 2.4
    assert steps["jump"] < 2 * 0.3 * 2 * np.pi * 330 / 16_000  # pieces meet
    steps.hears(330)
    steps.root.get_by_label("speed").select_option("1")
    steps.pause()


def test_volume_is_turned_down_behind_what_is_measured(notebook: Notebook, steps: Shown):
    gain = "() => globalThis[Symbol.for('speechssm-lab.player')].volume"
    steps.root.get_by_label("volume").fill("0.25")
    notebook.evaluate("steps.seek(41)")
    steps.hears(440)
    assert notebook.page.evaluate(gain) == 0.25
    steps.root.get_by_label("volume").fill("1")
    steps.pause()


def test_what_is_heard_is_saved(notebook: Notebook, steps: Shown, tmp_path: Path):
    with notebook.page.expect_download() as saved:
        steps.button("Save").click()
    saved.value.save_as(tmp_path / "saved.wav")
    assert saved.value.suggested_filename.endswith(".wav")
    waveform = audio.load(tmp_path / "saved.wav")
    spectrum = np.abs(np.fft.rfft(waveform[-16_000:]))
    assert len(waveform) == 80 * 16_000 and spectrum.argmax() == STEPS[-1]


def test_an_overview_shows_what_is_in_view(notebook: Notebook, steps: Shown):
    overview = steps.root.locator(".map canvas")
    assert not overview.is_visible()
    for _ in range(3):
        steps.button("+").click()
    box = overview.bounding_box()
    assert box is not None
    notebook.page.mouse.click(box["x"] + 0.9 * box["width"], box["y"] + 5)
    steps.click(0.5)  # the middle of what is in view is now at nine tenths of 80 s
    steps.until("Math.abs(data.position - 72) < 4")
    notebook.picture("overview", steps.root)
    steps.pause()
    for _ in range(3):
        steps.button("−").click()
    assert not overview.is_visible()


def test_play_wakes_a_page_that_may_not_sound_yet(notebook: Notebook, steps: Shown):
    context = "globalThis[Symbol.for('speechssm-lab.player')].context"
    steps.pause()
    notebook.page.evaluate(f"() => {context}.suspend()")
    steps.button("Rewind").click()
    steps.button("Play").click()
    steps.hears(220)
    assert notebook.page.evaluate(f"() => {context}.state") == "running"


def test_both_themes_are_readable(notebook: Notebook, steps: Shown):
    """The ink of the canvases follows the theme; the pictures are for people."""
    ink = """root => { const canvas = root.querySelectorAll(".lanes canvas"), axis = canvas[canvas.length - 1];
        const at = 4 * Math.floor(axis.width / 2);
        return axis.getContext("2d").getImageData(0, 0, axis.width, 1).data[at]; }"""
    shades = []
    for dark in (False, True):
        notebook.theme(dark)
        notebook.page.wait_for_timeout(500)
        steps.root.scroll_into_view_if_needed()
        notebook.picture(f"transport-{'dark' if dark else 'light'}", steps.root)
        shades.append(notebook.page.evaluate(ink, steps.handle))
    notebook.theme(False)
    assert shades[0] < 80 and shades[1] > 170


def test_nothing_failed_and_nothing_was_fetched(notebook: Notebook):
    assert notebook.errors() == [] and notebook.console == [] and notebook.external == []
