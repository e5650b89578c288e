"""`lab train MODEL`: the corpus, the training and the place in the bundle of each model, in one function each.

Order matters: the language models and the voice learn from the tokenizer's tokens, the voice from the codec's codes.
Where several processes train, each runs the recipe; the first one makes the data and writes the bundle.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track
from torch import distributed, nn

from lab import bundle, machine
from lab.console import console
from lab.corpora import Utterance, librispeech, narrated_folder, narration, scan, shards
from lab.corpora.folder import Corpus
from lab.corpora.librispeech import HELD_OUT_CHAPTER
from lab.errors import LabError
from lab.language import SpeechTransformer, recurrentgemma
from lab.tokens import Tokenizer
from lab.train import augment, data
from lab.train import codec as codec_recipe
from lab.train import ctc_head as ctc_head_recipe
from lab.train import decoder as decoder_recipe
from lab.train import encoder as encoder_recipe
from lab.train import language as language_recipe
from lab.train import others as others_recipe
from lab.train import refiner as refiner_recipe
from lab.train import soundstorm as soundstorm_recipe
from lab.train import tokenizer as tokenizer_recipe
from lab.train import units as units_recipe
from lab.train.batches import seed_of
from lab.train.language import LENGTHS
from lab.train.loop import EVALUATE_EVERY, Compute, whole
from lab.voice import SoundStorm

_HISTORY = ("data", "steps", "minutes", "command", "inputs", "before")  # what a card tells of training before
_LONG = 120  # sentences of the two stories that tell the loss of each minute, to the fifth
HOURS = 12.0  # of narrated speech for the tokenizer
LONGEST = 36.0  # seconds of an utterance with its text: LibriSpeech's last up to 35


@dataclass(frozen=True)
class Plan:
    """Where to work, what to learn from and for how long; None takes the recipe's own length."""

    work: Path = Path("runs")
    bundle: Path = field(default_factory=bundle.folder)
    speech: Path | None = field(default_factory=librispeech.find)
    narration: Path | None = field(default_factory=narrated_folder.find)
    steps: int | None = None
    hours: float | None = None  # of narrated speech
    seed: int = 0
    preset: str = "laptop"  # of the language models
    length: str | None = None  # of the pieces that they learn from, a key of `language.LENGTHS`
    corpus: str = "stories"  # that they learn from, or recordings, which all others learn from as well
    warm: bool = False  # begin with the weights that the bundle has
    init: str | None = None  # or with those of another bundle, or of RecurrentGemma
    settings: dict[str, Any] = field(default_factory=dict)  # of `settings.KINDS`, in place of the recipe's own
    compute: Compute = field(default_factory=Compute)

    def __post_init__(self) -> None:
        seed_of(self.seed)
        if self.warm and self.init:
            raise LabError(f"cannot begin with what the bundle has and with {self.init}; give --warm or --init")
        if self.steps is not None and self.steps < 1:
            raise LabError(f"cannot train for {self.steps} steps; give 1 or more")
        if self.hours is not None and not 0 < self.hours < float("inf"):
            raise LabError(f"cannot learn from {self.hours:g} hours of speech; give a positive number")
        if self.length is not None and self.length not in LENGTHS:
            raise LabError(f"cannot learn from pieces of {self.length!r}; give one of {', '.join(LENGTHS)}")

    def people(self, cuts: int = 1, texts: bool = True) -> list[Utterance]:
        """Passages that people, and narrators who sound like people, read: of `narration`, whose documents are cut in
        so many ways, and of `readers`."""
        documents = narrated_folder.narrated(self.narration).documents if self.narration else []
        if held_out := sum(document.held_out for document in documents):
            raise LabError(f"{held_out} stories of {self.narration} are held out, and nothing learns from them")
        passages = [
            passage
            for number, document in enumerate(documents)
            for cut in range(cuts if len(document.sentences) > 1 else 1)
            for passage in document.passages(np.random.default_rng((number, cut)))
        ]
        return passages + self.readers(texts)

    def readers(self, texts: bool = True) -> list[Utterance]:
        """What can be learnt from below `speech`, but the chapter that figures are measured on, and of `corpus`.

        With `texts` only what has one, and of `corpus` what lasts no longer than a reader's sentences.
        """
        corpus = librispeech.corpus(self.speech, (HELD_OUT_CHAPTER,)) if self.speech else Corpus([])
        if self.recorded:
            corpus.recordings += [
                document  # type: ignore[misc]  # which is read as a recording is
                for document in scan.documents(self.corpus, corpus.skipped)
                if document.split == "train" and (not texts or document.text and document.seconds <= LONGEST)
            ]
        utterances = list(corpus)
        for line in corpus.skipped:
            console.print("skipped:", line)
        if self.speech or self.recorded:
            of = " and ".join(str(each) for each in (self.speech, self.recorded) if each)
            console.print(f"{len(utterances)} utterances, {len(corpus.skipped)} skipped, of {of}")
        return utterances

    @property
    def recorded(self) -> str | None:
        """The corpus, unless it is narrated."""
        return None if self.corpus in data.NARRATED else self.corpus

    def options(self, name: str) -> dict[str, Any]:
        """What every recipe's `train` takes of the plan."""
        steps = {"steps": self.steps} if self.steps else {}
        own = {"seed": self.seed, "inputs": inputs(name, self), "compute": self.compute, "settings": self.settings}
        return own | steps

    def load(self, name: str) -> Any:
        """A model that the bundle has."""
        return bundle.load(self.bundle, name)

    def begin(self, name: str) -> Any:
        """The model to begin with, if one."""
        if self.init is None:
            return self.load(name) if self.warm else None
        if (Path(self.init) / "bundle.json").exists():
            there = bundle.index(Path(self.init))
            return bundle.load(Path(self.init), name if name in there or name not in VARIANTS else VARIANTS[name].model)
        if name != "griffin":
            raise LabError(f"{name} cannot begin with {self.init}, which is no bundle; RecurrentGemma is for griffin")
        return recurrentgemma.load(self.init, rope=False, vocabulary=self.load("tokenizer").vocabulary, seed=self.seed)

    def command(self, name: str) -> str:
        """What trains the same model anew."""
        words = ["lab", "train", name]
        asked: dict[str, Any] = {"steps": self.steps, "hours": self.hours, "seed": self.seed}
        if self.speech and self.speech != librispeech.find():
            asked["speech"] = self.speech.name  # the folder may lie elsewhere on another machine
        if RECIPES[name].make is not language and self.narration and self.narration != narrated_folder.find():
            asked["narration"] = self.narration.name
        asked |= {"corpus": self.corpus, "init": self.init}
        if RECIPES[name].make is language:
            asked |= {"preset": self.preset, "length": self.length}
        for option, value in asked.items():
            if value != getattr(Plan, option, None):
                words += [f"--{option}", str(value)]
        for setting, value in self.settings.items():
            words += ["--set", f"{setting}={json.dumps(value)}"]
        return shlex.join(words + ["--warm"] * (self.warm and not RECIPES[name].part))


