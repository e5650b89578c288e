"""lab.measure.tokens: each number on cases made by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from lab.corpora import Utterance, storyworld
from lab.corpora.phones import SILENCE, UNKNOWN, Phone
from lab.corpora.utterance import int16
from lab.errors import LabError
from lab.measure import tokens as measures
from lab.tokens import Tokenizer, TokenizerConfig

UNITS = st.lists(st.integers(0, 5), min_size=1, max_size=12)


@pytest.mark.parametrize(
    ("truth", "heard", "rate"),
    [
        (["owl"], ["owl"], 0),
        (["the owl"], ["the fowl"], 1 / 7),
        (["the owl"], [""], 1),
        (["aaaa", "bb"], ["aaaa", "cc"], 2 / 6),  # all texts together, and not the mean of 0 and 1
        (["a"], ["abc"], 2),  # more than all can be wrong
    ],
)
def test_character_error_rate(truth: list[str], heard: list[str], rate: float) -> None:
    assert measures.character_error_rate(truth, heard) == pytest.approx(rate)


@pytest.mark.parametrize(
    ("first", "second", "distance"),
    [
        ([1, 2, 3, 4], [1, 2, 3, 4], 0),
        ([1, 2, 3, 4], [1, 9, 3, 4], 1 / 4),
        ([1, 2, 3, 4], [2, 3, 4], 1 / 3.5),
        ([1, 2], [3, 4], 1),
        ([1, 1, 1], [1], 1),
    ],
)
def test_unit_edit_distance(first: list[int], second: list[int], distance: float) -> None:
    assert measures.unit_edit_distance(torch.tensor(first), torch.tensor(second)) == pytest.approx(distance)


@given(UNITS, UNITS)
def test_unit_edit_distance_is_symmetric_and_bounded(first: list[int], second: list[int]) -> None:
    ours = measures.unit_edit_distance(torch.tensor(first), torch.tensor(second))
    assert ours == measures.unit_edit_distance(torch.tensor(second), torch.tensor(first))
    assert (ours == 0) == (first == second)
    assert ours <= 2


@pytest.mark.parametrize(
    ("transcript", "share"),
    [("the owl was glad", 1), ("the owl wax glad", 3 / 4), ("xx yy", 0), ("", 0), ("owl owl owlet", 2 / 3)],
)
def test_words_that_exist(transcript: str, share: float) -> None:
    assert measures.words_that_exist(transcript, storyworld.VOCABULARY) == pytest.approx(share)


class Spoken(Tokenizer):
    """A tokenizer for waveforms that are their tokens, a sample each, and spell them as they are."""

    def __init__(self) -> None:
        super().__init__(TokenizerConfig.preset("tiny", codes=8))

    def encode(self, waveform: np.ndarray, *_: int) -> torch.Tensor:
        return torch.from_numpy((waveform * 32768).astype(np.int64))

    def transcribe(self, tokens: torch.Tensor) -> str:
        return "".join("abcdefgh"[token] for token in tokens.tolist())


def said(*tokens: int, text: str = "") -> Utterance:
    return Utterance(np.array(tokens, np.int16), text, "somebody", "narrated")


def test_measures_of_a_tokenizer() -> None:
    tokenizer = Spoken()
    assert measures.transcription(tokenizer, [said(0, 1, text="ab"), said(2, 2, 3, text="cad")]).value == pytest.approx(
        1 / 5
    )
    assert measures.codes_used(tokenizer, [said(0, 1, 1), said(1, 3)]) == 3 / 8
    between = measures.between_narrators(tokenizer, [(said(1, 1, 2, 3), said(1, 2, 2, 3)), (said(4), said(4))])
    assert between == {"unit_edit_distance": 0.5 * 1 / 4, "unit_edit_distance_collapsed": 0}


def test_bit_rate_by_hand() -> None:
    """Tokens a half, a quarter and twice an eighth of the time: 1.75 bits each."""
    sequences = [torch.tensor([0, 0, 0, 0]), torch.tensor([1, 1, 2, 3])]
    assert measures.bit_rate(sequences) == pytest.approx(1.75 * 25)
    assert measures.bit_rate(sequences, rate=10) == pytest.approx(17.5) and measures.bit_rate(sequences[:1]) == 0
    with pytest.raises(LabError, match="no tokens"):
        measures.bit_rate([])


# The narrator in the tokens


def test_bags_hold_roots_of_shares() -> None:
    found = measures.histograms(np.array([[0, 0, 7, 7], [9, 9, 9, 9], [9, 0, 9, 9]])).toarray()
    half, quarter, most = 0.5**0.5, 0.5, 0.75**0.5
    np.testing.assert_allclose(found, [[half, half, 0], [0, 0, 1], [quarter, 0, most]])


def planted(seed: int = 0) -> tuple[np.ndarray, list[str], list[int]]:
    """Pieces of 6 narrators who read 12 texts, 3 pieces each: where they are in 10 dimensions, and noise of 0.3."""
    rng = np.random.default_rng(seed)
    who = np.repeat(np.arange(6), 36)
    text = np.tile(np.repeat(np.arange(12), 3), 6)
    return rng.normal(size=(6, 10))[who] + 0.3 * rng.normal(size=(216, 10)), list(who.astype(str)), list(text)


def test_the_probe_finds_who_is_there() -> None:
    features, who, texts = planted()
    assert measures.probe(features, who, texts) > 0.95


@pytest.mark.parametrize("seed", range(3))
def test_the_probe_is_at_chance_where_nobody_is(seed: int) -> None:
    features, who, texts = planted(seed)
    anybody = list(np.random.default_rng(seed).permutation(who))
    assert abs(measures.probe(features, anybody, texts) - 1 / 6) < 0.15  # 72 pieces: a deviation of 0.044


def test_the_probe_learns_nothing_from_texts_that_it_knows() -> None:
    """Each narrator has texts of their own, and the features tell the text alone: of no use with texts unheard."""
    texts = np.repeat(np.arange(18), 4)
    assert measures.probe(np.eye(18)[texts], list((texts // 3).astype(str)), list(texts)) == pytest.approx(1 / 6)


class Signed(Tokenizer):
    """0101... for a waveform that begins above zero, 0000011111... for any other: equal shares, other neighbours."""

    def __init__(self) -> None:
        super().__init__(TokenizerConfig.preset("tiny", codes=2))

    def encode(self, waveform: np.ndarray, *_: int) -> torch.Tensor:
        tokens = torch.arange(-(-len(waveform) // 640))
        return tokens % 2 if waveform[0] > 0 else tokens // 5 % 2


def readings(tilts: dict[str, float], texts: int) -> list[Utterance]:
    """10.2 s of noise, the same for all who read a text; a tilt of -1 to 1 gives it the lows or the highs."""
    told = []
    for text in range(texts):
        noise = 0.1 * np.random.default_rng(text).uniform(-1, 1, 163_200)
        noise[0] = 0.1
        for name, tilt in tilts.items():
            waveform = noise + tilt * np.append(0, noise[:-1])
            told.append(Utterance(int16(np.sign(tilt or 1) * waveform), "", name, "narrated", text))
    return told


def test_narrators_are_looked_for_in_tokens_and_in_spectra() -> None:
    told = measures.narrator_identified(Signed(), readings({"low": 0.9, "high": -0.9}, 6))
    assert told == {"tokens": 0.5, "tokens and their neighbours": 1, "log-mel": 1}
    told = measures.narrator_identified(Signed(), readings({"one": 0.9, "another": 0.9}, 6))
    assert told == {"tokens": 0.5, "tokens and their neighbours": 0.5, "log-mel": 0.5}
    with pytest.raises(LabError, match="5 texts of 10 s or more are too few"):
        measures.narrator_identified(Signed(), readings({"low": 0.9, "high": -0.9}, 5))


# Phones


def test_phones_meet_tokens() -> None:
    intervals = [Phone("AA", 0, 0.08), Phone(UNKNOWN, 0.08, 0.12), Phone(SILENCE, 0.12, 0.16)]
    phones, tokens = measures.phones_and_tokens(Spoken(), [(said(0, 1, 2, 3), intervals), (said(5), intervals)])
    assert phones.tolist() == ["AA", "AA", SILENCE, "AA"] and tokens.tolist() == [0, 1, 3, 5]
    assert [len(part) for part in measures.phones_and_tokens(Spoken(), [])] == [0, 0]


def test_joint_counts() -> None:
    counts = measures.joint_counts(np.array(["B", "A", "B", "B"]), np.array([5, 5, 5, 9]))
    assert counts.tolist() == [[1, 0], [2, 1]]


@pytest.mark.parametrize(
    ("counts", "phone_purity", "cluster_purity", "pnmi"),
    [
        ([[5, 0], [0, 2]], 1, 1, 1),  # one to one
        ([[3, 2, 0, 0], [0, 0, 4, 1]], 1, 7 / 10, 1),  # finer than phones: nothing lost
        ([[2, 4], [3, 6]], 9 / 15, 10 / 15, 0),  # independent
        ([[4], [4]], 1 / 2, 1, 0),  # one token for all
        ([[3, 1, 0], [1, 1, 2]], 6 / 8, 5 / 8, 0.375 * np.log2(1.5) + 0.125),
    ],
)
def test_agreement(counts: list[list[int]], phone_purity: float, cluster_purity: float, pnmi: float) -> None:
    expected = {"phone purity": phone_purity, "cluster purity": cluster_purity, "PNMI": pnmi}
    assert measures.agreement(np.array(counts)) == pytest.approx(expected, abs=1e-12)


@given(arrays.arrays(np.int64, st.tuples(st.integers(2, 6), st.integers(1, 6)), elements=st.integers(1, 50)))
def test_agreement_is_a_share(counts: np.ndarray) -> None:
    scores = measures.agreement(counts)
    assert all(-1e-9 <= score <= 1 + 1e-9 for score in scores.values())
    assert scores["phone purity"] >= counts.sum(1).max() / counts.sum() - 1e-9  # never worse than the commonest phone


def test_one_phone_has_nothing_to_agree_on() -> None:
    with pytest.raises(LabError, match="two phones or more, and there are 1"):
        measures.agreement(np.array([[3, 1]]))
