"""Intervals: that they hold what they should as often as they say, and what they do with little to go by."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lab.errors import LabError
from lab.measure import statistics
from lab.measure.statistics import Estimate

RUNS = 500  # a share of 0.95 of so many is within 0.02 of it, two standard errors


def coverage(draw, truth: float) -> float:
    """How often the interval of what `draw` estimates holds the truth."""
    found = [draw(np.random.default_rng(run)) for run in range(RUNS)]
    return float(np.mean([each.low <= truth <= each.high for each in found]))


@pytest.mark.parametrize("n", [8, 16, 50])
def test_the_interval_of_a_mean_holds_it_19_times_in_20(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "DRAWS", 1000)
    assert 0.925 <= coverage(lambda rng: statistics.mean(rng.normal(3, 2, n)), 3) <= 0.975


def test_the_interval_of_a_median_holds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "DRAWS", 1000)
    drawn = coverage(lambda rng: statistics.median(rng.exponential(1, 16)), math.log(2))
    assert 0.92 <= drawn <= 0.99


def test_the_interval_of_a_share_minds_that_mentions_of_a_story_go_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """16 stories of 5 to 20 mentions, of which a story's own share, Beta(6, 2), is right. As independent draws the
    mentions would have an interval that holds 0.75 two times in three."""
    monkeypatch.setattr(statistics, "DRAWS", 1000)

    def draw(rng: np.random.Generator) -> Estimate:
        mentions = rng.integers(5, 21, 16)
        return statistics.share(rng.binomial(mentions, rng.beta(6, 2, 16)), mentions)

    assert 0.91 <= coverage(draw, 0.75) <= 0.975


def test_the_interval_of_a_rank_correlation_holds_it() -> None:
    rho = 0.6
    truth = 6 / math.pi * math.asin(rho / 2)  # Spearman's of a normal pair with Pearson's rho
    pair = [[1, rho], [rho, 1]]
    drawn = coverage(lambda rng: statistics.spearman(*rng.multivariate_normal([0, 0], pair, 20).T), truth)
    assert 0.925 <= drawn <= 0.98


def test_values_by_hand() -> None:
    assert statistics.mean([1, 2, 6]).value == 3 and statistics.median([1, 2, 6]).value == 2
    assert statistics.share([1, 9], [2, 10]).value == pytest.approx(10 / 12)  # not the mean of 0.5 and 0.9
    assert statistics.spearman([1, 2, 3, 4], [10, 30, 20, 40]).value == pytest.approx(0.8)  # 1 - 6 x 2 / (4 x 15)
    assert statistics.spearman([1, 2, 3, 4], [4, 3, 2, 1]).value == -1
    constant = statistics.mean([2.0] * 5)
    assert constant == (2, 2, 2, 5) and str(constant) == "2 [2, 2], n = 5"


def test_the_seed_decides() -> None:
    values = np.random.default_rng(1).normal(size=12)
    first, second, other = (statistics.mean(values, seed=seed) for seed in (0, 0, 1))
    assert first == second != other and first.value == other.value
    assert first.low < first.value < first.high and first.n == 12


def test_all_right_is_not_certain() -> None:
    """Clopper and Pearson (1934): 16 of 16 have 0.794 as the lower end of 95 %."""
    assert statistics.share([5] * 16, [5] * 16) == pytest.approx((1, 0.794, 1, 16), abs=1e-3)
    assert statistics.share([0] * 16, [5] * 16) == pytest.approx((0, 0, 0.206, 16), abs=1e-3)


def test_stories_with_nothing_to_count_do_not_count() -> None:
    assert statistics.share([1, 0, 2], [2, 0, 2]) == statistics.share([1, 2], [2, 2])
    assert statistics.share([1, 0, 2], [2, 0, 2]).n == 2


def test_one_story_has_no_interval() -> None:
    value, low, high, n = statistics.mean([4])
    assert (value, n) == (4, 1) and math.isnan(low) and math.isnan(high)


def test_a_perfect_order_of_few_is_not_certain() -> None:
    """Of two neighbours swapped, 0.8 for four: tanh(atanh(0.8) -+ 1.96 sqrt(1.32))."""
    value, low, high, n = statistics.spearman([1, 2, 3, 4], [1, 2, 3, 5])
    assert (value, high, n) == (1, 1, 4) and low == pytest.approx(math.tanh(math.atanh(0.8) - 1.959964 * 1.32**0.5))


@pytest.mark.parametrize(
    "call",
    [
        lambda: statistics.mean([]),
        lambda: statistics.mean([1, math.nan]),
        lambda: statistics.share([1, 2], [3]),
        lambda: statistics.share([3], [2]),
        lambda: statistics.share([-1], [2]),
        lambda: statistics.share([0, 0], [0, 0]),
        lambda: statistics.spearman([1, 2, 3], [1, 2, 3]),
        lambda: statistics.spearman([1, 1, 1, 1], [1, 2, 3, 4]),
    ],
)
def test_what_has_no_estimate(call) -> None:
    with pytest.raises(LabError, match="[a-z]"):
        call()
