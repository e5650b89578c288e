"""What the passes of the voice are for: how its speech is heard after 1, 2, 4, ... of them, by outside ears.

The number of passes is chosen by it, so it is measured on development stories: in a file of its own, by `COMMAND`. The
same tokens and the same seed each time; a rendering in fewer passes differs in nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from lab.errors import LabError
from lab.evaluate import report, tables
from lab.evaluate.results import Results, Row
from lab.evaluate.systems import TRUTH
from lab.measure import coherence, statistics
from lab.measure.statistics import Estimate

PASSES = (1, 2, 4, 8, 16, 32)
PATH = coherence.FOLDER / "passes.json"
SET = "narrated-development"
COMMAND = (
    f"lab evaluate --system {','.join(f'voice+{number}' for number in PASSES)} --set {SET} "
    "--ears whisper:PATH,ctc,ge2e:PATH,distillmos:PATH -o data/measured/passes.json"
)
_HEARD = ("words wrong", "MOS", "SpkrSim")


class Heard(NamedTuple):
    """One measure: the mean over stories by passes, and of the reading that was spoken again."""

    by_passes: Mapping[int, Estimate]
    truth: Estimate | None


class Stored(NamedTuple):
    """What the file has of this bundle; where nothing, `why` says so in a line."""

    rows: Mapping[int, Row]  # by passes
    truth: Row | None
    why: str = ""


def stored(digests: Mapping[str, str], path: Path = PATH) -> Stored:
    """What was measured with the weights of `bundle.digests`. Raises LabError for a damaged file."""
    every = Results.load(path)
    fresh, _ = report.fresh(every, digests)
    rows = {number: row for row in fresh.rows if (number := _passes(row))}
    if rows:
        truth = next((row for row in fresh.rows if row.system == TRUTH), None)
        return Stored(dict(sorted(rows.items())), truth)
    known = any(_passes(row) for row in every.rows)
    why = "what is stored was measured with another voice" if known else "nothing is stored"
    return Stored({}, None, f"Not measured with this bundle's voice: {why}; `{COMMAND}` does it.")


def measures(found: Stored) -> dict[str, Heard]:
    """Each measure of `stored` rows by its name and judge, such as "MOS (distillmos)"."""
    values = {number: _values(row) for number, row in found.rows.items()}
    truth = _values(found.truth) if found.truth else {}
    names = dict.fromkeys(key for each in values.values() for one in each.values() for key in one)
    told = {}
    for name in (name for kind in _HEARD for name in names if name.partition(" (")[0] == kind):
        means = {number: _mean(each, name) for number, each in values.items()}
        told[name] = Heard({number: mean for number, mean in means.items() if mean}, _mean(truth, name))
    return told


def change(found: Stored, measure: str, before: int, after: int) -> Estimate:
    """What passes `after` add to passes `before`: the mean over stories of the difference in each, whose interval is
    narrower than those of both means, since a hard story is hard for both. Raises LabError where no story has both."""
    one, other = (_values(found.rows[number]) if number in found.rows else {} for number in (before, after))
    differences = [
        other[name][measure] - one[name][measure]
        for name in one
        if measure in one[name] and measure in other.get(name, {})
    ]
    if not differences:
        raise LabError(f"no story has {measure} after {before} and after {after} passes")
    return statistics.mean(differences)


def compared(found: Stored, before: int, after: int) -> list[str]:
    """A line for each measure that both have: what it was, what more passes add to it, and whether that is beyond
    chance."""
    lines = []
    for name, heard in measures(found).items():
        if before not in heard.by_passes or after not in heard.by_passes:
            continue
        added = change(found, name, before, after)
        sign = -1 if name.startswith("words wrong") else 1
        if added.low <= 0 <= added.high or added.n == 1:
            said = "no more than chance"
        else:
            said = "better" if sign * added.value > 0 else "worse"
        interval = "" if added.n == 1 else f" ({added.low:+.2g} to {added.high:+.2g})"
        lines.append(f"{name}: {heard.by_passes[before].value:.3g}, {added.value:+.2g}{interval}: {said}")
    return lines


def page(digests: Mapping[str, str], path: Path = PATH) -> str:
    """The measures as a table, a row for each number of passes, in markdown; or why there are none."""
    found = stored(digests, path)
    if found.why:
        return found.why
    heard = measures(found)
    n = max(len(row.samples) for row in found.rows.values())

    def cells(means: list[Estimate | None]) -> list[str]:
        return [tables.estimate(mean._asdict() if mean else None, n) for mean in means]

    body = [[str(number), *cells([each.by_passes.get(number) for each in heard.values()])] for number in found.rows]
    if found.truth:
        body.append([f"{TRUTH}, no voice", *cells([each.truth for each in heard.values()])])
    first, *_ = rows = list(found.rows.values())
    weights = ", ".join(f"{name} {digest}" for name, digest in first.weights.items())
    command = first.command.replace(first.system, ",".join(row.system for row in rows), 1)
    told = f"`{command}`, {first.machine}, {first.date}"
    head = [f"passes of level 1, n = {n}, mean (95 %)", *heard]
    return "\n".join([*tables.markdown(head, body), "", f"{told}. Weights: {weights}."])


def _passes(row: Row) -> int:
    kind, _, passes = row.system.partition("+")
    return int(passes) if kind == "voice" and passes.isdecimal() else 0


def _values(row: Row) -> dict[str, dict[str, float]]:
    return {sample["name"]: sample["values"] for sample in row.samples}


def _mean(values: Mapping[str, Mapping[str, float]], name: str) -> Estimate | None:
    told = [each[name] for each in values.values() if each.get(name) is not None]
    return statistics.mean(told) if told else None
