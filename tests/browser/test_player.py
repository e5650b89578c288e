"""The player in a real page: what is heard is measured before the loudspeaker, and nothing is compared by pixels.

The page tells what it plays in attributes: `data-position`, `data-level` and `data-pitch` of the last 128 ms,
`data-jump`, the largest step between two samples since it began to play (a click is a large one), `data-underruns`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nbformat
import numpy as np
import pytest
from playwright.sync_api import Locator

from lab import audio
from lab.view import Player
from tests.browser.lab import STATUS, Notebook, Server

STEPS = (220, 330, 440, 550)  # Hz, 20 s each: a busy machine may take seconds to look
CELLS = (
    """
import time
from pathlib import Path
import numpy as np
from lab.speech import Chunk
from ipywidgets import IntSlider
import plotly.graph_objects as go
from lab.view import Causes, Curve, Heat, Marks, Player, Ribbon, Words, explore

def tone(hertz, seconds, level=0.3):
    return (level * np.sin(2 * np.pi * hertz * np.arange(int(seconds * 16000)) / 16000)).astype(np.float32)

def chunks(speed, size, count, hertz=300, work=time.sleep):
    began, whole = time.monotonic(), tone(hertz, size * count)
    for k in range(count):
        work(max(0, began + speed * size * (k + 1) - time.monotonic()))
        yield Chunk(whole[int(k * size * 16000) : int((k + 1) * size * 16000)], size * (k + 1), 25 * k, 590_000)
""",
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
pair = Player({"low": tone(200, 60), "high": tone(300, 60, 0.1)}, caption="two tones")
pair
""",
    """
blind = Player({"low": tone(200, 60), "high": tone(300, 60, 0.1)}, caption="two tones, unseen", blind=True)
blind
""",
    """
story = Player.live(chunks(0.7, 0.1, 600), "a story", file="story.wav", cache_bytes=6144)
story
""",
    """
long = Player.live(chunks(0, 60, 12, hertz=500), "twelve minutes")
long.wait()
long
""",
    """
while not Path("heard").exists():
    time.sleep(0.05)
""",
    """
tones = {f"{200 + 20 * k} Hz": tone(200 + 20 * k, 2) for k in range(12)}
twelve = Player(tones, blind=True, caption="twelve tones, unseen")
twelve
""",
    """
explore(
    lambda hertz: go.Figure().add_scatter(y=[hertz]),
    hear=lambda hertz: Player(tone(hertz, 60), caption=f"{hertz} Hz", play=True),
    hertz=IntSlider(300, 200, 400, 100, description="frequency, Hz"),
)
""",
)
SETUP, TRANSPORT, PAIR, BLIND, LIVE, LONG, BUSY, TWELVE, EXPLORED = range(len(CELLS))


class Shown:
    """A player in the page."""

    def __init__(self, notebook: Notebook, index: int):
        self.show(notebook, notebook.run(index).locator(".lab-player"))

    @classmethod
    def of(cls, notebook: Notebook, root: Locator) -> Shown:
        shown = cls.__new__(cls)
        shown.show(notebook, root)
        return shown

    def show(self, notebook: Notebook, root: Locator) -> None:
        self.page, self.root = notebook.page, root
        self.root.locator(".plot").wait_for()
        self.root.scroll_into_view_if_needed()
        self.handle = self.root.element_handle()

    def __getitem__(self, name: str) -> float:
        return float(self.root.get_attribute(f"data-{name}") or "nan")

    def button(self, name: str):  # noqa: ANN201
        return self.root.get_by_role("button", name=name, exact=True)

    def until(self, condition: str, seconds: float = 20) -> None:
        """Waits for a condition on `data`, the attributes of the player."""
        script = f"root => {{ const data = root.dataset; return {condition}; }}"
        self.page.wait_for_function(script, arg=self.handle, timeout=1000 * seconds)

    def hears(self, hertz: float) -> None:
        self.until(f"data.level > 0.05 && Math.abs(data.pitch / {hertz} - 1) < 0.08")

    def at(self, share: float) -> tuple[float, float]:
        self.root.locator(".plot").scroll_into_view_if_needed()  # a cell that ran since may be in its place
        box = self.root.locator(".plot").bounding_box()
        assert box is not None
        return box["x"] + share * box["width"], box["y"] + 20

    def click(self, share: float) -> None:
        self.page.mouse.click(*self.at(share))
        self.until("data.playing === 'true'")  # shown with the next frame: `pause` reads it

    def pause(self) -> None:
        if self.root.get_attribute("data-playing") == "true":
            self.button("Pause").click()
        self.until("data.playing === 'false'")


