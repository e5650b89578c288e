"""A number of some stories, and how far it could lie from that of all stories like them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from lab.errors import LabError

LEVEL = 0.95
DRAWS = 4000


class Estimate(NamedTuple):
    """A value, its interval of 95 % (nan where one story alone has none), and the number of stories."""

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.value:.3g} [{self.low:.3g}, {self.high:.3g}], n = {self.n}"


def mean(values: Sequence[float] | np.ndarray, seed: int = 0) -> Estimate:
    """Of one value a story (N,). Raises LabError for none, and for one that is not finite."""
    return estimate(lambda table: table[0].mean(-1), values, seed=seed)


def median(values: Sequence[float] | np.ndarray, seed: int = 0) -> Estimate:
    """Of one value a story (N,). Raises LabError as `mean`."""
    return estimate(lambda table: np.median(table[0], -1), values, seed=seed)


def share(hits: Sequence[float] | np.ndarray, of: Sequence[float] | np.ndarray, seed: int = 0) -> Estimate:
    """All hits of all stories over all that they could have been: (N,) and (N,), 0 <= hits <= of.

    Stories with nothing to count do not count in n. Where each story has all or each has none, a bootstrap would be
    certain: there the other bound is that of Clopper and Pearson (1934), each story a trial. Raises LabError as `mean`,
    for hits beyond what there is, and where no story has anything to count.
    """
    counted, total = _columns(hits, of)
    if (counted < 0).any() or (counted > total).any():
        raise LabError("a share has more hits than there are things to hit, or fewer than 0; count them again")
    some = total > 0
    if not some.any():
        raise LabError(f"none of {len(total)} stories has anything to take a share of")
    found = estimate(lambda table: table[0].sum(-1) / table[1].sum(-1), counted[some], total[some], seed=seed)
    certain = ((1 - LEVEL) / 2) ** (1 / found.n)
    if found.value == 1:
        return found._replace(low=certain, high=1.0)
    return found._replace(low=0.0, high=1 - certain) if found.value == 0 else found


def estimate(
    statistic: Callable[[np.ndarray], np.ndarray], *columns: Sequence[float] | np.ndarray, seed: int = 0
) -> Estimate:
    """A statistic of stories, each with a number in every column, (columns, ..., N) -> (...), by a bootstrap of them.

    The expanded percentile interval (Hesterberg 2015, "What teachers should know about the bootstrap", 4.5): the plain
    one is too short for few stories; for a mean of 16 it holds the truth 92 times in 100. Raises LabError as `mean`.
    """
    table = _columns(*columns)  # (columns, N)
    n = table.shape[1]
    low, high = bounds(statistic(table[:, picks(n, DRAWS, seed)]), n)
    return Estimate(float(statistic(table)), float(low), float(high), n)


def picks(n: int, draws: int, seed: int = 0) -> np.ndarray:
    """Of n stories as many, with replacement: (draws, n)."""
    return np.random.default_rng(seed).integers(n, size=(draws, n))


def bounds(drawn: np.ndarray, n: int) -> np.ndarray:
    """The interval of `estimate`, (2, ...), of statistics of `picks` of n stories, (draws, ...); nan of one story."""
    if n == 1:
        return np.full((2, *drawn.shape[1:]), math.nan)
    tail = stats.norm.cdf(math.sqrt(n / (n - 1)) * stats.t.ppf((1 - LEVEL) / 2, n - 1))
    return np.quantile(drawn, [tail, 1 - tail], axis=0)


def spearman(first: Sequence[float] | np.ndarray, second: Sequence[float] | np.ndarray) -> Estimate:
    """Rank correlation of two values (N,) and (N,), with the interval of Bonett and Wright (2000).

    A perfect order is given the interval of one with two neighbours swapped. Raises LabError as `mean`, for fewer than
    four pairs, and where all values of one side are alike.
    """
    table = _columns(first, second)
    n = table.shape[1]
    if n < 4 or (np.ptp(table, axis=1) == 0).any():
        raise LabError(f"{n} pairs have no rank correlation to speak of; give 4 or more that are not all alike")
    value = float(np.clip(stats.spearmanr(*table).statistic, -1, 1))
    swapped = 1 - 12 / (n**3 - n)
    inner = float(np.clip(value, -swapped, swapped))
    reach = stats.norm.ppf((1 + LEVEL) / 2) * math.sqrt((1 + inner**2 / 2) / (n - 3))
    low, high = np.tanh([math.atanh(inner) - reach, math.atanh(inner) + reach])
    return Estimate(value, min(value, float(low)), max(value, float(high)), n)


def _columns(*columns: Sequence[float] | np.ndarray) -> np.ndarray:
    """As many numbers in each -> (columns, N)."""
    arrays = [np.asarray(column, float) for column in columns]
    if any(array.ndim != 1 or len(array) != len(arrays[0]) for array in arrays) or not len(arrays[0]):
        sizes = " and ".join(str(array.size) for array in arrays)
        raise LabError(f"there is nothing to estimate from {sizes} values; give one or more, as many of each")
    table = np.stack(arrays)
    if not np.isfinite(table).all():
        raise LabError("a value is missing or not finite; leave its story out, or say what it counts as")
    return table
