"""`lab train MODEL`: the corpus, the training and the place in the bundle of each model, in one function each.

Order matters: the language models and the voice learn from the tokenizer's tokens, the voice from the codec's codes.
Where several processes train, each runs the recipe; the first one makes the data and writes the bundle.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track
from torch import distributed, nn

from lab import bundle, machine
from lab.console import console
from lab.corpora import Utterance, narration
from lab.errors import LabError
from lab.tokens import TOKEN_RATE, Tokenizer
from lab.train import augment, data, selection
from lab.train import codec as codec_recipe
from lab.train import ctc_head as ctc_head_recipe
from lab.train import decoder as decoder_recipe
from lab.train import encoder as encoder_recipe
from lab.train import joint as joint_recipe
from lab.train import language as language_recipe
from lab.train import others as others_recipe
from lab.train import refiner as refiner_recipe
from lab.train import soundstorm as soundstorm_recipe
from lab.train import tokenizer as tokenizer_recipe
from lab.train import units as units_recipe
from lab.train.language import LENGTHS
from lab.train.loop import EVALUATE_EVERY, whole
from lab.train.plan import LANGUAGE_MODELS, RECIPES, VARIANTS, Plan, Variant, in_int8
from lab.voice import Codec, VoicePrompt

_HISTORY = ("data", "steps", "minutes", "command", "inputs", "before")  # what a card tells of training before
_LONG = 120  # sentences of the two stories that tell the loss of each minute, to the fifth
HOURS = 12.0  # of narrated speech for the tokenizer


def tokenizer(plan: Plan, name: str) -> dict[str, Any]:
    people, again = plan.people(), plan.passages(cut=1)
    pairs = data.pairs(plan.hours or HOURS) + data.paired(narration.beside, list(enumerate(people)))
    more = data.paired(narration.beside, list(enumerate(again, len(people))))
    options = plan.options(name) | {"begin": plan.begin(name), "evaluate": data.evaluation()}
    model, figures = tokenizer_recipe.train(pairs + more, plan.work / name, **options)
    seconds = data.seconds(chain(chain.from_iterable(pairs), (read for _, read in more)))
    return _finish(plan, name, model, figures, seconds)


def encoder(plan: Plan, name: str) -> dict[str, Any]:
    """Goes on with the encoder of the bundle's tokenizer, and its CTC head: words of whoever reads. Its codes stand for
    the same as before, so what learnt from its tokens goes on with `--warm`."""
    model = encoder_recipe.widened(plan.load("tokenizer"))
    return _part_of_tokenizer(plan, name, model, encoder_recipe.train, plan.passages(cut=1))


def ctc_head(plan: Plan, name: str) -> dict[str, Any]:
    """Goes on with the CTC head of the bundle's tokenizer; its tokens, and what learnt from them, stay."""
    return _part_of_tokenizer(plan, name, plan.load("tokenizer"), ctc_head_recipe.train)


def _part_of_tokenizer(
    plan: Plan, name: str, model: Tokenizer, train: Callable[..., dict[str, float]], again: Sequence[Utterance] = ()
) -> dict[str, Any]:
    """`again`: the same speech, cut otherwise."""
    evaluate, corpus = data.evaluation(), data.narrated(plan.hours or HOURS) + plan.people()
    options = plan.options(name) | {"evaluate": lambda _: evaluate(model)}
    figures = train(model, [*corpus, *again], plan.work / name, **options)
    return _finish(plan, name, model, figures, data.seconds(corpus))


def codec(plan: Plan, name: str) -> dict[str, Any]:
    corpus, tokenizer = data.heard(plan), plan.load("tokenizer")
    options = plan.options(name) | {"begin": plan.begin(name), "vocabulary": tokenizer.config.codes}
    examples = codec_recipe.examples(track(corpus, "listening", console=console), tokenizer)
    model, figures = codec_recipe.train(examples, plan.work / name, **options)
    return _finish(plan, name, model, figures, data.seconds(corpus))


