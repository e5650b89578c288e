"""Win rates, against values by hand."""

from __future__ import annotations

import numpy as np
import pytest

from lab.errors import LabError
from lab.judges.protocols import Verdict
from lab.measure import preference
from lab.measure.preference import Match
from tests.judging import Recording

FIRST, SECOND, TIE, UNREADABLE = (Verdict(winner, "") for winner in ("first", "second", "tie", None))
MUCH = Verdict("first", "", strong=True)


class Longest(Recording):
    """The text with the longer first word wins."""

    def verdict(self, first: str, second: str) -> Verdict:
        one, other = (len(text.split()[0]) for text in (first, second))
        return FIRST if one > other else SECOND if one < other else TIE


def test_both_orders_of_both_texts_cut_to_the_shorter() -> None:
    judge = Longest()
    found = preference.match(judge, "once", "a longer one of five", "short too")
    assert judge.compared == [("once", "a longer", "short too"), ("once", "short too", "a longer")]
    assert found == Match(SECOND, FIRST) and preference.points(found) == [(0, 1), (0, 1)]
    with pytest.raises(LabError, match="without a word"):
        preference.match(judge, "once", "", "short too")


@pytest.mark.parametrize(
    ("matches", "rate", "unreadable", "contradicted"),
    [
        ([Match(FIRST, SECOND)], 1.0, 0, 0),
        ([Match(SECOND, FIRST)], 0.0, 0, 0),
        ([Match(FIRST, FIRST)], 0.5, 0, 1),  # whichever stands first: no preference for a system
        ([Match(FIRST, TIE)], 0.75, 0, 0),
        ([Match(MUCH, TIE)], (3 + 0.5) / 4, 0, 0),  # much better counts three times
        ([Match(TIE, MUCH)], (0.5 + 0) / 4, 0, 0),  # in the other order theirs is
        ([Match(FIRST, UNREADABLE), Match(SECOND, FIRST)], 1 / 3, 1, 0),
        ([Match(UNREADABLE, UNREADABLE), Match(TIE, TIE)], 0.5, 2, 0),
    ],
)
def test_win_rates_by_hand(matches: list[Match], rate: float, unreadable: int, contradicted: int) -> None:
    found = preference.win_rate(matches)
    assert (found.rate.value, found.unreadable, found.contradicted) == (pytest.approx(rate), unreadable, contradicted)
    assert found.rate.n == sum(bool(preference.points(each)) for each in matches)


@pytest.mark.parametrize(
    "found, value",
    [
        (Match(FIRST, SECOND), 1.0),
        (Match(FIRST, FIRST), 0.5),
        (Match(MUCH, TIE), 3.5 / 4),
        (Match(UNREADABLE, FIRST), 0.0),
        (Match(UNREADABLE, UNREADABLE), None),
    ],
)
def test_the_score_of_one_match(found: Match, value: float | None) -> None:
    assert preference.score(found) == value


def test_a_system_against_itself_is_even() -> None:
    judge = Longest()
    matches = [preference.match(judge, "once", text, text) for text in ("a b", "c d e", "f")]
    assert preference.win_rate(matches).rate.value == 0.5


def test_the_interval_is_over_prompts_and_not_over_answers() -> None:
    rng = np.random.default_rng(0)
    matches = [Match(FIRST, SECOND) if won else Match(SECOND, FIRST) for won in rng.random(64) < 0.5]
    rate = preference.win_rate(matches).rate
    assert rate.n == 64 and rate.high - rate.low == pytest.approx(2 * 1.96 * 0.5 / 64**0.5, rel=0.1)


def test_nothing_to_read() -> None:
    with pytest.raises(LabError, match="none of 2 answers"):
        preference.win_rate([Match(UNREADABLE, UNREADABLE)])
