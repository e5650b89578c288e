"""Recall after a gap: what is still known of a story's cast, by how long ago it was last said.

Asked: the true story is read up to a question of its narrator, and the model says how likely the true answer is among
the same sentence with all other values. Going on: whether a continuation says the facts again as it said them first.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lab.audio import SAMPLE_RATE
from lab.corpora import storyworld
from lab.corpora.narrators import Narrator
from lab.corpora.storyworld import RECALLED, world
from lab.measure import statistics
from lab.measure.ablation import INTACT, ablate
from lab.measure.statistics import Estimate
from lab.protocols import LanguageModel, Tokenizer
from lab.tokens import TOKEN_HOP

EDGES = (0.0, 10.0, 20.0, 60.0, 120.0, math.inf)  # seconds; attention looks back 10 or 20 s, and gaps last up to 180
BEYOND = 20.0  # seconds: said before, it is in no window of attention
CONTEXT = 5 * SAMPLE_RATE  # samples before an answer that its tokens depend on, and some more: they look back 1.4 s
VALUES: dict[str, tuple[str, ...]] = {
    "hero": tuple(world.HEROES),
    "companion": world.COMPANIONS,
    "colour": world.COLOURS,
    "thing": world.THINGS,
    "promise": tuple(world.PROMISES),
    "house": world.HOUSES,
}


class Recalled(NamedTuple):
    """One fact that came up again."""

    fact: str  # of RECALLED
    ago: float  # seconds since it was last said
    right: bool
    second: float  # at which it came up
    probability: float | None = None  # of the true value among all, where it was asked for


class Row(NamedTuple):
    """Facts that came up from `low` to `high` seconds after they were last said."""

    fact: str  # or "all"
    low: float
    high: float
    of: int  # times that it came up
    right: Estimate  # share, over stories
    probability: Estimate | None  # mean, over stories
    chance: float

    @property
    def ago(self) -> str:
        return f"{self.low:g} to {self.high:g} s" if math.isfinite(self.high) else f"{self.low:g} s or more"


def options(fact: str, cast: storyworld.Cast) -> tuple[str, ...]:
    """The values that a fact could have: of heroes those of the pronoun, as that is no secret."""
    return tuple(v for v in VALUES[fact] if fact != "hero" or world.HEROES[v] == cast.pronoun)


def chance(fact: str) -> float:
    """1 / options: who does not remember is right so often, whatever he says."""
    return 1 / (len(VALUES[fact]) // 2 if fact == "hero" else len(VALUES[fact]))


# Asked


class Question(NamedTuple):
    """What a narrator asks for in the middle of a story, and the answers it could have."""

    fact: str
    ago: float  # seconds from the end of the sentence that last said it to the answer
    second: float  # at which the answer begins
    start: int  # tokens of the story before the question
    tokens: Tensor  # (T,) of the question
    answers: tuple[Tensor, ...]  # (T_a,) each, of the same sentence with each of `options`
    truth: int  # which of them is true


def questions(tokenizer: Tokenizer, story: storyworld.Story, narrator: Narrator) -> tuple[Tensor, list[Question]]:
    """The tokens of a whole story (T,), and its questions.

    Questions and answers are tokenized without what comes after them: tokens know of the next 1.4 s.
    """
    spoken = [_whole_tokens(narrator.read(sentence)) for sentence in story.sentences]
    samples, ends = np.concatenate(spoken), np.cumsum([len(each) for each in spoken])
    found = []
    for fact, k, ago in ((recall.fact, recall.sentence, recall.ago) for recall in story.recalls if recall.asked):
        last, start, end = int(ends[k - ago]), int(ends[k - 2]), int(ends[k - 1])
        before = samples[max(0, end - CONTEXT) : end]
        values = options(fact, story.cast)
        answers = tuple(_answer(tokenizer, narrator, before, story.parsed[k], fact, value) for value in values)
        asked = tokenizer.encode(before)[-(end - start) // TOKEN_HOP :]
        truth = values.index(getattr(story.cast, fact))
        seconds = (end - last) / SAMPLE_RATE, end / SAMPLE_RATE
        found.append(Question(fact, *seconds, start // TOKEN_HOP, asked, answers, truth))
    return tokenizer.encode(samples), found


@torch.no_grad()
def answered(
    model: LanguageModel, story: Tensor, questions: Sequence[Question], ablations: Sequence[str] = (INTACT,)
) -> dict[str, list[Recalled]]:
    """Ablation -> what the questions of a story (T,) bring up, the state ablated before each question.

    A value scores by how much likelier the story makes its answer than the question alone does (pointwise mutual
    information, as in Holtzman et al. 2021), so that no word is favoured for being short. The probability is the
    softmax of the scores.
    """
    found: dict[str, list[Recalled]] = {ablation: [] for ablation in ablations}
    state, read = None, 0
    for question in questions:
        if question.start > read:  # else it is of the same answer as the one before: colour and thing
            _, state = model(story[None, read : question.start], state, last=True)
            read = question.start
        alone = _log_likelihoods(model, None, question)
        for ablation in ablations:
            held = state if ablation == INTACT else ablate(state, ablation)
            scores = _log_likelihoods(model, held, question) - alone
            right, probability = int(scores.argmax()) == question.truth, float(scores.softmax(0)[question.truth])
            found[ablation].append(Recalled(question.fact, question.ago, right, question.second, probability))
    return found


def _whole_tokens(waveform: np.ndarray) -> np.ndarray:
    """(N,) with silence up to the end of a token."""
    return np.pad(waveform, (0, -len(waveform) % TOKEN_HOP))


def _answer(
    tokenizer: Tokenizer,
    narrator: Narrator,
    before: np.ndarray,
    answer: storyworld.Sentence,
    fact: str,
    value: str,
) -> Tensor:
    """Tokens (T,) of the answer, were the fact of that value."""
    spoken = _whole_tokens(narrator.read(answer.form.fill({**answer.bindings, fact: value})))
    return tokenizer.encode(np.concatenate([before, spoken]))[-len(spoken) // TOKEN_HOP :]


def _log_likelihoods(model: LanguageModel, state: object, question: Question) -> Tensor:
    """Nats (A,) of each answer after the question."""
    first, state = model(question.tokens[None], state, last=True)  # (1, 1, V)
    found = []
    for answer in question.answers:
        logits = torch.cat([first, model(answer[None, :-1], state)[0]], 1)[0]  # (T_a, V)
        found.append(-F.cross_entropy(logits.float(), answer, reduction="sum"))
    return torch.stack(found)


# Going on


def going_on(words: Sequence[tuple[float, float, str]]) -> list[Recalled]:
    """Facts that a transcript says again, against what it said of them first. words: as of `Tokenizer.words`.

    `ago` is from the end of the sentence that last said it as at first, or of the word where no sentence parses.
    """
    said = [word for _, _, word in words]
    first: dict[str, str] = {}
    heard: dict[str, list[int]] = {}  # fact -> words that end its first value, and sentences with it
    found = []
    for start, stop, parse, *_ in storyworld.check(" ".join(said)).spans:
        for fact, value in _facts(parse):
            if fact in first:
                before = heard[fact][bisect_left(heard[fact], start) - 1]
                second = words[start][0]
                found.append(Recalled(fact, second - words[before][1], value == first[fact], second))
            else:
                first[fact] = value
                phrase = value.split()[-2:]  # of "find the lost star" and "found the lost star"
                ends = range(len(phrase), len(said) + 1)
                heard[fact] = [end - 1 for end in ends if said[end - len(phrase) : end] == phrase]
            if value == first[fact]:
                insort(heard[fact], stop - 1)
    return found


def _facts(parse: storyworld.Parse | None) -> Iterator[tuple[str, str]]:
    for slot, value in parse.bindings.items() if parse else ():
        variable = storyworld.speaks_of(slot)[0]
        if variable in RECALLED:
            yield variable, value


# Many stories


def by_gap(stories: Sequence[Sequence[Recalled]], edges: Sequence[float] = EDGES) -> list[Row]:
    """Each fact, and all of them, by how long ago it was last said; gaps in which nothing came up are left out.

    stories: what came up in each; they are what intervals are over.
    """
    rows = []
    for fact in ("all", *RECALLED):
        for low, high in zip(edges, edges[1:], strict=False):
            within = [[r for r in story if fact in ("all", r.fact) and low <= r.ago < high] for story in stories]
            flat = [each for story in within for each in story]
            if flat:
                right = statistics.share([sum(r.right for r in story) for story in within], list(map(len, within)))
                told = [[r.probability for r in story if r.probability is not None] for story in within]
                means = [float(np.mean(story)) for story in told if story]
                likely = statistics.mean(means) if means else None
                rows.append(
                    Row(fact, low, high, len(flat), right, likely, float(np.mean([chance(r.fact) for r in flat])))
                )
    return rows


def table(rows: Mapping[str, Sequence[Row]]) -> str:
    """Markdown, by what was measured: "griffin, h zeroed" -> its rows."""
    lines = ["| of | fact | last said | n | right (95 %) | probability (95 %) | chance |", "|" + " --- |" * 7]
    for name, of in rows.items():
        for row in of:
            shares = [f"{e.value:.2f} ({e.low:.2f} to {e.high:.2f})" if e else "" for e in (row.right, row.probability)]
            count = f"{row.of} in {row.right.n} stories"
            lines.append(f"| {name} | {row.fact} | {row.ago} | {count} | {' | '.join(shares)} | {row.chance:.2f} |")
    return "\n".join(lines)
