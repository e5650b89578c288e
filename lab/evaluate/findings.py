"""What the paper found (paper section 8), (a) to (f), beside what was measured here; and Fig. 1.

A finding holds here where the interval of a difference lies on the side that the paper tells of. What has no rows yet
is not measured, and says which ones it wants. Systems are compared on one set of prompts, each at the paper's
temperature, 1, where there is such a row.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from lab.errors import LabError
from lab.evaluate.results import Results, Row
from lab.evaluate.tables import markdown, ours, published
from lab.measure import statistics
from lab.measure.statistics import Estimate

PARSES = 0.5  # share of words that parse, below which a minute is no story
BRIEF, MINUTES_4, MINUTES_16 = (0.0, 60.0), (240.0, 241.0), (960.0, 961.0)  # seconds of a row, from and below
_WORD_1000 = 10  # span of 100 words that starts there
# Rows of ours that stand in the place of the paper's, for the order of Table 3.
_TWINS = {
    "gslm+3s": "GSLM, slide-and-prompt",
    "twist+3s": "TWIST-7B, slide-and-prompt",
    "spiritlm+3s": "Spirit LM Expr.",
    "griffin-text": "SpeechSSM-2B",
    "griffin-4min": "SpeechSSM-2B, no LM init",
    "griffin": "SpeechSSM-2B, no LM init",
    "transformer": "Transformer",
    "griffin-16min": "SpeechSSM-2B, 16 min segments",
}
_SEGMENTS = ("griffin", "griffin-16min", "griffin-4min")  # which differ by the longest speech that they learnt from
_LONG = 900.0  # seconds of that, from which on it is SpeechSSM-X
_ORDERED = {"ASR-PPL": "ASR-PPL", "similarity": "similarity", "SpkrSim": "SpkrSim"}


class Unmeasured(Exception):
    """What a finding wants and the results have not."""


class Finding(NamedTuple):
    letter: str
    claim: str
    test: Callable[[Results], tuple[bool, str]]  # whether it holds here, and by which figures


def findings(results: Results) -> str:
    """A paragraph for each, in markdown: the paper's claim, whether it holds here, and by which figures."""
    lines = []
    for letter, claim, test in FINDINGS:
        try:
            holds, figures = test(results)
            said = f"{'Agrees' if holds else 'Does not agree'}: {figures}."
        except Unmeasured as lacking:
            said = f"Not measured yet: {lacking}."
        lines.append(f"({letter}) {claim}. {said}")
    return "\n\n".join(lines)


def reach(results: Results) -> str:
    """Fig. 1: the longest speech that a system learnt from, and the longest that it goes on for."""
    rows = []
    for row in results.rows:
        if row.trained is not None and row.seconds is not None:
            holds = min(row.seconds, 60.0 * _parsing(row))
            rows.append([*ours(row), f"{row.trained:.0f}", f"{holds:.0f} of {row.seconds:.0f}"])
    theirs = published()["figure 1"]
    rows += [
        [each["system"], "published", "", "", str(each["trained"]), str(each["generated"])] for each in theirs["points"]
    ]
    head = ["system", "measured", "n", "temperature", "learnt from, s", "goes on to, s"]
    told = f"Here: the end of the last minute, from the first on, in which {PARSES:.0%} of the words or more parse."
    return "\n".join(["Fig. 1.", "", *markdown(head, rows), "", f"{told} Published: {theirs['setup']}."])


def order(results: Results) -> str:
    """How our rows of 4 minutes are ordered beside the published ones: rank correlation of each measure, on the set
    that most of them are of."""
    theirs = {row["system"]: row for row in published()["tables"]["3"]["rows"]}
    alike = [row for row in _lasting(results, MINUTES_4) if row.system in _TWINS]
    sets = [
        [_at_1([row for row in alike if (row.set, row.system) == (name, system)]) for system in _TWINS]
        for name in dict.fromkeys(row.set for row in alike)
    ]
    rows = [row for row in max(sets, key=lambda found: sum(map(bool, found)), default=[]) if row]
    told = []
    for measure, name in _ORDERED.items():
        here, there = [], []
        for row in rows:
            value, twin = _value(row, measure), theirs.get(_twin(row), {})
            if value and name in twin:
                here.append(value["value"])
                there.append(float(twin[name]))
        with suppress(LabError):  # too few, or all alike
            rho = statistics.spearman(here, there)
            told.append(f"{measure} {rho.value:.2f} over {rho.n} systems")
    return f"Rank correlation with the published Table 3: {'; '.join(told) or 'not measured yet'}."


