"""lab.measure.text: formulas against values by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.errors import LabError
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


def auto_bleu_by_parts(words: Sequence[str]) -> float:
    """As fairseq counts: the n-grams left of an n-gram, and those right of it."""
    shares = []
    for n in (1, 2):
        found = 0
        for at in range(len(words) - n + 1):
            sides = words[:at], words[at + n :]
            elsewhere = [tuple(side[k : k + n]) for side in sides for k in range(len(side) - n + 1)]
            found += tuple(words[at : at + n]) in elsewhere
        shares.append(found / (len(words) - n + 1))
    return float(np.prod(np.array(shares) ** 0.5))


@given(st.lists(st.sampled_from("abcd"), min_size=2, max_size=40))
def test_auto_bleu_counts_as_fairseq_does(words: list[str]) -> None:
    assert text.auto_bleu(words) == pytest.approx(auto_bleu_by_parts(words))


class Letters:
    """Texts by which of the letters a, b and c their words are; the language model finds a word 1, 2 or 3 nats."""

    name = "letters"

    def provenance(self) -> dict[str, str]:
        return {}

    def embed_text(self, texts: Sequence[str]) -> np.ndarray:
        counts = np.array([[each.split().count(letter) for letter in "abc"] for each in texts], float) + 1e-9
        return counts / np.linalg.norm(counts, axis=1, keepdims=True)

    def log_likelihood(self, said: str, context: str = "") -> tuple[float, int]:
        return -float(sum("abc".index(word) + 1 for word in said.split())), len(said.split())


def test_perplexity_is_nats_a_token() -> None:
    assert text.log_perplexity(Letters(), "a b c c") == pytest.approx((1 + 2 + 3 + 3) / 4)
    with pytest.raises(LabError, match="without a word"):
        text.log_perplexity(Letters(), "")


def test_spans_of_a_hundred_words() -> None:
    assert [len(span.split()) for span in text.spans("a " * 299)] == [100, 100]
    assert text.spans("a b c d e", 2) == ["a b", "c d"] and text.spans("a", 2) == []


def test_likeness_of_spans_by_hand() -> None:
    assert text.span_likeness(Letters(), "a a", "a b b b a a c", 2) == pytest.approx([0.5**0.5, 0, 1], abs=1e-6)
    assert text.span_likeness(Letters(), "a", "a b") == []


def test_similarity_by_hand() -> None:
    assert text.similarity(Letters(), "a a", "a b") == pytest.approx(0.5**0.5)
    assert text.similarity(Letters(), "a", "b c") == pytest.approx(0, abs=1e-6)
    long = "a " * 200 + "b c"  # two spans of a, and one of b and c
    expected = 2 / np.linalg.norm([2, 0.5**0.5, 0.5**0.5])
    assert text.similarity(Letters(), long, "a") == pytest.approx(expected)
    assert text.similarity(Letters(), long, long) == pytest.approx(1)
    assert np.isfinite(text.similarity(Letters(), "", "a"))
