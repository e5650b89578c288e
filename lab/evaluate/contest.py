"""Who wins, by a judge of texts: each sample of a row against the truth and against Griffin (paper section 7), of the
whole and of every minute.

A minute is judged by itself: after the prompt and a mark for what was said between them, in both texts alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from rich.progress import track

from lab.console import console
from lab.errors import LabError
from lab.evaluate.results import Results, Row
from lab.evaluate.systems import TRUTH
from lab.judges.protocols import GAP, Judge, Verdict
from lab.measure.preference import Match, cut_alike, match

OPPONENTS = (TRUTH, "griffin")
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


def hold(results: Results, row: Row, judge: Judge, recognizer: str) -> None:
    """The verdicts that the samples of a row lack, on what `recognizer` heard, each kept as it comes.

    All wholes come first, then the minutes. What it will take is told before. A judge that fails is asked no more, and
    what is there stays.
    """
    opponents = {f"{judge.name}: {name}": results.find(name, row) for name in OPPONENTS if name != row.system}
    pairs = [
        (key, sample, other)
        for key, opponent in opponents.items()
        for sample in row.samples
        if opponent and (other := opponent.sample(sample["name"]))
    ]
    due = [each for pair in pairs for each in _whole(*pair, recognizer)]
    due += [each for pair in pairs for each in _minutes(*pair, recognizer)]
    if due and hasattr(judge, "cost"):
        asked = ((each.prompt, *cut_alike(each.ours, each.theirs)) for each in due if each.ours and each.theirs)
        told = judge.cost(asked)
        console.print(f"{judge.name}: {told}")
    try:
        for each in track(due, f"{judge.name}: {row.system}", console=console):
            found = _match(judge, each.prompt, each.ours, each.theirs)
            if each.of == _WHOLE:
                each.sample.setdefault(_WHOLE, {})[each.key] = found
            else:
                each.sample.setdefault(_MINUTES, {}).setdefault(each.key, []).append(found)
            results.save()
    except LabError as error:
        console.print(f"{judge.name} is asked no more: {error}")


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
