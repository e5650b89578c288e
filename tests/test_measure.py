"""lab.measure: each number on cases made by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lab.corpora import Utterance, storyworld
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
    assert measures.transcription(tokenizer, [said(0, 1, text="ab"), said(2, 2, 3, text="cad")]) == pytest.approx(1 / 5)
    assert measures.codes_used(tokenizer, [said(0, 1, 1), said(1, 3)]) == 3 / 8
    between = measures.between_narrators(tokenizer, [(said(1, 1, 2, 3), said(1, 2, 2, 3)), (said(4), said(4))])
    assert between == {"unit_edit_distance": 0.5 * 1 / 4, "unit_edit_distance_collapsed": 0}
