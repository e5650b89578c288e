"""Recipes of the systems that the paper compares with (`lab.others`), and of the models of text that two begin with.

All language models read as many hours of stories, half of them in the words of human-like narrators where there are
some. Units' encoder learns from passages by many narrators, and by people; AudioLM's acoustic stages from whom the
bundle's voice hears; the one voice from one reader beside others.
"""

from __future__ import annotations

import math
import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import chain, islice, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from rich.progress import track
from torch import Tensor, nn

from lab.console import console
from lab.corpora import Utterance, narrated_folder, narration, narrators, storyworld
from lab.corpora.encoding import encode
from lab.errors import LabError
from lab.others import audiolm
from lab.others.audiolm import COARSE
from lab.others.one_voice import OneVoice, OneVoiceConfig
from lab.others.spiritlm import Layout
from lab.others.units import Units, UnitsConfig, without_repeats
from lab.tokens import ctc
from lab.train import augment, data, language, selection, unit_stories
from lab.train import units as units_recipe
from lab.train.alignment import beside
from lab.train.language import TokenStream
from lab.windows import TOKEN_HOP

if TYPE_CHECKING:
    from lab.train.plan import Plan

Made = tuple[nn.Module, dict[str, float], dict[str, float]]  # a model, its last figures, seconds of each source

HOURS = {"language": 60.0, "units": 3.0, "reader": 2.5, "acoustic": 7.0}  # where the plan has none
SHARE = 0.7  # of a preset's steps, for 90 minutes a system on one core
READER = narrators.CLEAR[0]
LEAST = 0.5  # hours by the one reader: less makes no voice


def train(plan: Plan, name: str) -> Made:
    """The model of that name, a key of MODELS. Raises LabError for a corpus of recordings."""
    if plan.recorded:
        raise LabError(
            f"{name} learns from narrated stories, of which it is known when each word is said; leave out "
            f"--corpus {plan.corpus}"
        )
    return (_MAKERS.get(name) or _MAKERS[name.rpartition("-")[2]])(plan, name)


def _units(plan: Plan, name: str) -> Made:
    pairs = _told(narration.pair, math.ceil(_hours(plan, "units") * 400))  # a pair lasts about 9 s
    heard = [*chain.from_iterable(pairs), *plan.people(texts=False)]
    speech, seconds = [utterance.waveform for utterance in heard], data.seconds(heard)
    if name == "gslm-units":
        torch.manual_seed(plan.seed)
        units = Units(UnitsConfig.preset("tiny" if plan.preset == "tiny" else "gslm"))
        figures = units_recipe.train_encoder(units, speech, plan.work / name, **plan.options(name))
    else:  # the same encoder
        encoder = plan.load("gslm-units")
        count = encoder.config.units if plan.preset == "tiny" else UnitsConfig.preset("twist").units
        units = Units(replace(encoder.config, units=count, stack=2))
        weights = {key: value for key, value in encoder.state_dict().items() if key != "centres"}
        units.load_state_dict(weights, strict=False)
        figures = {"steps": 0.0, "minutes": 0.0}
    units.eval()
    return units, figures | {"explained": units_recipe.cluster(units, speech, plan.seed)}, seconds


