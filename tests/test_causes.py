"""What each second put into h, and which part of a state knows a name: lab.measure.causes, and its figures."""

from __future__ import annotations

from typing import Any, cast

import ipywidgets
import numpy as np
import pytest
import torch

from lab.corpora import narration, storyworld
from lab.errors import LabError
from lab.language import Griffin, GriffinConfig, GriffinState
from lab.measure import causes
from lab.measure import state as measure
from lab.measure.causes import CONVOLUTION, FAST_HALF, PARTS, SLOW_HALF, WINDOW, Mention
from lab.tokens import TOKEN_RATE
from lab.view import causes as view
from lab.view import state as state_view
from lab.view.explore import PAGE, PLOTLY
from tests.test_recall import Speller

SPELLER: Any = Speller()
SLOW = [torch.arange(32) < 16, torch.arange(32) % 2 == 0]


@pytest.fixture(scope="module")
def model() -> Griffin:
    torch.manual_seed(0)
    return Griffin(GriffinConfig.preset("tiny", vocabulary=128)).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def trace(model: Griffin) -> measure.Trace:
    tokens = torch.randint(128, (110,), generator=torch.Generator().manual_seed(0))
    return measure.trace(model, tokens)[1]


@pytest.fixture(scope="module")
def told() -> list[Mention]:
    stories = [storyworld.story(narration.held_out_seed(number), 12) for number in range(3)]
    return causes.mentions(SPELLER, stories, 100, SPELLER)


def state_after(model: Griffin, tokens: torch.Tensor) -> GriffinState:
    return model(tokens[None], last=True)[1]


def spelled(tokens: torch.Tensor) -> str:
    return "".join(map(chr, tokens.tolist()))


def test_what_each_second_left_adds_up_to_the_state(trace):
    left = [trace.left_by(start, start + TOKEN_RATE) for start in range(0, 110, TOKEN_RATE)]
    torch.testing.assert_close(sum(left), trace.hidden, atol=1e-5, rtol=1e-5)
    a = torch.exp(-8 * trace.recurrence_gate.double() * trace.decay.double())
    enters = (1 - a.square()).sqrt() * trace.input_gate * trace.x  # by the formula, for a token in the third second
    torch.testing.assert_close(trace.left_by(60, 61)[90].double(), a[61:91].prod(0) * enters[60], atol=1e-6, rtol=1e-4)
    assert (left[2][:50] == 0).all() and (left[2][50] != 0).any()


def test_shares_of_seconds_add_up_to_one(trace):
    shares = causes.seconds_in(trace)
    assert shares.shape == (5, 110)
    np.testing.assert_allclose(shares.sum(0), 1, atol=1e-5)
    assert (shares[3:, :75] == 0).all() and shares[0, :25] == pytest.approx(1, abs=1e-5)
    left = trace.left_by(25, 50)[100]
    assert shares[1, 100] == pytest.approx(float(left @ trace.hidden[100] / trace.hidden[100].square().sum()), rel=1e-4)


def test_a_mention_is_one_story_of_two_heroes(told):
    assert len(told) == 3
    for mention in told:
        (mine, theirs), names = map(spelled, mention.heard), mention.heroes
        assert names[0] in mine.split() and names[0] not in theirs.split() and names[0] != names[1]
        assert mine.replace(names[0], names[1]) == theirs and len(mine) > 100
        said, other = map(spelled, mention.said)
        assert names[0] in said.split() and said.replace(names[0], names[1]) == other
        unnamed = mine.split()[::-1].index(names[0])  # the sentence that named him ended before
        assert mention.ago * TOKEN_RATE <= len(" ".join(mine.split()[-unnamed - 1 :])) if unnamed else not mention.ago
    assert causes.mentions(SPELLER, [storyworld.story(1, 12)], 10_000, SPELLER) == []


