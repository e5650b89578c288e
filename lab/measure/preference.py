"""Who wins, by a judge of texts: both cut to the shorter one, judged in both orders, counted as Arena-Hard does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from lab.errors import LabError
from lab.judges.protocols import Judge, Verdict
from lab.measure import statistics
from lab.measure.statistics import Estimate

STRONG = 3  # times that a verdict of "much better" counts (Li et al. 2024, Arena-Hard)
_POINTS = {"first": 1.0, "tie": 0.5, "second": 0.0}


class Match(NamedTuple):
    """Two continuations of one prompt, judged with ours first and with theirs first."""

    straight: Verdict
    swapped: Verdict


class WinRate(NamedTuple):
    rate: Estimate  # n: prompts with a verdict
    unreadable: int  # answers in another form, which count for nobody
    contradicted: int  # prompts where one order has one side win, and the other the other


def cut_alike(ours: str, theirs: str) -> tuple[str, str]:
    """Both to as many words as the shorter one has."""
    one, other = ours.split(), theirs.split()
    length = min(len(one), len(other))
    return " ".join(one[:length]), " ".join(other[:length])


def match(judge: Judge, prompt: str, ours: str, theirs: str) -> Match:
    """Raises LabError where one side says nothing: cut to the shorter, both would."""
    ours, theirs = cut_alike(ours, theirs)
    if not ours:
        raise LabError("a continuation without a word cannot be judged; it loses, or ties with another such")
    return Match(judge.judge(prompt, ours, theirs), judge.judge(prompt, theirs, ours))


def points(found: Match) -> list[tuple[float, int]]:
    """Of each order that was answered as asked: 1 where ours wins, 0.5 for a tie, and how often it counts."""
    orders = ((found.straight, False), (found.swapped, True))
    return [
        (1 - _POINTS[verdict.winner] if swapped else _POINTS[verdict.winner], STRONG if verdict.strong else 1)
        for verdict, swapped in orders
        if verdict.winner is not None
    ]


def score(found: Match) -> float | None:
    """Points of both orders over what they could be, 0 to 1; None where no answer can be read."""
    counted = points(found)
    if not counted:
        return None
    return sum(point * weight for point, weight in counted) / sum(weight for _, weight in counted)


def win_rate(matches: Sequence[Match], seed: int = 0) -> WinRate:
    """Points of all orders of all prompts over what they could be, with an interval of a bootstrap over prompts.

    Raises LabError where no answer can be read.
    """
    counted = [points(each) for each in matches]
    unreadable = 2 * len(matches) - sum(map(len, counted))
    if not any(counted):
        raise LabError(f"none of {unreadable} answers names a winner as it was asked to; look at what the judge says")
    won = [sum(point * weight for point, weight in each) for each in counted]
    of = [float(sum(weight for _, weight in each)) for each in counted]
    contradicted = sum({point for point, _ in each} == {0.0, 1.0} for each in counted)
    return WinRate(statistics.share(won, of, seed), unreadable, contradicted)