def _twin(row: Row) -> str:
    """The published row that stands for ours."""
    return _TWINS["griffin-16min" if row.system in _SEGMENTS and (row.trained or 0) >= _LONG else row.system]


def _parsing(row: Row) -> float:
    """Minutes from the beginning on that parse; without end where all do."""
    for number, minute in enumerate(row.summary["minutes"]):
        found = minute.get("words that parse")
        if found is None or found["value"] is None or found["value"] < PARSES:
            return number
    return math.inf if row.summary["minutes"] else 0


def _value(row: Row, measure: str) -> Mapping[str, Any] | None:
    values = row.summary.get("values", {})
    return next(
        (each for key, each in values.items() if key.partition(" (")[0] == measure and each["value"] is not None), None
    )


def _rows(results: Results, seconds: tuple[float, float], *systems: str) -> list[Row]:
    """A row of each system of so many seconds, from and below, all on one set. Raises Unmeasured where no set has them
    all."""
    alike = _lasting(results, seconds)
    for name in dict.fromkeys(row.set for row in alike):
        found = [_at_1([row for row in alike if (row.set, row.system) == (name, system)]) for system in systems]
        if all(found):
            return [row for row in found if row]
    there = {row.system for row in alike}
    lacking = [system for system in systems if system not in there]
    told = ", ".join(lacking) or f"{' and '.join(systems)} on one set"
    raise Unmeasured(f"it wants {told} of {seconds[0]:g} to {seconds[1]:g} s")


def _lasting(results: Results, seconds: tuple[float, float]) -> list[Row]:
    return [row for row in results.rows if row.seconds is not None and seconds[0] <= row.seconds < seconds[1]]


def _at_1(rows: Sequence[Row]) -> Row | None:
    """Of rows of one system the one at the paper's temperature, or else the first; None of none."""
    return next((row for row in rows if row.temperature == 1), rows[0] if rows else None)


def _of_samples(row: Row, measure: Callable[[Mapping[str, Any]], float | None], what: str) -> Estimate:
    found = [value for value in map(measure, row.samples) if value is not None]
    if len(found) < 2:
        raise Unmeasured(f"{row.system} has no {what}; give judges of it, and two samples or more")
    return statistics.mean(found)


def _whole(row: Row, measure: str) -> Estimate:
    return _of_samples(row, lambda sample: _of(sample, measure), measure)


def _of(sample: Mapping[str, Any], measure: str) -> float | None:
    return next((value for key, value in sample["values"].items() if key.partition(" (")[0] == measure), None)


def _change(row: Row, start: int, end: int) -> Estimate:
    """SC-L of the span `end` less that of the span `start`, over samples that have both."""

    def of(sample: Mapping[str, Any]) -> float | None:
        cosines: list[float | None] = next(iter(sample["spans"].values()), [])
        if len(cosines) <= end or cosines[start] is None or cosines[end] is None:
            return None
        return cosines[end] - cosines[start]  # type: ignore[operator]

    return _of_samples(row, of, f"SC-L at word {100 * end}")


def _coherence(row: Row) -> Estimate:
    """SC-L of the span that begins at word 400."""

    def of(sample: Mapping[str, Any]) -> float | None:
        cosines: list[float | None] = next(iter(sample["spans"].values()), [])
        return cosines[4] if len(cosines) > 4 else None

    return _of_samples(row, of, "SC-L at word 400")


def _faded(row: Row) -> Estimate:
    """MOS of the last minute less that of the first."""

    def of(sample: Mapping[str, Any]) -> float | None:
        first, last = sample["minutes"][0], sample["minutes"][-1]
        key = next((key for key in first if key.startswith("MOS")), None)
        both = (first.get(key), last.get(key)) if key else (None, None)
        return None if None in both or first is last else both[1] - both[0]  # type: ignore[operator]

    return _of_samples(row, of, "MOS by minute")


def _a(results: Results) -> tuple[bool, str]:
    few, many = (_likelier(results, name, "sWUGGY") for name in ("gslm", "griffin"))
    return few.low > many.high, f"sWUGGY {few} of gslm, {many} of griffin"


def _likelier(results: Results, kind: str, test: str) -> Estimate:
    for row in results.rows:
        if row.system.partition("+")[0] == kind and test in row.likelihood:
            return Estimate(**row.likelihood[test])
    raise Unmeasured(f"it wants a row of {kind}")


