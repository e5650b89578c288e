"""Controls and the figure that follows them, and the profile of a notebook; tests/browser moves them in a page."""

from __future__ import annotations

import base64
import json
import sys
import zlib
from collections.abc import Callable

import comm
import ipywidgets
import numpy as np
import plotly.graph_objects as go
import pytest
import torch
from IPython.core.formatters import DisplayFormatter
from ipywidgets import Checkbox, Dropdown, FloatSlider, IntSlider

from lab.errors import LabError
from lab.view import Player, explore, pick, start
from lab.view.links import Links
from lab.view.style import styled

PLOTLY, VIEW = "application/vnd.plotly.v1+json", "application/vnd.jupyter.widget-view+json"


def tone(hertz: int, marks: bool = False) -> go.Figure:
    times = np.arange(100) / 100
    figure = go.Figure().add_scatter(x=times, y=np.sin(2 * np.pi * hertz * times), name="wave")
    if marks:
        figure.add_vline(0.5)
        figure.add_bar(x=[0.5], y=[1.0])
    return styled(figure, f"{hertz} Hz", 300).update_xaxes(title_text="seconds")


def slider() -> ipywidgets.IntSlider:
    return ipywidgets.IntSlider(5, 0, 50, description="frequency, Hz")


@pytest.mark.parametrize(
    ("control", "pixels"),
    [
        (FloatSlider(min=20, max=240, step=4), 220),  # 55 steps
        (ipywidgets.FloatLogSlider(value=10, min=-1, max=4, step=0.1), 200),
        (ipywidgets.SelectionSlider(options=[1, 2, 4]), 120),
        (IntSlider(min=200, max=4000, step=20, value=200), 400),
    ],
)
def test_a_slider_is_as_wide_as_its_steps_need(control: ipywidgets.ValueWidget, pixels: int) -> None:
    explore(lambda hertz: tone(3), hertz=control)
    assert control.layout.min_width == f"calc(0ch + {pixels + 80}px)"


class Heard:
    def __init__(self) -> None:
        self.seconds: list[float] = []

    def seek(self, seconds: float) -> None:
        self.seconds.append(seconds)


def click(figure: go.FigureWidget, trace: int, x: float) -> None:
    """What the page sends when somebody clicks."""
    points = {"trace_indexes": [trace], "point_indexes": [0], "xs": [x], "ys": [0.0]}
    figure._js2py_pointsCallback = {"event_type": "plotly_click", "points": points, "device_state": None}


def test_what_was_drawn_not_long_ago_is_kept(monkeypatch):
    monkeypatch.setattr(sys.modules["lab.view.explore"], "KEPT", 2)
    drawn = []

    def draw(hertz: int) -> go.Figure:
        drawn.append(hertz)
        return tone(hertz)

    hertz = slider()
    explorer = explore(draw, hertz=hertz)
    for value in (6, 5, 6, 7, 5):
        hertz.value = value
        np.testing.assert_allclose(explorer.figure.data[0].y, tone(value).data[0].y)
    assert drawn == [5, 6, 7, 5]  # before it was drawn again, 6 and 7 were the last two


