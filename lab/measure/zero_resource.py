"""Likelihood tests without text (ZeroSpeech 2021): is what is right likelier than what is wrong, to a model of tokens?

Chance is 0.5. Pairs come of the story world (`minimal_pairs`), or of the original sets where a user has them.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from lab import audio
from lab.audio import Waveform
from lab.console import console
from lab.corpora import narrators
from lab.corpora.narrators import Narrator
from lab.errors import LabError
from lab.measure import minimal_pairs, statistics
from lab.measure.loss import losses
from lab.measure.statistics import Estimate
from lab.protocols import LanguageModel, Tokenizer

_SHORTEST = 0.1  # seconds: less has no two tokens


class Pair(NamedTuple):
    """Waveforms (N,) of one voice. Pairs of one item, by several voices, are no independent draws."""

    item: str
    kind: str
    right: Waveform
    wrong: Waveform


class Scored(NamedTuple):
    """Log-likelihoods of a pair, in nats, and the tokens that they are of."""

    item: str
    kind: str
    right: float
    right_tokens: int
    wrong: float
    wrong_tokens: int


def spoken(
    pairs: Sequence[minimal_pairs.Pair], voices: int = 1, among: Sequence[Narrator] = narrators.HELD_OUT
) -> Iterator[Pair]:
    """Texts read aloud, each by the next `voices` of the narrators in turn."""
    for number, (item, kind, right, wrong) in enumerate(pairs):
        for voice in range(voices):
            narrator = among[(number + voice) % len(among)]
            yield Pair(item, kind, narrator.read(right), narrator.read(wrong))


def zerospeech(folder: Path) -> Iterator[Pair]:
    """sWUGGY or sBLIMP as the ZeroSpeech Challenge 2021 gives them: `lexical/dev` or `syntactic/dev`, a folder with
    gold.csv (columns id, filename, voice, correct; frequency or type say the kind) and a WAV a row.

    A pair without a partner or with a file that cannot be used is named and left out. Raises LabError for no such
    folder.
    """
    gold = folder / "gold.csv"
    rows: dict[tuple[str, str], tuple[list[dict[str, str]], list[dict[str, str]]]] = defaultdict(lambda: ([], []))
    try:
        with gold.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                rows[row["id"], row["voice"]][row["correct"] == "1"].append(row)
    except (OSError, KeyError, ValueError, csv.Error) as error:
        raise LabError(f"{gold} is no list of pairs with id, filename, voice and correct: {error}") from None
    if not rows:
        raise LabError(f"{gold} lists no pairs")
    for (item, voice), (wrong, right) in rows.items():
        if not right or len(right) != len(wrong):
            console.print(f"left out: {item} by {voice} in {gold} has {len(right)} right and {len(wrong)} wrong")
            continue
        for good, bad in zip(right, wrong, strict=True):
            kind = good.get("type") or good.get("frequency") or ""
            yield from _read(
                item, kind, *(folder / f"{row['filename'].removesuffix('.wav')}.wav" for row in (good, bad))
            )


def story_cloze(folder: Path) -> Iterator[Pair]:
    """Spoken or topic StoryCloze (Hassid et al. 2023): WAVs N_*.wav counted from 0, a story with its ending and then
    the same with a wrong one.

    Files that cannot be used are named and left out. Raises LabError for a folder without such pairs.
    """
    numbered = {int(number): path for path in folder.glob("*.wav") if (number := path.stem.split("_")[0]).isdecimal()}
    if not numbered or sorted(numbered) != list(range(len(numbered))) or len(numbered) % 2:
        raise LabError(f"{folder} has no pairs of files 0_*.wav, 1_*.wav, ...: true ending, wrong ending, and so on")
    for first in range(0, len(numbered), 2):
        yield from _read(str(first // 2), "ending", numbered[first], numbered[first + 1])


def _read(item: str, kind: str, right: Path, wrong: Path) -> Iterator[Pair]:
    try:
        waveforms = [audio.load(path) for path in (right, wrong)]
        for path, waveform in zip((right, wrong), waveforms, strict=True):
            audio.check_prompt(waveform, _SHORTEST, name=str(path))
    except LabError as error:
        console.print(f"left out: {error}")
    else:
        yield Pair(item, kind, *(audio.set_level(waveform) for waveform in waveforms))


def log_likelihood(model: LanguageModel, tokens: Tensor) -> tuple[float, int]:
    """Tokens (T,) -> nats, and how many tokens they are of: all but the first, which nothing predicts.

    Raises LabError for fewer than two tokens.
    """
    if len(tokens) < 2:
        raise LabError(f"{len(tokens)} tokens have no likelihood; give two or more")
    return -float(losses(model, tokens.to(model.device)).sum(dtype=torch.float64)), len(tokens) - 1


def score(tokenizer: Tokenizer, models: Mapping[str, LanguageModel], pairs: Iterable[Pair]) -> dict[str, list[Scored]]:
    """The likelihoods of both sides of each pair, to each model."""
    found: dict[str, list[Scored]] = {name: [] for name in models}
    for item, kind, *sides in pairs:
        right, wrong = map(tokenizer.encode, sides)
        for name, model in models.items():
            found[name].append(Scored(item, kind, *log_likelihood(model, right), *log_likelihood(model, wrong)))
    return found


def accuracy(scored: Sequence[Scored], *, normalized: bool, seed: int = 0) -> Estimate:
    """How often the right one is likelier, a tie counting half; the mean over an item's pairs, then over items.

    normalized: by nats a token instead of their sum, which prefers what is shorter. Raises LabError for no pair.
    """
    items: dict[str, list[float]] = defaultdict(list)
    for item, _, right, right_tokens, wrong, wrong_tokens in scored:
        first, second = (right / right_tokens, wrong / wrong_tokens) if normalized else (right, wrong)
        items[item].append(0.5 if first == second else float(first > second))
    return statistics.share([sum(hits) / len(hits) for hits in items.values()], [1.0] * len(items), seed)


def likelier(likelihood: Callable[[Waveform], tuple[float, int]], pairs: Iterable[Pair]) -> tuple[Estimate, Estimate]:
    """`accuracy` by nats a token, and by their sum, to a system that hears waveforms (N,): its nats, and how many
    tokens they are of."""
    scored = [Scored(item, kind, *likelihood(right), *likelihood(wrong)) for item, kind, right, wrong in pairs]
    return accuracy(scored, normalized=True), accuracy(scored, normalized=False)


def of_models(tokenizer: Tokenizer, models: Mapping[str, LanguageModel], count: int) -> dict[str, dict[str, Estimate]]:
    """Model -> test -> accuracy, of `count` pairs of the story world each (of words there are some 150)."""
    tests = {
        "words above invented ones": minimal_pairs.words(count),
        "sentences above those with a fault": minimal_pairs.sentences(count),
        "endings above those of other stories": minimal_pairs.endings(count),
    }
    found: dict[str, dict[str, Estimate]] = {name: {} for name in models}
    for test, pairs in tests.items():
        for name, scored in score(tokenizer, models, spoken(pairs)).items():
            found[name] |= _both(test, scored)
    return found


def of_folder(
    tokenizer: Tokenizer, models: Mapping[str, LanguageModel], folder: Path, count: int | None = None
) -> dict[str, dict[str, Estimate]]:
    """Model -> test -> accuracy on an original set, `zerospeech` where there is a gold.csv and `story_cloze` elsewhere:
    of all its pairs and of each kind, or of the first `count` pairs.

    Raises LabError for a folder that is neither, and for one without a pair that can be used.
    """
    pairs = zerospeech(folder) if (folder / "gold.csv").exists() else story_cloze(folder)
    found: dict[str, dict[str, Estimate]] = {}
    for name, scored in score(tokenizer, models, islice(pairs, count)).items():
        kinds = sorted({each.kind for each in scored})
        found[name] = _both("all pairs", scored)
        for kind in kinds if len(kinds) > 1 else ():
            found[name] |= _both(kind or "no kind", [each for each in scored if each.kind == kind])
    return found


def _both(test: str, scored: Sequence[Scored]) -> dict[str, Estimate]:
    how = {"by the sum": False, "by the mean a token": True}
    return {f"{test}, {name}": accuracy(scored, normalized=normalized) for name, normalized in how.items()}