def _b(results: Results) -> tuple[bool, str]:
    rows = _rows(results, MINUTES_16, "griffin", "transformer")
    ours, theirs = (_change(row, 2, _WORD_1000) for row in rows)
    holds = ours.high >= 0 and theirs.high < 0
    return holds, f"SC-L from word 200 to 1000 changes by {ours} with griffin, {theirs} with transformer{_how(rows)}"


def _c(results: Results) -> tuple[bool, str]:
    of = {row.system: row.trained for row in _lasting(results, MINUTES_16) if row.system in _SEGMENTS and row.trained}
    long = next((system for system, trained in of.items() if trained >= _LONG), None)
    short = next((system for system, trained in of.items() if trained < _LONG), None)
    if not long or not short:
        raise Unmeasured("it wants griffin and griffin-4min, or griffin-16min, of 960 to 961 s")
    rows = _rows(results, MINUTES_16, long, short)
    found = [_whole(row, "ASR-PPL") for row in rows]
    told = (
        f"{value} of {row.system}, which learnt from {row.trained:.0f} s"
        for value, row in zip(found, rows, strict=True)
    )
    return found[0].high >= found[1].low, f"ASR-PPL {', '.join(told)}{_how(rows)}"


def _d(results: Results) -> tuple[bool, str]:
    rows = _rows(results, MINUTES_4, "gslm+3s", "twist+3s", "spiritlm+3s")
    changes = {row.system: (_change(row, 0, 2), _faded(row)) for row in rows}
    holds = all(meaning.high < 0 and sound.high < 0 for meaning, sound in changes.values())
    told = (
        f"of {name} SC-L changes by {meaning} to word 200, MOS by {sound}" for name, (meaning, sound) in changes.items()
    )
    return holds, f"{'; '.join(told)}{_how(rows)}"


def _e(results: Results) -> tuple[bool, str]:
    gslm, twist, ours = rows = _rows(results, MINUTES_4, "gslm+3s", "twist+3s", "griffin")
    better = _coherence(gslm).value > _coherence(twist).value
    words = [_whole(row, "words") for row in (gslm, ours)]
    holds = better and words[0].high < words[1].low
    more = "more" if better else "no more"
    return holds, f"gslm+3s has {more} SC-L than twist+3s; {words[0]} words, griffin {words[1]}{_how(rows)}"


def _f(results: Results) -> tuple[bool, str]:
    prompted = {"griffin": True, "audiolm-refined": True, "gslm": False, "twist": False, "spiritlm": False}
    brief = _rows(results, BRIEF, *prompted)
    long = _rows(results, MINUTES_4, *(name if name == "griffin" else f"{name}+3s" for name in prompted))
    told, holds = [], True
    for before, after, higher in zip(brief, long, prompted.values(), strict=True):
        gained = _gained(before, after)
        holds &= (gained.low > 0) == higher
        told.append(f"{after.system} {gained}")
    what = f"SpkrSim of {long[0].seconds:g} s less that of {brief[0].seconds:g} s"
    return holds, f"{what}: {', '.join(told)}{_how([*brief, *long])}"


def _gained(before: Row, after: Row) -> Estimate:
    """SpkrSim of one row less that of another, of the same prompts."""
    short, whole = ({sample["name"]: _of(sample, "SpkrSim") for sample in row.samples} for row in (before, after))
    both = [(here, whole.get(name)) for name, here in short.items()]
    found = [there - here for here, there in both if here is not None and there is not None]
    if len(found) < 2:
        raise Unmeasured(f"{before.system} and {after.system} have no SpkrSim of the same prompts; give judges of it")
    return statistics.mean(found)


def _how(rows: Sequence[Row]) -> str:
    """On which set and at what temperatures."""
    drawn = dict.fromkeys(f"{row.temperature:g}" for row in rows if row.temperature is not None)
    return f" ({rows[0].set}{', temperature ' * bool(drawn)}{' and '.join(drawn)})"


FINDINGS = (
    Finding("a", "sWUGGY is low for a large vocabulary and does not tell of quality", _a),
    Finding("b", "What learnt from 4 minutes goes on for 16 without decay; the Transformer decays", _b),
    Finding("c", "To learn from 16 minutes gains nothing over 4", _c),
    Finding("d", "Short models made long by restarts lose meaning after 200 words and sound over minutes", _d),
    Finding("e", "GSLM's SC-L is better than it sounds: what it fails at is not transcribed", _e),
    Finding("f", "SpkrSim is higher on long speech only where the speaker is prompted", _f),
)
