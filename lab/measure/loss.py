"""How surprised is a language model by what is really said? Its cross-entropy, in nats a token."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from lab.console import console
from lab.corpora import Utterance, narrated_folder, narration
from lab.measure import statistics
from lab.measure.statistics import Estimate
from lab.tokens import TOKEN_RATE

SENTENCES = 96  # about four minutes
MINUTE = 60 * TOKEN_RATE  # tokens


@torch.no_grad()  # not inference_mode: what it makes cannot be written to, and shared weights are gathered in place
def losses(model: Callable[[Tensor], tuple[Tensor, Any]], tokens: Tensor) -> Tensor:
    """Tokens (T,) -> nats (T - 1,): of all but the first, which nothing predicts."""
    logits, _ = model(tokens[None, :-1])
    return F.cross_entropy(logits[0].float(), tokens[1:], reduction="none")


def whole_minutes(losses: Tensor, lacking: int = 1) -> list[float]:
    """Losses (T,) -> the mean of each whole minute, and of a last one that lacks so many at most: of four minutes of
    speech the first token has none."""
    return [float(minute.mean()) for minute in losses.split(MINUTE) if len(minute) >= MINUTE - lacking]


def stories(count: int, human: Path | None, numbers: range) -> dict[str, list[Utterance]]:
    """The first `count` held-out stories of these numbers, read by espeak-ng's held-out narrators; those of a folder of
    human-like voices, and the same ones read by espeak-ng, where there is one. Raises LabError as
    `narrated_folder.held_out` and `Document.read`."""
    if human is None:
        told = [(number, SENTENCES) for number in numbers[:count]]
        found: dict[str, list[Utterance]] = {}
    else:
        narrated = narrated_folder.held_out(human, numbers)
        for line in narrated.skipped:
            console.print("skipped:", line)
        documents = narrated.documents[:count]
        told = [(document.number, len(document.sentences)) for document in documents]
        found = {"human-like voices": [document.read() for document in documents]}
    return found | {"espeak-ng": [narration.held_out_story(number, sentences=length) for number, length in told]}


def estimates(told: Sequence[Tensor]) -> dict[str, Estimate]:
    """Losses (T,) of each story -> the mean over stories, of all that is told and of each minute that half of them
    reach."""
    found = {"": statistics.mean([float(each.mean()) for each in told])}
    minutes = [whole_minutes(each) for each in told]
    for number in range(max(map(len, minutes))):
        reached = [each[number] for each in minutes if len(each) > number]
        if 2 * len(reached) >= len(told):
            found[f", minute {number + 1}"] = statistics.mean(reached)
    return found
