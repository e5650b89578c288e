"""Another hero written into h: how likely the name gets, how often it is heard first, and the menu that plays it."""

from __future__ import annotations

from typing import Any, cast

import ipywidgets
import numpy as np
import pytest
import torch

from lab.corpora import narration, storyworld
from lab.errors import LabError
from lab.language import Griffin, GriffinConfig, GriffinState
from lab.measure import causes, edits
from lab.measure.causes import Mention
from lab.measure.state import SentenceEnds
from lab.view import edits as view
from lab.view.edits import CHANCE, NOTHING
from tests.test_recall import Speller

SPELLER: Any = Speller()


@pytest.fixture(scope="module")
def model() -> Griffin:
    torch.manual_seed(0)
    return Griffin(GriffinConfig.preset("tiny", vocabulary=128)).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def told() -> list[Mention]:
    stories = [storyworld.story(narration.held_out_seed(number), 12) for number in range(2)]
    return causes.mentions(SPELLER, stories, 100, SPELLER)


@pytest.fixture(scope="module")
def ends(told: list[Mention]) -> SentenceEnds:
    """Two states of each hero of the stories, drawn by lot."""
    heroes = sorted({hero for mention in told for hero in mention.heroes})
    facts = [storyworld.Facts(hero, None, None, (), ()) for hero in heroes for _ in range(2)]
    hidden = np.random.default_rng(0).normal(size=(2, len(facts), 32)).astype(np.float32)
    return SentenceEnds(hidden, facts, *(np.zeros(len(facts), int) for _ in range(3)))


def mean_of(ends: SentenceEnds, hero: str) -> torch.Tensor:
    return torch.from_numpy(ends.hidden[:, [facts.hero == hero for facts in ends.facts]].mean(1))


def moved(state: GriffinState, change: torch.Tensor) -> GriffinState:
    """By hand: the first two layers of the tiny model are its recurrent ones."""
    layers = (layer._replace(hidden=layer.hidden + h) for layer, h in zip(state.layers[:2], change, strict=True))
    return state._replace(layers=(*layers, *state.layers[2:]))


def test_a_direction_leads_from_the_mean_of_one_hero_to_that_of_another(ends, told):
    heroes = told[0].heroes
    way = edits.direction(ends, heroes)
    torch.testing.assert_close(mean_of(ends, heroes[0]) + way, mean_of(ends, heroes[1]))
    chance = edits.at_random(way, torch.Generator().manual_seed(0))
    torch.testing.assert_close(chance.norm(dim=1), way.norm(dim=1))
    assert (torch.cosine_similarity(chance, way).abs() < 0.6).all()
    with pytest.raises(LabError, match="no state of nemo to find a direction by"):
        edits.direction(ends, ("nemo", heroes[1]))


def test_a_name_gets_as_much_likelier_as_the_moved_state_makes_it(model, told, ends):
    mention = told[0]
    mine = causes.before(model, mention.heard[0])
    (way, chance), (still, _) = edits.likelier(model, [mention], ends, times=(2, 0)).values()
    change = 2 * (mean_of(ends, mention.heroes[1]) - mean_of(ends, mention.heroes[0]))
    before, after = causes.other_name(model, mention, [mine, moved(mine, change)])
    assert way.value == pytest.approx(after - before, rel=0.01) and abs(way.value - chance.value) > 1e-4
    assert still.value == pytest.approx(0, abs=1e-7)
    with pytest.raises(LabError, match="no story names its hero"):
        edits.likelier(model, [], ends)


