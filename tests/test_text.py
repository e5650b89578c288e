"""lab.measure.text: formulas against values by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.measure import text


@pytest.mark.parametrize(
    ("words", "share"),
    [("a b c", 0.0), ("a b c d", 0.0), ("a b c d a b c d", 1 / 5), ("a a a a a a", 2 / 3), ("", 0.0)],
)
def test_repeated_four_grams(words: str, share: float) -> None:
    assert text.repetition(words.split()) == pytest.approx(share)


@pytest.mark.parametrize(
    ("words", "score"), [("a", 0.0), ("", 0.0), ("a b c", 0.0), ("a a", 0.0), ("a b a b", (2 / 3) ** 0.5)]
)
def test_auto_bleu_by_hand(words: str, score: float) -> None:
    assert text.auto_bleu(words.split()) == pytest.approx(score)


def auto_bleu_as_defined(words: Sequence[str], order: int) -> float:
    shares = []
    for n in range(1, order + 1):
        positions = range(len(words) - n + 1)
        grams = {at: tuple(words[at : at + n]) for at in positions}
        elsewhere = [any(abs(at - other) >= n and grams[at] == grams[other] for other in positions) for at in positions]
        shares.append(sum(elsewhere) / len(positions))
    return float(np.prod(shares)) ** (1 / order)


@given(st.lists(st.sampled_from("abc"), min_size=3, max_size=30), st.integers(1, 3))
def test_auto_bleu_is_what_it_is_defined_to_be(words: list[str], order: int) -> None:
    assert text.auto_bleu(words, order) == pytest.approx(auto_bleu_as_defined(words, order))
