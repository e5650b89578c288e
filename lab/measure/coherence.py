"""Does a story keep its thread? What long continuations say, minute by minute and span by span.

The words are what the tokenizer reads in the tokens, those of the ground truth too: what it mishears lowers all alike.
"""

from __future__ import annotations

import base64
import json
import math
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import curve_fit
from torch import Tensor

from lab.audio import SAMPLE_RATE
from lab.corpora import narration, splits, storyworld
from lab.corpora.storyworld.world import HEROES
from lab.errors import LabError
from lab.files import made, replacing
from lab.judges.protocols import TextEncoder
from lab.language import generate
from lab.language.decode import MAX_ROWS
from lab.measure import statistics
from lab.measure.minutes import Minute, Words, by_minute, hero_kept, named, text
from lab.measure.recall import Recalled, by_gap, going_on
from lab.measure.statistics import Estimate
from lab.nn.sampling import generator_of
from lab.paths import data_folder
from lab.protocols import LanguageModel
from lab.speech import SLIDE, TEMPERATURE
from lab.tokens import TOKEN_RATE, Tokenizer

FOLDER = data_folder() / "measured"
PUBLISHED = data_folder() / "published" / "coherence.json"
PROMPT_SECONDS = 10.0  # the paper's long-form prompts
MINUTES = 16  # its longest continuations
SPAN = 100  # words, its spans of SC-L: about 30 s
TRUTH = "ground truth"
POINTS = 4  # the least that a decay of three numbers is fitted to
RECALLED_AFTER = 10.0  # seconds: what was last said before is no copy out of the newest words
_SENTENCES = 30  # more than any held-out narrator reads in a minute


class Span(NamedTuple):
    """Some words in a row; seconds since the prompt."""

    start: float
    stop: float
    likeness: float  # cosine of the span and the prompt: SC-L
    elsewhere: float  # and of the span and the openings of other stories, the mean


@dataclass(frozen=True)
class StoryScores:
    """What one story held on to."""

    story: int  # number of the held-out story whose opening is the prompt
    hero: str
    minutes: tuple[Minute, ...]
    spans: tuple[Span, ...]
    recalled: tuple[Recalled, ...] = ()  # after the prompt, after gaps of RECALLED_AFTER or more


@dataclass(frozen=True)
class Report:
    """Scores of the same prompts by who went on: names of the bundle's language models, and the ground truth."""

    minutes: int
    embedder: str
    scores: Mapping[str, tuple[StoryScores, ...]]
    temperature: float = TEMPERATURE  # that the language models were sampled at
    command: str = ""
    machine: str = ""
    weights: Mapping[str, str] = field(default_factory=dict)  # digests of the models that were measured
    tokens: Mapping[str, Tensor] = field(default_factory=dict)  # (stories, T) of each who went on, prompt and all

    def save(self, folder: Path | None = None) -> Path:
        """coherence.json in `folder`, by default data/measured. Raises LabError if it cannot be written."""
        path = made(folder or FOLDER) / "coherence.json"
        numbers = asdict(replace(self, tokens={}))
        rounded = json.loads(json.dumps(numbers), parse_float=lambda digits: round(float(digits), 4))
        rounded["tokens"] = {name: [_packed(story) for story in stories] for name, stories in self.tokens.items()}
        with replacing(path) as part:
            part.write_text(json.dumps(rounded, separators=(",", ":")) + "\n")
        return path

    @classmethod
    def load(cls, path: Path | None = None) -> Report:
        """What `save` wrote. Raises LabError where there is nothing or something else."""
        path = path or FOLDER / "coherence.json"
        try:
            told = json.loads(path.read_text())
            told["scores"] = {
                name: tuple(
                    StoryScores(
                        story_scores["story"],
                        story_scores["hero"],
                        tuple(Minute(*minute) for minute in story_scores["minutes"]),
                        tuple(Span(*span) for span in story_scores["spans"]),
                        tuple(Recalled(*recalled) for recalled in story_scores.get("recalled", ())),
                    )
                    for story_scores in scores
                )
                for name, scores in told["scores"].items()
            }
            packed = told.get("tokens", {})
            told["tokens"] = {name: torch.stack([*map(_unpacked, stories)]) for name, stories in packed.items()}
            return cls(**told)
        except FileNotFoundError:
            raise LabError(f"there is no {path}; `lab measure coherence --save` makes it") from None
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, zlib.error) as error:
            raise LabError(f"{path} is damaged ({error}); `lab measure coherence --save` makes it anew") from None