def test_stories_go_on_from_the_moved_state_of_each(model, told, ends, monkeypatch):
    begun: list[GriffinState] = []

    def generate(_model: Griffin, newest: torch.Tensor, *, state: GriffinState, generator: Any, **_: int):
        begun.append(state)
        yield from (newest[:, 0] + k + generator.initial_seed() for k in (1, 2))

    monkeypatch.setattr(edits, "generate", generate)
    moves = [[torch.zeros(2, 32), torch.full((2, 32), float(k + 1))] for k in range(len(told))]
    new = edits.told_on(model, told, moves, 2, seed=5)
    assert new.shape == (2, 2, 2)
    last = torch.stack([mention.heard[0][-1] for mention in told])
    assert torch.equal(new, (last[:, None] + torch.tensor([6, 7]))[:, None].expand(2, 2, 2))
    for row, (mention, move) in enumerate([(m, move) for m, each in zip(told, moves, strict=True) for move in each]):
        wanted = moved(causes.before(model, mention.heard[0]), move)
        torch.testing.assert_close(begun[0].layers[1].hidden[row], wanted.layers[1].hidden[0], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(begun[0].layers[2].keys[row], wanted.layers[2].keys[0])
    assert torch.equal(begun[0].length, torch.tensor([len(m.heard[0]) - 1 for m in told for _ in range(2)]))


class Reader:
    """Words of 0.4 s out of tokens that are numbers of names."""

    def __init__(self, names: list[str]):
        self.names = names

    def words(self, tokens: torch.Tensor) -> list[tuple[float, float, str]]:
        return [(at / 25, at / 25 + 0.4, self.names[token]) for at, token in enumerate(tokens.tolist())]


def test_the_first_name_that_is_heard_counts(model, told, ends, monkeypatch):
    """Of two stories and four moves, one story names the other hero first, where h is moved that way once."""
    names = ["stone", "bird", *(hero for mention in told for hero in mention.heroes)]
    mine, other, theirs, second = (names.index(hero) for mention in told for hero in mention.heroes)
    rows = [[[0, other], [mine, other], [1, 1], [0, mine]], [[theirs, second], [0, 0], [0, 1], [1, theirs]]]
    monkeypatch.setattr(edits, "told_on", lambda *_: torch.tensor(rows))
    monkeypatch.setattr(edits.recall, "CONTEXT", 0)
    heard = [mention._replace(heard=(torch.tensor([other]), torch.tensor([other]))) for mention in told]
    found = edits.renamed(cast(Any, Reader(names)), model, heard, ends, times=(1, 2))
    assert [(way.value, chance.value, way.n) for way, chance in found.values()] == [(0.5, 0, 2), (0, 0, 2)]


def test_the_menu_plays_what_it_says(model, told, ends, monkeypatch):
    class Voice:
        def speak(self, tokens: torch.Tensor, prompt: str, seed: int) -> np.ndarray:
            return np.full(640 * len(tokens), 0.1, np.float32)

    moves: list[torch.Tensor] = []

    def told_on(_model: Griffin, mentions: list[Mention], each: list[list[torch.Tensor]], count: int, seed: int):
        assert mentions == [told[1]]
        moves.append(each[0][0])
        return torch.zeros(1, 1, count, dtype=torch.long)

    monkeypatch.setattr(edits, "told_on", told_on)
    hero, other = told[1].heroes
    reader, voice = cast(Any, Reader([f"word{k}" for k in range(128)])), cast(Any, Voice())
    hear = view.editing(reader, model, voice, cast(Any, "prompt"), told, ends, seconds=0.08)
    to = ipywidgets.Dropdown(options=[NOTHING, other, CHANCE, "nemo"], value=other)
    menus = view.Menus(
        hear,
        [{"story": 1, "to": NOTHING, "times": 1}],
        "1 s",
        story=ipywidgets.Dropdown(options=[1]),
        to=to,
        times=ipywidgets.Dropdown(options=[2]),
    )
    pressed = menus.children[0].children[-1]
    assert pressed.description == "Hear it (1 s)" and len(menus.children) == 2
    pressed.click()
    way = edits.direction(ends, (hero, other))
    player = menus.children[-1]
    assert torch.equal(moves[-1], 2 * way)
    assert player.caption == f"3 s of a story about {hero}, then with h moved 2 times the way to {other}: “word0 word0”"
    assert player._seams == [3.0]
    to.value = CHANCE
    pressed.click()
    torch.testing.assert_close(moves[-1].norm(dim=1), 2 * way.norm(dim=1))
    assert not torch.equal(moves[-1], 2 * way) and player.comm is None  # the one before is gone
    to.value = "nemo"
    pressed.click()
    assert "no direction to &#x27;nemo&#x27;" in menus.children[1].value and len(menus.children) == 2

    assert "text/html" not in menus._repr_mimebundle_()
    monkeypatch.setenv("LAB_STORE", "1")
    page = menus._repr_mimebundle_()["text/html"]
    assert not moves[-1].any() and page.count("<audio") == 1 and "with h as it is: “word0 word0”" in page
