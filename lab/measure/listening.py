"""What people answered in listening tests: a CSV that grows by a line an answer, and what follows from it."""

from __future__ import annotations

import csv
import io
import math
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lab import files
from lab.errors import LabError
from lab.measure import statistics
from lab.measure.statistics import Estimate

RATINGS = tuple(half / 2 for half in range(2, 11))  # 1 to 5 in halves, as the paper's N-MOS
SHARES = (0.0, 0.5, 1.0)  # of a comparison
FLAGS = ("artifacts", "pronunciation", "speed", "prosody", "sentiment", "other")  # the paper's Table 6


def moment(item: str, minute: int) -> float:
    """Where in a minute of an item, counted from 0, the span of N-MOS-T lies, 0 to 1: by these two alone, so that all
    systems, people and predictors of MOS have the same."""
    return float(np.random.default_rng((zlib.crc32(item.encode()), minute)).random())


class Answer(NamedTuple):
    """A line of the file: what one person said of one sound, or of a pair of them."""

    time: str  # UTC, ISO 8601
    rater: str
    test: str
    item: str  # the prompt or the story: what intervals are taken over
    part: str  # which span of it; empty where all of it was heard
    system: str  # what was rated; of a pair, what was heard as A
    against: str  # what was heard as B; empty in a rating
    score: float  # one of RATINGS; of a pair 1 where A was better, 0 where B was, 0.5 where neither
    flags: str = ""  # of FLAGS, separated by spaces
    seen: int = 0  # 1 where the results so far had been looked at before

    @property
    def trial(self) -> tuple[str, str, str, frozenset[str]]:
        """What was asked, in whichever order a pair was heard."""
        return self.test, self.item, self.part, frozenset((self.system, self.against))

    @property
    def pair(self) -> tuple[str, str]:
        """The two that were compared, in alphabetical order."""
        first, second = sorted((self.system, self.against))
        return first, second

    @property
    def value(self) -> float:
        """The score; of a pair, that of the first in alphabetical order."""
        return 1 - self.score if self.against and self.system != self.pair[0] else self.score


def append(path: Path, answer: Answer) -> None:
    """Adds one answer to the file, which is made where there is none.

    Raises LabError for a score that nobody can give, for a file of something else, and where it cannot be written.
    """
    _check(answer, "the answer")
    files.made(path.parent)
    with files.locked(path.parent):
        head = _line(Answer._fields) if not path.exists() or not path.stat().st_size else ""
        if not head:
            _header(path)
        try:
            with path.open("a", encoding="utf-8", newline="") as file:
                file.write(head + _line(answer))
        except OSError as error:
            raise LabError(f"cannot write {str(path)!r}: {error.strerror}; the answer is not kept") from error


def read(*paths: str | Path) -> list[Answer]:
    """The answers of some files, each rater's last one to each trial, in order of time.

    So the files of several raters, or the same one twice, are merged. Raises LabError for a file that cannot be read
    and for a line that is no answer, by its number.
    """
    last: dict[tuple[object, ...], Answer] = {}
    for path in map(Path, paths):
        _header(path)
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.reader(file)
            next(rows)
            for row in rows:
                answer = _answer(row, f"{path}, line {rows.line_num},")
                key = (answer.rater, *answer.trial)
                if key not in last or last[key].time <= answer.time:
                    last[key] = answer
    return sorted(last.values(), key=lambda answer: answer.time)


def merge(paths: Iterable[str | Path], into: str | Path) -> list[Answer]:
    """`read` of some files, written to another one. LabError as `read`, and where it cannot be written."""
    answers = read(*paths)
    with files.replacing(Path(into)) as part:
        part.write_text("".join(map(_line, (Answer._fields, *answers))), encoding="utf-8")
    return answers


class Row(NamedTuple):
    """A figure of a listening test: a mean rating, or how often the first of two is better ("a over b")."""

    test: str
    name: str
    part: str
    estimate: Estimate  # over items; each item's raters are averaged first

    def __str__(self) -> str:
        return f"{self.test}, {self.name}{self.part and f', {self.part}'}: {self.estimate}"