def _packed(tokens: Tensor) -> str:
    """Tokens (T,) of a vocabulary of up to 65,536, deflated, in base64."""
    return base64.b64encode(zlib.compress(tokens.numpy().astype("<u2").tobytes(), 9)).decode()


def _unpacked(text: str) -> Tensor:
    return torch.from_numpy(np.frombuffer(zlib.decompress(base64.b64decode(text)), "<u2").astype(np.int64))


# One story


def heroes(words: Words, cast: storyworld.Cast) -> list[tuple[float, bool]]:
    """When a sentence names a hero, in seconds, and whether it is the cast's."""
    return named(words, storyworld.check(text(words), cast))


def by_span(
    words: Words, encoder: TextEncoder, size: int = SPAN, hop: int | None = None, prompt_seconds: float = PROMPT_SECONDS
) -> tuple[Span, ...]:
    """SC-L (Park et al. 2025): the cosine of the prompt and each span of `size` words after it, `hop` words apart.

    hop: `size` by default, spans side by side. A last span of fewer words is left out: the paper does not say.
    """
    new = [word for word in words if word[0] >= prompt_seconds]
    spans = [new[at : at + size] for at in range(0, len(new) - size + 1, hop or size)]
    if not spans:
        return ()
    prompt = text(words[: len(words) - len(new)])
    vectors = encoder.embed_text([prompt, *openings(), *map(text, spans)])
    others = len(openings())
    cosines = vectors[1 + others :] @ vectors[: 1 + others].T  # (spans, 1 + others)
    return tuple(
        Span(span[0][0] - prompt_seconds, span[-1][1] - prompt_seconds, float(row[0]), float(row[1:].mean()))
        for span, row in zip(spans, cosines, strict=True)
    )


def story_scores(number: int, words: Words, encoder: TextEncoder, minutes: int = MINUTES) -> StoryScores:
    """Of a continuation of the opening of held-out story `number`, or of that story itself, prompt and all."""
    cast = cast_of(number)
    recalled = (each for each in going_on(words) if each.second >= PROMPT_SECONDS and each.ago >= RECALLED_AFTER)
    minute_counts, spans = by_minute(words, cast, minutes, PROMPT_SECONDS), by_span(words, encoder)
    return StoryScores(number, cast.hero, minute_counts, spans, tuple(recalled))


def cast_of(number: int) -> storyworld.Cast:
    """Who held-out story `number` is about."""
    return storyworld.story(narration.held_out_seed(number), 3).cast


@cache
def openings() -> tuple[str, ...]:
    """How eight other held-out stories begin: four sentences, about 10 s."""
    stories = (storyworld.story(narration.held_out_seed(number), 40) for number in splits.OPENINGS)
    return tuple(storyworld.normalize(" ".join(story.sentences[:4])) for story in stories)


# Many stories


def narrated(number: int, minutes: int = MINUTES) -> np.ndarray:
    """Waveform (N,): the first 10 s of held-out story `number`, read by a held-out narrator, and the minutes after."""
    seconds = PROMPT_SECONDS + 60 * minutes
    sentences = max(40, math.ceil(_SENTENCES * seconds / 60))  # of 40 the last 30 may be its ending
    samples = narration.held_out_story(number, sentences=sentences).samples()
    if len(samples) < seconds * SAMPLE_RATE:
        lasts = len(samples) / SAMPLE_RATE
        raise LabError(
            f"held-out story {number} lasts {lasts:.0f} s in {sentences} sentences; {seconds:.0f} s are needed"
        )
    return samples[: round(seconds * SAMPLE_RATE)]


def continued(
    language: LanguageModel,
    prompts: Tensor,
    minutes: int = MINUTES,
    seed: int = 0,
    temperature: float = TEMPERATURE,
) -> Tensor:
    """Prompts (B, T) -> prompts and continuations (B, T + 1500 minutes). temperature: by default that of `lab story`.

    SpeechTransformer goes on beyond its length by slide-and-prompt, from the newest 3 s.
    """
    slide = None if language.context is None else SLIDE
    stories: list[Tensor] = []
    for rows in prompts.split(MAX_ROWS):
        generator = generator_of(seed + len(stories), device=language.device)
        new = generate(
            language,
            rows,
            generator=generator,
            temperature=temperature,
            max_tokens=60 * TOKEN_RATE * minutes,
            slide=slide,
        )
        stories.append(torch.cat([rows, torch.stack(list(new), 1).cpu()], 1))
    return torch.cat(stories)