def tokenizer(plan: Plan, name: str) -> dict[str, Any]:
    hours, people = plan.hours or HOURS, plan.people(cuts=2)
    pairs = data.pairs(hours) + data.paired(narration.beside, list(enumerate(people)))
    options = plan.options(name) | {"begin": plan.begin(name), "evaluate": data.evaluation()}
    model, figures = tokenizer_recipe.train(pairs, plan.work / name, **options)
    return _finish(plan, name, model, figures, data.seconds(chain.from_iterable(pairs)))


def encoder(plan: Plan, name: str) -> dict[str, Any]:
    """Goes on with the encoder of the bundle's tokenizer, and its CTC head: words of whoever reads. Its codes stand for
    the same as before, so what learnt from its tokens goes on with `--warm`."""
    model, evaluate = encoder_recipe.widened(plan.load("tokenizer")), data.evaluation()
    return _part_of_tokenizer(plan, name, model, encoder_recipe.train, evaluate, plan.people(cuts=2))


def ctc_head(plan: Plan, name: str) -> dict[str, Any]:
    """Goes on with the CTC head of the bundle's tokenizer; its tokens, and what learnt from them, stay."""
    model, evaluate = plan.load("tokenizer"), data.evaluation()
    return _part_of_tokenizer(plan, name, model, ctc_head_recipe.train, evaluate, plan.people())