def results(answers: Sequence[Answer]) -> list[Row]:
    """Mean ratings of each system, in each part of an item where there are parts, and shares of each pair.

    A comparison without a difference counts half for either.
    """
    groups: dict[tuple[str, str, str], dict[str, list[float]]] = {}
    for answer in answers:
        name = " over ".join(answer.pair) if answer.against else answer.system
        groups.setdefault((answer.test, name, answer.part), {}).setdefault(answer.item, []).append(answer.value)
    compared = {answer.test for answer in answers if answer.against}
    rows = []
    for (test, name, part), items in sorted(groups.items(), key=lambda group: (*group[0][:2], _natural(group[0][2]))):
        means = [float(np.mean(values)) for values in items.values()]
        found = statistics.share(means, [1.0] * len(means)) if test in compared else statistics.mean(means)
        rows.append(Row(test, name, part, found))
    return rows


def flagged(answers: Iterable[Answer]) -> dict[str, Counter[str]]:
    """Of each system, how many answers named each of FLAGS (and how many there were, as "answers")."""
    counts: dict[str, Counter[str]] = {}
    for answer in answers:
        counts.setdefault(answer.system, Counter()).update([*answer.flags.split(), "answers"])
    return counts


class Agreement(NamedTuple):
    """How far raters agree: Krippendorff's alpha (1: wholly, 0: as if by chance), raters and trials that they share."""

    alpha: float
    raters: int
    trials: int


def agreement(answers: Iterable[Answer]) -> dict[str, Agreement]:
    """Of each test in which two raters or more answered the same trials. LabError where there is none."""
    tests: dict[str, dict[tuple[object, ...], dict[str, float]]] = {}
    for answer in answers:
        tests.setdefault(answer.test, {}).setdefault(answer.trial, {})[answer.rater] = answer.value
    found = {}
    for test, trials in tests.items():
        if shared := [scores for scores in trials.values() if len(scores) > 1]:
            raters = {rater for scores in shared for rater in scores}
            alpha = krippendorff([list(scores.values()) for scores in shared])
            found[test] = Agreement(alpha, len(raters), len(shared))
    if not found:
        raise LabError("no two raters answered the same trial; merge the files of two or more of one test")
    return found


def krippendorff(units: Iterable[Sequence[float]]) -> float:
    """Alpha of what some raters said of each unit, on an interval scale; nan where all said the same of everything.

    Units that fewer than two rated do not count. Krippendorff (2011), "Computing Krippendorff's alpha-reliability".
    """
    pairable = [np.asarray(unit, float) for unit in units if len(unit) > 1]
    if not pairable:
        return math.nan
    together = np.concatenate(pairable)
    observed = sum(len(unit) * unit.var(ddof=1) for unit in pairable) / len(together)
    expected = together.var(ddof=1)
    return float(1 - observed / expected) if expected else math.nan


def _line(row: Iterable[object]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(row)
    return text.getvalue()


def _header(path: Path) -> None:
    """Raises LabError unless the file begins as one of answers."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            head = next(csv.reader(file), [])
    except (OSError, ValueError, csv.Error) as error:
        raise LabError(f"cannot read {str(path)!r}: {getattr(error, 'strerror', None) or error}") from error
    if tuple(head) != Answer._fields:
        raise LabError(f"{str(path)!r} holds no answers of a listening test; name another file")


def _answer(row: list[str], where: str) -> Answer:
    try:
        time, rater, test, item, part, system, against, score, flags, seen = row
        answer = Answer(time, rater, test, item, part, system, against, float(score), flags, int(seen))
    except ValueError:
        raise LabError(f"{where} is no answer: {','.join(row)[:60]!r}; mend it or take it out") from None
    _check(answer, where)
    return answer


def _check(answer: Answer, where: str) -> None:
    if answer.score not in (scores := SHARES if answer.against else RATINGS):
        raise LabError(
            f"{where} has a score of {answer.score:g}; there are {', '.join(f'{each:g}' for each in scores)}"
        )


def _natural(part: str) -> tuple[int, str]:
    """Sorts minute 2 before minute 10."""
    return len(part), part