def decoder(plan: Plan, name: str) -> dict[str, Any]:
    """Goes on with the decoder of the bundle's codec, now against discriminators; its codes stay."""
    model, corpus, tokenizer = plan.load("codec"), data.heard(plan), plan.load("tokenizer")
    examples = joint_recipe.examples(track(corpus, "listening", console=console), tokenizer, model)
    figures = decoder_recipe.train(model, examples, plan.work / name, **plan.options(name))
    return _finish(plan, name, model, figures, data.seconds(corpus))


def refiner(plan: Plan, name: str) -> dict[str, Any]:
    """Goes on with the refiner of the bundle's codec, or gives it one; its codes stay, and how it decodes them."""
    corpus, tokenizer = data.heard(plan), plan.load("tokenizer")
    model = refiner_recipe.with_refiner(plan.load("codec"), tokenizer)
    spoken = _in_voices(corpus, tokenizer, model)
    figures = refiner_recipe.train(model, spoken, plan.work / name, **plan.options(name))
    return _finish(plan, name, model, figures, data.seconds(corpus))


def joint(plan: Plan, name: str) -> dict[str, Any]:
    """Goes on with the refiner and the decoder of the bundle's codec together; its codes stay."""
    model, corpus, tokenizer = plan.load("codec"), data.heard(plan), plan.load("tokenizer")
    examples = joint_recipe.examples(track(corpus, "listening", console=console), tokenizer, model)
    figures = joint_recipe.train(model, examples, tokenizer, plan.work / name, **plan.options(name))
    return _finish(plan, name, model, figures, data.seconds(corpus))


def language(plan: Plan, name: str) -> dict[str, Any]:
    """A language model of semantic tokens, by its name in VARIANTS; each reads as many tokens in all."""
    variant = VARIANTS.get(name, Variant(name))
    length, corpus = variant.length or plan.length, variant.corpus or plan.corpus
    tokenizer = plan.load("tokenizer")
    begin, dropped = plan.begin(name), 0
    if corpus in data.NARRATED:
        stream, seconds = told(plan, corpus)
        weights = language_recipe.weights(tokenizer, stream.tokens, stream.starts)
        stream = replace(stream, weights=weights)
        stories = [narration.development_story(number, sentences=_LONG if number < 2 else 20) for number in range(8)]
        held_out = [tokenizer.encode(story.samples()).numpy() for story in stories]
    else:
        shard, dropped = data.shard(plan, corpus), language_recipe.END
        apart, count = data.held_out(shard), len(shard.starts)
        if len(apart) == count:
            raise LabError(f"of {plan.corpus} all documents, {count}, are held out; give more, or cut it")
        ends = shard.starts + language_recipe.less(np.diff(shard.starts, append=len(shard.tokens)), dropped)
        watched = apart[: language_recipe.HELD_OUT]
        held_out = [shard.tokens[shard.starts[number] : ends[number]] for number in watched]
        learnt = np.setdiff1d(np.arange(count), apart)
        stream = language_recipe.TokenStream.of_shard(shard.tokens, shard.starts, learnt, dropped)
        seconds = {Path(corpus).name: stream.size / TOKEN_RATE}
    model, figures = language_recipe.train(
        stream,
        held_out,
        plan.work / name,
        model=variant.model,
        preset=plan.preset,
        length=LENGTHS[length] if length else None,
        vocabulary=tokenizer.config.codes,
        begin=begin,
        config=begin.config if plan.init else None,
        size=plan.settings.get("batch"),
        **plan.options(name),
        **({"text": plan.load("text-griffin")} if name == "griffin-text" else {}),
    )
    figures |= language_recipe.by_minute(model, held_out, dropped)
    slow = corpus in data.NARRATED and getattr(model.config, "lambda_init", None) == "minutes"
    about = {"taught": language_recipe.TAUGHT} if slow else {}
    return _finish(plan, name, model, figures, seconds, **about)


