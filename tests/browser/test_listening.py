"""A listening test in a real page, by keyboard alone: with a kernel that writes the CSV, and exported without one.

How long a sound lasts tells the test, and nobody else, which system it is of: `data-seconds` of what was played last.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import Browser, Locator, Page

from lab.measure import listening
from lab.measure.listening import Answer
from tests.browser.lab import PICTURES, Notebook, Server
from tests.notebooks.export import export

MADE = """
import numpy as np
from lab.speech import Story
from lab.view.listening import ListeningTest, nmos, preference, seams

def tone(seconds, hertz, level=0.3):
    return (level * np.sin(2 * np.pi * hertz * np.arange(int(seconds * 16000)) / 16000)).astype(np.float32)

systems = {
    "brief": {f"prompt {k}": tone(0.5, 200 + 20 * k) for k in range(2)},
    "lasting": {f"prompt {k}": tone(0.8, 300 + 20 * k, 0.1) for k in range(2)},
}
"""
CELLS = (
    MADE,
    "test = ListeningTest([*nmos(systems), *preference(systems)], 'answers.csv', seed=2)\ntest",
    """
story = Story(tone(12, 220), None, 0, [6.0])
joins = ListeningTest(seams({"owl": story}, seconds=0.7), "joins.csv", rater="Ada", seed=1)
joins
""",
    "from lab.view import Player\nPlayer(tone(30, 300))",
)
TEST, JOINS, PLAYER = range(1, len(CELLS))
SYSTEMS = {"0.500": "brief", "0.800": "lasting"}
TRIALS = 6


class Asked:
    """A listening test in the page."""

    def __init__(self, page: Page, root: Locator):
        self.page, self.root = page, root
        root.wait_for()
        root.scroll_into_view_if_needed()

    def __getitem__(self, name: str) -> str:
        return self.root.get_attribute(f"data-{name}") or ""

    def until(self, condition: str) -> None:
        script = f"root => {{ const data = root.dataset; return {condition}; }}"
        self.page.wait_for_function(script, arg=self.root.element_handle(), timeout=20_000)

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def begin(self, name: str) -> None:
        self.root.get_by_label("your name or initials").focus()
        self.page.keyboard.type(name)
        self.press("Enter")
        self.until("data.trial === '0'")

    def answer(self) -> Answer:
        """Hears what is asked to its end, answers by keyboard for the longer sound, and says what that ought to be."""
        number = int(self["trial"])
        pair = self.root.locator(".sound").count() == 2
        self.until(f"data.heard === '{1 + pair}'")
        last = SYSTEMS[self["seconds"]]  # of a pair, B
        assert self.root.get_by_role("button", name="Next").is_disabled()
        if pair:
            self.press("2" if last == "lasting" else "1")
            system, against = ("brief", last) if last == "lasting" else ("lasting", last)
            score = 0.0 if last == "lasting" else 1.0
        else:
            self.press("4" if last == "lasting" else "2", "ArrowRight")
            system, against, score = last, "", 4.5 if last == "lasting" else 2.5
        self.press("Enter")
        self.until(f"data.trial === '{number + 1}'")
        return Answer("", "Ada", "preference" if pair else "N-MOS", "", "", system, against, score)


def same(found: list[Answer], expected: list[Answer]) -> bool:
    return [answer._replace(time="", item="") for answer in found] == expected


@pytest.fixture(scope="module")
def test(notebook: Notebook) -> Asked:
    return Asked(notebook.page, notebook.run(TEST).locator(".lab-listening"))


def test_keys_alone_answer_and_each_answer_is_written(notebook: Notebook, server: Server, test: Asked):
    cells = notebook.page.locator(".jp-Notebook .jp-Cell").count()
    test.begin("Ada")
    test.press(" ")  # the first sound plays by itself after the name; space stops it
    test.until("data.playing === ''")
    test.press(" ")
    expected = []
    for number in range(TRIALS):
        assert not any(name in test.root.inner_text() for name in (*SYSTEMS.values(), "prompt"))
        if number in (0, 3):
            notebook.picture(f"listening-{number}", test.root)
        expected.append(test.answer())
        assert same(listening.read(server.root / "answers.csv"), expected)
    assert {answer.test for answer in expected} == {"N-MOS", "preference"}
    assert test.root.get_by_text(f"All {TRIALS} trials are answered, in answers.csv").is_visible()
    assert notebook.page.locator(".jp-Notebook .jp-Cell").count() == cells  # in command mode A and B insert some


def test_a_rater_can_go_back_and_think_again(notebook: Notebook, server: Server, test: Asked):
    back = test.root.get_by_role("button", name="Back")
    back.focus()
    test.press("Enter")  # the button's own
    test.until(f"data.trial === '{TRIALS - 1}'")
    test.press("Backspace")
    test.until(f"data.trial === '{TRIALS - 2}'")
    before = listening.read(server.root / "answers.csv")
    pair = test.root.locator(".sound").count() == 2
    test.press("0" if pair else "1", "Enter")
    test.until(f"data.trial === '{TRIALS - 1}'")
    after = listening.read(server.root / "answers.csv")
    test.press("Backspace", "Enter")  # and once more, with nothing changed
    test.until(f"data.trial === '{TRIALS - 1}'")
    assert len(after) == len(before) == TRIALS and after[-1].score == (0.5 if pair else 1.0)


def test_results_are_shown_to_who_asks(notebook: Notebook, test: Asked):
    test.root.get_by_role("button", name="Results so far").click()
    table = test.root.locator("table")
    table.wait_for()
    figures = "[[row.test, row.name, f'{row.estimate.value:.2f}', str(row.estimate.n)] for row in test.results()]"
    shown = [line.get_by_role("cell").all_inner_texts() for line in table.locator("tr").all()[1:]]
    assert [[*cells[:3], cells[4]] for cells in shown] == notebook.evaluate(figures)
    for dark in (False, True):
        notebook.theme(dark)
        notebook.page.wait_for_timeout(500)
        test.root.scroll_into_view_if_needed()
        notebook.picture(f"listening-results-{'dark' if dark else 'light'}", test.root)
    notebook.theme(False)


def test_what_disturbs_is_ticked_by_its_letter(notebook: Notebook, server: Server):
    joins = Asked(notebook.page, notebook.run(JOINS).locator(".lab-listening"))
    joins.root.get_by_role("button", name="Play").focus()
    joins.press("Space")
    joins.until("data.heard === '1'")
    joins.press("r", "a", "o", "a", "3")
    ticked = joins.root.locator("[role=checkbox][aria-checked=true]")
    assert ticked.all_inner_texts() == ["prosody", "other"]
    for dark in (False, True):
        notebook.theme(dark)
        notebook.page.wait_for_timeout(500)
        notebook.picture(f"listening-joins-{'dark' if dark else 'light'}", joins.root)
    notebook.theme(False)
    joins.press("Enter")
    joins.until("data.trial === '1'")
    (answer,) = listening.read(server.root / "joins.csv")
    assert (answer.rater, answer.score, answer.flags) == ("Ada", 3.0, "prosody other")


def test_an_answer_that_is_not_kept_is_not_passed_over(notebook: Notebook, server: Server):
    joins = Asked(notebook.page, notebook.cell(JOINS).locator(".lab-listening"))
    file = server.root / "joins.csv"
    kept = file.read_text()
    file.write_text("something else\n")
    joins.until("data.heard === '1'")
    joins.press("5", "Enter")
    joins.root.get_by_text("holds no answers of a listening test").wait_for()
    assert joins["trial"] == "1" and file.read_text() == "something else\n"
    notebook.picture("listening-refused", joins.root)
    file.write_text(kept)
    joins.press("Enter")
    joins.until("data.trial === '2'")
    assert [answer.score for answer in listening.read(file)] == [3.0, 5.0]


def test_a_player_that_is_opened_after_it_is_heard(notebook: Notebook):
    root = notebook.run(PLAYER).locator(".lab-player")
    root.get_by_role("button", name="Play", exact=True).click()
    notebook.page.wait_for_function("root => root.dataset.level > 0.05", arg=root.element_handle(), timeout=20_000)


def test_nothing_failed_and_nothing_was_fetched(notebook: Notebook):
    assert notebook.errors() == [] and notebook.console == [] and notebook.external == []


def test_an_exported_page_asks_and_hands_out_the_answers(tmp_path: Path, browser: Browser):
    space: dict = {}
    exec(MADE, space)
    test = space["ListeningTest"]([*space["nmos"](space["systems"]), *space["preference"](space["systems"])], "a.csv")
    cell = nbformat.v4.new_code_cell("test", execution_count=1)
    stored = {"text/plain": repr(test), "text/html": test._page()}
    cell.outputs = [nbformat.v4.new_output("execute_result", stored, execution_count=1)]
    prose = nbformat.v4.new_markdown_cell("# A test\n\n**In a page.**")
    nbformat.write(nbformat.v4.new_notebook(cells=[prose, cell]), tmp_path / "00_test.ipynb")
    (made,) = export([tmp_path / "00_test.ipynb"], tmp_path / "html")
    context = browser.new_context(viewport={"width": 900, "height": 600}, offline=True, accept_downloads=True)
    page, console = context.new_page(), []
    page.on("console", lambda message: console.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: console.append(str(error)))
    page.goto(made.as_uri())
    asked = Asked(page, page.locator(".lab-listening"))
    asked.begin("Ada")
    expected = []
    for _ in range(TRIALS):
        assert not any(name in page.inner_text("body") for name in (*SYSTEMS.values(), "prompt"))
        expected.append(asked.answer())
    page.screenshot(path=PICTURES / "listening-page.png")
    with page.expect_download() as download:
        asked.root.get_by_role("button", name="Download answers").click()
    assert download.value.suggested_filename == "a.csv"
    assert same(listening.read(download.value.path()), expected)
    assert console == []
    context.close()


def test_a_page_that_runs_no_script_has_something_to_hear(server: Server, opened: Callable[..., Notebook]):
    """Opened cold, nobody trusts it: as in a fresh clone."""
    space: dict = {}
    exec(MADE, space)
    cell = nbformat.v4.new_code_cell("test", execution_count=1)
    stored = {"text/html": space["ListeningTest"](space["nmos"](space["systems"]), "answers.csv")._page()}
    cell.outputs = [nbformat.v4.new_output("execute_result", stored, execution_count=1)]
    path = server.write("listening-cold.ipynb", [])
    cold = nbformat.read(path, as_version=4)
    cold.cells = [cell]
    nbformat.write(cold, path)  # not signed, so not trusted
    notebook = opened("listening-cold.ipynb")
    notebook.page.wait_for_function("() => document.querySelector('.jp-OutputArea audio')?.readyState >= 1")
    assert notebook.page.get_by_text("A listening test of 4 trials").is_visible()
    assert notebook.page.locator(".lab-listening").count() == 0 and notebook.external == []
    notebook.picture("listening-cold")