def measure(
    tokenizer: Tokenizer,
    languages: Mapping[str, LanguageModel],
    numbers: Sequence[int],
    encoder: TextEncoder,
    minutes: int = MINUTES,
    temperature: float = TEMPERATURE,
    begun: Sequence[np.ndarray] | None = None,
) -> Report:
    """Every language model goes on from the first 10 s of the same held-out stories, beside those stories; or from
    `begun`, (N,) each, as somebody else reads those 10 s, beside nothing."""
    told: dict[str, Tensor] = {}
    if begun is None:
        stories = [narrated(number, minutes) for number in numbers]
        told[TRUTH] = torch.stack([tokenizer.encode(story) for story in stories])
        begun = [story[: round(PROMPT_SECONDS * SAMPLE_RATE)] for story in stories]
    # Alone, as `lab story` hears them: tokens know what comes next for about 1.4 s.
    prompts = torch.stack([tokenizer.encode(waveform) for waveform in begun])
    told |= {
        name: continued(language, prompts, minutes, temperature=temperature) for name, language in languages.items()
    }
    scores = {
        name: tuple(
            story_scores(number, tokenizer.words(tokens), encoder, minutes)
            for number, tokens in zip(numbers, streams, strict=True)
        )
        for name, streams in told.items()
    }
    return Report(minutes, encoder.name, scores, temperature, tokens=told)


def published() -> dict[str, dict[int, float]]:
    """SC-L as Park et al. 2025 have it: who went on -> word after the prompt at which the span starts -> cosine."""
    curves = json.loads(PUBLISHED.read_text())["figures"]["Fig. 5"]["curves"]
    return {name: {point["word"]: point["value"] for point in points} for name, points in curves.items()}


# Curves with intervals, and their decay


@dataclass(frozen=True)
class Series:
    """A number that stories have at every minute or span: a share of the counts of all stories, or a mean over them."""

    label: str
    axis: str
    step: float  # between points, on the axis
    pairs: Callable[[StoryScores], list[tuple[float, float]]]  # numerator and denominator of each point
    estimate: Callable[[np.ndarray, np.ndarray], Estimate] = statistics.share  # of a point, from those of all stories


_AFTER, _WORD = "minute after the prompt", "word after the prompt at which the span starts"


def _of_each(label: str, axis: str, step: float, values: Callable[[StoryScores], Iterable[float]]) -> Series:
    """A number of each story, and the mean over them."""
    return Series(
        label, axis, step, lambda told: [(value, 1) for value in values(told)], lambda of, _: statistics.mean(of)
    )


SERIES = {
    "named": Series(
        "named heroes that are right, share",
        _AFTER,
        1,
        lambda told: [(m.hero_right, m.hero_named) for m in told.minutes],
    ),
    "hero": _of_each(
        "hero still right, 0 where a minute makes no sense", _AFTER, 1, lambda told: hero_kept(told.minutes)
    ),
    "mentions": _of_each("mentions of a hero", _AFTER, 1, lambda told: (m.hero_named for m in told.minutes)),
    "SC-L": _of_each("SC-L, cosine of span and prompt", _WORD, SPAN, lambda told: (s.likeness for s in told.spans)),
    "SC-L, own": _of_each(
        "SC-L above that of other stories' openings",
        _WORD,
        SPAN,
        lambda told: (s.likeness - s.elsewhere for s in told.spans),
    ),
    "words": Series("words that exist, share", _AFTER, 1, lambda told: [(m.existing, m.words) for m in told.minutes]),
    "sentences": Series(
        "words in sentences that parse, share", _AFTER, 1, lambda told: [(m.parsed, m.words) for m in told.minutes]
    ),
    "repetition": _of_each(
        "4-grams said before in the minute, share", _AFTER, 1, lambda told: (m.repetition for m in told.minutes)
    ),
    "auto-BLEU": _of_each("auto-BLEU-2 of the minute", _AFTER, 1, lambda told: (m.auto_bleu for m in told.minutes)),
}


