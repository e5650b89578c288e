"""What the recipes learn from: readings beside each other, and corpora as tokens, each by what a `Plan` asks for."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np
from rich.progress import track

from lab import bundle
from lab.console import console
from lab.corpora import Utterance, narration, shards
from lab.corpora.shards import Shard, Source
from lab.corpora.source import LONG_STORY
from lab.errors import LabError
from lab.files import replacing
from lab.measure.tokens import transcription
from lab.tokens import Tokenizer

if TYPE_CHECKING:
    from lab.train.plan import Plan

# Half by espeak-ng, half in the words of human-like narrators (`lab.train.selection`), whose readings come on top:
# which stories, of how many sentences
READ = {"read-stories": ("stories", 96), "long-read-stories": ("long-stories", LONG_STORY)}
NARRATED = ("stories", "long-stories", *READ)
_AN_HOUR = 400  # pairs, of about 9 s each

Pair = tuple[Utterance, Utterance]


def paired(maker: Callable[[Any], Any], items: Sequence[Any]) -> list[Pair]:
    made = narration.make(maker, items, os.cpu_count())
    return list(track(made, "narrating", len(items), console=console))


def pairs(hours: float) -> list[Pair]:
    """Passages of stories and of words without sense, each by two narrators."""
    return paired(partial(narration.pair, nonsense=0.4), range(round(hours * _AN_HOUR)))


def narrated(hours: float) -> list[Utterance]:
    """Passages of stories, each by two narrators."""
    return list(chain.from_iterable(paired(narration.pair, range(round(hours * _AN_HOUR)))))


def heard(plan: Plan) -> list[Utterance]:
    """What codec and voice learn from: people, or where there are none narrators."""
    return plan.people(texts=False) or narrated(plan.hours or 3.0)


def evaluation() -> Callable[[Tokenizer], dict[str, float]]:
    """The character error rate on stories of no other use."""
    test = [narration.development_story(number) for number in range(6)]
    return lambda tokenizer: {"cer": transcription(tokenizer, test).value}


def shard(plan: Plan, name: str, codes: bool = False, hours: float | None = None) -> Shard:
    """A corpus, tokenized once; another story world, folder, tokenizer or codec has a shard of its own.

    Of narrated speech, which has no end, as many hours as are asked for, or as the plan says.
    """
    models = [plan.load(model) for model in (["tokenizer", "codec"] if codes else ["tokenizer"])]
    if (Path(name) / shards.HEADER).exists():
        return Shard.open(Path(name), *models)
    source = Source.of(name)
    folder = plan.work / "-".join([*Path(source.name).name.split(), *map(bundle.fingerprint, models)])
    hours = source.hours and (hours or plan.hours or source.hours)
    with plan.compute.fabric().rank_zero_first():  # the others find it made
        made = shards.make(folder, source, plan.bundle, codes=codes, hours=hours)
    return made.first(hours) if hours else made


def held_out(shard: Shard) -> Sequence[int]:
    """The numbers of the documents of recordings that nothing learns from: those of split dev.

    Where there are none: all of the first speakers, until they are a tenth or eight, if that takes no more than a fifth
    of the documents. Else all pieces of the first recordings, if that takes no more than half; and the first pieces
    where there is one recording alone.
    """
    if shard.dev:
        return shard.dev
    count = len(shard.starts)
    wanted = min(8, max(1, count // 10))
    each = shard.recordings or [f"{number}" for number in range(count)]
    for names, most in ((shard.narrators, count / 5), (each, count / 2)):
        apart: list[int] = []
        together: dict[str, list[int]] = defaultdict(list)
        for number, name in enumerate(names):
            together[name].append(number)
        for group in together.values():
            if len(apart) < wanted and len(apart) + len(group) <= most:
                apart += group
        if apart:
            return sorted(apart)
    return range(wanted)


def save_ragged(path: Path, columns: Mapping[str, Sequence[np.ndarray]]) -> None:
    """Arrays (N,) of any lengths, of one type a column, in one file that is whole or not there."""
    saved: dict[str, Any] = {name: np.concatenate(column) for name, column in columns.items()}
    saved |= {f"{name}_lengths": np.array([len(each) for each in column]) for name, column in columns.items()}
    with replacing(path) as part, part.open("wb") as file:
        np.savez(file, **saved)


def load_ragged(path: Path, names: Iterable[str]) -> list[list[np.ndarray]]:
    """Those columns of `save_ragged`. Raises LabError for a file that is damaged."""
    try:
        with np.load(path) as held:
            return [np.split(held[name], held[f"{name}_lengths"].cumsum()[:-1]) for name in names]
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        raise LabError(f"{path} is damaged ({error}); delete it, and the same command makes it again") from None


def seconds(utterances: Iterable[Utterance]) -> dict[str, float]:
    """Of each source."""
    found: dict[str, float] = defaultdict(float)
    for utterance in utterances:
        found[utterance.source] += utterance.seconds
    return found
