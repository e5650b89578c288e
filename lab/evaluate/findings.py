"""What the paper found (paper section 8), (a) to (f), beside what was measured here; and Fig. 1.

A finding holds here where the interval of a difference lies on the side that the paper tells of. What has no rows yet
is not measured, and says which ones it wants. Systems are compared on one set of prompts, each at its usual temperature
(`systems.usual`), and never one at that beside another at the paper's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np

from lab.errors import LabError
from lab.evaluate.results import Results, Row
from lab.evaluate.summary import plain
from lab.evaluate.systems import usual
from lab.evaluate.tables import estimate, markdown, ours, published
from lab.measure import statistics
from lab.measure.statistics import Estimate

KEPT = 0.5  # of the words that parse where the voice speaks a true story: with fewer a minute is no story any more
BRIEF, MINUTES_4, MINUTES_16 = (0.0, 60.0), (240.0, 241.0), (960.0, 961.0)  # seconds of a row, from and below
_DECAYED = 1000  # word from which on the paper's Transformer decays
_PARSE = "words that parse"
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
_ORDERED = ("ASR-PPL", "similarity", "SpkrSim")
_REACHES = (
    f"Here: the end of the last minute, from the first on, whose share of words that parse is {KEPT:.0%} or more of "
    "that where our voice speaks true stories (row voice), as it lets no more be heard of any"
)

Measure = Callable[[Mapping[str, Any]], float | None]  # of a sample


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
    stages = ((row.set, row.summary["minutes"][0]) for row in results.rows if row.system == "voice")
    voices = {name: minute[_PARSE] for name, minute in stages if _PARSE in minute}
    rows = [
        [*ours(row), f"{row.trained:.0f}", _holds(row, row.seconds, voices.get(row.set))]
        for row in results.rows
        if row.trained is not None and row.seconds is not None
    ]
    theirs = published()["figure 1"]
    rows += [
        [each["system"], "published", "", "", str(each["trained"]), str(each["generated"])] for each in theirs["points"]
    ]
    head = ["system", "measured", "n", "temperature", "learnt from, s", "goes on to, s (95 %)"]
    heard = "".join(f"; {name}: {estimate(found)}, n = {found['n']}" for name, found in voices.items())
    told = f"{_REACHES}{heard}. Published: {theirs['setup']}."
    return "\n".join(["Fig. 1.", "", *markdown(head, rows), "", told])


def order(results: Results) -> str:
    """How our rows of 4 minutes are ordered beside the published ones: rank correlation of each measure, on the set
    that most of them are of."""
    theirs = {row["system"]: row for row in published()["tables"]["3"]["rows"]}
    alike = [row for row in _lasting(results, MINUTES_4) if row.system in _TWINS]
    sets = [{row.system: row for row in alike if row.set == name} for name in dict.fromkeys(row.set for row in alike)]
    rows = [*max(sets, key=len, default={}).values()]
    told = []
    for measure in _ORDERED:
        known = [(here["value"], float(theirs[_twin(row)][measure])) for row in rows if (here := _value(row, measure))]
        with suppress(LabError):  # too few, or all alike
            rho = statistics.spearman([here for here, _ in known], [there for _, there in known])
            told.append(f"{measure} {rho.value:.2f} ({rho.low:.2f} to {rho.high:.2f}) over {rho.n} systems")
    shown = f"{'; '.join(told)}{_how(rows)}" if told else "not measured yet"
    return f"Rank correlation with the published Table 3 (95 %): {shown}."


def _twin(row: Row) -> str:
    """The published row that stands for ours."""
    return _TWINS["griffin-16min" if row.system in _SEGMENTS and (row.trained or 0) >= _LONG else row.system]


def _holds(row: Row, seconds: float, voice: Mapping[str, Any] | None) -> str:
    """To which second the minutes parse, from the first on, by what does where the voice speaks a true story."""
    minutes = range(max(len(sample["minutes"]) for sample in row.samples))
    shares = [[_minute(sample, number).get(_PARSE) for sample in row.samples] for number in minutes]
    if not voice or None in shares[0]:
        return "not measured"

    def end(table: np.ndarray) -> np.ndarray:  # (minutes, ..., N) -> (...)
        lost = table.mean(-1) < KEPT * voice["value"]
        return np.minimum(60 * np.where(lost.any(0), lost.argmax(0), len(lost)), seconds)

    told = statistics.estimate(end, *([share or 0.0 for share in minute] for minute in shares))
    return f"{estimate(plain(told))} of {seconds:.0f}"


def _minute(sample: Mapping[str, Any], number: int) -> Mapping[str, float]:
    """Values of a minute; none where the sample ends before it."""
    return sample["minutes"][number] if number < len(sample["minutes"]) else {}


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
        found = {row.system: row for row in reversed(alike) if row.set == name}
        if all(system in found for system in systems):
            return [found[system] for system in systems]
    there = {row.system for row in alike}
    lacking = [system for system in systems if system not in there]
    told = [f"{system} at temperature {usual(system):g}" for system in lacking or systems]
    where = "" if lacking else " on one set"
    raise Unmeasured(f"it wants {' and '.join(told)}{where} of {seconds[0]:g} to {seconds[1]:g} s")


def _lasting(results: Results, seconds: tuple[float, float]) -> list[Row]:
    """Rows at the usual temperature."""
    timed = (row for row in results.rows if row.seconds is not None and seconds[0] <= row.seconds < seconds[1])
    return [row for row in timed if row.temperature == usual(row.system)]


def _known(values: Iterable[float | None], lacks: str) -> Estimate:
    """The mean of those that there are. Raises Unmeasured for fewer than two."""
    found = [value for value in values if value is not None]
    if len(found) < 2:
        raise Unmeasured(f"{lacks}; give judges of it, and two samples or more")
    return statistics.mean(found)


def _of(measure: str) -> Measure:
    """A value of a whole sample, by the first judge of it."""
    return lambda sample: next(
        (value for key, value in sample["values"].items() if key.partition(" (")[0] == measure), None
    )


def _likeness(word: int) -> Measure:
    """SC-L of the 100 words that begin there."""

    def of(sample: Mapping[str, Any]) -> float | None:
        cosines: list[float | None] = next(iter(sample["spans"].values()), [])
        return cosines[word // 100] if len(cosines) > word // 100 else None

    return of


def _mos(number: int) -> Measure:
    """Of a minute, by the first judge of it."""
    return lambda sample: next((mos for key, mos in _minute(sample, number).items() if key.startswith("MOS")), None)


def _less(there: float | None, here: float | None) -> float | None:
    return None if there is None or here is None else there - here


def _change(row: Row, start: Measure, end: Measure, what: str) -> Estimate:
    """Of one measure of a sample less another, over samples that have both."""
    return _known((_less(end(sample), start(sample)) for sample in row.samples), f"{row.system} has no {what}")


def _gained(before: Row, after: Row, measure: Measure, what: str) -> Estimate:
    """A measure of one row less that of another, over prompts that both have."""
    start = {sample["name"]: measure(sample) for sample in before.samples}
    gained = (_less(measure(sample), start.get(sample["name"])) for sample in after.samples)
    return _known(gained, f"{before.system} and {after.system} have no {what} of the same prompts")


def _a(results: Results) -> tuple[bool, str]:
    few, many = (_likelier(results, name, "sWUGGY") for name in ("gslm", "griffin"))
    if few.n != many.n:
        raise Unmeasured(f"gslm was asked {few.n} pairs and griffin {many.n}; give both the same --pairs")
    return few.low > many.high, f"sWUGGY by nats a token {few} of gslm, {many} of griffin; chance 0.5"


def _likelier(results: Results, kind: str, test: str) -> Estimate:
    for row in results.rows:
        if row.system.partition("+")[0] == kind and test in row.likelihood:
            return Estimate(*(row.likelihood[test][name] for name in Estimate._fields))
    raise Unmeasured(f"it wants a row of {kind}")


def _b(results: Results) -> tuple[bool, str]:
    short = _segmented(results, long=False)
    rows = _rows(results, MINUTES_16, short or "griffin", "transformer")
    changes = [_change(row, _likeness(200), _likeness(_DECAYED), f"SC-L at word {_DECAYED}") for row in rows]
    told = ", ".join(f"{change} with {_taught(row)}" for change, row in zip(changes, rows, strict=True))
    other = "" if short else "; what learnt from 4 minutes has no row: this griffin stands for SpeechSSM-X"
    holds = changes[0].high >= 0 and changes[1].high < 0
    return holds, f"SC-L from word 200 to {_DECAYED} changes by {told}{other}{_how(rows)}"


def _c(results: Results) -> tuple[bool, str]:
    long, short = _segmented(results, long=True), _segmented(results, long=False)
    if not long or not short:
        raise Unmeasured("it wants griffin and griffin-4min, or griffin-16min, of 960 to 961 s")
    more, less = rows = _rows(results, MINUTES_16, long, short)
    gained = _gained(less, more, _of("ASR-PPL"), "ASR-PPL")
    return gained.high >= 0, f"ASR-PPL of {_taught(more)}, less that of {_taught(less)}: {gained}{_how(rows)}"


def _segmented(results: Results, *, long: bool) -> str | None:
    """The Griffin with rows of 16 minutes that learnt from as much, or from less."""
    there = [row for row in _lasting(results, MINUTES_16) if row.system in _SEGMENTS and row.trained]
    return next((row.system for row in there if ((row.trained or 0) >= _LONG) == long), None)


def _taught(row: Row) -> str:
    return row.system + (f", which learnt from {row.trained:.0f} s" if row.trained else "")


def _d(results: Results) -> tuple[bool, str]:
    rows = _rows(results, MINUTES_4, "gslm+3s", "twist+3s", "spiritlm+3s")
    told, holds = [], True
    for row in rows:
        meaning = _change(row, _likeness(0), _likeness(200), "SC-L at word 200")
        sound = _change(row, _mos(0), _mos(3), "MOS of minute 4")
        holds &= meaning.high < 0 and sound.high < 0
        told.append(f"of {row.system} SC-L changes by {meaning} to word 200, MOS by {sound} to minute 4")
    return holds, f"{'; '.join(told)}{_how(rows)}"


def _e(results: Results) -> tuple[bool, str]:
    gslm, twist, griffin = rows = _rows(results, MINUTES_4, "gslm+3s", "twist+3s", "griffin")
    closer = _gained(twist, gslm, _likeness(400), "SC-L at word 400")
    words = _gained(griffin, gslm, _of("words"), "words")
    told = f"SC-L at word 400 less that of twist+3s {closer}, words less griffin's {words}"
    return closer.low > 0 and words.high < 0, f"of gslm+3s {told}{_how(rows)}"


def _f(results: Results) -> tuple[bool, str]:
    prompted = {"griffin": True, "audiolm-refined": True, "gslm": False, "twist": False, "spiritlm": False}
    brief = _rows(results, BRIEF, *prompted)
    long = _rows(results, MINUTES_4, *(name if name == "griffin" else f"{name}+3s" for name in prompted))
    told, holds = [], True
    for before, after, higher in zip(brief, long, prompted.values(), strict=True):
        gained = _gained(before, after, _of("SpkrSim"), "SpkrSim")
        holds &= (gained.low > 0) == higher
        told.append(f"{after.system} {gained}")
    what = f"SpkrSim of {long[0].seconds:g} s less that of {brief[0].seconds:g} s"
    return holds, f"{what}: {', '.join(told)}{_how(long)}"


def _how(rows: Sequence[Row]) -> str:
    """On which set and at what temperatures."""
    drawn = ", ".join(f"{row.system} {row.temperature:g}" for row in rows)
    return f" ({rows[0].set}; each at the temperature of `lab story` or its best on development prompts: {drawn})"


FINDINGS = (
    Finding("a", "sWUGGY is low for a large vocabulary and does not tell of quality", _a),
    Finding("b", "What learnt from 4 minutes goes on for 16 without decay; the Transformer decays", _b),
    Finding("c", "To learn from 16 minutes gains nothing over 4", _c),
    Finding("d", "Short models made long by restarts lose meaning after 200 words and sound over minutes", _d),
    Finding("e", "GSLM's SC-L is better than it sounds: what it fails at is not transcribed", _e),
    Finding("f", "SpkrSim is higher on long speech only where the speaker is prompted", _f),
)
