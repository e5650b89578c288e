"""`lab train MODEL`: the corpus, the training and the place in the bundle of each model, in one function each.

Order matters: the language models and the voice learn from the tokenizer's tokens, the voice from the codec's codes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track
from torch import nn

from lab import bundle, machine
from lab.corpora import Utterance, librispeech, narration
from lab.errors import LabError
from lab.measure.figures import HELD_OUT_CHAPTER
from lab.measure.tokens import transcription
from lab.tokens import Tokenizer
from lab.train import codec as codec_recipe
from lab.train import language as language_recipe
from lab.train import soundstorm as soundstorm_recipe
from lab.train import tokenizer as tokenizer_recipe
from lab.voice import Codec


@dataclass(frozen=True)
class Plan:
    """Where to work, what to learn from and for how long; None takes the recipe's own length."""

    work: Path = Path("runs")
    bundle: Path = field(default_factory=bundle.folder)
    speech: Path | None = field(default_factory=librispeech.find)
    steps: int | None = None
    hours: float | None = None  # of narrated speech
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps is not None and self.steps < 1:
            raise LabError(f"cannot train for {self.steps} steps; give 1 or more")
        if self.hours is not None and not 0 < self.hours < float("inf"):
            raise LabError(f"cannot learn from {self.hours:g} hours of speech; give a positive number")

    def readers(self) -> list[Utterance]:
        return librispeech.read_all(self.speech, (HELD_OUT_CHAPTER,)) if self.speech else []

    def options(self) -> dict[str, Any]:
        return {"seed": self.seed} | ({"steps": self.steps} if self.steps else {})


def tokenizer(plan: Plan) -> dict[str, Any]:
    half = round((plan.hours or 25.0) * 200)  # pairs last about 9 s, both readings together
    words = list(track(_made(partial(narration.pair, nonsense=0.4), range(half)), "narrating words", half))
    stories = list(track(_made(narration.pair, range(half, 2 * half)), "narrating stories", half))
    readers = plan.readers()
    test = [narration.held_out_story(number) for number in range(6)]
    model, figures = tokenizer_recipe.train(
        words,
        stories,
        readers,
        plan.work / "tokenizer",
        evaluate=lambda tokenizer: {"cer": transcription(tokenizer, test)},
        **plan.options(),
    )
    return _finish(plan, "tokenizer", model, figures, [u for pair in words + stories for u in pair] + readers)


def codec(plan: Plan) -> dict[str, Any]:
    hours = plan.hours or 3.0
    narrated = [
        u
        for both in track(_made(narration.pair, range(round(hours * 400))), "narrating", round(hours * 400))
        for u in both
    ]
    readers = plan.readers()
    model, figures = codec_recipe.train(narrated + readers, plan.work / "codec", **plan.options())
    return _finish(plan, "codec", model, figures, narrated + readers)


def griffin(plan: Plan) -> dict[str, Any]:
    return _language(plan, "griffin")


def transformer(plan: Plan) -> dict[str, Any]:
    return _language(plan, "transformer")


def soundstorm(plan: Plan) -> dict[str, Any]:
    hours = plan.hours or 6.0
    tokenizer, codec = _load(plan, "tokenizer"), _load(plan, "codec")
    assert isinstance(tokenizer, Tokenizer) and isinstance(codec, Codec)
    takes, seconds = [], 0.0
    for pair in track(
        _made(narration.voice_samples, range(round(hours * 400))), "narrating and encoding", round(hours * 400)
    ):
        takes.append(tuple(soundstorm_recipe.take(u.samples(), tokenizer, codec) for u in pair))
        seconds += sum(u.seconds for u in pair)
    model, figures = soundstorm_recipe.train(
        takes, plan.work / "soundstorm", vocabulary=tokenizer.config.codes, **plan.options()
    )
    return _finish(plan, "soundstorm", model, figures, seconds=seconds)


RECIPES: dict[str, Callable[[Plan], dict[str, Any]]] = {
    "tokenizer": tokenizer,
    "codec": codec,
    "griffin": griffin,
    "transformer": transformer,
    "soundstorm": soundstorm,
}


def train(name: str, plan: Plan) -> dict[str, Any]:
    """Train one model into the bundle and return its card. Raises LabError for a name without a recipe."""
    if name not in RECIPES:
        raise LabError(f"there is no recipe for {name!r}; there are {', '.join(RECIPES)} and all")
    return RECIPES[name](plan)


def _made(maker: Callable[[int], Any], numbers: range) -> Iterator[Any]:
    return narration.make(maker, numbers, os.cpu_count())


def _load(plan: Plan, name: str) -> nn.Module:
    return bundle.load(plan.bundle, name)


def _language(plan: Plan, name: str) -> dict[str, Any]:
    tokenizer = _load(plan, "tokenizer")
    assert isinstance(tokenizer, Tokenizer)
    documents = stories(plan.work / "stories.npz", tokenizer, plan.hours or 20.0)
    held_out = [
        tokenizer.encode(narration.held_out_story(number, sentences=20).samples()).numpy() for number in range(8)
    ]
    model, figures = language_recipe.train(
        documents,
        held_out,
        plan.work / name,
        model=name,
        vocabulary=tokenizer.config.codes,
        **plan.options(),
    )
    return _finish(plan, name, model, figures, seconds=sum(map(len, documents)) / 25)


def stories(path: Path, tokenizer: Tokenizer, hours: float) -> list[np.ndarray]:
    """Tokens of `hours` of narrated training stories, one array a story; made once and kept in `path`."""
    signature = float(sum(parameter.detach().double().abs().sum() for parameter in tokenizer.parameters()))
    if path.exists():
        with np.load(path, allow_pickle=False) as kept:
            if float(kept["tokenizer"]) == signature and float(kept["hours"]) == hours:
                return np.split(kept["tokens"], kept["starts"][1:])
    documents: list[np.ndarray] = []
    wanted, made = hours * 3600 * 25, 0
    numbers = range(round(hours * 3600 / 150))  # no story of 60 sentences is shorter than 150 s
    for utterance in track(_made(narration.training_story, numbers), "narrating stories", len(numbers)):
        documents.append(tokenizer.encode(utterance.samples()).numpy().astype(np.int16))
        made += len(documents[-1])
        if made >= wanted:
            break
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name("part.npz")
    starts = np.cumsum([0] + [len(document) for document in documents[:-1]])
    np.savez(part, tokens=np.concatenate(documents), starts=starts, tokenizer=signature, hours=hours)
    part.replace(path)
    return documents


def _finish(
    plan: Plan,
    name: str,
    model: nn.Module,
    figures: dict[str, float],
    utterances: list[Utterance] | None = None,
    seconds: float | None = None,
) -> dict[str, Any]:
    told = {"narrated": seconds or 0.0, "librispeech": 0.0}
    for utterance in utterances or []:
        told[utterance.source] += utterance.seconds
    data = f"{told['narrated'] / 3600:.1f} h of stories narrated by espeak-ng"
    if told["librispeech"]:
        data += f", {told['librispeech'] / 3600:.1f} h of LibriSpeech (Panayotov et al. 2015, CC BY 4.0)"
    card = {
        "data": data,
        "steps": int(figures.pop("steps")),
        "minutes": round(figures.pop("minutes"), 1),
        "machine": machine.name(),
        "command": f"lab train {name}",
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "at_the_end": {key: round(value, 4) for key, value in figures.items()},
    }
    bundle.save(plan.bundle, name, model, card)
    return card
