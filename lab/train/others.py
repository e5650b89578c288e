"""Recipes of the systems that the paper compares with (`lab.others`), and of the models of text that two begin with.

All language models read as many hours of the same stories. Units' encoder learns from passages by many narrators; the
one voice and its durations from one reader; AudioLM's acoustic stages from what the voice learns from.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np
import torch
from rich.progress import track
from torch import Tensor, nn

from lab import bundle, windows
from lab.console import console
from lab.corpora import Utterance, narration, narrators, shards, storyworld
from lab.corpora.encoding import encode
from lab.corpora.utterance import int16
from lab.errors import LabError
from lab.files import made, replacing
from lab.others import audiolm
from lab.others.audiolm import COARSE
from lab.others.one_voice import OneVoice, OneVoiceConfig, at_token_rate
from lab.others.spiritlm import Layout, Word
from lab.others.units import Units, UnitsConfig, without_repeats
from lab.tokens import ctc
from lab.train import language, soundstorm
from lab.train import units as units_recipe
from lab.train.language import TokenStream
from lab.voice import Synthesizer, VoicePrompt
from lab.windows import TOKEN_HOP

if TYPE_CHECKING:
    from lab.train.recipes import Plan

Made = tuple[nn.Module, dict[str, float], dict[str, float]]  # a model, its last figures, seconds of each source

HOURS = {"language": 60.0, "units": 3.0, "reader": 2.5, "acoustic": 7.0}  # where the plan has none
READER = narrators.CLEAR[0]
SENTENCES, _STORY = 96, 240.0  # of a story, and its seconds, about
_GROUP = 8  # passages of the reader that the voice takes for prompt and target of each other


def train(plan: Plan, name: str) -> Made:
    """The model of that name, a key of MODELS."""
    return (_MAKERS.get(name) or _MAKERS[name.rpartition("-")[2]])(plan, name)


def _units(plan: Plan, name: str) -> Made:
    pairs = _told(narration.pair, math.ceil(_hours(plan, "units") * 400))  # a pair lasts about 9 s
    speech = [utterance.waveform for pair in pairs for utterance in pair]
    seconds = {"narrated": sum(map(len, speech)) / 16_000}
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
    units, codec = plan.load(_own(name, "units")), plan.load("codec")
    readings = list(_readings(plan))
    said = [_coded(utterance, units, codec) for utterance in readings]
    long = [each for each in said if len(each.tokens) >= windows.SPEAKER_PROMPT]
    groups = [long[start : start + _GROUP] for start in range(0, len(long), _GROUP)]
    options = plan.options(name) | {"vocabulary": units.vocabulary}
    if plan.preset == "tiny":
        options["preset"] = "tiny"
    model, figures = soundstorm.train(groups, plan.work / name, **options)
    return model, figures, {"narrated": sum(each.seconds for each in readings)}


def _durations(plan: Plan, name: str) -> Made:
    units, codec, voice = (plan.load(model) for model in (_own(name, "units"), "codec", _own(name, "voice")))
    readings = list(_readings(plan))
    documents = [without_repeats(units.encode(each.samples()).clone()) for each in readings]
    seconds = sum(each.seconds for each in readings)
    sample = np.concatenate([each.samples() for each in readings[:4]])
    tokens = at_token_rate(units.encode(sample), units.rate)
    speaker = Synthesizer(voice, codec).prompt(sample, tokens)
    assert speaker.timbre is not None
    config = OneVoiceConfig.preset(
        "tiny" if plan.preset == "tiny" else "lab",
        units=units.vocabulary,
        rate=units.rate,
        frames=len(speaker.codes),
        levels=speaker.codes.shape[1],
        timbre=len(speaker.timbre),
        pace=sum(len(each) for each, _ in documents) / seconds,
    )
    torch.manual_seed(plan.seed)
    model = OneVoice(config)
    model.speaker_tokens, model.speaker_codes = speaker.tokens, speaker.codes
    model.speaker_timbre = speaker.timbre
    figures = units_recipe.train_durations(model, documents, plan.work / name, **plan.options(name))
    return model, figures, {"narrated": seconds}


def _language(plan: Plan, name: str) -> Made:
    """Of units without repeats; TWIST's begins with a language model of text."""
    units = plan.load(_own(name, "units"))

    def document(utterance: Utterance, words: list[Word], number: int) -> list[int]:
        return without_repeats(units.encode(utterance.samples()))[0].tolist()

    text = plan.load("text-transformer") if name.startswith("twist") else None
    return _trained(plan, name, units.vocabulary, *_stories(plan, name, units, document), text=text)


def _spirit(plan: Plan, name: str) -> Made:
    """A third of the stories spoken alone, a third written alone, and the others by turns."""
    units = plan.load("twist-units")
    layout = Layout(units.vocabulary, expressive="base" not in name)

    def document(utterance: Utterance, words: list[Word], number: int) -> list[int]:
        if number % 3 == 0:
            return layout.written(utterance.text)
        speech = layout.spoken(utterance.samples(), units.encode(utterance.samples()), units.rate)
        if number % 3 == 1:
            return [layout.speech, *(token for _, token in speech)]
        return layout.interleaved(speech, words, np.random.default_rng((0x5B1, number)))

    return _trained(plan, name, layout.size, *_stories(plan, name, units, document))


