"""The figures of a bundle, by `lab measure`: held-out stories, by the held-out narrators unless a row says "of
training", and one unseen LibriSpeech chapter.

Defaults that a figure depends on are in the names of the rows and in the functions of of_tokens, of_language, of_voice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

from lab import bundle
from lab.errors import LabError
from lab.measure import of_language, of_tokens, of_voice
from lab.measure.figure import Figure
from lab.speech import SpeechSSM

Measure = Callable[..., list[Figure]]  # of a SpeechSSM, a folder of LibriSpeech or None, a count, and of what it TAKES
_TOLD = ("low", "high", "n", "of", "temperature", "seed", "command")  # what a card has of a figure beside its value
_READS, _SPEAKS = ("tokenizer",), ("tokenizer", "soundstorm", "codec")
# How many held-out stories each takes by default, and the models that decide it
MEASURES: dict[str, tuple[Measure, int, tuple[str, ...]]] = {
    "tokens": (of_tokens.of_tokens, 24, _READS),
    "abx": (of_tokens.of_abx, 24, _READS),
    "likelihood": (of_language.of_likelihood, 150, _READS),  # pairs of each test
    "narrator": (of_tokens.of_narrator, 24, _READS),  # texts
    "phones": (of_tokens.of_phones, 100, _READS),  # utterances of a chapter
    "codec": (of_voice.of_codec, 24, ("codec", "soundstorm")),  # which says how many levels are spoken
    "voice": (of_voice.of_voice, 12, _SPEAKS),
    "speaker": (of_voice.of_speaker, 48, _SPEAKS),
    "loss": (of_language.of_loss, 16, _READS),
    "stories": (of_language.of_stories, 16, _SPEAKS),
    "coherence": (of_language.of_coherence, 16, _READS),
    "recall": (of_language.of_recall, 16, _READS),
    "seams": (of_voice.of_seams, 2, ("griffin", *_SPEAKS)),
    "making": (of_tokens.of_making, 4, _READS),
    "speed": (of_voice.of_speed, 1, _SPEAKS),
    "memory": (of_voice.of_memory, 1, _SPEAKS),
}
# What else some take; all but the first of loss is for choices, and nothing of it is kept
TAKES = {
    "all": ("narrated",),
    "loss": ("narrated", "development"),
    "coherence": ("minutes", "narrated", "development", "temperature"),
}


def measure(what: str, root: Path, speech: Path | None, count: int | None = None, **options: Any) -> list[Figure]:
    """The figures of the bundle at `root` that are called `what`, or all. `options`: of TAKES; of all, loss takes them.

    Raises LabError for another name, and an option that it does not take.
    """
    if what != "all" and what not in MEASURES:
        raise LabError(f"there is no measure {what!r}; there are {', '.join(MEASURES)} and all")
    if count is not None and count < 1:
        raise LabError(f"cannot measure {count} stories; give 1 or more")
    if odd := set(options) - set(TAKES.get(what, ())):
        takers = [name for name, taken in TAKES.items() if min(odd) in taken]
        raise LabError(f"{min(odd)} cannot be set for `lab measure {what}`; it is for {' and '.join(takers)}")
    ssm = SpeechSSM.load(root)
    found = []
    for name, (of, usual, uses) in MEASURES.items():
        if what in (name, "all"):
            taken = options if name in (what, "loss") else {}
            command = f"lab measure {name} --count {count or usual}" + (" --speech LIBRISPEECH" if speech else "")
            command += " --narration NARRATION" if "narrated" in taken else ""
            rows = of(ssm, speech, count or usual, **taken)
            found += [replace(row, n=row.n or count or usual, command=command, uses=uses) for row in rows]
    return found


def record(root: Path, figures: Sequence[Figure], machine: str) -> None:
    """Put figures into the models' cards in bundle.json, each with all that it takes to get it again, the digests of
    the weights among that; keep their reports."""
    digests = bundle.digests(root)
    for figure in {id(figure.report): figure for figure in figures if figure.report}.values():
        assert figure.report is not None
        measured = sorted({*figure.report.scores, *figure.uses} & digests.keys())
        weights = {name: digests[name] for name in measured}
        replace(figure.report, command=figure.command, machine=machine, weights=weights).save()
    with bundle.changing(root) as entries:
        for figure in (figure for figure in figures if figure.kept):
            told = {name: getattr(figure, name) for name in _TOLD}
            entries[figure.model]["card"].setdefault("figures", {})[figure.name] = {
                "value": float(f"{figure.value:.4g}"),
                "machine": machine,
                "date": date.today().isoformat(),
                "weights": {name: digests[name] for name in sorted({figure.model, *figure.uses})},
                **{name: value for name, value in told.items() if value is not None},
            }