def estimates(scores: Sequence[StoryScores], minutes: int) -> dict[str, Estimate]:
    """What is told of minutes 1, 4 and 16, and of what was said again after a while, each with its chance."""
    found = {}
    for minute in (minute for minute in (1, 4, 16) if minute <= minutes):
        kept = [hero_kept(told.minutes)[minute - 1] for told in scores]
        named = [told.minutes[minute - 1].hero_named for told in scores]
        found[f"hero still right, chance {1 / len(HEROES):.2f}, minute {minute}"] = statistics.mean(kept)
        found[f"mentions of a hero, minute {minute}"] = statistics.mean(named)
    for row in by_gap([told.recalled for told in scores]):
        if row.fact == "all":
            found[f"said again as first, chance {row.chance:.2f}, {row.ago} after it was last said"] = row.right
    return found


class Curve(NamedTuple):
    """Arrays (M,): nan where no story has anything to count."""

    x: np.ndarray
    value: np.ndarray
    low: np.ndarray
    high: np.ndarray


class Decay(NamedTuple):
    """floor + (start - floor) 2^(-x / half): `half` is in the units of x, minutes or words."""

    start: float
    floor: float
    half: float

    def at(self, x: np.ndarray) -> np.ndarray:
        return self.floor + (self.start - self.floor) * 0.5 ** (np.asarray(x) / self.half)


def curve(scores: Sequence[StoryScores], series: str) -> Curve:
    """The series of these stories, with the intervals of `statistics` over those that have something to count.

    Points that fewer than half of the stories reach are left out. Raises LabError for no story.
    """
    x, table = _points(scores, series)
    found = np.full((3, len(x)), np.nan)
    for at, (counted, of) in enumerate(table):
        if (some := of > 0).any():
            found[:, at] = SERIES[series].estimate(counted[some], of[some])[:3]
    return Curve(x, *found)


def fit(x: Sequence[float] | np.ndarray, y: Sequence[float] | np.ndarray) -> Decay:
    """Least squares; start and floor are in [0, 1], the half-life between a tenth of a step and twice the length.

    A half-life at its upper bound means that no floor is in sight. Raises LabError for fewer than POINTS points.
    """
    x, y = np.asarray(x, float), np.asarray(y, float)
    x, y = x[~np.isnan(y)], y[~np.isnan(y)]
    if len(x) < POINTS:
        raise LabError(f"{len(x)} points do not show a decay; give {POINTS} or more")
    length = x[-1] - x[0]
    low, high = (0, 0, 0.1 * length / len(x)), (1, 1, 2 * length)
    begin = np.clip((y[0], y[-1], length / 4), low, high)
    best, _ = curve_fit(lambda x, *p: Decay(*p).at(x), x, y, begin, bounds=(low, high))
    return Decay(*map(float, best))


def decay(scores: Sequence[StoryScores], series: str, draws: int = 200, seed: int = 0) -> tuple[Decay, Decay, Decay]:
    """The fit of a series, and the low and the high end of each of its numbers: the interval of `statistics`."""
    x, table = _points(scores, series)
    found = fit(x, _share(table.sum(-1)))
    drawn = table[..., statistics.picks(len(scores), draws, seed)].sum(-1)  # (M, 2, draws)
    rows = np.moveaxis(drawn, -1, 0)
    again = [fit(x, row) for row in map(_share, rows) if np.isfinite(row).sum() >= POINTS]
    low, high = statistics.bounds(np.array(again or [found]), len(scores))
    return found, Decay(*low), Decay(*high)


def _points(scores: Sequence[StoryScores], name: str) -> tuple[np.ndarray, np.ndarray]:
    """x (M,), and numerator and denominator of each point for each story (M, 2, N), 0 of those that do not reach it."""
    if not scores:
        raise LabError("there is no story to take the curve of; give one or more")
    series = SERIES[name]
    pairs = [series.pairs(story_scores) for story_scores in scores]
    reached = sorted(map(len, pairs))[len(pairs) // 2]
    table = np.zeros((reached, 2, len(pairs)))
    for story, points in enumerate(pairs):
        table[: len(points), :, story] = np.reshape(points[:reached], (-1, 2))
    first = 1 if series.axis == _AFTER else 0
    return first + series.step * np.arange(reached), table


def _share(pairs: np.ndarray) -> np.ndarray:
    """(M, 2) -> numerator over denominator (M,), nan where that is 0."""
    return np.divide(pairs[:, 0], pairs[:, 1], out=np.full(len(pairs), np.nan), where=pairs[:, 1] > 0)