def _part_of_tokenizer(
    plan: Plan,
    name: str,
    model: Tokenizer,
    train: Callable[..., dict[str, float]],
    evaluate: Callable[[Tokenizer], dict[str, float]],
    people: list[Utterance],
) -> dict[str, Any]:
    options = plan.options(name) | {"evaluate": lambda _: evaluate(model)}
    corpus = data.narrated(plan.hours or HOURS) + people
    figures = train(model, corpus, plan.work / name, **options)
    return _finish(plan, name, model, figures, data.seconds(corpus))


def codec(plan: Plan, name: str) -> dict[str, Any]:
    corpus, tokenizer = data.heard(plan), plan.load("tokenizer")
    options = plan.options(name) | {"begin": plan.begin(name), "vocabulary": tokenizer.config.codes}
    examples = codec_recipe.examples(track(corpus, "listening", console=console), tokenizer)
    model, figures = codec_recipe.train(examples, plan.work / name, **options)
    return _finish(plan, name, model, figures, data.seconds(corpus))


def decoder(plan: Plan, name: str) -> dict[str, Any]:
    """Goes on with the decoder of the bundle's codec, now against discriminators; its codes stay."""
    model, corpus = plan.load("codec"), data.heard(plan)
    examples = codec_recipe.examples(track(corpus, "listening", console=console), plan.load("tokenizer"))
    figures = decoder_recipe.train(model, examples, plan.work / name, **plan.options(name))
    return _finish(plan, name, model, figures, data.seconds(corpus))


def refiner(plan: Plan, name: str) -> dict[str, Any]:
    """Goes on with the refiner of the bundle's codec, or gives it one; its codes stay, and how it decodes them."""
    corpus, tokenizer = data.heard(plan), plan.load("tokenizer")
    model = refiner_recipe.with_refiner(plan.load("codec"), tokenizer.config.codes)
    spoken = soundstorm_recipe.spoken(track(corpus, "listening", console=console), tokenizer, model)
    figures = refiner_recipe.train(model, spoken, plan.work / name, **plan.options(name))
    return _finish(plan, name, model, figures, data.seconds(corpus))


