"""What the paper found (paper section 8), (a) to (f), beside what was measured here; and Fig. 1.

A finding holds here where the interval of a difference lies on the side that the paper tells of. What has no rows yet
is not measured, and says which ones it wants.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from lab.evaluate.results import Results, Row
from lab.evaluate.tables import markdown, published
from lab.measure import statistics
from lab.measure.statistics import Estimate

PARSES = 0.5  # share of words that parse, below which a minute is no story
MINUTES_4, MINUTES_16 = 240.0, 960.0
_WORD_1000 = 10  # span of 100 words that starts there
# Rows of ours that stand in the place of the paper's, for the order of Table 3.
_TWINS = {
    "gslm+3s": "GSLM, slide-and-prompt",
    "twist+3s": "TWIST-7B, slide-and-prompt",
    "spiritlm+3s": "Spirit LM Expr.",
    "griffin-text": "SpeechSSM-2B",
    "griffin": "SpeechSSM-2B, no LM init",
    "transformer": "Transformer",
    "griffin-16min": "SpeechSSM-2B, 16 min segments",
}
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
            rows.append([row.system, "here", f"{row.trained:.0f}", f"{holds:.0f} of {row.seconds:.0f}"])
    theirs = published()["figure 1"]
    rows += [[each["system"], "published", str(each["trained"]), str(each["generated"])] for each in theirs["points"]]
    head = ["system", "measured", "learnt from, s", "goes on to, s"]
    told = f"Here: the end of the last minute, from the first on, in which {PARSES:.0%} of the words or more parse."
    return "\n".join(["Fig. 1.", "", *markdown(head, rows), "", f"{told} Published: {theirs['setup']}."])


def order(results: Results) -> str:
    """How our rows of 4 minutes are ordered beside the published ones: rank correlation of each measure."""
    theirs = {row["system"]: row for row in published()["tables"]["3"]["rows"]}
    told = []
    for measure, name in _ORDERED.items():
        pairs = []
        for row in results.rows:
            twin = theirs.get(_TWINS.get(row.system, ""), {})
            value = _value(row, measure)
            if row.seconds == MINUTES_4 and name in twin and value is not None:
                pairs.append((value["value"], float(twin[name])))
        if len(pairs) > 2:
            rho = statistics.spearman(*zip(*pairs, strict=True))
            told.append(f"{measure} {rho.value:.2f} over {len(pairs)} systems")
    return f"Rank correlation with the published Table 3: {'; '.join(told) or 'not measured yet'}."


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


def _row(results: Results, system: str, seconds: float) -> Row:
    for row in results.rows:
        if row.system == system and row.seconds is not None and abs(row.seconds - seconds) < 1:
            return row
    raise Unmeasured(f"it wants {system} to {seconds:g} s")


def _short(results: Results, system: str) -> Row:
    """One of Table 2: a story's prompt alone lasts the 10 s that the paper's prompt and continuation do."""
    for row in results.rows:
        if row.system == system and row.seconds is not None and row.seconds < 60:
            return row
    raise Unmeasured(f"it wants {system} to less than a minute")


def _of_samples(row: Row, measure: Callable[[Mapping[str, Any]], float | None], what: str) -> Estimate:
    found = [value for value in map(measure, row.samples) if value is not None]
    if len(found) < 2:
        raise Unmeasured(f"{row.system} has no {what}; give judges of it, and two samples or more")
    return statistics.mean(found)


def _whole(row: Row, measure: str) -> Estimate:
    def of(sample: Mapping[str, Any]) -> float | None:
        return next((value for key, value in sample["values"].items() if key.partition(" (")[0] == measure), None)

    return _of_samples(row, of, measure)


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
    few, many = (_likelier(_row(results, name, MINUTES_4)) for name in ("gslm+3s", "griffin"))
    return few.value > many.value, f"sWUGGY {few} of gslm+3s, {many} of griffin"


def _likelier(row: Row) -> Estimate:
    found = next((each for key, each in row.likelihood.items() if key.startswith("sWUGGY")), None)
    if found is None:
        raise Unmeasured(f"{row.system} has no sWUGGY; give --likelihood 150")
    return Estimate(**found)


def _b(results: Results) -> tuple[bool, str]:
    ours, theirs = (_change(_row(results, name, MINUTES_16), 2, _WORD_1000) for name in ("griffin", "transformer"))
    holds = ours.high >= 0 and theirs.high < 0
    return holds, f"SC-L from word 200 to 1000 changes by {ours} with griffin, {theirs} with transformer"


def _c(results: Results) -> tuple[bool, str]:
    long, short = (_whole(_row(results, name, MINUTES_16), "ASR-PPL") for name in ("griffin-16min", "griffin"))
    return long.high >= short.low, f"ASR-PPL {long} of griffin-16min, {short} of griffin"


def _d(results: Results) -> tuple[bool, str]:
    row = _row(results, "twist+3s", MINUTES_4)
    meaning, sound = _change(row, 0, 2), _faded(row)
    return meaning.high < 0 and sound.high < 0, f"of twist+3s SC-L changes by {meaning} to word 200, MOS by {sound}"


def _e(results: Results) -> tuple[bool, str]:
    gslm, twist, ours = (_row(results, name, MINUTES_4) for name in ("gslm+3s", "twist+3s", "griffin"))
    better = _coherence(gslm).value > _coherence(twist).value
    words = [_whole(row, "words") for row in (gslm, ours)]
    holds = better and words[0].high < words[1].low
    return (
        holds,
        f"gslm+3s has {'more' if better else 'no more'} SC-L than twist+3s; {words[0]} words, griffin {words[1]}",
    )


def _f(results: Results) -> tuple[bool, str]:
    told, holds = [], True
    for name, prompted in (("griffin", True), ("audiolm+3s", True), ("gslm+3s", False), ("twist+3s", False)):
        short = name if prompted and name == "griffin" else name.removesuffix("+3s")
        brief, long = (_whole(row, "SpkrSim") for row in (_short(results, short), _row(results, name, MINUTES_4)))
        holds &= (long.value > brief.value) == prompted
        told.append(f"{name} {brief.value:.2f} -> {long.value:.2f}")
    return holds, f"SpkrSim short -> long: {', '.join(told)}"


FINDINGS = (
    Finding("a", "sWUGGY is low for a large vocabulary and does not tell of quality", _a),
    Finding("b", "What learnt from 4 minutes goes on for 16 without decay; the Transformer decays", _b),
    Finding("c", "To learn from 16 minutes gains nothing over 4", _c),
    Finding("d", "Short models made long by restarts lose meaning after 200 words and sound over minutes", _d),
    Finding("e", "GSLM's SC-L is better than it sounds: what it fails at is not transcribed", _e),
    Finding("f", "SpkrSim is higher on long speech only where the speaker is prompted", _f),
)
