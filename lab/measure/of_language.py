"""`lab measure` of the language models: what they find likelier, what they tell, what they remember of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from lab import bundle, judges
from lab.corpora import narrated_folder, narration, narrators, splits, storyworld
from lab.errors import LabError
from lab.language import Griffin
from lab.measure import coherence, loss, recall, statistics, zero_resource
from lab.measure import tokens as token_measures
from lab.measure.ablation import ABLATIONS, INTACT
from lab.measure.figure import Figure, beginning, estimated, prompt
from lab.measure.minutes import estimates as by_minute
from lab.measure.statistics import Estimate
from lab.speech import TEMPERATURE, SpeechSSM

_TEMPERATURES = tuple(dict.fromkeys((TEMPERATURE, 1.0)))  # that of `lab story`, and the paper's
_FACTS = ("all", *storyworld.RECALLED)
LANGUAGES = ("griffin", "griffin30", "transformer")  # griffin30 learnt from segments of 30 s


def of_likelihood(ssm: SpeechSSM, speech: Path | None, count: int) -> list[Figure]:
    """Is what is right likelier? As sWUGGY, sBLIMP and topic StoryCloze ask of words, sentences and endings."""
    return _likelihoods(zero_resource.of_models(ssm.tokenizer, _languages(), count))


def of_pairs(folder: Path, count: int | None) -> list[Figure]:
    """The same asked of the pairs in a folder: sWUGGY, sBLIMP or StoryCloze as they are given out."""
    return _likelihoods(zero_resource.of_folder(SpeechSSM.load().tokenizer, _languages(), folder, count))


def _likelihoods(found: Mapping[str, Mapping[str, Estimate]]) -> list[Figure]:
    return [
        estimated(model, f"likelier, chance 0.50: {test}", each)
        for model, tests in found.items()
        for test, each in tests.items()
    ]


def of_stories(ssm: SpeechSSM, speech: Path | None, count: int) -> list[Figure]:
    """Four-minute stories from 10 s of held-out stories: words that exist in the world, by the tokens and by ear, and
    sentences that its grammar can parse; at the temperature of `lab story` and at the paper's."""
    score = partial(token_measures.words_that_exist, vocabulary=storyworld.VOCABULARY)
    figures = []
    for temperature in _TEMPERATURES:
        meant: list[list[float]] = []
        heard: list[list[float]] = []
        parsed: list[float] = []
        for number in range(count):
            story = ssm.generate(prompt(number), 240.0, seed=number, temperature=temperature)
            spelled = ssm.tokenizer.transcribe(story.tokens[story.prompt_tokens :])
            parsed.append(storyworld.check(spelled).sentences_that_parse)
            again = ssm.tokenizer.encode(story.waveform)
            for tokens, found in ((story.tokens, meant), (again, heard)):
                found.append(token_measures.minutes_scored(ssm.tokenizer, tokens[story.prompt_tokens :], score))
        name = "share of words that exist, 4-minute stories"
        values = {
            f"{name}, from the tokens": np.mean(meant, axis=1),
            f"{name}, heard again": np.mean(heard, axis=1),
            "share of sentences that parse, 4-minute stories, from the tokens": np.array(parsed),
            **{f"{name}, minute {n}": shares for n, shares in enumerate(np.transpose(meant), 1)},
        }
        drawn = "" if temperature == TEMPERATURE else f", at temperature {temperature:g}"
        figures += [
            estimated("griffin", of + drawn, statistics.mean(shares), temperature=temperature, seed=0)
            for of, shares in values.items()
        ]
    return figures


def of_loss(
    ssm: SpeechSSM, speech: Path | None, count: int, narrated: Path | None = None, development: bool = False
) -> list[Figure]:
    """How much each language model of the bundle in use is surprised by held-out stories, whole and by minute.

    In the folder `narrated` human-like voices read them; the same ones are then read by espeak-ng.
    """
    read = loss.stories(count, narrated, _numbers(development))
    tokens = {voices: [ssm.tokenizer.encode(each.samples()) for each in told] for voices, told in read.items()}
    return [
        estimated(model, f"loss, nats a token, stories read by {voices}{when}", found, kept=not development)
        for model, language in _languages().items()
        for voices, told in tokens.items()
        for when, found in loss.estimates([loss.losses(language, each) for each in told]).items()
    ]