def language(plan: Plan, name: str) -> dict[str, Any]:
    """A language model of semantic tokens, by its name in VARIANTS; each reads as many tokens in all."""
    variant = VARIANTS.get(name, Variant(name))
    length, corpus = variant.length or plan.length, variant.corpus or plan.corpus
    tokenizer = plan.load("tokenizer")
    shard = data.shard(plan, corpus)
    begin = plan.begin(name)
    if corpus in data.NARRATED:
        weights = language_recipe.weights(tokenizer, shard.tokens, shard.starts)
        stream = language_recipe.TokenStream(shard.tokens, shard.starts, weights)
        stories = [narration.development_story(number, sentences=_LONG if number < 2 else 20) for number in range(8)]
        held_out = [tokenizer.encode(story.samples()).numpy() for story in stories]
    else:
        documents = shard.documents()
        if len(documents) < 2:
            raise LabError(f"{plan.corpus} holds one document, and one is held out; give two or more, or cut it")
        count = min(8, max(1, len(documents) // 10))
        held_out, documents = documents[:count], documents[count:]
        stream = language_recipe.TokenStream.of(documents, drop=language_recipe.END)
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
    source = "narrated" if corpus in data.NARRATED else Path(corpus).name
    slow = corpus in data.NARRATED and getattr(model.config, "lambda_init", None) == "minutes"
    about = {"taught": language_recipe.TAUGHT} if slow else {}
    return _finish(plan, name, model, figures, {source: shard.seconds}, **about)


@dataclass(frozen=True)
class Variant:
    """A language model that is not called after its kind: where it is set, the length of pieces and what it reads."""

    model: str
    length: str | None = None
    corpus: str | None = None


VARIANTS = {
    "griffin30": Variant("griffin", "30s"),  # the paper's ablation: it never saw more than 30 s at once
    "griffin-16min": Variant("griffin", "16min", "long-stories"),  # and SpeechSSM-X: it saw 16 minutes
    "griffin-text": Variant("griffin"),  # it begins with a Griffin of text, as SpeechSSM with RecurrentGemma
    "audiolm-semantic": Variant("transformer", "30s"),
}


def other(plan: Plan, name: str) -> dict[str, Any]:
    """A model of the systems that the paper compares with, or of text."""
    return _finish(plan, name, *others_recipe.train(plan, name))


def soundstorm(plan: Plan, name: str) -> dict[str, Any]:
    tokenizer, codec, corpus = plan.load("tokenizer"), plan.load("codec"), data.heard(replace(plan, corpus="stories"))
    voices = track(augment.in_voices(corpus), "listening", len(corpus) * len(augment.VOICES), console=console)
    spoken = soundstorm_recipe.spoken(voices, tokenizer, codec)
    seconds = data.seconds(corpus)
    if plan.recorded:  # which may be larger than the memory
        shard = data.shard(plan, plan.recorded, codes=True)
        spoken += shard.utterances()
        seconds[Path(plan.recorded).name] = shard.seconds
    begin = plan.begin(name) or soundstorm_recipe.Codebooks.of(tokenizer, codec)
    options = plan.options(name) | {"begin": begin, "vocabulary": tokenizer.config.codes, "levels": codec.guessed}
    model, figures = soundstorm_recipe.train(spoken, plan.work / name, **options)
    return _finish(plan, name, model, figures, seconds)


@dataclass(frozen=True)
class Recipe:
    """How a model is made, the narrated speech it learns from, and the models that its data is made with.

    `part` names the model that the bundle has to hold already, of which only a part goes on learning. `alone`: it has
    codebooks that follow whole batches, or discriminators that look at them: one process trains it.
    """

    make: Callable[[Plan, str], dict[str, Any]]
    speech: str
    models: tuple[str, ...] = ()
    part: str | None = None
    alone: bool = False


RECIPES = {
    "tokenizer": Recipe(tokenizer, "stories", alone=True),
    "encoder": Recipe(encoder, "stories", part="tokenizer", alone=True),
    "ctc-head": Recipe(ctc_head, "stories", part="tokenizer", alone=True),
    "codec": Recipe(codec, "stories", ("tokenizer",), alone=True),
    "griffin": Recipe(language, "stories", ("tokenizer",)),
    "griffin30": Recipe(language, "stories", ("tokenizer",)),
    "transformer": Recipe(language, "stories", ("tokenizer",)),
    "soundstorm": Recipe(soundstorm, "stories", ("tokenizer", "codec")),
    "decoder": Recipe(decoder, "stories", ("tokenizer",), part="codec", alone=True),
    "refiner": Recipe(refiner, "stories", ("tokenizer",), part="codec"),
}
RECIPES |= {name: Recipe(language, "stories", ("tokenizer",)) for name in VARIANTS}
RECIPES["griffin-text"] = Recipe(language, "stories", ("tokenizer", "text-griffin"))
RECIPES |= {name: Recipe(other, "stories", models, alone=not models) for name, models in others_recipe.MODELS.items()}
SCHEDULES = {  # of all but the language models, which have one a preset; of the others' by the last part of their name
    "tokenizer": tokenizer_recipe.SCHEDULE,
    "encoder": encoder_recipe.SCHEDULE,
    "head": ctc_head_recipe.SCHEDULE,
    "codec": codec_recipe.SCHEDULE,
    "decoder": decoder_recipe.SCHEDULE,
    "refiner": refiner_recipe.SCHEDULE,
    "soundstorm": soundstorm_recipe.SCHEDULE,
    "voice": units_recipe.VOICE_SCHEDULE,
    "units": units_recipe.SCHEDULE,
}
# What a bundle is made of, in order: the tokenizer's own recipe trains its parts.
WHOLE = ("tokenizer", "codec", "griffin", "griffin30", "transformer", "soundstorm", "decoder", "refiner")


def settings(name: str, plan: Plan) -> dict[str, Any]:
    """All settings that a run of `train` would have, of a tokenizer those of its first phase. Raises LabError as it
    does."""
    _known(name)
    if RECIPES[name].make is not language and (odd := {"batch", "checkpointing", "keep"} & set(plan.settings)):
        raise LabError(f"{min(odd)} cannot be set for {name}; it is a setting of the language models")
    found: dict[str, Any] = {"log_every": plan.compute.log_every, "evaluate_every": EVALUATE_EVERY}
    found |= {"compile": False, "precision": "mixed"}
    schedule = SCHEDULES.get(name) or SCHEDULES.get(name.rpartition("-")[2])
    if schedule is None:
        variant, batch = VARIANTS.get(name, Variant(name)), plan.settings.get("batch")
        length = LENGTHS.get(variant.length or plan.length or "")
        _, size, schedule = language_recipe.PRESETS[plan.preset].of(length, batch, plan.steps)
        if RECIPES[name].make is other and not plan.steps:
            schedule = schedule.lasting(round(others_recipe.SHARE * schedule.steps))
        if RECIPES[name].make is language:
            found |= {"batch": size, "checkpointing": False, "keep": language_recipe.KEPT}
    given = {key: value for key, value in plan.settings.items() if key in asdict(schedule)}
    return found | asdict(replace(schedule.lasting(plan.steps or schedule.steps), **given)) | plan.settings


def _known(name: str) -> None:
    if name not in RECIPES:
        raise LabError(f"there is no recipe for {name!r}; there are {', '.join(RECIPES)} and all")


def train(name: str, plan: Plan) -> dict[str, Any]:
    """Train one model into the bundle and return its card. Raises LabError for a name without a recipe."""
    settings(name, plan)  # what is wrong with them is told before hours go into data
    recipe, fabric = RECIPES[name], plan.compute.fabric()
    plan = replace(plan, warm=plan.warm or recipe.part is not None)
    if not recipe.alone:
        recipe.make(plan, name)
    elif fabric.is_global_zero:
        recipe.make(replace(plan, compute=replace(plan.compute, devices=1, nodes=1, accumulate=1)), name)
    fabric.barrier()
    return bundle.index(plan.bundle)[recipe.part or name]["card"]


def complete(name: str, plan: Plan) -> bool:
    """Whether the bundle holds that model, trained to its end on what `plan` would train it on; a part that went on
    learning since does not matter."""
    entry = RECIPES[name].part or name
    if not (plan.bundle / "bundle.json").exists() or entry not in (entries := bundle.index(plan.bundle)):
        return False
    wanted, card = inputs(name, plan) | _extent(plan), entries[entry]["card"]
    while card and (card.get("inputs") != wanted or card["command"].split()[2] != name):
        card = card.get("before")
    return bool(card)


def inputs(name: str, plan: Plan) -> dict[str, str]:
    """What a model learns from: another story world, folder, tokenizer or codec has another digest."""
    recipe = RECIPES[name]
    corpus = VARIANTS[name].corpus if name in VARIANTS else None
    speech = corpus or plan.corpus if recipe.make is language else recipe.speech
    found = {speech: shards.digest(speech), "hours": f"{plan.hours or 'as the recipe has'}"}
    if recipe.make is language:
        found |= {"preset": plan.preset, "length": plan.length or "as the preset has"}
    else:
        found |= {"readers": plan.speech.name if plan.speech else "none"}
        found |= {"narration": plan.narration.name} if plan.narration else {}
        found |= {plan.recorded: shards.digest(plan.recorded)} if plan.recorded else {}
    found |= {"init": plan.init} if plan.init else {}
    models = (*recipe.models, recipe.part or name) if plan.warm or recipe.part else recipe.models
    return found | {model: bundle.fingerprint(plan.load(model)) for model in models}


def _extent(plan: Plan) -> dict[str, str]:
    extent = {"steps": f"{plan.steps or 'as the recipe has'}", "seed": f"{plan.seed}"}
    return extent | ({"settings": f"{plan.settings}"} if plan.settings else {})


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
        "librispeech": "LibriSpeech (Panayotov et al. 2015, CC BY 4.0)",
    }
    learnt = ", ".join(
        f"{value / 3600:.1f} h of {names.get(source, source)}" for source, value in seconds.items() if value
    )
    entry = RECIPES[name].part or name
    more: dict[str, Any] = {
        "command": plan.command(name),
        "inputs": inputs(name, plan) | _extent(plan),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
    }
    if plan.warm:
        former = bundle.index(plan.bundle)[entry]["card"]
        more["before"] = {key: former[key] for key in _HISTORY if key in former}
    made = card(learnt, figures, **more, **about)
    first = not distributed.is_initialized() or distributed.get_rank() == 0
    weights = whole(model.state_dict(), first)  # of all processes, where they share the model
    if first:
        int8 = entry == "griffin30" or isinstance(model, SpeechTransformer | SoundStorm)
        bundle.save(plan.bundle, entry, model, made, weights, int8=int8)
    return made