def test_each_part_is_exchanged_and_nothing_else(model, told):
    mine, theirs = (state_after(model, heard) for heard in told[0].heard)
    for part, kept in ((SLOW_HALF, ~SLOW[0]), (FAST_HALF, SLOW[0])):
        layer = causes.exchange(mine, theirs, part, SLOW, [0]).layers[0]
        wanted = torch.where(kept, mine.layers[0].hidden, theirs.layers[0].hidden)
        assert torch.equal(layer.hidden, wanted) and layer.conv is mine.layers[0].conv
    changed = causes.exchange(mine, theirs, CONVOLUTION, SLOW, [1])
    assert torch.equal(changed.layers[1].conv, theirs.layers[1].conv) and changed.layers[0] is mine.layers[0]
    with pytest.raises(LabError, match="no part 'soul'; there are slow half of h"):
        causes.exchange(mine, theirs, "soul", SLOW)
    short = state_after(model, told[0].heard[1][:5])
    with pytest.raises(LabError, match="a window of 5 tokens cannot take the place"):
        causes.exchange(mine, short, WINDOW, SLOW)


def test_a_state_of_another_length_whose_parts_are_all_exchanged_is_the_other(model, told):
    mention = next(m for m in told if len(m.heard[0]) != len(m.heard[1]))
    mine, theirs = (state_after(model, heard) for heard in mention.heard)
    for part in PARTS:
        mine = causes.exchange(mine, theirs, part, SLOW)
    said = mention.said[0][None]
    torch.testing.assert_close(model(said, mine)[0], model(said, theirs)[0])


def test_the_map_is_what_the_model_makes_of_each_exchange(model, told):
    found = causes.cause_map(model, told[:2], SLOW)
    kinds = model.config.blocks
    assert found.layers == (*(f"layer {k + 1}" for k in range(len(kinds))), "all layers")
    assert len(found.gained) == 3 * kinds.count("recurrent") + kinds.count("attention") + 4
    before, swapped = [], []
    for mention in told[:2]:
        mine, theirs = (state_after(model, heard[:-1]) for heard in mention.heard)
        for state, shares in ((mine, before), (causes.exchange(mine, theirs, SLOW_HALF, SLOW, [1]), swapped)):
            nats = []
            for sentence in mention.said:
                logits = model(torch.cat([mention.heard[0][-1:], sentence[:-1]])[None], state)[0][0]
                alone = model(torch.cat([mention.heard[0][-1:], sentence[:-1]])[None])[0][0]
                each = (logits.log_softmax(-1) - alone.log_softmax(-1)).gather(1, sentence[:, None])
                nats.append(each.sum())
            shares.append(torch.stack(nats).softmax(0)[1].item())
    assert found.before.value == pytest.approx(np.mean(before), rel=1e-4)
    gained = found.gained["layer 2", SLOW_HALF]
    assert gained.value == pytest.approx(np.subtract(swapped, before).mean(), rel=0.01) and gained.n == 2
    with pytest.raises(LabError, match="no story names its hero"):
        causes.cause_map(model, [], SLOW)

    figure = view.cause_map(found)
    z = np.array(figure.data[0].z, float)
    assert z.shape == (len(kinds) + 1, 4) and z[1, 0] == pytest.approx(100 * gained.value)
    assert np.isnan(z[kinds.index("attention"), :3]).all() and np.isfinite(z[-1]).all()
    assert len(figure.layout.annotations) == len(found.gained)


def test_seconds_are_drawn_at_the_end_of_a_word(trace):
    shares = causes.seconds_in(trace)
    figure = view.seconds([trace], [shares], (2.5, 3.2, "owl"))
    picture = np.asarray(figure.data[0].customdata)
    np.testing.assert_allclose(picture, 100 * shares[:4, [80]].T, atol=0.06)  # no second after the word
    newest = 100 * shares[2:4, 80].sum()
    assert figure.layout.title.text == f"“owl” at 3.2 s: {newest:.0f} % of h, layer by layer, came in since 2 s"


