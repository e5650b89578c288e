"""Who wins, by a judge of texts: each sample of a row against the truth and against Griffin (paper section 7)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.progress import track

from lab.console import console
from lab.errors import LabError
from lab.evaluate.results import Results, Row
from lab.evaluate.systems import TRUTH
from lab.judges.protocols import Judge, Verdict
from lab.measure.preference import Match, cut_alike, match

OPPONENTS = (TRUTH, "griffin")
_LOST, _WON, _TIED = (Verdict(winner, "") for winner in ("second", "first", "tie"))


def hold(results: Results, row: Row, judge: Judge, recognizer: str) -> None:
    """The verdicts that the samples of a row lack, on what `recognizer` heard, each kept as it comes.

    What it will take is told before. A judge that fails is asked no more, and what is there stays.
    """
    opponents = {f"{judge.name}: {name}": results.find(name, row) for name in OPPONENTS if name != row.system}
    due = [
        (key, sample, (sample["prompt_text"], _text(sample, recognizer), _text(other, recognizer)))
        for key, opponent in opponents.items()
        for sample in row.samples
        if opponent and (other := opponent.sample(sample["name"])) and key not in sample.get("verdicts", {})
    ]
    if due and hasattr(judge, "cost"):
        told = judge.cost((prompt, *cut_alike(ours, theirs)) for _, _, (prompt, ours, theirs) in due)
        console.print(f"{judge.name}: {told}")
    try:
        for key, sample, texts in track(due, f"{judge.name}: {row.system}", console=console):
            sample.setdefault("verdicts", {})[key] = _match(judge, *texts)
            results.save()
    except LabError as error:
        console.print(f"{judge.name} is asked no more: {error}")


def _match(judge: Judge, prompt: str, ours: str, theirs: str) -> Match:
    """Who says nothing loses unasked: cut to the shorter, both would say nothing."""
    if ours and theirs:
        return match(judge, prompt, ours, theirs)
    return Match(_TIED, _TIED) if ours == theirs else Match(_WON, _LOST) if ours else Match(_LOST, _WON)


def matches(sample: Mapping[str, Any]) -> dict[str, Match]:
    """Judge and opponent -> the verdicts of a sample, as they are in memory or in JSON."""
    return {key: Match(*(Verdict(*each) for each in pair)) for key, pair in sample.get("verdicts", {}).items()}


def _text(sample: Mapping[str, Any], recognizer: str) -> str:
    return " ".join(" ".join(sample["texts"][recognizer]).split())