def _voice(plan: Plan, name: str) -> Made:
    """Units as any narrator says them, and the reader's vectors where he says the same: units tell of who speaks, and a
    voice that has heard its own alone does not know what a prompt of others makes the language model say."""
    units, codec, tokenizer = plan.load(_own(name, "units")), plan.load("codec"), plan.load("tokenizer")
    said, vectors, kept, heard = [], [], 0, 0.0
    voiced: list[np.ndarray] = []
    seconds: dict[str, float] = defaultdict(float)
    for other, beside_him in _readings(plan):
        target = other.samples()[: len(other.waveform) // TOKEN_HOP * TOKEN_HOP]
        sounds = codec.quantizer.decode(codec.encode(torch.from_numpy(target)[None]))[0].clone()
        voiced += [target] if len(voiced) < 4 else []
        seconds[other.source] += other.seconds
        for one in beside_him:
            matches, _ = beside(tokenizer, one, other)
            said.append(units.encode(one.samples()[: len(one.waveform) // TOKEN_HOP * TOKEN_HOP]).clone())
            vectors.append(sounds[matches])
            kept += len(without_repeats(said[-1])[0])
            heard += one.seconds
    config = OneVoiceConfig.preset(
        "tiny" if plan.preset == "tiny" else "lab",
        units=units.vocabulary,
        rate=units.rate,
        code_width=codec.config.code_width,
        timbre=codec.config.timbre,
        pace=kept / heard,
    )
    torch.manual_seed(plan.seed)
    model = OneVoice(config)
    model.timbre.copy_(codec.timbre(torch.from_numpy(np.concatenate(voiced))[None])[0])
    options = plan.options(name)
    figures = units_recipe.train_voice(model, torch.cat(said), torch.cat(vectors), plan.work / name, **options)
    return model, figures, seconds


def _language(plan: Plan, name: str) -> Made:
    """Of units without repeats; TWIST's begins with a language model of text."""
    units = plan.load(_own(name, "units"))
    stories, seconds = unit_stories.stories(plan, units, _hours(plan, "language"))
    documents = [without_repeats(story.timed())[0].numpy() for story in stories]
    text = plan.load("text-transformer") if name.startswith("twist") else None
    return _trained(plan, name, units.vocabulary, documents, seconds, text=text)


def _spirit(plan: Plan, name: str) -> Made:
    """All stories spoken, as the other systems have them, and what people read where it is known when each word is
    said; of each two one written as well, and one by turns."""
    units = plan.load("twist-units")
    layout = Layout(units.vocabulary, expressive="base" not in name)
    stories, seconds = unit_stories.stories(plan, units, _hours(plan, "language"))
    read, seconds_read = unit_stories.readings(plan, units)
    documents = []
    for number, story in enumerate(stories + read):
        speech = layout.spoken(story.timed(), units.rate, story.expression())
        documents.append([layout.speech, *(token for _, token in speech)])
        if number % 2:
            documents.append(layout.written(" ".join(word for _, _, word in story.words())))
        else:
            documents.append(layout.interleaved(speech, story.words(), np.random.default_rng((0x5B1, number))))
    sources = seconds | {"librispeech": seconds_read}
    return _trained(plan, name, layout.size, [np.array(each) for each in documents], sources)


def _text(plan: Plan, name: str) -> Made:
    """Letters of as many stories as the others hear."""
    count = unit_stories.count(_hours(plan, "language"))
    texts = (narration.told(number, unit_stories.SENTENCES).text for number in range(count))
    documents = [np.array(ctc.labels(storyworld.normalize(text))) - 1 for text in texts]
    return _trained(plan, name, len(ctc.CHARACTERS), documents, {}, model=name.removeprefix("text-"))


def _coarse(plan: Plan, name: str) -> Made:
    tokenizer, codec = plan.load("tokenizer"), plan.load("codec")
    vocabulary = tokenizer.vocabulary

    def document(tokens: Tensor, codes: Tensor) -> Tensor:
        return audiolm.coarse_frames(tokens, codes, vocabulary, codec.codes)

    documents, seconds, period = _acoustic(plan, document)
    options = {"length": 250 * period, "given": vocabulary}  # 10 s
    return _trained(plan, name, vocabulary + COARSE * codec.codes, documents, seconds, **options)


def _fine(plan: Plan, name: str) -> Made:
    codec = plan.load("codec")

    def document(tokens: Tensor, codes: Tensor) -> Tensor:
        return audiolm.fine_frames(codes, codec.codes).reshape(len(tokens), -1)

    documents, seconds, period = _acoustic(plan, document)
    options = {"length": 75 * period, "given": COARSE * codec.codes}  # 3 s
    return _trained(plan, name, codec.levels * codec.codes, documents, seconds, **options)


_MAKERS: dict[str, Callable[[Plan, str], Made]] = {
    "units": _units,
    "voice": _voice,
    "language": _language,
    "spiritlm-language": _spirit,
    "spiritlm-base-language": _spirit,
    "coarse": _coarse,
    "fine": _fine,
    "text-transformer": _text,
    "text-griffin": _text,
}
# Each with the models that it is made with; every one stands before those that need it.
MODELS: dict[str, tuple[str, ...]] = {
    "gslm-units": (),
    "gslm-voice": ("gslm-units", "tokenizer", "codec"),
    "gslm-language": ("gslm-units",),
    "text-transformer": (),
    "twist-units": ("gslm-units",),
    "twist-voice": ("twist-units", "tokenizer", "codec"),
    "twist-language": ("twist-units", "text-transformer"),
    "spiritlm-language": ("twist-units",),
    "spiritlm-base-language": ("twist-units",),
    "audiolm-coarse": ("tokenizer", "codec"),
    "audiolm-fine": ("tokenizer", "codec"),
    "text-griffin": (),
}


def _own(name: str, part: str) -> str:
    return f"{name.partition('-')[0]}-{part}"


def _hours(plan: Plan, kind: str) -> float:
    return plan.hours or HOURS[kind]


def _told(maker: Callable[[int], Any], count: int) -> Iterator[Any]:
    yield from track(narration.make(maker, range(count), os.cpu_count()), "narrating", count, console=console)


def _readings(plan: Plan) -> Iterator[tuple[Utterance, list[Utterance]]]:
    """Passages by the one reader, and by whom else each is heard: whoever reads LEAST hours or more of stories, and
    most, in `plan.narration`, else READER. Beside him stand he himself, he at the other `augment.VOICES`, a voice of
    espeak-ng, and his words as others read them, put together: whom language models of units sound like."""
    found = narrated_folder.narrated(plan.narration).documents if plan.narration else []
    by: dict[str, list[narrated_folder.Document]] = defaultdict(list)
    for document in found:
        if not document.held_out and document.seed is not None:
            by[document.voice].append(document)
    seconds = {voice: sum(document.sentences[-1].end for document in each) for voice, each in by.items()}
    reader = max(seconds, key=lambda voice: seconds[voice], default=None)
    if reader is None or seconds[reader] < LEAST * 3600:
        for one, his in _told(reading, math.ceil(_hours(plan, "reader") * 720)):  # one lasts about 5 s
            yield his, [one]
        return
    passages = [
        passage
        for number, document in enumerate(by.pop(reader))
        for passage in document.passages(np.random.default_rng((0x0BE, number)))
    ]
    spliced = _spliced(plan, [*chain.from_iterable(by.values())], passages)
    others = narration.make(narration.beside, list(enumerate(passages)), os.cpu_count())
    for his, read in track(others, "narrating", len(passages), console=console):
        yield his, [*augment.in_voices([his]), read, *islice(spliced, 1)]


def _spliced(
    plan: Plan, documents: Sequence[narrated_folder.Document], passages: Sequence[Utterance]
) -> Iterator[Utterance]:
    """Each passage put together from words of documents, as far as they have them all; nothing without documents."""
    if not documents:
        return
    tokenizer, read, sound = plan.load("tokenizer"), [], []
    for document in track(documents, "listening", console=console):
        utterance = document.read()
        read.append(selection.heard(tokenizer, utterance, document))
        size = len(read[-1][0]) * TOKEN_HOP
        sound.append(np.pad(utterance.waveform, (0, size - len(utterance.waveform))).reshape(-1, TOKEN_HOP))
    readings, samples = selection.Readings(read), np.concatenate(sound)
    for number, passage in enumerate(passages):
        told = readings.tell([passage.text], np.random.default_rng((0x59, number)))
        whole = replace(passage, waveform=samples[told.places].ravel(), narrator="several")
        yield whole if len(told.places) else passage


def reading(number: int) -> tuple[Utterance, Utterance]:
    """Some sentences of a training story by a clear narrator, every third time the one reader, and by him."""
    rng = np.random.default_rng((0x0BE, number))
    text, narrator = narration.passage(narration.training_seed(number), rng), READER
    if number % 3:
        narrator = narrators.CLEAR[int(rng.integers(len(narrators.CLEAR)))]
    return narration.utterance(text, narrator), narration.utterance(text, replace(READER, rate=narrator.rate))


def _acoustic(
    plan: Plan, document: Callable[[Tensor, Tensor], Tensor]
) -> tuple[list[np.ndarray], dict[str, float], int]:
    """Two passages in a row by each of those whom the bundle's voice hears, at `augment.VOICES`, as what a stage reads,
    and how many ids a token has."""
    tokenizer, codec = plan.load("tokenizer"), plan.load("codec")
    passages = plan.people(texts=False)
    if not passages:
        told = _told(narration.voice_samples, math.ceil(_hours(plan, "acoustic") * 400))
        passages = [*chain.from_iterable(told)]
    rows, step = [], len(augment.VOICES)
    for utterance in track(augment.in_voices(passages), "listening", len(passages) * step, console=console):
        parts = encode(utterance.samples(), tokenizer, codec)
        rows.append(document(*(torch.from_numpy(part.astype(np.int64)) for part in parts)))
    same = [one.narrator == other.narrator for one, other in pairwise(passages)]
    documents = [
        torch.cat([rows[at], rows[at + step]]).flatten().numpy() for at in range(len(rows) - step) if same[at // step]
    ]
    return documents, data.seconds(passages), rows[0].shape[1]


def _trained(
    plan: Plan,
    name: str,
    vocabulary: int,
    documents: Sequence[np.ndarray],
    seconds: dict[str, float],
    *,
    model: str = "transformer",
    length: int | None = None,
    **options: Any,
) -> Made:
    """A language model of some documents, of which every 50th is held out."""
    held_out = [each.astype(np.int64) for each in documents[::50]] if len(documents) > 50 else []
    stream = TokenStream.of([each for at, each in enumerate(documents) if at % 50 or not held_out])
    if plan.preset == "tiny":
        length = length and min(length, 64)
    steps = round(SHARE * language.PRESETS[plan.preset].of(length, None, None)[2].steps)
    network, figures = language.train(
        stream,
        held_out,
        plan.work / name,
        model=model,
        preset=plan.preset,
        length=length,
        vocabulary=vocabulary,
        begin=plan.begin(name),
        **options,
        **{"steps": steps} | plan.options(name),
    )
    return network, figures, seconds


# `lab train gslm` makes what it lacks of these, in order.
SYSTEMS: dict[str, tuple[str, ...]] = {
    "gslm": ("gslm-units", "gslm-voice", "gslm-language"),
    "twist": ("gslm-units", "text-transformer", "twist-units", "twist-voice", "twist-language"),
    "spiritlm": ("gslm-units", "twist-units", "twist-voice", "spiritlm-language"),
    "spiritlm-base": ("gslm-units", "twist-units", "twist-voice", "spiritlm-base-language"),
    "audiolm": ("transformer", "audiolm-coarse", "audiolm-fine"),
}
SYSTEMS["others"] = tuple(dict.fromkeys(name for names in SYSTEMS.values() for name in names))