def _text(plan: Plan, name: str) -> Made:
    """Letters of the stories that the others hear."""
    count = math.ceil(_hours(plan, "language") * 3600 / _STORY)
    texts = (narration.told(number, SENTENCES).text for number in range(count))
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
    "durations": _durations,
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
    "gslm-voice": ("gslm-units", "codec"),
    "gslm-durations": ("gslm-units", "codec", "gslm-voice"),
    "gslm-language": ("gslm-units",),
    "text-transformer": (),
    "twist-units": ("gslm-units",),
    "twist-voice": ("twist-units", "codec"),
    "twist-durations": ("twist-units", "codec", "twist-voice"),
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


def reading(number: int) -> Utterance:
    """Some sentences of a training story by the one reader."""
    rng = np.random.default_rng((0x0BE, number))
    return narration.utterance(narration.passage(narration.training_seed(number), rng), READER)


def _readings(plan: Plan) -> Iterator[Utterance]:
    return _told(reading, math.ceil(_hours(plan, "reader") * 720))  # one lasts about 5 s


def _coded(utterance: Utterance, units: Any, codec: Any) -> VoicePrompt:
    """A passage as units and codes, at the codec's rate."""
    samples = utterance.samples()
    tokens = at_token_rate(units.encode(samples), units.rate)
    padded = np.pad(samples, (0, len(tokens) * TOKEN_HOP - len(samples)))
    return VoicePrompt(tokens, codec.encode(torch.from_numpy(padded)[None])[0])


def worded_story(number: int) -> tuple[Utterance, list[Word]]:
    """`narration.training_story`, and its words with when they begin and end."""
    seed, narrator = narration.training_seed(number), narrators.CLEAR[number % len(narrators.CLEAR)]
    waveform, starts = narrator.read_words(narration.told(number, SENTENCES).text)
    ends = [time for time, _ in starts[1:]] + [len(waveform) / 16_000]
    words = [(start, end, storyworld.normalize(word)) for (start, word), end in zip(starts, ends, strict=True)]
    text = " ".join(word for _, _, word in words)
    return Utterance(int16(waveform), text, narrator.name, "narrated", seed), words


def _stories(
    plan: Plan, name: str, units: nn.Module, document: Callable[[Utterance, list[Word], int], list[int]]
) -> tuple[list[np.ndarray], dict[str, float]]:
    """A document for each story, made once for each model of units and each story world, and their seconds in all.

    Raises LabError for a file of them that is damaged.
    """
    count = math.ceil(_hours(plan, "language") * 3600 / _STORY)
    key = "-".join(["stories", str(count), shards.digest("stories"), bundle.fingerprint(units)])
    path = made(plan.work / name) / f"{key}.npz"
    with plan.compute.fabric().rank_zero_first():  # the others find it made
        if not path.exists():
            documents, seconds = [], 0.0
            for number, (utterance, words) in enumerate(_told(worded_story, count)):
                documents.append(np.array(document(utterance, words, number), np.uint16))
                seconds += utterance.seconds
            lengths = np.array([len(each) for each in documents])
            with replacing(path) as part:
                np.savez(part, tokens=np.concatenate(documents), lengths=lengths, seconds=seconds)
    try:
        with np.load(path) as held:
            documents = np.split(held["tokens"], held["lengths"].cumsum()[:-1])
            return documents, {"narrated": float(held["seconds"])}
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        raise LabError(f"{path} is damaged ({error}); delete it, and the same command makes it again") from None


def _acoustic(
    plan: Plan, document: Callable[[Tensor, Tensor], Tensor]
) -> tuple[list[np.ndarray], dict[str, float], int]:
    """Two passages in a row by each of many narrators, as what a stage reads, and how many ids a token has."""
    tokenizer, codec = plan.load("tokenizer"), plan.load("codec")
    documents, seconds, period = [], 0.0, 0
    for pair in _told(narration.voice_samples, math.ceil(_hours(plan, "acoustic") * 400)):
        parts = (encode(utterance.samples(), tokenizer, codec) for utterance in pair)
        rows = [document(*(torch.from_numpy(part.astype(np.int64)) for part in both)) for both in parts]
        documents.append(torch.cat(rows).flatten().numpy())
        period = rows[0].shape[1]
        seconds += sum(utterance.seconds for utterance in pair)
    return documents, {"narrated": seconds}, period


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
        **plan.options(name),
    )
    return network, figures, seconds


# `lab train gslm` makes what it lacks of these, in order.
SYSTEMS: dict[str, tuple[str, ...]] = {
    "gslm": ("gslm-units", "gslm-voice", "gslm-durations", "gslm-language"),
    "twist": ("gslm-units", "text-transformer", "twist-units", "twist-voice", "twist-durations", "twist-language"),
    "spiritlm": ("gslm-units", "twist-units", "twist-voice", "twist-durations", "spiritlm-language"),
    "spiritlm-base": ("gslm-units", "twist-units", "twist-voice", "twist-durations", "spiritlm-base-language"),
    "audiolm": ("audiolm-semantic", "audiolm-coarse", "audiolm-fine"),
}
SYSTEMS["others"] = tuple(dict.fromkeys(name for names in SYSTEMS.values() for name in names))