def test_a_move_updates_the_figure_in_place():
    hertz = slider()
    explorer = explore(tone, hertz=hertz)
    figure, trace = explorer.figure, explorer.figure.data[0]
    hertz.value = 7
    assert explorer.figure is figure and figure.data[0] is trace
    np.testing.assert_allclose(trace.y, tone(7).data[0].y)
    assert figure.layout.title.text == "7 Hz"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: explore(tone, hertz=5), "control 'hertz' is of type int"),
        (lambda: explore(tone, hertz=ipywidgets.Button()), "control 'hertz' is of type Button"),
        (lambda: explore(tone, herz=slider()), "not the parameters"),
        (lambda: explore(tone), "not the parameters"),
        (lambda: explore(lambda hertz: None, hertz=slider()), "returned NoneType"),
        (lambda: explore(tone, hertz=slider(), player=np.zeros(9)), "cannot seek in ndarray"),  # type: ignore[arg-type]
    ],
)
def test_what_cannot_be_explored(make: Callable[[], object], message: str):
    with pytest.raises(LabError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_a_move_sends_one_message_of_what_differs():
    hertz = slider()
    explorer = explore(tone, hertz=hertz)
    sent: list[dict] = []
    explorer.figure.observe(lambda change: sent.append(change["new"]), "_py2js_update")
    hertz.value = 7
    (message,) = [each for each in sent if each]
    assert list(message["style_data"]) == ["y"] and list(message["layout_data"]) == ["title"]


def test_zoom_and_hidden_traces_outlive_a_move():
    hertz = slider()
    explorer = explore(tone, hertz=hertz)
    explorer.figure.layout.xaxis.range = [0.2, 0.4]
    explorer.figure.data[0].visible = "legendonly"
    hertz.value = 7
    assert explorer.figure.layout.xaxis.range == (0.2, 0.4)
    assert explorer.figure.data[0].visible == "legendonly"


def test_the_page_gets_the_whole_figure_at_once_and_then_its_width(monkeypatch: pytest.MonkeyPatch):
    opened: list[dict] = []
    create = comm.create_comm
    monkeypatch.setattr(comm, "create_comm", lambda **args: opened.append(args["data"]["state"]) or create(**args))
    figure = explore(tone, hertz=slider()).figure
    (state,) = [each for each in opened if "_widget_data" in each]
    assert len(state["_widget_data"]) == 1 and state["_widget_layout"]["title"]["text"] == "5 Hz"
    sent: list[dict] = []
    figure.observe(lambda change: sent.append(change["new"]), "_py2js_relayout")
    figure._view_count = 1  # what the page says when it has made its view
    assert sent[0]["relayout_data"] == {"autosize": True, "height": 300}


def test_traces_and_lines_come_and_go():
    marks = ipywidgets.Checkbox(description="marks")
    explorer = explore(tone, hertz=slider(), marks=marks)
    for shown in (True, False):
        marks.value = shown
        expected = tone(5, shown)
        assert [trace.type for trace in explorer.figure.data] == [trace.type for trace in expected.data]
        np.testing.assert_allclose(explorer.figure.data[0].y, expected.data[0].y)
        assert explorer.figure.layout.shapes == expected.layout.shapes


def test_a_click_plays_from_there_also_after_the_traces_changed():
    marks, heard = ipywidgets.Checkbox(description="marks"), Heard()
    explorer = explore(tone, player=heard, hertz=slider(), marks=marks)
    assert explorer.figure.layout.hovermode == "x"
    click(explorer.figure, 0, 0.25)
    marks.value = True
    click(explorer.figure, 1, 0.5)
    assert heard.seconds == [0.25, 0.5]


def test_an_error_is_said_and_the_figure_stays():
    def draw(hertz: int) -> go.Figure:
        if hertz == 0:
            raise LabError("frequency is 0 Hz; choose <more>")
        return tone(10 // hertz if hertz < 50 else hertz // 0)

    hertz = slider()
    explorer = explore(draw, hertz=hertz)
    said = explorer.children[0].children[-1]
    hertz.value = 0
    assert "frequency is 0 Hz; choose &lt;more&gt;" in said.value and explorer.figure.layout.title.text == "2 Hz"
    hertz.value = 50
    assert "ZeroDivisionError" in said.value
    hertz.value = 10
    assert said.value == '<span role="status"></span>' and explorer.figure.layout.title.text == "1 Hz"


def test_a_cold_page_has_the_figure_as_it_is_now():
    hertz = slider()
    explorer = explore(tone, hertz=hertz)
    hertz.value = 7
    shown, _ = DisplayFormatter().format(explorer)
    assert VIEW in shown and shown[PLOTLY]["layout"]["title"]["text"] == "7 Hz"
    assert shown["text/plain"] == "Explorer(hertz=7)"


@pytest.mark.parametrize(("name", "expected"), [(None, "b"), ("laptop", "b"), ("smoke", "a")])
def test_pick_follows_the_profile(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str | None, expected: str
):
    monkeypatch.delenv("LAB_PROFILE", raising=False)
    if name:
        monkeypatch.setenv("LAB_PROFILE", name)
    assert pick("a", "b") == expected
    start()
    said = capsys.readouterr().out
    assert said.split("\n")[0].endswith(f"profile {name or 'laptop'}")
    assert torch.__version__ in said and "lab 0." in said


def test_another_profile_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LAB_PROFILE", "gpu")
    with pytest.raises(LabError, match="LAB_PROFILE is 'gpu'; it can be smoke or laptop"):
        pick(1, 2)


# --- what is heard


def beep(hertz: int) -> Player:
    if hertz > 40:
        raise LabError("nobody hears that")
    return Player(np.full(16_000, hertz / 100, np.float32), caption=f"{hertz} Hz", play=True)


def test_a_button_makes_what_the_controls_say_heard() -> None:
    hertz = slider()
    explorer = explore(tone, hear=beep, price="about 1 s", hertz=hertz)
    (button,) = explorer.children[1].children
    assert button.description == "Hear it (about 1 s)" and explorer.children[-1] is explorer.figure
    hertz.value = 7
    button.click()
    first = explorer.children[-1]
    assert first.caption == "7 Hz" and first._plays and explorer.children[-2] is explorer.figure
    hertz.value = 8
    button.click()
    assert explorer.children[-1].caption == "8 Hz" and explorer.children[-2] is explorer.figure
    assert first.comm is None  # closed, and its samples are gone
    hertz.value = 50
    button.click()
    assert explorer.children[-1] is explorer.figure and "nobody hears that" in explorer.children[0].children[-1].value
    assert not button.disabled


def test_a_page_without_a_kernel_has_the_sound_of_each_setting() -> None:
    settings = {"low": {"hertz": 3}, "high": {"hertz": 30}}
    moves = explore(tone, hear=beep, settings=settings, hertz=slider()).moves()
    assert [name for name, _ in moves["settings"]] == ["low", "high"]
    assert ["3 Hz" in moves["sounds"][0], "30 Hz" in moves["sounds"][1]] == [True, True]
    assert all("<audio" in sound for sound in moves["sounds"]) and "sounds" not in explore(tone, hertz=slider()).moves()


# --- what a page without a kernel shows


def test_what_is_drawn_ahead_is_what_the_controls_would_draw() -> None:
    def draw(hertz: float, loud: bool, kind: str) -> go.Figure:
        figure = go.Figure(layout={"title": {"text": f"{hertz:g} Hz"}}).add_scatter(y=[hertz, 2.0])
        if loud:
            figure.add_bar(y=[1.0])
        return figure.update_traces(name=kind)

    explorer = explore(
        draw,
        settings={"both": {"hertz": 3.0, "loud": True}},
        hertz=FloatSlider(value=2, min=0, max=4, step=0.5, description="frequency, Hz"),
        loud=Checkbox(value=False),
        kind=Dropdown(options={"A": "a", "B": "b"}, value="b"),
    )
    moves = explorer.moves()
    drawings = json.loads(zlib.decompress(base64.b64decode(moves["drawings"])))
    hertz, loud, kind = moves["controls"]
    assert hertz["name"] == "frequency, Hz" and hertz["texts"][hertz["at"]] == "2.00" and len(hertz["texts"]) == 9
    assert loud["texts"] == ["no", "yes"] and (kind["texts"], kind["at"]) == (["A", "B"], 1)
    expected = {(0, 8): (4.0, False, "b"), (1, 1): (2.0, True, "b"), (2, 0): (2.0, False, "a")}
    cases = [(moves["controls"][c]["drawings"][place], values) for (c, place), values in expected.items()]
    cases.append((moves["settings"][0][1], (3.0, True, "b")))
    for number, values in cases:
        figure, changes = json.loads(explorer.drawn.to_json()), drawings[number]
        figure["data"] = changes.get("data") or [a | b for a, b in zip(figure["data"], changes["traces"], strict=True)]
        figure["layout"] |= changes["layout"]
        assert figure == json.loads(draw(*values).to_json())


def test_a_button_sets_what_the_prose_speaks_of() -> None:
    drawn = []

    def draw(low: int, high: int) -> go.Figure:
        drawn.append((low, high))
        return go.Figure().add_scatter(y=[low, high])

    explorer = explore(draw, settings={"wide": {"low": 1, "high": 9}}, low=IntSlider(3), high=IntSlider(4))
    explorer.children[1].children[0].click()
    assert drawn == [(3, 4), (1, 9)] and tuple(explorer.figure.data[0].y) == (1, 9)  # drawn once, not for each control
    explorer.controls["low"].value = 2
    assert drawn[-1] == (2, 9)
    links = explorer.children[-1]
    assert isinstance(links, Links) and links.names == ["wide"]
    links._handle_custom_msg({"name": "wide"}, [])  # a link in the prose does the same
    assert explorer.values == {"low": 1, "high": 9}
    with pytest.raises(LabError, match="sets loud; there are low"):
        explore(lambda low: go.Figure(), settings={"x": {"loud": 1}}, low=IntSlider(3))
