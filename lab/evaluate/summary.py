"""What the samples of a row come to: means with 95 % intervals over stories, by minute, and what decays."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations, zip_longest
from typing import Any

from lab.corpora import storyworld
from lab.errors import LabError
from lab.evaluate import contest
from lab.evaluate.results import Results, Row
from lab.evaluate.systems import TRUTH, unrestarted, usual
from lab.measure import recall, statistics
from lab.measure.preference import Match, WinRate, points, score, win_rate
from lab.measure.statistics import Estimate

_WORSE = {"ASR-PPL": 1, "auto-BLEU": 1, "words wrong": 1}  # where more is worse; elsewhere less is
_NEUTRAL = ("words", "mentions")  # neither: beside the truth's they tell of a collapse


def summarize_all(results: Results) -> None:
    """Put the summary of each row in the place of the one it has, without verdicts that no longer hold."""
    contest.settle(results)
    for row in results.rows:
        row.summary = summarize(row)


def summarize(row: Row) -> dict[str, Any]:
    """Estimates over the samples of a row, and two lines on what decays."""
    values = [sample["values"] | _unknown(sample) for sample in row.samples]
    spans = [sample["spans"] for sample in row.samples]
    verdicts = [contest.matches(sample) for sample in row.samples]
    by_minute = [contest.minute_matches(sample) for sample in row.samples]
    minutes = list(zip_longest(*(sample["minutes"] for sample in row.samples), fillvalue={}))
    return {
        "values": {key: _mean(each.get(key) for each in values) for key in _keys(values)},
        "minutes": [{key: _mean(each.get(key) for each in minute) for key in _keys(minute)} for minute in minutes],
        "spans": {
            key: [_mean(cosines) for cosines in zip_longest(*(each.get(key, []) for each in spans))]
            for key in _keys(spans)
        },
        "wins": {key: _wins([each[key] for each in verdicts if key in each]) for key in _keys(verdicts)},
        "minute_wins": {
            key: [
                _wins([each for each in minute if each])
                for minute in zip_longest(*(each.get(key, []) for each in by_minute))
            ]
            for key in _keys(by_minute)
        },
        "recalled": [plain(each) for each in recall.by_gap(recalled(row))] if any(recalled(row)) else [],
        "decay": decay(row),
    }


def recalled(row: Row) -> list[list[recall.Recalled]]:
    """What each story said again."""
    return [[recall.Recalled(*each) for each in sample.get("recalled", [])] for sample in row.samples]


def decay(row: Row) -> list[str]:
    """Two lines: what is worse in the last minute (or 100 words) than in the first, beyond chance, and what is not."""
    pairs: dict[str, list[tuple[float, float]]] = {}
    last = max((len(sample["minutes"]) for sample in row.samples), default=0)
    for sample in row.samples:
        ends = {key: (value, sample["minutes"][-1].get(key)) for key, value in sample["minutes"][0].items()}
        ends = ends if len(sample["minutes"]) == last > 1 else {}
        ends |= {key: (cosines[0], cosines[-1]) for key, cosines in sample["spans"].items() if len(cosines) > 1}
        ends |= {
            f"Win% by {key}": (_percent(minutes[0]), _percent(minutes[-1]))
            for key, minutes in contest.minute_matches(sample).items()
            if len(minutes) == last > 1
        }
        for key, (first, end) in ends.items():
            if first is not None and end is not None:
                pairs.setdefault(key, []).append((first, end))
    worse: list[str] = []
    kept: list[str] = []
    for key, both in pairs.items():
        measure = key.partition(" (")[0]
        if measure in _NEUTRAL or len(both) < 2:
            continue
        sign = _WORSE.get(measure, -1)
        change = statistics.mean([end - first for first, end in both])
        start, end = (statistics.mean(side).value for side in zip(*both, strict=True))
        told = f"{key} {start:.3g} -> {end:.3g} ({change.low:+.3g} to {change.high:+.3g})"
        (worse if min(sign * change.low, sign * change.high) > 0 else kept).append(told)
    if not worse and not kept:
        return ["decays: too short, or too few samples, to tell", "holds: the same"]
    return [f"decays: {', '.join(worse) or 'nothing'}", f"holds: {', '.join(kept) or 'nothing'}"]


def _unknown(sample: Mapping[str, Any]) -> dict[str, float]:
    """Of a story the share of words that its world has not, by each who heard it: an error that needs no text, so that
    a story told by a language model has it as well. Silence has none but such words."""
    if not sample["minutes"] or "words that parse" not in sample["minutes"][0]:
        return {}
    heard = {name: storyworld.normalize(" ".join(texts)).split() for name, texts in sample["texts"].items()}
    return {
        f"words unknown ({name})": sum(word not in storyworld.VOCABULARY for word in said) / len(said) if said else 1.0
        for name, said in heard.items()
    }


_AGREE = ({"words wrong"}, {"words unknown"}, {"STOI", "MOS"})  # kinds that are held against each other


def agreements(rows: Sequence[Row]) -> dict[str, Estimate]:
    """Rank correlations over systems and stages (`_one_each` of the rows with both measures), of all pairs of judges
    that count words wrong, or unknown, and of STOI and each MOS: does a cheap measure rank as an outside one does?

    Without a value where fewer than four are left, or all are alike. STOI is of speech against itself in natural
    speech, 1."""
    means = [
        ({"STOI": 1.0} if row.system == TRUTH else {})
        | {key: each["value"] for key, each in row.summary["values"].items() if each["value"] is not None}
        for row in rows
    ]
    kinds = {key: key.partition(" (")[0] for key in sorted(_keys(means))}
    found = {}
    for first, second in combinations(kinds, 2):
        both = [(row, each) for row, each in zip(rows, means, strict=True) if first in each and second in each]
        if both and {kinds[first], kinds[second]} in _AGREE:
            kept = [(each[first], each[second]) for each in _one_each(both)]
            try:
                found[f"{first}, {second}"] = statistics.spearman(*zip(*kept, strict=True))
            except LabError:
                found[f"{first}, {second}"] = Estimate(math.nan, math.nan, math.nan, len(kept))
    return found


def _one_each(rows: Iterable[tuple[Row, Mapping[str, float]]]) -> list[Mapping[str, float]]:
    """The means of one row of each system, restarted or not, and stage, as rows of the same models are no independent
    draws: of the set that most of them are of, where something is sampled at the usual temperature, the longest."""
    sets: dict[str, dict[str, Mapping[str, float]]] = {}
    for row, means in sorted(rows, key=lambda each: each[0].seconds or 0):
        if row.temperature in (None, usual(row.system)):
            sets.setdefault(row.set, {})[unrestarted(row.system)] = means
    return [*max(sets.values(), key=len, default={}).values()]


def _keys(tables: Iterable[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(key for table in tables for key in table))


def _mean(values: Iterable[float | None]) -> dict[str, Any]:
    """An estimate over those that have a value, as JSON has it."""
    known: Sequence[float] = [value for value in values if value is not None]
    return plain(statistics.mean(known) if known else Estimate(math.nan, math.nan, math.nan, 0))


def _wins(found: Sequence[Match]) -> dict[str, Any]:
    """Of judgements in both orders; no rate where no answer can be read."""
    read = [each for each in found if points(each)]
    rate = win_rate(found) if read else WinRate(Estimate(math.nan, math.nan, math.nan, 0), 2 * len(found), 0)
    return plain(rate)


def _percent(found: Match) -> float | None:
    rate = score(found)
    return None if rate is None else 100 * rate


def plain(found: Any) -> Any:
    """Tuples with names, and what they hold, as JSON has them: dicts, and nothing where a number is not finite."""
    if isinstance(found, tuple):
        return {key: plain(value) for key, value in found._asdict().items()}  # type: ignore[attr-defined]
    return None if isinstance(found, float) and not math.isfinite(found) else found
