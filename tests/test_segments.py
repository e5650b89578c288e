"""Maps whose cells are heard, and what the map of coherence plays."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
import torch

from lab.errors import LabError
from lab.measure import coherence
from lab.measure.coherence import TRUTH, Report, Span, StoryScores
from lab.view.cells import Cell, Cells, Played
from lab.view.coherence import coherence_map
from lab.view.explore import PAGE, PLOTLY
from lab.view.player import Player
from lab.view.segments import segments

SPANS = (Span(0, 29, 0.5, 0.1), Span(30, 59, 0.3, 0.2))


def story(number: int) -> StoryScores:
    return StoryScores(number, coherence.cast_of(number).hero, (), SPANS)


REPORT = Report(
    1,
    "",
    {TRUTH: (story(0), story(1)), "griffin": (story(0), story(1))},
    tokens={name: torch.arange(2 * 1750).reshape(2, 1750) + at for name, at in ((TRUTH, 0), ("griffin", 10_000))},
)


def beep(cell: Cell) -> Player:
    return Player(np.full(800, 0.1, np.float32), caption=f"cell {cell}")


def test_a_map_in_the_page_is_the_figure() -> None:
    pressed: list[Cell] = []
    figure = coherence_map(REPORT)
    cells = Cells(figure, pressed.append)
    assert cells.map["values"] == [[None, None], [0.4, 0.1], [0.4, 0.1], [None, None], [0.4, 0.1], [0.4, 0.1]]
    assert cells.map["names"] == list(figure.data[0].y) and cells.map["colour"] == "rgba(0,158,115,1)"
    assert cells.map["ticks"] == [(1.5, "ground truth<br>0.25"), (4.5, "Griffin<br>0.25")]
    assert (cells.map["x0"], cells.map["dx"], cells.map["most"]) == (0.25, 0.5, 0.4)
    assert cells.map["axis"] == "minutes after the prompt" and cells.map["title"] == figure.layout.title.text
    cells._handle_custom_msg({"row": 4, "column": 1}, [])
    assert pressed == [(4, 1)]


def test_the_cell_that_is_pressed_plays(monkeypatch: pytest.MonkeyPatch) -> None:
    played = Played(coherence_map(REPORT), beep, stored=[(4, 1)])
    played.children[0]._handle_custom_msg({"row": 4, "column": 1}, [])
    first = played.children[-1]
    assert first.caption == "cell (4, 1)"
    played.children[0]._handle_custom_msg({"row": 1, "column": 0}, [])
    assert played.children[-1].caption == "cell (1, 0)" and first.comm is None and len(played.children) == 3
    played.hear = cast(Any, lambda cell: 1 / 0)
    played.children[0]._handle_custom_msg({"row": 1, "column": 0}, [])
    assert "ZeroDivisionError" in played.children[1].value and len(played.children) == 2

    played.hear = beep
    assert PAGE not in played._repr_mimebundle_()
    monkeypatch.setenv("LAB_STORE", "1")
    page = played._repr_mimebundle_()
    hero = coherence.cast_of(0).hero
    assert [name for name, _ in page[PAGE]["settings"]] == [f"0.75, Griffin: story 0, {hero}"]  # where a click is
    assert page[PLOTLY]["data"][0]["x0"] == 0.25 and "cell (4, 1)" in page[PAGE]["sounds"][0]


def test_a_cell_of_coherence_is_spoken_from_its_own_tokens() -> None:
    spoken: list[torch.Tensor] = []
    hero = coherence.cast_of(1).hero

    class Voice:
        def speak(self, tokens: torch.Tensor, prompt: str, seed: int) -> np.ndarray:
            assert prompt == "prompt"
            spoken.append(tokens)
            return np.full(640 * len(tokens), 0.1, np.float32)

    class Reader:
        def words(self, tokens: torch.Tensor) -> list[tuple[float, float, str]]:
            return [(0.4 * k, 0.4 * k + 0.3, word) for k, word in enumerate(f"then {hero} fell asleep".split())]

    hear = segments(REPORT, cast(Any, Reader()), cast(Any, Voice()), cast(Any, "prompt"), seconds=2)
    player = hear((5, 1))  # the second story of Griffin, its second half minute: 40 s from its beginning
    assert torch.equal(spoken[0], REPORT.tokens["griffin"][1, 1000:1050])
    assert player.caption == f"Griffin, a story about {hero}, from minute 0.5 on: “then {hero} fell asleep”"
    assert [lane["name"] for lane in player._lanes] == ["heard", hero, "another hero"] and player._plays
    hear((1, 0))
    assert torch.equal(spoken[1], REPORT.tokens[TRUTH][0, 250:300])
    with pytest.raises(LabError, match="row 3 is no story"):
        hear((3, 0))
    without = Report(1, "", REPORT.scores)
    with pytest.raises(LabError, match="no tokens of Griffin; `lab measure coherence --save`"):
        segments(without, cast(Any, Reader()), cast(Any, Voice()), cast(Any, "prompt"))((5, 1))