def of_coherence(
    ssm: SpeechSSM,
    speech: Path | None,
    count: int,
    minutes: int = coherence.MINUTES,
    narrated: Path | None = None,
    development: bool = False,
    temperature: float | None = None,
) -> list[Figure]:
    """Held-out stories that each language model of the bundle in use goes on with, at the paper's temperature and at
    that of `lab story`: is the hero still right, how often is there one, and what comes up again after a while?

    All else that can be asked for is for choices, and kept nowhere. `narrated`: the stories begin as human-like voices
    in that folder read them, without a ground truth.
    """
    models, reader = _languages(), judges.load("minilm")
    numbers: Sequence[int] = _numbers(development)[:count]
    figures, begun, voices = [], None, "begun by human-like voices " if narrated else ""
    if narrated:
        documents = narrated_folder.held_out(narrated, _numbers(development)).documents
        documents = [each for each in documents if each.sentences[-1].end > coherence.PROMPT_SECONDS + 1][:count]
        if not documents:
            raise LabError(f"no story in {narrated} goes on after {coherence.PROMPT_SECONDS:g} s; narrate longer ones")
        numbers, begun = [each.number for each in documents], [beginning(each.read()) for each in documents]
    temperatures = _TEMPERATURES if temperature is None else (temperature,)
    kept = temperature is None and not narrated and not development and minutes == coherence.MINUTES
    for drawn in temperatures:
        report = coherence.measure(ssm.tokenizer, models, numbers, reader, minutes, drawn, begun)  # type: ignore[arg-type]
        for model, scores in report.scores.items():
            if (truth := model == coherence.TRUTH) and drawn != temperatures[0]:
                continue
            how = f"{minutes}-minute stories {voices}" + ("as narrated" if truth else f"at temperature {drawn:g}")
            told: dict[str, Any] = {} if truth else {"temperature": drawn, "seed": 0}
            told |= {"report": report} if kept and drawn == TEMPERATURE else {}
            whose, in_card = "tokenizer" if truth else model, coherence.estimates(scores, minutes)
            for name, found in (in_card | by_minute([each.minutes for each in scores])).items():
                figures.append(estimated(whose, f"{name}, {how}", found, kept=kept and name in in_card, **told))
    return figures


def of_recall(ssm: SpeechSSM, speech: Path | None, count: int) -> list[Figure]:
    """Questions in the first held-out stories of about ten minutes that ask any, put to each language model of the
    bundle in use; to a Griffin also with its state ablated before the question.

    By fact and gap; cards keep the gaps of all facts together, and of each fact what was last said beyond every window.
    Nothing is sampled: answers are compared by their likelihood.
    """
    stories = ((number, storyworld.story(narration.held_out_seed(number), 240)) for number in splits.STORIES)
    asking = islice((each for each in stories if any(r.asked for r in each[1].recalls)), count)  # three in four
    told = [
        recall.questions(ssm.tokenizer, story, narrators.HELD_OUT[number % len(narrators.HELD_OUT)])
        for number, story in asking
    ]
    figures = []
    for name, model in _languages().items():
        ablations = list(ABLATIONS) if isinstance(model, Griffin) else [INTACT]
        found = [recall.answered(model, *each, ablations) for each in told]
        rows = [
            (row, ablation, kept)
            for ablation in ablations
            for kept, edges in ((True, (recall.BEYOND, math.inf)), (False, recall.EDGES))
            for row in recall.by_gap([each[ablation] for each in found], edges)
        ]
        # What is taken away side by side, for each fact and gap.
        rows.sort(key=lambda each: (_FACTS.index(each[0].fact), each[0].low, each[0].high, ablations.index(each[1])))
        for row, ablation, kept in rows:
            state = "" if ablation == INTACT else f", {ablation}"
            what = f"{row.fact}, {row.ago} after it was last said{state}, chance {row.chance:.2f}"
            kept |= row.fact == "all"
            figures.append(estimated(name, f"asked for {what}", row.right, of=row.of, kept=kept))
            if row.fact == "all" and row.probability:
                likely = f"probability of the true answer, {what}"
                figures.append(estimated(name, likely, row.probability, of=row.of))
    return figures


def _numbers(development: bool) -> range:
    return splits.DEVELOPMENT[splits.WATCHED :] if development else splits.STORIES


def _languages() -> dict[str, Any]:
    root = bundle.folder()
    return {name: bundle.load(root, name) for name in bundle.index(root) if name in LANGUAGES}
