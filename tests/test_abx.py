"""ABX errors against cases counted by hand."""

from __future__ import annotations

from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from lab.corpora import Utterance, narrators
from lab.corpora.phones import Phone
from lab.errors import LabError
from lab.measure import abx, figures
from lab.measure.abx import Item
from lab.tokens import Tokenizer, TokenizerConfig


def tokens(*values: int) -> np.ndarray:
    return np.array(values)


def said(frames: np.ndarray, phone: str, speaker: str = "ann", context: str = "b_t") -> Item:
    return Item(frames, phone, context, speaker)


# Distances


@pytest.mark.parametrize(
    ("one", "other", "far"),
    [
        ([1, 2, 3], [1, 2, 3], 0),
        ([1, 2, 3], [1, 1, 2, 2, 3], 0),  # slower
        ([1], [2], 1),
        ([1, 1], [2, 2], 1),  # one and one: the mean of two steps
        ([1, 2], [1, 3], 1 / 2),
        ([1, 2, 3], [1, 3], 1 / 3),  # 1-1, 2-1 (or 2-3), 3-3
    ],
)
def test_distances_of_tokens_by_hand(one: list[int], other: list[int], far: float) -> None:
    assert abx.distance(tokens(*one), tokens(*other)) == pytest.approx(far)
    assert abx.distance(tokens(*other), tokens(*one)) == pytest.approx(far)


def test_distances_of_features_are_angles() -> None:
    east, north, west = ([[1.0, 0.0]], [[0.0, 3.0]], [[-2.0, 0.0]])
    assert abx.distance(np.array(east), np.array(north)) == pytest.approx(0.5)
    assert abx.distance(np.array(east), np.array(west)) == pytest.approx(1)
    assert abx.distance(np.array(east), np.array(east * 3)) == pytest.approx(0, abs=1e-7)
    assert np.isfinite(abx.distance(np.zeros((1, 2)), np.array(east)))
    with pytest.raises(LabError, match="without a frame"):
        abx.distance(np.zeros((0, 2)), np.array(east))


def brute_force(cost: np.ndarray) -> set[float]:
    """Means along all paths of the least sum."""
    rows, columns = cost.shape

    def paths(i: int, j: int) -> list[list[tuple[int, int]]]:
        if (i, j) == (rows - 1, columns - 1):
            return [[(i, j)]]
        steps = [(i + a, j + b) for a, b in ((1, 1), (1, 0), (0, 1)) if i + a < rows and j + b < columns]
        return [[(i, j), *path] for step in steps for path in paths(*step)]

    found = [[cost[at] for at in path] for path in paths(0, 0)]
    least = min(map(sum, found))
    return {sum(path) / len(path) for path in found if sum(path) == pytest.approx(least)}


def test_warping_finds_the_least_sum() -> None:
    rng = np.random.default_rng(0)
    for rows, columns in product(range(1, 5), range(1, 5)):
        cost = rng.random((rows, columns))
        assert float(abx._warped(cost)) == pytest.approx(min(brute_force(cost)))


# Errors


def test_errors_within_by_hand() -> None:
    """Two readings of a (1, 2) and one of e (2): for X = 1 and A = 2, B = 2 is as near as A, and for X = 2 and A = 1 it
    is nearer. e has no second reading to be X and A. So (1/2 + 1) / 2.
    """
    items = [said(tokens(1), "a"), said(tokens(2), "a"), said(tokens(2), "e")]
    found = abx.error(items, across=False)
    assert found.value == pytest.approx(0.75) and found.n == 1


def test_errors_across_by_hand() -> None:
    """ann says a as 1 and e as 2, bob a as 1 and e as 1. X of bob: his a is right (0), his e is nearer to ann's a (1).
    X of ann: her a is as near to bob's a as to his e (1/2), her e is as far from both (1/2). Mean: 1/2.
    """
    items = [said(tokens(1), "a"), said(tokens(2), "e"), said(tokens(1), "a", "bob"), said(tokens(1), "e", "bob")]
    assert abx.error(items, across=True).value == pytest.approx(0.5)
    right = [*items[:3], said(tokens(2), "e", "bob")]
    assert abx.error(right, across=True).value == 0


