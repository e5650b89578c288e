"""The figures of a bundle, by `lab measure`: held-out stories, by the held-out narrators unless a row says "of
training", and one unseen LibriSpeech chapter.

Defaults that a figure depends on are in the names of the rows and in the functions here.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from torch import Tensor

from lab import audio, bundle, judges
from lab.corpora import Utterance, librispeech, narration, narrators, phones, splits, storyworld
from lab.corpora.librispeech import HELD_OUT_CHAPTER
from lab.errors import LabError
from lab.language import Griffin
from lab.measure import abx, coherence, recall, statistics, zero_resource
from lab.measure import audio as audio_measures
from lab.measure import speaker as speaker_measures
from lab.measure import tokens as token_measures
from lab.measure.ablation import ABLATIONS, INTACT
from lab.measure.coherence import PROMPT_SECONDS
from lab.measure.statistics import Estimate
from lab.speech import TEMPERATURE, SpeechSSM
from lab.tokens import TOKEN_RATE

_TEMPERATURES = tuple(dict.fromkeys((TEMPERATURE, 1.0)))  # that of `lab story`, and the paper's
_FACTS = ("all", *storyworld.RECALLED)
LANGUAGES = ("griffin", "griffin30", "transformer")  # griffin30 learnt from segments of 30 s


@dataclass(frozen=True)
class Figure:
    model: str  # whose card it belongs to
    name: str
    value: float
    report: coherence.Report | None = None  # the series it was read from, kept in data/measured
    low: float | None = None  # the ends of its 95 % interval
    high: float | None = None
    n: int | None = None  # stories, or what else it is a mean of
    of: int | None = None  # things counted in those stories, where it is a share of them
    temperature: float | None = None  # that what it judges was sampled at
    seed: int | None = None  # and with which seed the first of them
    command: str = ""
    uses: tuple[str, ...] = ()  # models that decide it, beside the one whose card it belongs to
    kept: bool = True  # in that card; else it is only told


def of_tokens(ssm: SpeechSSM, speech: Path | None, count: int) -> list[Figure]:
    stories = [narration.held_out_story(number) for number in range(count)]
    pairs = [
        tuple(narration.held_out_story(number, narrators.HELD_OUT[(number + shift) % 6]) for shift in (0, 1))
        for number in range(count)
    ]
    read = {"held-out stories": stories, "unseen LibriSpeech chapter": _chapter(speech)}
    rows = [
        _estimated(
            "tokenizer", f"character error rate, {what}", token_measures.transcription(ssm.tokenizer, utterances)
        )
        for what, utterances in read.items()
        if utterances
    ]
    between = token_measures.between_narrators(ssm.tokenizer, pairs)  # type: ignore[arg-type]
    figures = {
        "unit edit distance, two held-out narrators": between["unit_edit_distance"],
        "unit edit distance, repeats collapsed": between["unit_edit_distance_collapsed"],
        "share of codes used": token_measures.codes_used(ssm.tokenizer, stories),
    }
    return rows + [Figure("tokenizer", name, value) for name, value in figures.items()]


def of_abx(ssm: SpeechSSM, speech: Path | None, count: int) -> list[Figure]:
    """Errors of ABX and, of `count` held-out stories, the bit rate; on triphones too where aligned speech is given."""
    stories = [ssm.tokenizer.encode(narration.held_out_story(number).samples()) for number in range(count)]
    rows = [Figure("tokenizer", "bits a second, by the entropy of tokens", token_measures.bit_rate(stories))]
    sets: dict[str, Callable[[abx.Represent], Iterable[abx.Item]]] = {"syllables, held-out narrators": abx.syllables}
    aligned = (
        [] if speech is None else [pair for folder in librispeech.chapters(speech) for pair in phones.aligned(folder)]
    )
    if aligned:
        sets["aligned LibriSpeech"] = lambda represent: abx.triphones(represent, aligned, TOKEN_RATE)
    for name, items in sets.items():
        for what, found in abx.of_tokenizer(ssm.tokenizer, items).items():
            rows.append(_estimated("tokenizer", f"ABX error, chance 0.50, {what}, {name}", found))
    return rows


def of_likelihood(ssm: SpeechSSM, speech: Path | None, count: int) -> list[Figure]:
    """Is what is right likelier? As sWUGGY, sBLIMP and topic StoryCloze ask of words, sentences and endings."""
    return _likelihoods(zero_resource.of_models(ssm.tokenizer, _languages(), count))


def of_pairs(folder: Path, count: int | None) -> list[Figure]:
    """The same asked of the pairs in a folder: sWUGGY, sBLIMP or StoryCloze as they are given out."""
    return _likelihoods(zero_resource.of_folder(SpeechSSM.load().tokenizer, _languages(), folder, count))


def _likelihoods(found: Mapping[str, Mapping[str, Estimate]]) -> list[Figure]:
    return [
        _estimated(model, f"likelier, chance 0.50: {test}", each)
        for model, tests in found.items()
        for test, each in tests.items()
    ]


def of_narrator(ssm: SpeechSSM, speech: Path | None, count: int) -> list[Figure]:
    """Who reads, by a linear probe: `count` held-out texts, each by the 24 named narrators, who are those of training.

    A third of the texts is for the test of the probe.
    """
    readings = (
        narration.held_out_story(splits.NARRATORS[number], narrator)
        for number in range(count)
        for narrator in narrators.NAMED
    )
    shares = token_measures.narrator_identified(ssm.tokenizer, readings)
    found = {f"from {name}": share for name, share in shares.items()} | {"by chance": 1 / len(narrators.NAMED)}
    among = f"narrator of training known from 10 s among {len(narrators.NAMED)}"
    return [Figure("tokenizer", f"{among}, {how}", share) for how, share in found.items()]


def of_phones(ssm: SpeechSSM, speech: Path | None, count: int) -> list[Figure]:
    """Tokens against aligned phones: every aligned chapter, up to `count` utterances of each, and the unseen one alone.

    PNMI of tokens in random order is what so few frames (6800 of the unseen chapter) give to tokens that say nothing.
    """
    chapters = [] if speech is None else librispeech.chapters(speech)
    compared = {
        chapter.name: token_measures.phones_and_tokens(ssm.tokenizer, islice(phones.aligned(chapter), count))
        for chapter in chapters
    }
    groups = {
        "unseen LibriSpeech chapter": [pair for name, pair in compared.items() if name == HELD_OUT_CHAPTER],
        "all aligned LibriSpeech chapters": list(compared.values()),
    }
    rows = []
    for group, pairs in groups.items():
        if not sum(len(said) for said, _ in pairs):
            continue
        said, tokens = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
        scores = token_measures.agreement(token_measures.joint_counts(said, tokens))
        nothing = token_measures.joint_counts(said, np.random.default_rng(0).permutation(tokens))
        scores["PNMI of shuffled tokens"] = token_measures.agreement(nothing)["PNMI"]
        rows += [Figure("tokenizer", f"{name}, {group}", value) for name, value in scores.items()]
    return rows


def of_codec(ssm: SpeechSSM, speech: Path | None, count: int) -> list[Figure]:
    codec, levels = ssm.voice.codec, ssm.voice.soundstorm.config.levels
    groups = {"held-out narrators": [narration.held_out_story(number, sentences=4) for number in range(count)]}
    if chapter := _chapter(speech):
        groups["unseen LibriSpeech chapter"] = chapter[:count]
    rows = []
    for group, utterances in groups.items():
        for depth in sorted({codec.levels, levels}, reverse=True):
            scores = [audio_measures.of_codec(codec, [u.samples()], depth) for u in utterances]
            rows += [
                _estimated(
                    "codec", f"{name}, {group}, {depth} levels", statistics.mean([each[name] for each in scores])
                )
                for name in scores[0]
            ]
    used = audio_measures.codes_used(codec, [u.samples() for utterances in groups.values() for u in utterances])
    rows.append(Figure("codec", f"share of codes used, all {len(used)} levels", float(np.mean(used))))
    return rows + [Figure("codec", f"share of codes used, level {n}", share) for n, share in enumerate(used, 1)]


def of_voice(ssm: SpeechSSM, speech: Path | None, count: int) -> list[Figure]:
    """Stories by held-out narrators, spoken from their tokens in the voice of a named narrator reading another text."""
    truth, heard, direct = [], [], []
    for number in range(count):
        utterance, tokens, spoken = _spoken(ssm, number, sentences=7)
        truth.append(utterance.text)
        direct.append(ssm.tokenizer.transcribe(tokens))
        heard.append(ssm.tokenizer.transcribe(ssm.tokenizer.encode(spoken)))
    name = "character error rate after tokens, voice and codec, prompt of another text"
    return [
        _estimated("soundstorm", name, token_measures.character_errors(truth, heard)),
        _estimated("soundstorm", "the same before the voice", token_measures.character_errors(truth, direct)),
    ]


def of_speaker(ssm: SpeechSSM, speech: Path | None, count: int) -> list[Figure]:
    """The share of outputs whose speaker is the prompted one: tokens of others spoken as in `of_voice`, each taken for
    one of the 24 named narrators, who are those of training.

    They are enrolled by 8 natural readings each, of about 10 s, of texts that are in no other part of this measure.
    """
    named = narrators.NAMED
    enrolled = [
        (narration.held_out_story(splits.ENROLLED[k], narrator, 4), narrator.name)
        for k in range(8)
        for narrator in named
    ]
    gallery = speaker_measures.enrol([u.samples() for u, _ in enrolled], [name for _, name in enrolled])
    asked = [named[number % len(named)] for number in range(count)]
    natural = [
        narration.held_out_story(splits.NATURAL[number], narrator, 4).samples() for number, narrator in enumerate(asked)
    ]
    spoken = [_spoken(ssm, number, sentences=4)[2] for number in range(count)]
    names = [narrator.name for narrator in asked]
    groups = {
        "prompted speaker of the output": spoken,
        "speaker of natural speech": natural,
        "speaker of natural speech through the codec": [ssm.voice.through_codec(waveform) for waveform in natural],
    }
    known = f"known among {len(named)} of training, about 10 s"
    return [
        _estimated("soundstorm", f"{group} {known}", statistics.share(right, [1.0] * count))
        for group, waveforms in groups.items()
        for right in [speaker_measures.known(gallery, waveforms, names)]
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
            _estimated("griffin", of + drawn, statistics.mean(shares), temperature=temperature, seed=0)
            for of, shares in values.items()
        ]
    return figures


def of_coherence(ssm: SpeechSSM, speech: Path | None, count: int, minutes: int = 16) -> list[Figure]:
    """Held-out stories that each language model of the bundle in use goes on with, at the paper's temperature and at
    that of `lab story`: is the hero still right, how often is there one, and what comes up again after a while?"""
    models, reader = _languages(), judges.load("minilm")
    figures = []
    for temperature in _TEMPERATURES:
        report = coherence.measure(ssm.tokenizer, models, range(count), reader, minutes, temperature)  # type: ignore[arg-type]
        kept = report if temperature == TEMPERATURE else None
        for model, scores in report.scores.items():
            if (truth := model == coherence.TRUTH) and not kept:
                continue
            how = "as narrated" if truth else f"at temperature {temperature:g}"
            for name, found in coherence.estimates(scores, minutes).items():
                told = {} if truth else {"temperature": temperature, "seed": 0}
                name = f"{name}, {minutes}-minute stories {how}"
                figures.append(_estimated("tokenizer" if truth else model, name, found, report=kept, **told))
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
            figures.append(_estimated(name, f"asked for {what}", row.right, of=row.of, kept=kept))
            if row.fact == "all" and row.probability:
                likely = f"probability of the true answer, {what}"
                figures.append(_estimated(name, likely, row.probability, of=row.of))
    return figures


def _estimated(model: str, name: str, found: Estimate, **told: Any) -> Figure:
    low, high = (None if math.isnan(end) else end for end in (found.low, found.high))
    return Figure(model, name, found.value, low=low, high=high, n=found.n, **told)


def _languages() -> dict[str, Any]:
    root = bundle.folder()
    return {name: bundle.load(root, name) for name in bundle.index(root) if name in LANGUAGES}


def of_seams(ssm: SpeechSSM, speech: Path | None, count: int, minutes: int = 16) -> list[Figure]:
    """What length does to the sound of a story: loudness from the first minute to the last, and jumps at the seams."""
    drifts, at_seams, elsewhere = [], [], []
    for number in range(count):
        story = ssm.generate(prompt(number), 60.0 * minutes, seed=number)
        drifts.append(abs(audio_measures.drift(story.waveform[: 60 * minutes * audio.SAMPLE_RATE])))
        at, others = audio_measures.spectral_jumps(story.waveform, story.seams)
        at_seams.append(float(at.mean()))
        elsewhere.append(float(others.mean()))
    jump = statistics.estimate(lambda table: table[0].mean(-1) / table[1].mean(-1), at_seams, elsewhere)
    told = f"spectral jump at seams against elsewhere, {minutes}-minute stories"
    return [
        _estimated("soundstorm", f"loudness drift, minute 1 to {minutes}, dB", statistics.mean(drifts)),
        _estimated("soundstorm", told, jump),
    ]


def of_speed(ssm: SpeechSSM, speech: Path | None, count: int) -> list[Figure]:
    """One 2-minute story as `lab story` tells it, after start-up (a first short one compiles and warms)."""
    ssm.generate(prompt(0), 1.0)
    began = time.perf_counter()
    story = ssm.generate(prompt(0), 120.0)
    took = time.perf_counter() - began
    return [
        Figure("griffin", "seconds of speech per second, 2-minute story", story.seconds / took),
        Figure(
            "griffin",
            "tokens per second, the language model alone",
            len(story.tokens) / story.timings["language"],
        ),
    ]


def of_making(ssm: SpeechSSM, speech: Path | None, count: int) -> list[Figure]:
    """Stories of 96 sentences, about 4 minutes, as training takes them in: read aloud and tokenized by one process."""
    ssm.tokenizer.encode(narration.held_out_story(0, sentences=4).samples())
    began = time.perf_counter()
    stories = [narration.held_out_story(number, sentences=96) for number in range(count)]
    made = time.perf_counter()
    for utterance in stories:
        ssm.tokenizer.encode(utterance.samples())
    done = time.perf_counter()
    seconds = sum(utterance.seconds for utterance in stories)
    return [
        Figure("tokenizer", f"seconds of speech per second, {what} stories, one process", seconds / took)
        for what, took in {
            "narrating": made - began,
            "tokenizing": done - made,
            "narrating and tokenizing": done - began,
        }.items()
    ]


def of_memory(ssm: SpeechSSM, speech: Path | None, count: int, minutes: float = 20.0) -> list[Figure]:
    """Resident memory of this process while it tells a story, minute 1 against minute 20."""
    process, first, last = psutil.Process(), 0, 0
    for piece in ssm.stream(prompt(0), 60 * minutes, keep_tokens=True):
        last = process.memory_info().rss
        if piece.seconds < 75:
            first = last
    return [
        Figure("griffin", "resident memory at minute 1, MB", first / 1e6),
        Figure("griffin", f"resident memory at minute {minutes:.0f}, MB", last / 1e6),
    ]


Measure = Callable[[SpeechSSM, Path | None, int], list[Figure]]
_TOLD = ("low", "high", "n", "of", "temperature", "seed", "command")  # what a card has of a figure beside its value
_READS, _SPEAKS = ("tokenizer",), ("tokenizer", "soundstorm", "codec")
# How many held-out stories each takes by default, and the models that decide it
MEASURES: dict[str, tuple[Measure, int, tuple[str, ...]]] = {
    "tokens": (of_tokens, 24, _READS),
    "abx": (of_abx, 24, _READS),
    "likelihood": (of_likelihood, 150, _READS),  # pairs of each test
    "narrator": (of_narrator, 24, _READS),  # texts
    "phones": (of_phones, 100, _READS),  # utterances of a chapter
    "codec": (of_codec, 24, ("codec", "soundstorm")),  # which says how many levels are spoken
    "voice": (of_voice, 12, _SPEAKS),
    "speaker": (of_speaker, 48, _SPEAKS),
    "stories": (of_stories, 16, _SPEAKS),
    "coherence": (of_coherence, 16, _READS),
    "recall": (of_recall, 16, _READS),
    "seams": (of_seams, 2, ("griffin", *_SPEAKS)),
    "making": (of_making, 4, _READS),
    "speed": (of_speed, 1, _SPEAKS),
    "memory": (of_memory, 1, _SPEAKS),
}


def measure(what: str, root: Path, speech: Path | None, count: int | None = None) -> list[Figure]:
    """The figures of the bundle at `root` that are called `what`, or all. Raises LabError for another name."""
    if what != "all" and what not in MEASURES:
        raise LabError(f"there is no measure {what!r}; there are {', '.join(MEASURES)} and all")
    if count is not None and count < 1:
        raise LabError(f"cannot measure {count} stories; give 1 or more")
    ssm = SpeechSSM.load(root)
    found = []
    for name, (of, usual, uses) in MEASURES.items():
        if what in (name, "all"):
            command = f"lab measure {name} --count {count or usual}" + (" --speech LIBRISPEECH" if speech else "")
            rows = of(ssm, speech, count or usual)
            found += [replace(row, n=row.n or count or usual, command=command, uses=uses) for row in rows]
    return found


def record(root: Path, figures: Sequence[Figure], machine: str) -> None:
    """Put figures into the models' cards in bundle.json, each with all that it takes to get it again, the digests of
    the weights among that; keep their reports."""
    for figure in {id(figure.report): figure for figure in figures if figure.report}.values():
        assert figure.report is not None
        replace(figure.report, command=figure.command, machine=machine).save()
    digests = bundle.digests(root)
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


def prompt(number: int) -> np.ndarray:
    """The first 10 s of held-out story `number` by a held-out narrator."""
    samples = narration.held_out_story(number).samples()
    return samples[: int(PROMPT_SECONDS * 16_000)]


def _chapter(speech: Path | None) -> list[narration.Utterance]:
    if speech is None:
        return []
    return [
        u
        for folder in librispeech.chapters(speech)
        if folder.name == HELD_OUT_CHAPTER
        for u in librispeech.read(folder)
    ]


def _spoken(ssm: SpeechSSM, number: int, sentences: int) -> tuple[Utterance, Tensor, np.ndarray]:
    """Held-out story `number` by a held-out narrator, its tokens, and their sound in the voice of a named narrator,
    each in turn, who reads another text."""
    named = narrators.NAMED[number % len(narrators.NAMED)]
    utterance = narration.held_out_story(number, sentences=sentences)
    speaker = narration.held_out_story(splits.SPEAKERS[number], named, sentences=2).samples()
    tokens = ssm.tokenizer.encode(utterance.samples())
    voice = ssm.voice.prompt(speaker, ssm.tokenizer.encode(speaker))
    return utterance, tokens, ssm.voice.speak(tokens, voice, seed=number)