def told(plan: Plan, corpus: str) -> tuple[language_recipe.TokenStream, dict[str, float]]:
    """The stories of a narrated corpus, and the seconds of each source. A shard is mapped, not copied."""
    if corpus not in data.READ:
        shard = data.shard(plan, corpus)
        return language_recipe.TokenStream(shard.tokens, shard.starts), {"narrated": shard.seconds}
    hours, (narrated, sentences) = (plan.hours or 60.0) / 2, data.READ[corpus]
    (stories, seconds), shard = selection.stories(plan, hours, sentences), data.shard(plan, narrated, hours=hours)
    return language_recipe.TokenStream.of(shard.documents() + stories), {"narrated": shard.seconds} | seconds


def other(plan: Plan, name: str) -> dict[str, Any]:
    """A model of the systems that the paper compares with, or of text."""
    return _finish(plan, name, *others_recipe.train(plan, name))


def soundstorm(plan: Plan, name: str) -> dict[str, Any]:
    tokenizer, codec = plan.load("tokenizer"), plan.load("codec")
    # first, as one without codes is of no use
    shard = data.shard(plan, plan.recorded, codes=True) if plan.recorded else None
    corpus = data.heard(replace(plan, corpus="stories"))
    spoken, seconds = _in_voices(corpus, tokenizer, codec), data.seconds(corpus)
    if plan.recorded and shard:  # which may be larger than the memory
        said = shard.utterances()
        seconds[Path(plan.recorded).name] = sum(len(each.tokens) for group in said for each in group) / TOKEN_RATE
        spoken += said
    begin = plan.begin(name) or soundstorm_recipe.Codebooks.of(tokenizer, codec)
    options = plan.options(name) | {"begin": begin, "vocabulary": tokenizer.config.codes, "levels": codec.guessed}
    model, figures = soundstorm_recipe.train(spoken, plan.work / name, **options)
    return _finish(plan, name, model, figures, seconds)


def _in_voices(corpus: Sequence[Utterance], tokenizer: Tokenizer, codec: Codec) -> list[list[VoicePrompt]]:
    """What was said at each of `augment.VOICES`, by speaker."""
    voices = track(augment.in_voices(corpus), "listening", len(corpus) * len(augment.VOICES), console=console)
    return soundstorm_recipe.spoken(voices, tokenizer, codec)


MAKERS: dict[str, Callable[[Plan, str], dict[str, Any]]] = {
    "tokenizer": tokenizer,
    "encoder": encoder,
    "ctc-head": ctc_head,
    "codec": codec,
    "soundstorm": soundstorm,
    "decoder": decoder,
    "refiner": refiner,
    "joint": joint,
}
MAKERS |= dict.fromkeys(LANGUAGE_MODELS, language) | dict.fromkeys(others_recipe.MODELS, other)
SCHEDULES = {  # of all but the language models, which have one a preset; of the others' by the last part of their name
    "tokenizer": tokenizer_recipe.SCHEDULE,
    "encoder": encoder_recipe.SCHEDULE,
    "head": ctc_head_recipe.SCHEDULE,
    "codec": codec_recipe.SCHEDULE,
    "decoder": decoder_recipe.SCHEDULE,
    "refiner": refiner_recipe.SCHEDULE,
    "joint": joint_recipe.SCHEDULE,
    "soundstorm": soundstorm_recipe.SCHEDULE,
    "voice": units_recipe.VOICE_SCHEDULE,
    "units": units_recipe.SCHEDULE,
}