@pytest.fixture(scope="module")
def notebook(server: Server, opened: Callable[..., Notebook]) -> Notebook:
    server.write("player.ipynb", CELLS)
    notebook = opened("player.ipynb")
    notebook.run(SETUP)
    return notebook


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


def test_an_explorer_plays_what_its_controls_say(notebook: Notebook):
    explorer = notebook.run(EXPLORED)
    for hertz in (300, 400):
        if hertz == 400:
            explorer.locator(".noUi-handle").press("ArrowRight")
        explorer.get_by_role("button", name="Hear it").click()
        Shown.of(notebook, explorer.locator(f".lab-player[aria-label='{hertz} Hz']")).hears(hertz)
    assert explorer.locator(".lab-player").count() == 1


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


def test_switching_keeps_the_place_and_makes_no_click(notebook: Notebook):
    pair, page = Shown(notebook, PAIR), notebook.page
    pair.button("Play").click()
    pair.hears(200)
    page.wait_for_timeout(400)  # the pitch is heard before the gains have come to rest
    low = pair["level"]
    # By the clock of the sound card, which runs on between two reads of a frame: the median of 15 frames.
    measure = """async root => {
        const late = [];
        while (late.length < 15) {
            await new Promise(requestAnimationFrame);
            late.push(root.dataset.position - globalThis[Symbol.for("speechssm-lab.player")].context.currentTime);
        }
        return late.sort((a, b) => a - b)[7];
    }"""
    before = page.evaluate(measure, pair.handle)
    for _ in range(3):
        pair.root.get_by_role("radio", name="high").click()
        pair.hears(300)
        page.wait_for_timeout(400)
        high = pair["level"]
        page.keyboard.press("1")
        pair.hears(200)
    assert abs(page.evaluate(measure, pair.handle) - before) < 0.02
    assert pair["jump"] < 0.3 * 2 * np.pi * (200 + 300) / 16_000  # both slopes at once, if they were
    assert abs(20 * np.log10(high / low)) < 0.5
    assert pair.root.get_by_role("radio", name="low −9.5 dB").get_attribute("aria-checked") == "true"
    notebook.picture("comparison", pair.root)
    pair.pause()


def test_blind_votes_reach_python(notebook: Notebook):
    blind, page = Shown(notebook, BLIND), notebook.page
    blind.button("Play").click()
    assert "low" not in blind.root.inner_text().replace("two tones, unseen", "")
    picked = []
    for _ in range(4):
        blind.root.get_by_role("radio", name="A", exact=True).click()
        blind.until("Math.abs(data.pitch / 200 - 1) < 0.08 || Math.abs(data.pitch / 300 - 1) < 0.08")
        page.wait_for_timeout(300)
        low = blind["pitch"] < 250
        picked.append(low)
        blind.root.get_by_role("button", name="A" if low else "B", exact=True).click()  # always the low tone
    blind.button("no difference").click()
    blind.pause()
    notebook.picture("blind", blind.root)
    assert notebook.evaluate("blind.votes") == {"low": 4, "no difference": 1}
    blind.button("Reveal").click()
    count, least, most = notebook.evaluate("blind.verdict()")["low"]
    told = blind.root.locator(".votes").inner_text()
    assert count == 4
    assert f"low: better in 4 of 4 (100 %, 95 % interval {100 * least:.0f} % to {100 * most:.0f} %)" in told
    notebook.picture("blind-revealed", blind.root)


def test_twelve_unseen_sounds_have_letters_and_keys(notebook: Notebook):
    twelve, page = Shown(notebook, TWELVE), notebook.page
    choices = twelve.root.get_by_role("radio")
    assert "".join(choice.inner_text() for choice in choices.all()) == "ABCDEFGHIJKL"
    choices.first.click()
    for key, label in (("l", 11), ("2", 1), ("J", 9)):
        page.keyboard.press(key)
        twelve.page.wait_for_function(
            "choice => choice.ariaChecked === 'true'", arg=choices.nth(label).element_handle()
        )
    assert choices.nth(9).get_attribute("title") == "hear it (key J)"
    twelve.button("Reveal").click()
    assert [choice.inner_text() for choice in choices.all()] == [f"{200 + 20 * k} Hz" for k in range(12)]


