"""lab.measure.recall and lab.measure.ablation: with listeners that remember all, or so much, or nothing."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lab.corpora import narration, narrators, storyworld
from lab.errors import LabError
from lab.language import Griffin, GriffinConfig, generate
from lab.language.decode import decoder
from lab.language.layers import RecurrentState
from lab.measure import ablate, of_language, recall
from lab.measure.ablation import ABLATIONS, INTACT, NEITHER, NO_H, NO_WINDOWS, Ablated
from lab.measure.recall import EDGES, Question, Recalled
from lab.view import recalled

HOP = 640


class Speller:
    """A narrator whose speech is spelling, 40 ms a character, and the tokenizer that hears it."""

    def read(self, text: str) -> np.ndarray:
        return np.repeat([ord(c) / 128 for c in f"{storyworld.normalize(text)} "], HOP).astype(np.float32)

    def encode(self, waveform: np.ndarray) -> Tensor:
        return torch.from_numpy((waveform[::HOP] * 128).round().astype(np.int64))


class Copier:
    """Spells on as the text of the last `memory` characters did after the same four; its state is that text."""

    vocabulary, context, device = 128, None, torch.device("cpu")

    def __init__(self, memory: int):
        self.memory = memory

    def to(self, device: Any) -> Copier:
        return self

    def __call__(self, tokens: Tensor, state: Any = None, reset: Any = None, last: bool = False) -> tuple[Tensor, Any]:
        text = list(state or ())
        logits = torch.zeros(1, tokens.shape[1], 128)
        for k, token in enumerate(tokens[0].tolist()):
            text = [*text, token][-self.memory :]
            if not last or k == tokens.shape[1] - 1:
                said, context = "".join(map(chr, text)), "".join(map(chr, text[-4:]))
                after = Counter(part[0] for part in said.split(context)[1:] if part)
                for character, count in after.items():
                    logits[0, k, ord(character)] = 4 + math.log(count)
        return logits[:, -1:] if last else logits, tuple(text)


STORIES = [storyworld.story(narration.held_out_seed(100 + number), 110) for number in range(3)]


def asked_by(memory: int, seconds: float = 0.0) -> list[Recalled]:
    speller: Any = Speller()
    told = [recall.answered(Copier(memory), *recall.questions(speller, story, speller))[INTACT] for story in STORIES]
    assert [len(each) for each in told] == [sum(r.asked for r in story.recalls) for story in STORIES]
    return [each for story in told for each in story if each.ago >= seconds and each.fact in ("hero", "companion")]


def test_who_remembers_all_answers_and_who_remembers_a_sentence_guesses() -> None:
    everything, sentence = asked_by(100_000, 20), asked_by(60, 20)
    assert len(everything) == len(sentence) > 2
    assert np.mean([each.right for each in everything]) > 0.8
    assert np.mean([each.right for each in sentence]) < 0.3
    probabilities = [each.probability or 0 for each in sentence]
    assert np.mean(probabilities) == pytest.approx(np.mean([recall.chance(each.fact) for each in sentence]), rel=0.3)


def test_how_long_ago_is_from_the_end_of_one_sentence_to_the_start_of_the_other() -> None:
    speller: Any = Speller()
    story = next(story for story in STORIES if any(r.asked for r in story.recalls))
    tokens, found = recall.questions(speller, story, speller)
    assert "".join(map(chr, tokens)) == storyworld.normalize(story.text) + " "
    for each, r in zip(found, (r for r in story.recalls if r.asked), strict=True):
        between = story.sentences[r.sentence - r.ago + 1 : r.sentence]
        assert each.fact == r.fact
        assert each.ago == pytest.approx(sum(len(storyworld.normalize(s)) + 1 for s in between) / 25)
        asked, *answers = ("".join(map(chr, each)) for each in (each.tokens, *each.answers))
        assert asked == storyworld.normalize(story.sentences[r.sentence - 1]) + " "
        assert answers[each.truth] == storyworld.normalize(story.sentences[r.sentence]) + " "
        assert len(set(answers)) == len(answers) == round(1 / recall.chance(r.fact))
        assert "".join(map(chr, tokens[: each.start])).endswith(
            storyworld.normalize(story.sentences[r.sentence - 2]) + " "
        )


def test_options_hold_the_truth_and_chance_is_one_of_them() -> None:
    for story in STORIES:
        for fact in storyworld.RECALLED:
            values = recall.options(fact, story.cast)
            assert getattr(story.cast, fact) in values and 1 / len(values) == recall.chance(fact)
    assert recall.chance("hero") == 1 / 6 and recall.chance("house") == 1 / 6 and recall.chance("thing") == 0.1


def spoken(text: str, seconds: float = 0.5) -> list[tuple[float, float, str]]:
    words = storyworld.normalize(text).split()
    return [(seconds * k, seconds * (k + 1), word) for k, word in enumerate(words)]


TOLD = "long ago there lived a brave fox named tom. tom lived in a cabin near the lake with a dog. "


def test_a_continuation_is_held_against_what_it_said_first() -> None:
    words = spoken(
        TOLD + "tom always carried a red key. what a sunny day said anna. it was the blue key. tom sat still"
    )
    assert [tuple(each[:3]) for each in recall.going_on(words)] == [
        ("hero", 0.0, True),
        ("hero", 0.0, True),
        ("hero", 0.0, False),
        ("colour", 3.0, False),
        ("thing", 3.0, True),
    ]


def test_a_word_in_a_sentence_that_does_not_parse_was_said_all_the_same() -> None:
    gap = "the river danced over round stones. " * 4
    apart = recall.going_on(spoken(f"{TOLD}{gap}{gap}it was tom"))[-1]
    between = recall.going_on(spoken(f"{TOLD}{gap}xylo tom xylo xylo. {gap}it was tom"))[-1]
    assert apart.fact == between.fact == "hero" and apart.right and between.right
    assert between.ago < apart.ago - 9


def test_a_misspelt_name_was_said_as_well() -> None:
    gap = "the river danced over round stones. " * 4
    text = TOLD.replace("tom", "tomq") + gap
    assert recall.going_on(spoken(f"{text} it was tom"))[-1][:3] == ("hero", 12.0, True)


def test_a_promise_that_is_kept_is_the_promise() -> None:
    found = recall.going_on(
        spoken(
            TOLD + "one day tom promised to find the lost star. then tom found the lost star and the promise was kept"
        )
    )
    assert Recalled("promise", 0.0, True, second=14.5) in found


# Many stories


def test_rows_by_gap() -> None:
    def told(*each: tuple[str, float, bool]) -> list[Recalled]:
        return [Recalled(fact, ago, right, 60.0, 0.75 if right else 0.25) for fact, ago, right in each]

    rows = recall.by_gap(
        [
            told(("hero", 5, True), ("hero", 30, True), ("house", 30, False)),
            told(("hero", 59.9, False), ("house", 300, True)),
        ]
    )
    found = {(row.fact, row.low): row for row in rows}
    assert set(found) == {
        ("all", 0),
        ("all", 20),
        ("all", 120),
        ("hero", 0),
        ("hero", 20),
        ("house", 20),
        ("house", 120),
    }
    both = found["all", 20]
    assert (both.of, both.high, both.right.n) == (3, 60, 2) and both.right.value == pytest.approx(1 / 3)
    assert both.probability is not None and both.probability.value == pytest.approx((0.5 + 0.25) / 2)
    assert both.chance == pytest.approx((1 / 6 + 1 / 6 + 1 / 6) / 3)
    assert found["hero", 20].right.value == 0.5 and found["house", 120].right.value == 1
    assert found["hero", 20].right.low < 0.5 < found["hero", 20].right.high
    lines = recall.table({"griffin": rows}).splitlines()
    assert len(lines) == 2 + len(rows) and "| 120 s or more | 1 in 1 stories | 1.00" in lines[4]
    assert sorted(EDGES) == list(EDGES) and {10, 20} < set(EDGES)


# Ablation


@pytest.fixture(scope="module")
def model() -> Griffin:
    torch.manual_seed(0)
    return Griffin(GriffinConfig.preset("tiny", vocabulary=32, layers=4)).eval()


@pytest.fixture(scope="module")
def tokens() -> Tensor:
    return torch.randint(32, (1, 90), generator=torch.Generator().manual_seed(1))


def logits(model: Any, state: Any, tokens: Tensor) -> Tensor:
    with torch.no_grad():
        return model(tokens, state)[0]


def test_what_is_taken_away_and_what_stays(model: Griffin, tokens: Tensor) -> None:
    with torch.no_grad():
        _, state = model(tokens)
    for name in ABLATIONS:
        ablated = ablate(state, name)
        for before, after in zip(state.layers, ablated.layers, strict=True):
            if isinstance(before, RecurrentState):
                assert torch.equal(before.conv, after.conv)
                assert torch.equal(after.hidden, before.hidden * (name in (INTACT, NO_WINDOWS)))
        assert (ablated.length == state.length).all() == (name in (INTACT, NO_H))
    assert ablate(state, INTACT) is state
    with pytest.raises(LabError, match="no ablation 'head'; there are intact, h zeroed, windows forgotten, both"):
        ablate(state, "head")
    with pytest.raises(LabError, match="only a state of Griffin can be ablated, not tuple"):
        ablate((), NO_H)


def test_with_both_gone_nothing_but_the_newest_tokens_is_left(model: Griffin, tokens: Tensor) -> None:
    """Two pasts with the same last 4 tokens, which are taps of the convolutions; keys of the newest are of h."""
    other = torch.cat([tokens[:, :86].flip(1), tokens[:, 86:]], 1)
    rest = tokens[:, :30]
    with torch.no_grad():
        states = [model(each)[1] for each in (tokens, other)]
    apart = {
        name: (logits(model, ablate(states[0], name), rest) - logits(model, ablate(states[1], name), rest)).abs().max()
        for name in ABLATIONS
    }
    assert apart[NEITHER] < 0.3 * min(apart[NO_H], apart[NO_WINDOWS], apart[INTACT])


@pytest.mark.parametrize("every", [1, 7])
def test_ablated_all_the_time_is_ablated_before_each(model: Griffin, tokens: Tensor, every: int) -> None:
    state, found = None, []
    for k in range(0, 90, every):
        chunk = tokens[:, k : k + every]
        with torch.no_grad():
            part, state = model(chunk, state if state is None else ablate(state, NO_H))
        found.append(part)
    wanted = torch.cat(found, 1)
    ablated = Ablated(model, NO_H, every)
    assert torch.allclose(logits(ablated, None, tokens), wanted, atol=1e-5)
    with torch.no_grad():  # any split into chunks
        first, middle = ablated(tokens[:, :40])
        second, _ = ablated(tokens[:, 40:], middle, last=True)
    assert torch.allclose(first, wanted[:, :40], atol=1e-5) and torch.allclose(second, wanted[:, -1:], atol=1e-5)
    assert not torch.allclose(logits(model, None, tokens), wanted, atol=1e-2)
    assert torch.allclose(logits(Ablated(model, INTACT), None, tokens), logits(model, None, tokens), atol=1e-4)


def test_an_ablated_model_goes_on_like_any_other(model: Griffin, tokens: Tensor) -> None:
    ablated: Any = Ablated(model, NEITHER)
    new = list(generate(ablated, tokens[0], generator=torch.Generator(), temperature=0, max_tokens=5))
    state, read, wanted = None, tokens, []
    for _ in range(5):
        with torch.no_grad():
            found, state = ablated(read, state, last=True)
        wanted.append(int(found.argmax()))
        read = found.argmax(-1)
    assert new == wanted and (ablated.vocabulary, ablated.context, ablated.device) == (32, None, model.device)
    with pytest.raises(LabError, match="leave reset out"):
        ablated(tokens, reset=torch.zeros(1, 90, dtype=torch.bool))
    for arguments in ((nn.Identity(), NO_H), (model, "head"), (model, NO_H, 0)):
        with pytest.raises(LabError, match="ablate"):
            Ablated(*arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", list(ABLATIONS))
def test_the_compiled_step_goes_on_from_an_ablated_state(
    model: Griffin, tokens: Tensor, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lab.language.decode.PATIENCE", 600)  # a busy machine takes longer
    with torch.no_grad():
        _, state = model(tokens)
    stepper = decoder(model, state)
    assert type(stepper).__name__ == "Stepper"
    stepper.step(tokens[:, 0])
    again = decoder(model, ablate(stepper.state, name))
    with torch.no_grad():
        _, state = model(tokens[:, :1], state)
        wanted, _ = model(tokens[:, 1:2], ablate(state, name))
    assert torch.allclose(again.step(tokens[:, 1]), wanted[:, 0], atol=1e-4)


def test_ablations_are_asked_beside_each_other() -> None:
    speller: Any = Speller()
    torch.manual_seed(0)
    griffin = Griffin(GriffinConfig.preset("tiny", vocabulary=128, window=512)).eval()
    found = recall.answered(griffin, *recall.questions(speller, STORIES[0], speller), list(ABLATIONS))
    assert len({len(each) for each in found.values()}) == 1 and list(found) == list(ABLATIONS)
    for several in zip(*found.values(), strict=True):
        assert len({(each.fact, each.ago) for each in several}) == 1
        assert len({each.probability for each in several}) == len(ABLATIONS)


def test_figures_of_recall(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def questions(tokenizer: Any, story: storyworld.Story, narrator: Any) -> tuple[Tensor, list[Question]]:
        asked.append((tokenizer, story.seed, len(story.sentences), narrator.name))
        answers = tuple(torch.arange(3) + k for k in range(6))
        told = [("hero", 15.0, 100), ("house", 15.0, 100), ("house", 150.0, 300)]
        return torch.arange(400) % 32, [
            Question(fact, ago, 0.0, start, torch.arange(5), answers, number)
            for number, (fact, ago, start) in enumerate(told)
        ]

    monkeypatch.setenv("LAB_BUNDLE", str(tiny_bundle))
    monkeypatch.setattr(recall, "questions", questions)
    ssm: Any = SimpleNamespace(tokenizer="ours")
    rows = of_language.of_recall(ssm, None, 2)
    held_out = [narrator.name for narrator in narrators.HELD_OUT]
    assert asked == [("ours", narration.held_out_seed(n), 240, held_out[n]) for n in (2, 3)]  # 0 and 1 ask nothing
    mine = [row for row in rows if row.model == "griffin"]
    states = ("", ", h zeroed", ", windows forgotten", ", both")
    asked_for = [
        f"asked for {fact}, {ago} after it was last said"
        for fact, ago in (
            *(("all", ago) for ago in ("10 to 20 s", "20 s or more", "120 s or more")),
            ("hero", "10 to 20 s"),
            *(("house", ago) for ago in ("10 to 20 s", "20 s or more", "120 s or more")),
        )
    ]
    told = [row.name for row in mine if row.name.startswith("asked")]
    assert told == [f"{each}{state}, chance 0.17" for each in asked_for for state in states]  # side by side
    only_told = {name for row in mine if not row.kept for name in [row.name.partition(" after")[0]]}
    assert only_told == {
        f"asked for {each}" for each in ("hero, 10 to 20 s", "house, 10 to 20 s", "house, 120 s or more")
    }
    likely = [row for row in mine if row.name.startswith("probability of the true answer, all, ")]
    assert len(told) + len(likely) == len(mine) and len(likely) == 3 * 4
    assert len({row.value for row in likely[:4]}) == 4  # each ablation is asked for itself
    assert {row.name for row in rows if row.model == "transformer"} == {
        row.name for row in mine if not any(state in row.name for state in states[1:])
    }
    assert all(row.n == 2 and row.low is not None and row.low <= row.value <= (row.high or 1) for row in rows)
    assert [row.of for row in mine if row.name.startswith("asked for all") and "h zeroed" in row.name] == [4, 2, 2]


# How it is drawn


def test_each_fact_has_a_bar_for_what_is_taken_away() -> None:
    figures = {}
    for fact, by_chance, right in (("all", 0.13, (0.25, 0.2, 0.3, 0.1)), ("hero", 0.17, (0.8, 0.75, 0.3, 0.2))):
        for ablation, value in zip(("", ", windows forgotten", ", h zeroed", ", both"), right, strict=True):
            told = {"value": value, "low": value - 0.1, "high": min(1.0, value + 0.3), "of": 35}
            figures[f"asked for {fact}, 20 s or more after it was last said{ablation}, chance {by_chance}"] = told
            figures[f"asked for {fact}, 20 to 60 s after it was last said{ablation}, chance {by_chance}"] = told
    drawn = recalled({"words wrong": {"value": 1.0}} | figures)
    bars, (chance,) = drawn.data[:4], drawn.data[4:]
    assert [bar.name for bar in bars] == ["as it is", "windows forgotten", "h zeroed", "both"]
    assert all(list(bar.x) == ["hero<br>35 asked", "all<br>35 asked"] for bar in drawn.data)
    assert [list(bar.y) for bar in bars] == [[80, 25], [75, 20], [30, 30], [20, 10]]
    assert list(bars[0].error_y.array) == pytest.approx([20, 30]) and list(bars[0].error_y.arrayminus) == [10, 10]
    assert list(chance.y) == [17, 13]
    assert drawn.layout.title.text == "After 20 s, hero: 75 % by h alone, 30 % by the windows alone"
    with pytest.raises(LabError, match="never asked; `lab measure recall --save` asks"):
        recalled({"words wrong": {"value": 1.0}})
