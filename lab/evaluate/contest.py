"""Who wins, by a judge of texts: each sample of a row against the ground truth and against Griffin (paper section 7).

Both texts are cut to the shorter one's length, each pair is judged twice with its texts swapped, and what a judge
answers in another form counts for nobody and is counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.progress import track

from lab.console import console
from lab.errors import LabError
from lab.evaluate.results import Results, Row
from lab.evaluate.systems import TRUTH
from lab.judges.protocols import Judge

OPPONENTS = (TRUTH, "griffin")
_POINTS = {"first": 1.0, "second": 0.0, "tie": 0.5}


def hold(results: Results, row: Row, judge: Judge, recognizer: str) -> None:
    """The verdicts that the samples of a row lack, each kept as it comes.

    A judge that fails is asked no more, and what is there stays.
    """
    opponents = {f"{judge.name}: {name}": results.find(name, row) for name in OPPONENTS if name != row.system}
    pairs = [
        (key, sample, other)
        for key, opponent in opponents.items()
        for sample in row.samples
        if opponent and (other := opponent.sample(sample["name"])) and key not in sample.get("verdicts", {})
    ]
    if not pairs:
        return
    words = sum(len(_text(each, recognizer).split()) for _, *both in pairs for each in both)
    console.print(f"{judge.name}: {2 * len(pairs)} judgements of {row.system}, at most {2 * words} words to read")
    try:
        for key, sample, other in track(pairs, f"{judge.name}: {row.system}", console=console):
            verdict = _verdict(judge, sample["prompt_text"], _text(sample, recognizer), _text(other, recognizer))
            sample.setdefault("verdicts", {})[key] = verdict
            results.save()
    except LabError as error:
        console.print(f"{judge.name} is asked no more: {error}")


def _verdict(judge: Judge, prompt: str, ours: str, theirs: str) -> dict[str, list[Any]]:
    if not ours or not theirs:  # cut to the shorter both would be nothing, and a system that says nothing no worse
        return {"points": [0.5 if ours == theirs else float(bool(ours))] * 2, "texts": ["", ""]}
    ours, theirs = _cut(ours, theirs)
    straight, swapped = judge.judge(prompt, ours, theirs), judge.judge(prompt, theirs, ours)
    found = [_POINTS.get(straight.winner or ""), _POINTS.get(swapped.winner or "")]
    return {"points": [found[0], None if found[1] is None else 1 - found[1]], "texts": [straight.text, swapped.text]}


def points(verdict: Mapping[str, Any]) -> list[float]:
    """Of the two orders those that were answered as asked."""
    return [each for each in verdict["points"] if each is not None]


def _text(sample: Mapping[str, Any], recognizer: str) -> str:
    return " ".join(sample["texts"][recognizer])


def _cut(ours: str, theirs: str) -> tuple[str, str]:
    """Both to as many words as the shorter one has."""
    one, other = ours.split(), theirs.split()
    length = min(len(one), len(other))
    return " ".join(one[:length]), " ".join(other[:length])
