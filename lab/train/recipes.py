"""`lab train MODEL`: the corpus, the training and the place in the bundle of each model, in one function each.

Order matters: the language models and the voice learn from the tokenizer's tokens, the voice from the codec's codes.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from rich.progress import track
from torch import nn

from lab import bundle, machine
from lab.corpora import Utterance, librispeech, narration, shards
from lab.corpora.shards import Shard, Source
from lab.errors import LabError
from lab.measure.figures import HELD_OUT_CHAPTER
from lab.measure.tokens import transcription
from lab.tokens import Tokenizer
from lab.train import codec as codec_recipe
from lab.train import language as language_recipe
from lab.train import soundstorm as soundstorm_recipe
from lab.train import tokenizer as tokenizer_recipe


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
        """What can be learnt from below `speech`, but the chapter that figures are measured on."""
        if self.speech is None:
            return []
        corpus = librispeech.corpus(self.speech, (HELD_OUT_CHAPTER,))
        utterances = list(corpus)
        for line in corpus.skipped:
            print("skipped:", line, file=sys.stderr)
        print(f"{len(utterances)} utterances, {len(corpus.skipped)} skipped, of {self.speech}", file=sys.stderr)
        return utterances

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
    tokenizer = _load(plan, "tokenizer")
    assert isinstance(tokenizer, Tokenizer)
    shard = _shard(plan, "voices", codes=True)
    model, figures = soundstorm_recipe.train(
        shard.takes(), plan.work / "soundstorm", vocabulary=tokenizer.config.codes, **plan.options()
    )
    return _finish(plan, "soundstorm", model, figures, seconds=shard.seconds)


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
    shard = _shard(plan, "stories")
    held_out = [
        tokenizer.encode(narration.held_out_story(number, sentences=20).samples()).numpy() for number in range(8)
    ]
    model, figures = language_recipe.train(
        language_recipe.TokenStream(shard.tokens, shard.starts),
        held_out,
        plan.work / name,
        model=name,
        vocabulary=tokenizer.config.codes,
        **plan.options(),
    )
    return _finish(plan, name, model, figures, seconds=shard.seconds)


def _shard(plan: Plan, name: str, codes: bool = False) -> Shard:
    """Hours of narrated speech, tokenized once; another story world, tokenizer or codec has a folder of its own."""
    source = Source.of(name)
    models = [_load(plan, model) for model in (["tokenizer", "codec"] if codes else ["tokenizer"])]
    folder = plan.work / "-".join([*source.name.split(), *map(bundle.fingerprint, models)])
    hours = plan.hours or source.hours
    assert hours is not None  # narrated speech has no end
    return shards.make(folder, source, plan.bundle, codes=codes, hours=hours).first(hours)


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
