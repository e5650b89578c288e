"""The paper's Tables 2 to 4 and Fig. 5 in markdown: our rows, then the published ones, each called what it is.

The two do not compare as they stand: other judges, other prompts, other sizes. What does is which row of a table is
better than which.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from lab.corpora.storyworld.world import HEROES
from lab.evaluate import likelihood
from lab.evaluate.contest import GRIFFIN, OPPONENTS
from lab.evaluate.results import Results, Row
from lab.evaluate.summary import recalled
from lab.evaluate.systems import TRUTH
from lab.measure import coherence, recall
from lab.paths import data_folder

PUBLISHED = data_folder() / "published" / "evaluation.json"
TABLES = ("2", "3", "4")
_LONGEST = {"2": 60.0, "3": 600.0, "4": float("inf")}  # seconds of prompt and continuation, below which a row is of it
_COLUMNS = {
    "2": ("ASR-PPL", "similarity", f"Win% vs {TRUTH}", "SpkrSim", "MOS", "sWUGGY", "sBLIMP"),
    "3": ("ASR-PPL", "similarity", f"Win% vs {GRIFFIN}", "SpkrSim", "MOS <1 min", "1-2", "2-3", ">=3 min"),
    "4": ("ASR-PPL", f"Win% vs {GRIFFIN}"),
}
_CHANCE = dict.fromkeys(likelihood.TESTS, ", by nats a token, chance 0.5 (published in %)")
_MINUTES = {"MOS <1 min": 0, "1-2": 1, "2-3": 2, ">=3 min": 3}  # columns, and the minute that each is of
_WORDS = range(0, 2001, 200)  # where the published points of Fig. 5 stand
_BLANK = ""


@cache
def published() -> Mapping[str, Any]:
    """What data/published/evaluation.json holds: `paper`, `how` and `tables`."""
    return json.loads(PUBLISHED.read_text())


def table(results: Results, number: str) -> str:
    """Table 2 (short), 3 (to 4 min) or 4 (to 16 min): rows of that length, and the published ones."""
    columns = _COLUMNS[number]
    rows = [[*ours(row), *_cells(row, columns)] for row in _of_length(results, number)]
    theirs = published()["tables"][number]
    rows += [[*_theirs(each["system"]), *_published(each, columns)] for each in theirs["rows"]]
    head = ["system", "measured", "n", "temperature", *(f"{name}{_CHANCE.get(name, _BLANK)}" for name in columns)]
    title, told = f"Table {number}. Published: {theirs['setup']}.", f"{_judges(results)} {_contest(results)}"
    return "\n".join([title, "", *markdown(head, rows), "", told])


def figure(results: Results) -> str:
    """Fig. 5: SC-L by the word after the prompt at which the span of 100 words starts, and n where not all reach it."""
    rows = []
    for row in results.rows:
        for key, means in row.summary.get("spans", {}).items():
            points = {100 * at: estimate(mean, len(row.samples)) for at, mean in enumerate(means)}
            rows.append([*ours(row, key), *(points.get(word, _BLANK) for word in _WORDS)])
    for name, curve in coherence.published().items():
        rows.append([*_theirs(name), *(f"{curve[word]:.3g}" if word in curve else _BLANK for word in _WORDS)])
    head = ["system", "measured", "n", "temperature", *(f"word {word}" for word in _WORDS)]
    title = "Fig. 5. SC-L by word after the prompt, of the samples that reach it: n stands where not all do."
    return "\n".join([title, "", *markdown(head, rows), "", _judges(results)])


def by_minute(row: Row) -> str:
    """Every measure of a row, whole and by minute, and what decays."""
    whole, minutes = row.summary["values"], row.summary["minutes"]
    keys = dict.fromkeys([*whole, *(key for minute in minutes for key in minute)])
    n = len(row.samples)
    rows = [[named(key), *(estimate(values.get(key), n) for values in (whole, *minutes))] for key in keys]
    later = row.summary.get("minute_wins", {})  # files of before have none
    rows += [
        [f"Win% by {key}", *(_percent(each, n) for each in (win, *later.get(key, [])))]
        for key, win in row.summary["wins"].items()
    ]
    head = ["measure", "whole", *(f"minute {number}" for number in range(1, len(minutes) + 1))]
    asked = "" if row.temperature is None else f", temperature {row.temperature:g}"
    title = f"{row.system} on {row.set}{asked}: {n} samples, {len(row.skipped)} left out"
    again = recalled(row)
    told = ["", recall.table({row.system: recall.by_gap(again)})] if any(again) else []
    return "\n".join([title, "", *markdown(head, rows), *told, "", *row.summary["decay"]])


def named(measure: str) -> str:
    """A measure, with the chance that who names any hero of the story world is right."""
    return f"{measure}, chance {1 / len(HEROES):.2f}" if measure == "hero right" else measure


def _of_length(results: Results, number: str) -> Iterator[Row]:
    for row in results.rows:
        lasts = row.seconds or sum(sample["seconds"] for sample in row.samples) / max(1, len(row.samples))
        if next(name for name, longest in _LONGEST.items() if lasts < longest) == number:
            yield row


def ours(row: Row, of: str = "") -> list[str]:
    """What row it is, of which set and length; that it was measured here; n and temperature."""
    length = "" if row.seconds is None else f", {row.seconds:g} s"
    name = f"{row.system} ({row.set}{length}{', ' + of if of else ''})"
    return [name, "here", str(len(row.samples)), "" if row.temperature is None else f"{row.temperature:g}"]


def _theirs(name: str) -> list[str]:
    """The paper samples its own models at 1, and does not say at what the others."""
    return [name, "published", _BLANK, "1" if name.startswith(("SpeechSSM", "Transformer")) else _BLANK]


def _cells(row: Row, columns: Sequence[str]) -> Iterator[str]:
    values, minutes, wins = (row.summary.get(key, {}) for key in ("values", "minutes", "wins"))
    for column in columns:
        if column.startswith("Win%"):
            against = column.removeprefix("Win% vs ")
            itself = (row.system, row.temperature) == OPPONENTS[against]
            found = next((win for key, win in wins.items() if key.endswith(f": {against}")), None)
            yield _percent(found, len(row.samples)) if found else "50, itself" if itself else _BLANK
        elif column in likelihood.TESTS:
            yield _likelier(row.likelihood.get(column), len(row.samples))
        elif column in _MINUTES:
            minute = minutes[_MINUTES[column]] if len(minutes) > _MINUTES[column] else {}
            yield first(minute, "MOS", len(row.samples))
        else:
            yield first(values, column, len(row.samples))


def first(values: Mapping[str, Any], measure: str, n: int) -> str:
    """By the first judge of a measure, `estimate`."""
    return next((estimate(value, n) for key, value in values.items() if key.partition(" (")[0] == measure), _BLANK)


def _likelier(found: Mapping[str, Any] | None, n: int) -> str:
    """By nats a token, and by their sum where it is there."""
    shown = estimate(found, n)
    return f"{shown}; by the sum {estimate(found[likelihood.SUM])}" if found and likelihood.SUM in found else shown


def _published(row: Mapping[str, Any], columns: Sequence[str]) -> Iterator[str]:
    names = {f"Win% vs {TRUTH}": "wins GT", f"Win% vs {GRIFFIN}": "wins SSM"}
    for column in columns:
        if column in _MINUTES:
            value = row["MOS by minute"][_MINUTES[column]]
        else:
            value = row.get(names.get(column, column), _BLANK)
        yield f"{value[0]:.2f} +- {value[1]:.2f}" if isinstance(value, list) else str(value)


def estimate(found: Mapping[str, Any] | None, n: int | None = None) -> str:
    """A mean with its interval, and how many samples it is of where that is not `n`."""
    if not found or found["value"] is None:
        return _BLANK
    interval = "" if found["low"] is None else f" ({found['low']:.3g} to {found['high']:.3g})"
    return f"{found['value']:.3g}{interval}" + (f", n = {found['n']}" if n not in (None, found["n"]) else "")


def _percent(win: Mapping[str, Any], n: int) -> str:
    rate = win["rate"]
    scaled = {key: None if rate[key] is None else 100 * rate[key] for key in ("value", "low", "high")}
    return estimate({**rate, **scaled}, n) + (f", {win['unreadable']} unreadable" if win["unreadable"] else "")


def _judges(results: Results) -> str:
    names = dict.fromkeys(name for row in results.rows for name in row.judges)
    return (
        f"Here: 95 % intervals over samples, judged by {', '.join(names) or 'nobody'}. Published: {published()['how']}."
    )


def _contest(results: Results) -> str:
    names = dict.fromkeys(key.rpartition(": ")[0] for row in results.rows for key in row.contest)
    if not names:
        return "Win%: nobody has judged yet; `lab evaluate --judge` does."
    against = f"against {GRIFFIN}, the temperature of `lab story`, or the truth of the same prompts; chance 50"
    return f"Win%: by {', '.join(names)}, {against}. Published: against SpeechSSM-2B at 1, or the truth."


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *(list(row) + [_BLANK] * (len(head) - len(row)) for row in rows)]
    return ["| " + " | ".join(line) + " |" for line in lines]
