"""Who wins, by a judge of texts: each sample of a row against the truth and against Griffin (paper section 7), of the
whole and of every minute.

The texts are those that are stored with the samples, so that rows can be judged long after they were spoken. A minute
is judged by itself: after the prompt and a mark for what was said between them, in both texts alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, cast

from rich.progress import track

from lab import judges
from lab.console import console
from lab.errors import LabError
from lab.evaluate import ears
from lab.evaluate.results import Results, Row
from lab.evaluate.systems import TRUTH, usual
from lab.judges.protocols import GAP, Judge, Verdict
from lab.measure.preference import Match, cut_alike, match

GRIFFIN = f"griffin at {usual('griffin'):g}"
OPPONENTS: Mapping[str, tuple[str, float | None]] = {  # system and temperature, whatever that of the row is
    TRUTH: (TRUTH, None),
    GRIFFIN: ("griffin", usual("griffin")),
}
_LOST, _WON, _TIED = (Verdict(winner, "") for winner in ("second", "first", "tie"))
_WHOLE, _MINUTES = "verdicts", "minute_verdicts"  # in a sample: judge and opponent -> a match, or one a minute


class _Due(NamedTuple):
    """What a judge has to be asked: of which sample, against whom, the whole or a minute, and the three texts."""

    sample: dict[str, Any]
    key: str
    of: str
    prompt: str
    ours: str
    theirs: str


def load(specs: str) -> list[Judge]:
    """Judges of texts by specs of `lab.judges.load`, divided by commas. Raises LabError for one that is none."""
    found = [judges.load(spec) for spec in ears.split(specs)]
    if other := next((each for each in found if not hasattr(each, "judge")), None):
        raise LabError(f"{other.name} does not tell who wins; give chat:MODEL@URL or likelihood:lm:PATH")
    return cast(list[Judge], found)


def opponents(results: Results, row: Row) -> dict[str, Row]:
    """Of OPPONENTS those that the row can be held against: by what the row's first recognizer heard of both."""
    heard = _heard(row)
    found = {name: results.find(*asked, row) for name, asked in OPPONENTS.items()}
    return {
        name: each for name, each in found.items() if each and each is not row and heard in each.samples[0]["texts"]
    }


def hold(results: Results, row: Row, judge: Judge) -> None:
    """The verdicts that the samples of a row lack, each kept as it comes.

    All wholes come first, then the minutes. What it will take is told before. A judge that fails is asked no more, and
    what is there stays; but where judge or opponent had other weights, all is asked anew.
    """
    terms, pairs = {}, []
    for name, opponent in opponents(results, row).items():
        key = f"{judge.name}: {name}"
        terms[key] = {"judge": dict(judge.provenance()), "weights": opponent.weights}
        if row.contest.get(key, terms[key]) != terms[key]:
            _forget(row, key)
        pairs += [(key, each, other) for each in row.samples if (other := opponent.sample(each["name"]))]
    due = [each for pair in pairs for each in _whole(*pair, _heard(row))]
    due += [each for pair in pairs for each in _minutes(*pair, _heard(row))]
    if due and hasattr(judge, "cost"):
        asked = ((each.prompt, *cut_alike(each.ours, each.theirs)) for each in due if each.ours and each.theirs)
        told = judge.cost(asked)
        console.print(f"{judge.name}: {told}")
    try:
        for each in track(due, f"{judge.name}: {row.system}", console=console):
            found = _match(judge, each.prompt, each.ours, each.theirs)
            row.contest[each.key] = terms[each.key]
            if each.of == _WHOLE:
                each.sample.setdefault(_WHOLE, {})[each.key] = found
            else:
                each.sample.setdefault(_MINUTES, {}).setdefault(each.key, []).append(found)
            results.save()
    except LabError as error:
        console.print(f"{judge.name} is asked no more: {error}")


def settle(results: Results) -> None:
    """Leave out verdicts against a row that is not there, or has other weights by now."""
    for row in (row for row in results.rows if row.contest):
        there = {name: each.weights for name, each in opponents(results, row).items()}
        for key, terms in list(row.contest.items()):
            if there.get(key.rpartition(": ")[2]) != terms["weights"]:
                _forget(row, key)


def _forget(row: Row, key: str) -> None:
    del row.contest[key]
    for sample in row.samples:
        for verdicts in (_WHOLE, _MINUTES):
            sample.get(verdicts, {}).pop(key, None)


def _heard(row: Row) -> str:
    """The recognizer whose texts are judged; none where nobody heard a text."""
    return next(iter(row.samples[0]["texts"]), "")


def _whole(key: str, sample: dict[str, Any], other: Mapping[str, Any], recognizer: str) -> Iterator[_Due]:
    if key not in sample.get(_WHOLE, {}):
        ours, theirs = (" ".join(_texts(each, recognizer)).strip() for each in (sample, other))
        yield _Due(sample, key, _WHOLE, sample["prompt_text"], ours, theirs)


def _minutes(key: str, sample: dict[str, Any], other: Mapping[str, Any], recognizer: str) -> Iterator[_Due]:
    """Those that both have, from the first that was not judged on; of one alone the whole tells."""
    both = list(zip(_texts(sample, recognizer), _texts(other, recognizer), strict=False))
    there = len(sample.get(_MINUTES, {}).get(key, []))
    for number, (ours, theirs) in enumerate(both[there:] if len(both) > 1 else [], there):
        prompt = f"{sample['prompt_text']} {GAP}".strip() if number else sample["prompt_text"]
        yield _Due(sample, key, _MINUTES, prompt, ours, theirs)


def _match(judge: Judge, prompt: str, ours: str, theirs: str) -> Match:
    """Who says nothing loses unasked: cut to the shorter, both would say nothing."""
    if ours and theirs:
        return match(judge, prompt, ours, theirs)
    return Match(_TIED, _TIED) if ours == theirs else Match(_WON, _LOST) if ours else Match(_LOST, _WON)


def matches(sample: Mapping[str, Any]) -> dict[str, Match]:
    """Judge and opponent -> the verdicts of a sample, as they are in memory or in JSON."""
    return {key: _read(pair) for key, pair in sample.get(_WHOLE, {}).items()}


def minute_matches(sample: Mapping[str, Any]) -> dict[str, list[Match]]:
    """Judge and opponent -> the verdicts of each minute that was judged."""
    return {key: [_read(pair) for pair in pairs] for key, pairs in sample.get(_MINUTES, {}).items()}


def _read(pair: Any) -> Match:
    return Match(*(Verdict(*each) for each in pair))


def _texts(sample: Mapping[str, Any], recognizer: str) -> list[str]:
    """What was heard in each minute."""
    return [" ".join(text.split()) for text in sample["texts"][recognizer]]
