"""Several sounds on one clock in a real page: comparisons, blind ones too, and what an explorer makes heard."""

from __future__ import annotations

import numpy as np

from tests.browser.lab import Notebook
from tests.browser.shown import SETUP, Shown

CELLS = (
    SETUP,
    """
pair = Player({"low": tone(200, 60), "high": tone(300, 60, 0.1)}, caption="two tones")
pair
""",
    """
blind = Player({"low": tone(200, 60), "high": tone(300, 60, 0.1)}, caption="two tones, unseen", blind=True)
blind
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
    """
from lab.measure.causes import PARTS, Map
from lab.measure.statistics import Estimate
from lab.view.causes import Heard
gains = {("layer 1", PARTS[0]): 0.02, ("layer 2", PARTS[3]): 0.61, ("all layers", PARTS[3]): 0.64}
gained = {cell: Estimate(gain, gain, gain, 2) for cell, gain in gains.items()}
found = Map(("layer 1", "layer 2", "all layers"), gained | {("all layers", part): Estimate(0, 0, 0, 2)
    for part in PARTS[:3]}, Estimate(0, 0, 0, 2), Estimate(0.7, 0, 1, 2))
def hear(cell):
    return Player(tone(500 if cell else 250, 60), caption="exchanged" if cell else "as it was", play=True)
Heard(found, hear)
""",
    """
from lab.view.cells import Played
figure = go.Figure().add_heatmap(z=[[0.1, None], [0.2, 0.4]], x0=0.25, dx=0.5, y=["low", "high"], zmax=0.4,
    colorscale=[(0, "rgba(0,158,115,0)"), (1, "rgba(0,158,115,1)")], colorbar={"title": {"text": "closer"}})
axis = {"tickvals": [0, 1], "ticktext": ["low", "high"]}
figure.update_layout(title_text="two rows", xaxis_title_text="minutes after", yaxis=axis)
Played(figure, lambda cell: Player(tone(200 + 100 * cell[0] + 50 * cell[1], 60), caption=f"cell {cell}", play=True))
""",
)
DRAWN = """canvas => {
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    return data.filter((value, i) => i % 4 === 3 && value).length;
}"""
PAIR, BLIND, TWELVE, EXPLORED, MAP, PLAYED = range(1, len(CELLS))


def test_switching_keeps_the_place_and_makes_no_click(notebook: Notebook):
    pair, page = Shown(notebook, PAIR), notebook.page
    pair.button("Play").click()
    pair.hears(200)
    page.wait_for_timeout(400)  # the pitch is heard before the gains have come to rest
    low = pair["level"]
    # By the clock of the sound card, which runs on until it is read: the least late of 15 frames, busy machine or not.
    measure = """async root => {
        const late = [];
        while (late.length < 15) {
            await new Promise(requestAnimationFrame);
            late.push(root.dataset.position - globalThis[Symbol.for("speechssm-lab.player")].context.currentTime);
        }
        return Math.max(...late);
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


def test_an_explorer_plays_what_its_controls_say(notebook: Notebook):
    explorer = notebook.run(EXPLORED)
    for hertz in (300, 400):
        if hertz == 400:
            explorer.locator(".noUi-handle").press("ArrowRight")
        explorer.get_by_role("button", name="Hear it").click()
        Shown.of(notebook, explorer.locator(f".lab-player[aria-label='{hertz} Hz']")).hears(hertz)
    assert explorer.locator(".lab-player").count() == 1


def test_a_cell_of_the_map_of_causes_is_heard(notebook: Notebook):
    cells = notebook.run(MAP)
    for name, caption, hertz in (
        ("+61", "exchanged", 500),
        ("Hear it with nothing exchanged", "as it was", 250),
    ):
        cells.get_by_role("button", name=name, exact=True).click()
        Shown.of(notebook, cells.locator(f".lab-player[aria-label='{caption}']")).hears(hertz)
    assert cells.locator(".lab-player").count() == 1
    for dark in (True, False):
        notebook.theme(dark)
        notebook.page.wait_for_timeout(300)
        notebook.picture(f"causes-{'dark' if dark else 'light'}", cells)


def test_a_cell_of_a_heat_map_is_heard(notebook: Notebook):
    """By the mouse, then by the keys; a cell without a value is none."""
    played = notebook.run(PLAYED)
    canvas, says = played.locator(".lab-cells canvas"), played.locator(".lab-cells [aria-live]")
    box = canvas.bounding_box()
    assert box
    column = (box["width"] - 160 - 8) / 2
    canvas.click(position={"x": 160 + 1.5 * column, "y": 0.5 * 13})
    canvas.click(position={"x": 160 + 1.5 * column, "y": 1.5 * 13})
    Shown.of(notebook, played.locator(".lab-player[aria-label='cell (1, 1)']")).hears(350)
    assert says.inner_text() == "high; minute 0.75 after: 0.40"
    canvas.press("ArrowLeft")
    canvas.press("Enter")
    Shown.of(notebook, played.locator(".lab-player[aria-label='cell (1, 0)']")).hears(300)
    assert says.inner_text() == "high; minute 0.25 after: 0.20" and played.locator(".lab-player").count() == 1
    for dark in (True, False):
        notebook.theme(dark)
        notebook.page.wait_for_timeout(300)
        notebook.picture(f"cells-{'dark' if dark else 'light'}", played)
        assert canvas.evaluate(DRAWN) > 10_000


def test_nothing_failed_and_nothing_was_fetched(notebook: Notebook):
    assert notebook.errors() == [] and notebook.console == [] and notebook.external == []