def test_a_story_plays_while_it_is_made(notebook: Notebook):
    story, page = Shown(notebook, LIVE), notebook.page
    if story.root.get_attribute("data-playing") != "true":
        story.button("Play").click()
    story.until("data.position > 5", 20)
    story.hears(300)
    assert story["underruns"] == 0
    assert story["jump"] < 1.1 * 0.3 * 2 * np.pi * 300 / 16_000  # the pieces meet sample to sample
    gauges = story.root.locator(".gauges").inner_text()
    assert "× real time" in gauges and "0.59 MB" in gauges and "keys and values" in gauges
    notebook.picture("live", story.root)

    silent = """root => new Promise(done => {
        const pressed = performance.now();
        const look = () => root.dataset.level < 0.001 ? done(performance.now() - pressed) : requestAnimationFrame(look);
        [...root.querySelectorAll("button")].find(button => button.textContent === "Stop").click();
        look();
    })"""
    assert page.evaluate(silent, story.handle) < 500
    assert story.root.get_by_role("status").inner_text() == "stopped"
    assert not notebook.evaluate("(story._worker.join(5), story._worker.is_alive())[1]")
    assert notebook.evaluate("__import__('lab.audio').audio.load('story.wav').size / 16000 == story.made")
    story.button("Rewind").click()
    story.until("data.position === '0.0000'")
    story.button("Play").click()
    story.hears(300)
    assert story["position"] < 15
    story.pause()


def test_the_page_holds_ten_minutes_and_asks_for_the_rest(notebook: Notebook):
    long = Shown(notebook, LONG)
    long.pause()
    long.until("data.held === '600'")
    long.click(0.01)  # 7 s of 720, long gone
    long.hears(500)
    assert 7 <= long["position"] < 60 and long["held"] == 600
    assert long.root.get_by_text("of 12:00.0").is_visible()
    long.pause()


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


def test_a_story_whose_kernel_was_restarted_says_so(notebook: Notebook):
    story = Shown(notebook, LIVE)
    story.until("data.held > 3")
    notebook.page.evaluate("() => jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()")
    status = story.root.locator(".gauges").get_by_role("status")
    status.get_by_text("the kernel was restarted").wait_for(timeout=15_000)
    story.until("data.playing === 'false'")
    assert story.button("Stop").is_disabled()
    story.button("Rewind").click()
    story.button("Play").click()  # what was made is in the page
    story.hears(300)
    story.pause()


def test_nothing_failed_and_nothing_was_fetched(notebook: Notebook):
    assert notebook.errors() == [] and notebook.console == [] and notebook.external == []


def test_a_notebook_opened_cold_shows_and_plays(server: Server, opened: Callable[..., Notebook]):
    waveform = (0.3 * np.sin(np.arange(20 * 16_000) / 8)).astype(np.float32)
    data, _ = Player(waveform, caption="a tone")._repr_mimebundle_()
    cell = nbformat.v4.new_code_cell("player", execution_count=1)
    stored = {"text/plain": data["text/plain"], "text/html": data["text/html"]}
    cell.outputs = [nbformat.v4.new_output("execute_result", stored, execution_count=1)]
    path = server.write("cold.ipynb", [])
    cold = nbformat.read(path, as_version=4)
    cold.cells = [cell]
    nbformat.write(cold, path)  # not signed, so not trusted
    notebook = opened("cold.ipynb", kernel=False)
    notebook.page.wait_for_function("() => document.querySelector('.jp-OutputArea audio')?.readyState >= 1")
    poster, clip = notebook.page.locator(".jp-OutputArea img"), notebook.page.locator(".jp-OutputArea audio")
    assert poster.evaluate("image => image.complete && image.naturalWidth") == 640
    assert "waveform and spectrogram" in (poster.get_attribute("alt") or "")
    assert 19.5 < clip.evaluate("audio => audio.duration") < 20.5
    assert notebook.external == []
    notebook.picture("cold")