def test_contexts_then_speakers_then_pairs_count_alike() -> None:
    """ann errs (1) in one of three contexts, bob in all of his one: (1/3 + 1) / 2. The other pair has no error."""

    def both(wrong: bool, **where: str) -> list[Item]:
        a, e = (tokens(1), tokens(2)), (tokens(2), tokens(1)) if wrong else (tokens(3), tokens(3))
        a = a if wrong else (tokens(1), tokens(1))
        return [said(frames, phone, **where) for phone, both in (("a", a), ("e", e)) for frames in both]

    assert abx.error(both(True), across=False).value == pytest.approx(0.75)  # of each X one B is as near as X, one as A
    items = [*both(True), *both(False, context="p_k"), *both(False, context="d_g"), *both(True, speaker="bob")]
    once = (0.75 / 3 + 0.75) / 2
    assert abx.error(items, across=False).value == pytest.approx(once)
    items += [said(tokens(at), phone, context="h_d") for at, phone in ((7, "i"), (7, "i"), (8, "o"), (8, "o"))]
    found = abx.error(items, across=False)
    assert found.value == pytest.approx(once / 2) and found.n == 2


def test_phones_in_different_contexts_are_not_compared() -> None:
    items = [said(tokens(1), "a"), said(tokens(1), "a"), said(tokens(1), "e", context="p_k")]
    with pytest.raises(LabError, match="twice by one speaker"):
        abx.error(items, across=False)
    with pytest.raises(LabError, match="by two speakers"):
        abx.error(items, across=True)
    with pytest.raises(LabError):
        abx.error([], across=False)


def test_noise_is_chance_and_the_seed_decides() -> None:
    rng = np.random.default_rng(0)
    items = [said(rng.normal(size=(3, 8)), phone, speaker) for phone in "abcdef" for speaker in "xy" for _ in range(12)]
    found = abx.error(items, across=True)
    assert found.low < 0.5 < found.high and found.value == pytest.approx(0.5, abs=0.1) and found.n == 15
    assert abx.error(items, across=True) == found != abx.error(items, across=True, seed=1)


# Where readings come from


def test_syllables_of_voices_that_nothing_learnt_from() -> None:
    heard: list[float] = []
    items = list(
        abx.syllables(lambda waveform: heard.append(float(np.abs(waveform).sum())) or tokens(1), narrators.HELD_OUT[:2])
    )
    assert {item.speaker for item in items} == {"Alba", "Boaz"} == {n.name for n in narrators.HELD_OUT[:2]}
    spelt = sum(map(len, abx.SYLLABLES.values()))
    assert len(items) == 2 * 3 * spelt and len(set(heard)) == 6 * (spelt - 1)  # bat is in two contexts
    names = abx.syllables.__defaults__[0]
    assert names == narrators.HELD_OUT and not set(names) & set(narrators.NAMED)


def test_triphones_are_cut_where_the_aligner_says() -> None:
    phones = [Phone(label, k / 10, (k + 1) / 10) for k, label in enumerate(["SIL", "B", "AE", "T", "S", "SPN", "T"])]
    utterance = Utterance(np.zeros(16_000, np.int16), "bats", "ann", "librispeech")
    items = list(abx.triphones(lambda waveform: np.arange(20), [(utterance, phones)], rate=20))
    assert [(item.phone, item.context, item.speaker) for item in items] == [("AE", "B_T", "ann"), ("T", "AE_S", "ann")]
    assert items[0].frames.tolist() == [2, 3, 4, 5, 6, 7] and items[1].frames.tolist() == [4, 5, 6, 7, 8, 9]


def test_a_tokenizer_is_compared_with_what_it_hears() -> None:
    tokenizer = Tokenizer(TokenizerConfig.preset("tiny")).eval()
    found = abx.of_tokenizer(tokenizer, lambda represent: abx.syllables(represent, narrators.HELD_OUT[:2]))
    assert list(found) == [
        f"{kind}, {where} speakers"
        for kind in ("tokens", "before the quantizer", "log-mel")
        for where in ("within", "across")
    ]
    assert found["log-mel, within speakers"].value < 0.25  # the same voice a little slower
    assert found["log-mel, within speakers"].value < found["log-mel, across speakers"].value


def test_figures_of_abx(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = partial(abx.syllables, among=narrators.HELD_OUT[:2])
    monkeypatch.setattr(abx, "SYLLABLES", {"b_t": {"a": "bat", "e": "bet"}})
    monkeypatch.setattr(abx, "syllables", few)
    rows = {row.name: row for row in figures.measure("abx", tiny_bundle, None, 2)}
    assert 0 < rows["bits a second, by the entropy of tokens"].value <= 5 * 25  # of 32 codes
    row = rows["ABX error, chance 0.50, tokens, across speakers, syllables, held-out narrators"]
    assert row.n == 1 and row.model == "tokenizer" and 0 <= row.value <= 1 and len(rows) == 7