def settings(name: str, plan: Plan) -> dict[str, Any]:
    """All settings that a run of `train` would have, of a tokenizer those of its first phase. Raises LabError as it
    does."""
    _known(name)
    if name not in LANGUAGE_MODELS and (odd := {"batch", "checkpointing", "keep"} & set(plan.settings)):
        raise LabError(f"{min(odd)} cannot be set for {name}; it is a setting of the language models")
    found: dict[str, Any] = {"log_every": plan.compute.log_every, "evaluate_every": EVALUATE_EVERY}
    found |= plan.scale(name) | {"seed": plan.seed}
    found |= {"compile": False, "precision": "mixed"}
    schedule = SCHEDULES.get(name) or SCHEDULES.get(name.rpartition("-")[2])
    if schedule is None:
        variant, batch = VARIANTS.get(name, Variant(name)), plan.settings.get("batch")
        length = LENGTHS.get(variant.length or plan.length or "")
        _, size, schedule = language_recipe.PRESETS[plan.preset].of(length, batch, plan.steps)
        share = others_recipe.SHARE if name in others_recipe.MODELS else 1
        schedule = schedule if plan.steps else schedule.lasting(round(share * schedule.steps))
        if name in LANGUAGE_MODELS:
            found |= {"batch": size, "checkpointing": False, "keep": language_recipe.KEPT}
    given = {key: value for key, value in plan.settings.items() if key in asdict(schedule)}
    return found | asdict(replace(schedule.lasting(plan.steps or schedule.steps), **given)) | plan.settings


def _known(name: str) -> None:
    if name not in RECIPES:
        raise LabError(f"there is no recipe for {name!r}; there are {', '.join(RECIPES)} and all")


def train(name: str, plan: Plan) -> dict[str, Any]:
    """Train one model into the bundle and return its card. Raises LabError for a name without a recipe."""
    settings(name, plan)  # what is wrong with them is told before hours go into data
    recipe, make, fabric = RECIPES[name], MAKERS[name], plan.compute.fabric()
    plan = replace(plan, warm=plan.warm or recipe.part is not None)
    if not recipe.alone:
        make(plan, name)
    elif fabric.is_global_zero:
        make(replace(plan, compute=replace(plan.compute, devices=1, nodes=1, accumulate=1)), name)
    fabric.barrier()
    return bundle.index(plan.bundle)[recipe.part or name]["card"]


def complete(name: str, plan: Plan) -> bool:
    """Whether the bundle holds that model, trained to its end on what `plan` would train it on; a part that went on
    learning since does not matter."""
    entry = RECIPES[name].part or name
    if not (plan.bundle / "bundle.json").exists() or entry not in (entries := bundle.index(plan.bundle)):
        return False
    wanted, card = plan.inputs(name) | plan.extent(), entries[entry]["card"]
    while card and (card.get("inputs") != wanted or card["command"].split()[2] != name):
        card = card.get("before")
    return bool(card)


def card(learnt: str, figures: dict[str, float], **more: Any) -> dict[str, Any]:
    """A model card: what it learnt from, for how long, where, and the last figures of `fit`."""
    return {
        "data": learnt,
        "steps": int(figures["steps"]),
        "minutes": round(figures["minutes"], 1),
        "machine": machine.name(),
        "at_the_end": {key: round(value, 4) for key, value in figures.items() if key not in ("steps", "minutes")},
        **more,
    }


def _finish(
    plan: Plan, name: str, model: nn.Module, figures: dict[str, float], seconds: dict[str, float], **about: Any
) -> dict[str, Any]:
    """Puts the model into the bundle with its card, which says what it is `about`, and returns that."""
    names = {
        "narrated": "stories narrated by espeak-ng",
        "kokoro": "speech by Kokoro-82M",
        "piper": "speech by Piper",
        "read": "stories read by human-like narrators, at three tempi",
        "told": "stories put together from words that they read",
        "librispeech": "LibriSpeech (Panayotov et al. 2015, CC BY 4.0)",
    }
    learnt = ", ".join(
        f"{value / 3600:.1f} h of {names.get(source, source)}" for source, value in seconds.items() if value
    )
    entry = RECIPES[name].part or name
    more: dict[str, Any] = {
        "command": plan.command(name),
        "inputs": plan.inputs(name) | plan.extent(),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
    }
    if plan.warm:
        former = bundle.index(plan.bundle)[entry]["card"]
        more["before"] = {key: former[key] for key in _HISTORY if key in former}
    made = card(learnt, figures, **more, **about)
    first = not distributed.is_initialized() or distributed.get_rank() == 0
    weights = whole(model.state_dict(), first)  # of all processes, where they share the model
    if first:
        bundle.save(plan.bundle, entry, model, made, weights, int8=in_int8(entry, model))
    return made