def test_lanes_are_the_map_and_the_seconds(trace):
    heat, seconds = (
        state_view.state_lane(trace, rows=8).lane(),
        state_view.seconds_lane(trace, causes.seconds_in(trace)),
    )
    assert heat["rows"] == 8 and len(heat["values"]) == 8 * 55 and heat["rate"] == 12.5
    assert seconds.lane()["rows"] == 5 and len(seconds.lane()["values"]) == 5 * 22 and seconds.rate == 5


def test_a_story_goes_on_with_the_state_of_one_cell(model, told, monkeypatch):
    begun: list[GriffinState] = []

    def generate(_model: Griffin, newest: torch.Tensor, *, state: GriffinState, generator: torch.Generator, **_: int):
        begun.append(state)
        yield from [int(newest), generator.initial_seed()]

    monkeypatch.setattr(causes, "generate", generate)
    mention = told[0]
    mine, theirs = (state_after(model, heard[:-1]) for heard in mention.heard)
    for cell, layers in ((("layer 2", SLOW_HALF), [1]), (("all layers", WINDOW), None), (None, [])):
        new = causes.told_on(model, mention, cell, SLOW, 2, seed=3)
        assert new.tolist() == [int(mention.heard[0][-1]), 3]
        wanted = causes.exchange(mine, theirs, cell[1] if cell else WINDOW, SLOW, layers)
        torch.testing.assert_close(model(mention.said[0][None], begun[-1])[0], model(mention.said[0][None], wanted)[0])
    assert not torch.equal(begun[0].layers[1].hidden, begun[2].layers[1].hidden)
    with pytest.raises(LabError, match="no layer 'layer 9'; there are layer 1, "):
        causes.told_on(model, mention, ("layer 9", SLOW_HALF), SLOW, 9)


def test_a_cell_of_the_map_is_heard(model, told, monkeypatch):
    class Voice:
        def speak(self, tokens: torch.Tensor, prompt: str, seed: int) -> np.ndarray:
            assert prompt == "prompt"
            return np.full(640 * len(tokens), 0.1, np.float32)

    class Reader:
        def words(self, tokens: torch.Tensor) -> list[tuple[float, float, str]]:
            return [(0.0, 0.2, told[0].heroes[0]), (3.4, 3.6, told[0].heroes[1])]

    reader, voice = cast(Any, Reader()), cast(Any, Voice())
    hear = view.hearing(reader, model, voice, cast(Any, "prompt"), told[0], SLOW, seconds=1)
    found = causes.cause_map(model, told[:1], SLOW)
    heard = view.Heard(found, hear, stored=[("all layers", WINDOW)])
    cells = [each for each in heard.children[1].children if isinstance(each, ipywidgets.Button)]
    assert len(cells) == len(found.gained)
    cells[-1].click()
    player = heard.children[-1]
    changed = f"the {WINDOW}, all layers, of the one about {told[0].heroes[1]}"
    assert player.caption == f"3 s of a story about {told[0].heroes[0]}, then 1 s with {changed}: “{told[0].heroes[1]}”"
    assert player._plays and player._seams == [3.0]
    assert [lane["groups"][0]["times"] for lane in player._lanes if lane["kind"] == "marks"] == [[0.0], [3.4]]
    heard.children[2].click()
    assert "nothing exchanged" in heard.children[-1].caption and player.comm is None  # the one before is gone

    assert PAGE not in heard._repr_mimebundle_()
    monkeypatch.setenv("LAB_STORE", "1")
    page = heard._repr_mimebundle_()
    assert page[PLOTLY]["data"][0]["x"] == list(PARTS)
    assert [name for name, _ in page[PAGE]["settings"]] == ["nothing exchanged", f"{WINDOW}, all layers"]
    assert [sound.count("<audio") for sound in page[PAGE]["sounds"]] == [1, 1]
    heard.hear = cast(Any, lambda cell: 1 / 0)
    cells[0].click()
    assert "ZeroDivisionError" in heard.children[-1].value
