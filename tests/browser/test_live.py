"""Stories that play in a real page while they are made, and a player in a notebook of which nothing was run."""

from __future__ import annotations

from collections.abc import Callable

import nbformat
import numpy as np

from lab.view import Player
from tests.browser.lab import Notebook, Server
from tests.browser.shown import SETUP, Shown

CELLS = (
    SETUP,
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
from dataclasses import replace
from lab.corpora import storyworld

tales = [storyworld.story(seed, 12) for seed in (1, 2)]
said = [storyworld.normalize(" ".join(tale.sentences)).split() for tale in tales]

class Spells:
    \"\"\"Ten tokens a word; tokens from 10,000 on are of the second tale.\"\"\"

    def words(self, tokens):
        found = []
        for at in range(-int(tokens[0]) % 10, len(tokens) - 9, 10):
            tale, number = divmod(int(tokens[at]), 10_000)
            found.append((at / 25, at / 25 + 0.36, said[tale][number // 10]))
        return found

def spoken(tale, hertz):
    for k, chunk in enumerate(chunks(0.2, 0.4, 100, hertz)):
        yield replace(chunk, drawn=tuple(range(10_000 * tale + 10 * k, 10_000 * tale + 10 * k + 10)))

stories = {"kept": spoken(0, 300), "lost": spoken(1, 500)}
both = Player.live(stories, "two stories", tokenizer=Spells(), cast=tales[0].cast)
both
""",
    """
unequal = Player.live({"short": chunks(0.2, 0.5, 10, 300), "long": chunks(0.4, 0.5, 60, 500)}, "unequal stories")
unequal
""",
)
LIVE, LONG, BOTH, UNEQUAL = range(1, len(CELLS))


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


def test_two_stories_on_one_clock_have_their_words_and_marks(notebook: Notebook):
    both, page = Shown(notebook, BOTH), notebook.page
    if both.root.get_attribute("data-playing") != "true":
        both.button("Play").click()
    said = notebook.evaluate("said")
    # the word that is marked is the one that is spoken, after the six before it: they change in one frame
    spoken = """([root, words]) => {
        const now = Math.floor(root.dataset.position / 0.4), says = root.querySelector(".says");
        return says.querySelector("b").textContent === words[now]
            && says.textContent.startsWith(words.slice(now - 6, now + 1).join(" "));
    }"""
    both.until("data.position > 3")
    for name, hertz, words in (("kept", 300, said[0]), ("lost", 500, said[1]), ("kept", 300, said[0])):
        both.root.get_by_role("radio", name=name).click()
        both.hears(hertz)
        for _ in range(3):
            page.wait_for_function(spoken, arg=[both.handle, words], timeout=2000)
            page.wait_for_timeout(300)
    assert both["underruns"] == 0
    notebook.evaluate("both.wait()")
    both.until("data.held > 30")
    notebook.picture("live-both", both.root)
    drawn = """root => [...root.querySelectorAll(".lane")]
        .filter(lane => lane.querySelector(".name").textContent === "▼ hero, ✕ another")
        .map(({ lastChild: canvas }) => {
            const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height), shown = [0, 0];
            for (let i = 0; i < data.length; i += 4) if (data[i + 3] > 200) shown[data[i] > data[i + 1] ? 1 : 0] += 1;
            return shown.map(count => count > 20);
        })"""
    assert page.evaluate(drawn, both.handle) == [[True, False], [False, True]]  # green, its hero; red, another
    assert "keys and values" not in both.root.locator(".gauges").inner_text()
    both.pause()


def test_the_longer_of_two_stories_is_heard_to_its_end(notebook: Notebook):
    unequal = Shown(notebook, UNEQUAL)
    if unequal.root.get_attribute("data-playing") != "true":
        unequal.button("Play").click()
    unequal.root.get_by_role("radio", name="long").click()
    unequal.until("data.position > 6")  # the other has ended, this one has not
    assert notebook.evaluate("unequal.state") == "generating"
    unequal.hears(500)
    unequal.root.get_by_role("radio", name="short").click()
    unequal.until("data.level < 0.001")
    unequal.root.get_by_role("radio", name="long").click()
    notebook.evaluate("unequal._worker.join(20)")
    unequal.root.get_by_text("of 30.0 s").wait_for()
    unequal.click(0.9)
    unequal.hears(500)
    unequal.click(0.1)
    unequal.root.get_by_role("radio", name="short").click()
    unequal.hears(300)
    unequal.pause()


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
