"""What the state holds: traced, patched, probed, drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

import numpy as np
import pytest
import torch

from lab.corpora import narrators, storyworld
from lab.corpora.storyworld.world import HEROES
from lab.errors import LabError
from lab.language import Griffin, GriffinConfig, generate
from lab.language.layers import AttentionState, RecurrentState
from lab.measure import state as measure
from lab.recurrence import rg_lru
from lab.tokens import TOKEN_RATE
from lab.view import state as view


@pytest.fixture(scope="module")
def model() -> Griffin:
    torch.manual_seed(0)
    return Griffin(GriffinConfig.preset("tiny", vocabulary=32)).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def tokens() -> torch.Tensor:
    return torch.randint(32, (120,), generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def traces(model: Griffin, tokens: torch.Tensor) -> list[measure.Trace]:
    return measure.trace(model, tokens)


def state_after(model: Griffin, tokens: torch.Tensor):
    return model(tokens[None], last=True)[1]


def test_trace_is_what_the_model_carries(model, tokens, traces):
    assert [trace.layer for trace in traces] == [0, 1]  # recurrent, recurrent, attention
    for count in (1, 77, 120):
        layers = state_after(model, tokens[:count]).layers
        for trace in traces:
            torch.testing.assert_close(trace.hidden[count - 1], layers[trace.layer].hidden[0], atol=1e-5, rtol=1e-5)
    assert not model.blocks[0].mix.gates._forward_hooks  # it lets go of the model


def test_half_life_is_when_half_is_left():
    decay = torch.tensor([0.1, 0.004, 0.002])
    for gate in (1.0, 0.3):
        seconds = measure.half_life(decay, gate)
        for channel, tokens in enumerate((seconds * TOKEN_RATE).tolist()):
            T = round(tokens)
            nothing, r = torch.zeros(1, T, 3), torch.full((1, T, 3), gate)
            _, left = rg_lru(nothing, r, r, decay, torch.ones(1, 3))
            assert left[0, channel].item() == pytest.approx(0.5 ** (T / tokens), rel=1e-4)
    assert measure.half_life(torch.tensor(math.log(2) / 8), 1.0).item() == pytest.approx(1 / TOKEN_RATE)


def test_half_lives_of_a_trace_are_exact_over_it(traces):
    trace = traces[1]
    left = torch.exp(-8 * trace.recurrence_gate.double() * trace.decay.double()).prod(0)
    tokens = trace.half_lives.double() * TOKEN_RATE
    torch.testing.assert_close(left.log(), -math.log(2) * len(trace.x) / tokens, rtol=1e-5, atol=0)
    assert (trace.half_lives[trace.order].diff() >= 0).all()


def test_replay_changes_the_decay_alone(traces):
    trace = traces[0]
    torch.testing.assert_close(trace.replay(5, 1.0), trace.hidden[:, 5], atol=1e-5, rtol=1e-5)
    parts = (each[None] for each in (trace.x, trace.input_gate, trace.recurrence_gate))
    y, _ = rg_lru(*parts, 3 * trace.decay, reset=torch.arange(120)[None] == 0)
    torch.testing.assert_close(trace.replay(5, 3.0), y[0, :, 5], atol=1e-5, rtol=1e-5)


def test_renewed_is_the_share_of_h_that_is_new():
    held = torch.tensor([[3.0, 4.0], [3.0, 4.0], [3.0, 0.0]])
    gate = torch.ones(3, 2)
    found = measure.Trace(0, held, gate, gate, torch.ones(2), held).renewed
    torch.testing.assert_close(found, torch.tensor([1.0, 0.0, 4 / 3]))


def test_principal_axes_are_those_along_which_h_moves_most():
    time = torch.arange(200) / 200
    along, aside = torch.cos(2 * math.pi * time), torch.sin(2 * math.pi * time)  # of one variance, uncorrelated
    first, second = torch.tensor([[0.6, 0.0, 0.8, 0.0], [0.0, 1.0, 0.0, 0.0]])
    for sign in (1, -1):
        found = measure.principal(7 + 3 * along[:, None] * sign * first + aside[:, None] * second)
        np.testing.assert_allclose(found.shares, [0.9, 0.1], atol=1e-6)  # 3 squared against 1
        np.testing.assert_allclose(found.points, torch.stack([sign * 3 * along, aside], 1), atol=1e-4)
    for hidden, count, message in ((torch.ones(9, 4), 2, "the same"), (torch.ones(9, 1), 2, "no 2 principal axes")):
        with pytest.raises(LabError, match=message):
            measure.principal(hidden, count)


def test_initialisations_differ_by_the_exponent():
    before = torch.get_rng_state()
    paper, gemma = (measure.initial_half_lives(kind) for kind in ("paper", "recurrentgemma"))
    assert torch.equal(before, torch.get_rng_state())
    for found, low, high in ((paper, 0.9, 0.999), (gemma, 0.9**8, 0.999**8)):  # a^8
        ends = [math.log(2) / (-math.log(power) * 0.5 * TOKEN_RATE) for power in (low, high)]
        assert ends[0] <= found.min() < 1.02 * ends[0] and 0.8 * ends[1] < found.max() <= ends[1] * 1.001


def test_patching_exchanges_h_and_nothing_else(model, tokens):
    state, other = state_after(model, tokens[:60]), state_after(model, tokens[60:])
    before = [layer.hidden.clone() for layer in state.layers[:2]]
    masks = [torch.arange(32) < 10, torch.arange(32) >= 30]
    for patched, wanted in (
        (measure.patch_hidden(state), [torch.zeros(1, 32)] * 2),
        (measure.patch_hidden(state, other), [layer.hidden for layer in other.layers[:2]]),
        (
            measure.patch_hidden(state, other, masks),
            [torch.where(m, b.hidden, a) for m, a, b in zip(masks, before, other.layers[:2], strict=True)],
        ),
    ):
        assert all(torch.equal(layer.hidden, h) for layer, h in zip(patched.layers[:2], wanted, strict=True))
        assert all(torch.equal(a.conv, b.conv) for a, b in zip(patched.layers[:2], state.layers[:2], strict=True))
        assert patched.layers[2] is state.layers[2] and torch.equal(patched.length, state.length)
    assert all(torch.equal(layer.hidden, h) for layer, h in zip(state.layers[:2], before, strict=True))


def test_patching_refuses_another_model_or_batch(model, tokens):
    state = state_after(model, tokens)
    _, two = model(tokens.view(2, 60), last=True)
    deeper = Griffin(GriffinConfig.preset("tiny", vocabulary=32, layers=4))
    with torch.no_grad():
        _, stranger = deeper(tokens[None], last=True)
    for other in (two, stranger):
        with pytest.raises(LabError, match="cannot be exchanged"):
            measure.patch_hidden(state, other)
    with pytest.raises(LabError, match="cannot be exchanged"):
        measure.patch_hidden(state, channels=[torch.ones(32, dtype=torch.bool), torch.ones(8, dtype=torch.bool)])


def test_forgotten_windows_are_not_seen(model, tokens):
    state = state_after(model, tokens[:60])
    forgotten = measure.forget_windows(state)
    keys, values = (kv.clone() for kv in forgotten.layers[2])
    assert torch.equal(keys[:, 0], state.layers[2].keys[:, 59 % keys.shape[1]])  # the newest
    keys[:, 1:] += 1  # all others
    values[:, 1:] *= 2
    elsewhere = forgotten._replace(layers=(*state.layers[:2], AttentionState(keys, values)))
    logits = [model(tokens[None, 60:61], each)[0] for each in (state, forgotten, elsewhere)]
    torch.testing.assert_close(logits[1], logits[2])
    assert not torch.allclose(logits[0], logits[1])
    new = generate(model, tokens[60:61], state=forgotten, generator=torch.Generator(), temperature=0, max_tokens=1)
    assert next(new) == logits[1].argmax().item()
    for a, b in zip(state.layers[:2], forgotten.layers[:2], strict=True):
        assert isinstance(b, RecurrentState) and torch.equal(a.hidden, b.hidden)


def test_divergence_of_predictions(model, tokens):
    state, rest = state_after(model, tokens[:60]), tokens[60:90]
    assert measure.divergence(model, state, state, rest).max() == 0
    patched = measure.patch_hidden(state)
    found = measure.divergence(model, state, patched, rest)
    p, q = (model(rest[None], each)[0][0].softmax(-1).double() for each in (state, patched))
    np.testing.assert_allclose(found, (p * (p / q).log2()).sum(-1), rtol=1e-3, atol=1e-6)
    assert found.shape == (30,) and found[0] > found[-1] > 0


def test_first_difference_in_seconds():
    first = torch.arange(100)
    second = first.clone()
    assert measure.first_difference(first, second) is None
    second[75:] += 1
    assert measure.first_difference(first, second) == 3.0


def test_held_out_stories_come_in_rounds():
    stories = measure.held_out_stories(3, 5)
    assert [story.cast.hero for story in stories] == 3 * list(HEROES)
    assert len({story.seed for story in stories}) == 36 and all(story.seed % 2 for story in stories)
    assert all(len(story.sentences) == 5 for story in stories)


def test_sentence_ends_know_what_holds_there(models, model, monkeypatch):
    monkeypatch.setattr(narrators.Narrator, "read", cache(narrators.Narrator.read))  # breath is never the same twice
    stories = measure.held_out_stories(3, 7)[::12]  # one hero's
    ends = measure.sentence_ends(models["tokenizer"], model, stories, after=4)
    assert ends.hidden.shape == (2, 3 * 3, 32)
    assert ends.stories.tolist() == [0] * 3 + [1] * 3 + [2] * 3 and ends.held_out.tolist() == [False] * 6 + [True] * 3
    assert ends.facts == [facts for story in stories for facts in story.facts[4:]]
    for number, story in enumerate(stories):
        spoken = [narrators.HELD_OUT[number].read(sentence) for sentence in story.sentences]
        heard = models["tokenizer"].encode(np.concatenate(spoken))
        named = [story.cast.hero in storyworld.normalize(sentence).split() for sentence in story.sentences]
        for k in range(4, 7):
            until, row = -(-sum(map(len, spoken[: k + 1])) // 640), 3 * number + k - 4
            wanted = torch.cat([layer.hidden for layer in state_after(model, heard[:until]).layers[:2]])
            np.testing.assert_allclose(ends.hidden[:, row], wanted, atol=1e-4)
            assert ends.unnamed[row] == named[k::-1].index(True) <= 2  # at least every third sentence


def test_sentence_ends_want_something_to_test_with(models, model):
    stories = measure.held_out_stories(1, 5)[:2]
    with pytest.raises(LabError, match="2 stories give no state to test with"):
        measure.sentence_ends(models["tokenizer"], model, stories)


def made_up(knowing: Sequence[int] = ()) -> measure.SentenceEnds:
    """Noise of 3 heroes, 12 stories each, 4 states a story; 3 channels tell the heroes, if any do."""
    rng = np.random.default_rng(0)
    stories = np.repeat(np.arange(36), 4)
    hidden = rng.normal(size=(1, 144, 16))
    for hero, channel in enumerate(knowing):
        hidden[0, :, channel] = (stories % 3 == hero) + 0.1 * hidden[0, :, channel]
    facts = [storyworld.Facts(("anna", "tom", "ruby")[story % 3], None, None, (), ()) for story in stories]
    return measure.SentenceEnds(hidden, facts, stories, np.zeros(144, int), stories // 3 % 3 == 2)


def test_probe_finds_the_channels_that_know():
    told = made_up((7, 11, 2))
    heroes = [str(facts.hero) for facts in told.facts]
    found = measure.probe(told, 0, heroes)
    assert set(found.weights.argsort()[-3:]) == {2, 7, 11} and found.accuracy > 0.95
    blind = measure.probe(told, 0, heroes, ~np.isin(np.arange(16), (2, 7, 11)))
    assert blind.weights.shape == (13,) and blind.accuracy < 0.6
    assert set(found.stories) == {story for story in range(36) if story // 3 % 3 == 2} and len(found.right) == 48


def test_probe_of_noise_is_chance_and_says_how_sure():
    told = made_up()
    found = measure.probe(told, 0, [str(facts.hero) for facts in told.facts])
    assert abs(found.accuracy - 1 / 3) < 3 * found.error < 0.4
    sure = measure.Probe(np.repeat([True, False], 8), np.repeat(np.arange(4), 4), np.ones(1))
    assert sure.accuracy == 0.5 and sure.error == pytest.approx(np.sqrt(1 / 3) / 2)  # 4 stories, not 16 states


def test_memory_curves_cross_half_at_the_half_life():
    figure = view.memory_curves(0.01, gates=(1.0, 0.1))
    for trace, gate in zip(figure.data, (1.0, 0.1), strict=True):
        half = measure.half_life(torch.tensor(0.01), gate).item()
        assert np.interp(half, trace.x, trace.y) == pytest.approx(50, abs=1)
    assert [shape.x0 for shape in figure.layout.shapes] == list(view.DURATIONS.values())
    assert [note.x for note in figure.layout.annotations] == pytest.approx(np.log10(list(view.DURATIONS.values())))


def test_half_lives_are_sorted_per_layer(traces):
    figure = view.half_lives(traces)
    assert [trace.name for trace in figure.data] == ["layer 1", "layer 2"]
    for drawn, trace in zip(figure.data, traces, strict=True):
        np.testing.assert_allclose(drawn.y, np.sort(trace.half_lives), rtol=5e-3)


def test_initialisations_show_every_channel_once(traces):
    figure = view.initialisations(traces)
    assert len(figure.data) == 4 and all(sum(trace.y) == pytest.approx(100, abs=0.1) for trace in figure.data)
    paper, gemma, minutes, _ = (np.average(np.log(trace.x), weights=trace.y) for trace in figure.data)
    assert minutes - paper > 0.5
    assert paper - gemma == pytest.approx(np.log(8), abs=0.2)
    assert "55 s in the paper, 7 s in" in figure.layout.title.text


def made_trace() -> measure.Trace:
    """64 channels, the patient ones first; the most patient one is loud in the second half alone."""
    gate = torch.full((100, 64), 0.5)
    hidden = torch.ones(100, 64)
    hidden[:50, 0] = 0
    return measure.Trace(4, hidden, gate, gate, torch.logspace(-4, 0, 64), hidden)


def test_state_map_is_sorted_and_small():
    figure = view.state_map([made_trace()], [(1.2, 1.5, "anna")], rows=64)
    drawn = figure.data[0]
    picture = np.asarray(drawn.z)
    assert picture.dtype == np.uint8 and picture.shape == (64, 50)
    assert figure.layout.yaxis.autorange == "reversed"  # so that the last row is the lowest
    assert (picture[-1, :25] == 0).all() and (picture[-1, 25:] > 150).all() and (picture[:-1] > 100).all()
    assert (drawn.x0, drawn.dx) == (0.04, 0.08)  # columns are centred on two tokens
    at = {label: row for row, label in zip(figure.layout.yaxis.tickvals, figure.layout.yaxis.ticktext, strict=True)}
    lasting = np.sort(made_trace().half_lives)
    assert at["10 s"] == np.searchsorted(lasting, 10) and list(at) == ["0.1 s", "1 s", "10 s"]
    assert [(note.text, note.x) for note in figure.layout.annotations] == [("anna", 1.2)]


def test_a_trajectory_is_of_the_channels_of_its_half():
    trace = made_trace()
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(100, 64, generator=generator) * torch.linspace(1, 3, 64)
    moved = measure.Trace(4, hidden, trace.input_gate, trace.input_gate, trace.decay, hidden)  # the fast ones are last
    for half, channels in (("slow", slice(32)), ("fast", slice(32, 64))):
        track, found = view.state_trajectory(moved, half), measure.principal(hidden[:, channels])
        np.testing.assert_allclose(np.abs(track.values), np.abs(found.points), atol=1e-4)
        assert f"the {half} half" in track.name and track.rate == TOKEN_RATE
        wanted = [f": {100 * share:.0f} % of the variance" for share in found.shares]
        assert [axis[16:] for axis in track.axes] == wanted


def test_channel_shows_what_it_holds(traces):
    figure = view.channel(traces, 1, 100, 4.0)
    index = int(traces[1].half_lives.argmax())
    was, now, moment = figure.data
    np.testing.assert_allclose(was.y, traces[1].hidden[:, index], rtol=1e-2, atol=1e-6)
    np.testing.assert_allclose(now.y, traces[1].replay(index, 4.0), rtol=1e-2, atol=1e-6)
    wanted = measure.half_life(4 * traces[1].decay[index], traces[1].recurrence_gate[:, index])
    np.testing.assert_allclose(moment.y, wanted, rtol=1e-2)
    assert was.x[-1] == 119 / TOKEN_RATE and f"layer 2, channel {index}:" in figure.layout.title.text
    for layer, rank in ((2, 0), (-1, 0), (0, 101)):
        with pytest.raises(LabError, match="there is no layer"):
            view.channel(traces, layer, rank)


def test_divergence_is_averaged_over_a_second():
    off = np.repeat([4.0, 1.0], [25, 75])
    figure = view.divergence({"one": off, "two": 0.1 * off + 0.5})
    assert [trace.name for trace in figure.data] == ["one", "two"]
    first = figure.data[0]
    assert first.x[0] == 0.5 and first.y[0] == 4 and first.y[-1] == 1 and len(first.y) == 76
    assert first.y[list(first.x).index(1.02)] == pytest.approx(2.5, abs=0.1)  # half a second before, half after
    assert figure.layout.title.text == "A second later 67 % of the error is left with two, 25 % with one"


def test_probes_are_drawn_beside_chance(traces):
    right = np.arange(32) < 24
    found = measure.Probe(right, np.arange(32), np.arange(32) + 1.0)
    figure = view.probe_accuracy({"all": [found, found], "some": [found, found]}, ["layer 1", "layer 2"], 0.25)
    assert [tuple(bar.y) for bar in figure.data] == [(75, 75)] * 2
    assert figure.data[0].error_y.array[0] == pytest.approx(200 * found.error, abs=0.1)
    assert figure.layout.shapes[0].y0 == 25 and "75 % at best, 25 % by chance" in figure.layout.title.text

    weights = [measure.Probe(right, np.arange(32), trace.half_lives.numpy()) for trace in traces]
    figure = view.probe_weights(traces, weights)
    assert figure.layout.title.text.endswith("+1.0, +1.0")
    np.testing.assert_allclose(figure.data[1].x, traces[1].half_lives, rtol=5e-3)
