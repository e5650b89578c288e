"""What to train, from what and for how long: a plan, and which models each model is made with."""

from __future__ import annotations

import json
import math
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from torch import nn

from lab import audio, bundle
from lab.console import console
from lab.corpora import Utterance, librispeech, narrated_folder, scan, shards
from lab.corpora.folder import Corpus
from lab.corpora.librispeech import HELD_OUT_CHAPTER
from lab.errors import LabError
from lab.language import SpeechTransformer, recurrentgemma
from lab.train import data, others, selection
from lab.train.batches import seed_of
from lab.train.compute import raise_together
from lab.train.language import LENGTHS, scale_of
from lab.train.loop import Compute
from lab.voice import SoundStorm

LONGEST = 36.0  # seconds of an utterance with its text: LibriSpeech's last up to 35
KEPT = 0.4  # of the machine's memory, at most, for the samples that tokenizer, codec and voice learn from
_SECOND = 2 * audio.SAMPLE_RATE  # bytes


@dataclass(frozen=True)
class Variant:
    """A language model that is not called after its kind: where it is set, the length of pieces and what it reads."""

    model: str
    length: str | None = None
    corpus: str | None = None


VARIANTS = {
    "griffin30": Variant("griffin", "30s"),  # the paper's ablation: it never saw more than 30 s at once
    "griffin-4min": Variant("griffin", "4min"),  # the paper's default; the bundle's went on to 16 minutes
    "griffin-16min": Variant("griffin", "16min", "long-stories"),  # and SpeechSSM-X: it saw 16 minutes
    "griffin-text": Variant("griffin"),  # it begins with a Griffin of text, as SpeechSSM with RecurrentGemma
}
LANGUAGE_MODELS = ("griffin", "transformer", *VARIANTS)  # of semantic tokens
SCALED = {*LANGUAGE_MODELS, *others.MODELS}  # of which there are presets


@dataclass(frozen=True)
class Recipe:
    """The models that the data of a model is made with.

    `part` names the model that the bundle has to hold already, of which only a part goes on learning. `alone`: it has
    codebooks that follow whole batches, or discriminators that look at them: one process trains it.
    """

    models: tuple[str, ...] = ()
    part: str | None = None
    alone: bool = False


RECIPES = {
    "tokenizer": Recipe(alone=True),
    "encoder": Recipe(part="tokenizer", alone=True),
    "ctc-head": Recipe(part="tokenizer", alone=True),
    "codec": Recipe(("tokenizer",), alone=True),
    "griffin": Recipe(("tokenizer",)),
    "griffin30": Recipe(("tokenizer",)),
    "transformer": Recipe(("tokenizer",)),
    "soundstorm": Recipe(("tokenizer", "codec")),
    "decoder": Recipe(("tokenizer",), part="codec", alone=True),
    "refiner": Recipe(("tokenizer",), part="codec"),
    "joint": Recipe(("tokenizer",), part="codec"),
}
RECIPES |= {name: Recipe(("tokenizer",)) for name in VARIANTS}
RECIPES["griffin-text"] = Recipe(("tokenizer", "text-griffin"))
RECIPES |= {name: Recipe(models, alone=not models) for name, models in others.MODELS.items()}
# What a bundle is made of, in order: the tokenizer's own recipe trains its parts.
WHOLE = ("tokenizer", "codec", "griffin", "griffin30", "transformer", "soundstorm", "decoder", "refiner", "joint")


def in_int8(name: str, model: nn.Module) -> bool:
    """Whether a bundle keeps a model in int8, which halves it: not the tokenizer and the codec, of which all else
    learns, nor Griffin, whose state is looked into."""
    return name == "griffin30" or isinstance(model, SpeechTransformer | SoundStorm)


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
        scale_of(self.preset)
        if self.warm and self.init:
            raise LabError(f"cannot begin with what the bundle has and with {self.init}; give --warm or --init")
        if self.steps is not None and self.steps < 1:
            raise LabError(f"cannot train for {self.steps} steps; give 1 or more")
        if self.hours is not None and not 0 < self.hours < float("inf"):
            raise LabError(f"cannot learn from {self.hours:g} hours of speech; give a positive number")
        if self.length is not None and self.length not in LENGTHS:
            raise LabError(f"cannot learn from pieces of {self.length!r}; give one of {', '.join(LENGTHS)}")

    def people(self, texts: bool = True) -> list[Utterance]:
        """Passages that people, and narrators who sound like people, read: of `narration` and of `readers`."""
        return self.passages() + self.readers(texts)

    def documents(self) -> list[narrated_folder.Document]:
        """Those of `narration`. Raises LabError where some are held out."""
        documents = narrated_folder.narrated(self.narration).documents if self.narration else []
        if held_out := sum(document.held_out for document in documents):
            raise LabError(f"{held_out} stories of {self.narration} are held out, and nothing learns from them")
        return documents

    def passages(self, cut: int = 0) -> list[Utterance]:
        """Of the documents of `narration`, each cut in one of many ways; those that can only be cut in one, at 0."""
        return [
            passage
            for number, document in enumerate(self.documents())
            if not cut or len(document.sentences) > 1
            for passage in document.passages(np.random.default_rng((number, cut)))
        ]

    def readers(self, texts: bool = True) -> list[Utterance]:
        """What can be learnt from below `speech`, but the chapter that figures are measured on, and of `corpus`, of
        which every nth document where not all would fit into memory.

        With `texts` only what has one, and of `corpus` what lasts no longer than a reader's sentences.
        """
        corpus = librispeech.corpus(self.speech, (HELD_OUT_CHAPTER,)) if self.speech else Corpus([])
        if self.recorded:
            found = [each for each in scan.documents(self.corpus, corpus.skipped) if each.split == "train"]
            hours = sum(each.seconds for each in found) / 3600
            room = KEPT * psutil.virtual_memory().total / _SECOND / 3600
            nth = max(1, math.ceil(hours / room))
            if nth > 1:
                some = f"one document in {nth} is learnt from, as {room:.3g} of its {hours:.3g} h fit into memory"
                console.print(f"{self.corpus}: {some}; language models learn from all")
            for document in found[::nth]:
                if texts and not document.text:
                    corpus.skipped.append(f"{document.id} has no text")
                elif texts and document.seconds > LONGEST:
                    told = (
                        f"{document.id} lasts {document.seconds:.0f} s, and {LONGEST:.0f} are learnt from with a text"
                    )
                    corpus.skipped.append(f"{told}; cut it at sentences")
                else:
                    corpus.recordings.append(document)  # type: ignore[arg-type]  # which is read as a recording is
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

    @property
    def tokenized(self) -> bool:
        """Whether the corpus is a shard, whose tokens are of some tokenizer."""
        return (Path(self.corpus) / shards.HEADER).exists()

    def options(self, name: str) -> dict[str, Any]:
        """What every recipe's `train` takes of the plan."""
        steps = {"steps": self.steps} if self.steps else {}
        settings = self.settings | self.scale(name)  # which run.toml tells, too
        own = {"seed": self.seed, "inputs": self.inputs(name), "compute": self.compute, "settings": settings}
        return own | steps

    def scale(self, name: str) -> dict[str, str]:
        """The preset and the length of pieces of a model that has them, as far as they are asked for."""
        found = {"preset": self.preset} if name in SCALED else {}
        return found | ({"length": self.length} if self.length and name in LANGUAGE_MODELS else {})

    def load(self, name: str) -> Any:
        """A model that the bundle has."""
        return bundle.load(self.bundle, name)

    def begin(self, name: str) -> Any:
        """The model to begin with, if one; where processes share it only the first one reads it, and the others have
        its shapes, on the meta device. Every process has to ask."""
        if name not in LANGUAGE_MODELS or not self.compute.shares:
            return self._begin(name)
        fabric, error, found = self.compute.fabric(), None, None
        try:
            found = self._begin(name, shapes=not fabric.is_global_zero)
        except LabError as failure:
            error = failure
        raise_together(fabric, error)
        return found

    def _begin(self, name: str, shapes: bool = False) -> Any:
        if self.init is None:
            return bundle.load(self.bundle, name, shapes) if self.warm else None
        if ((root := bundle.located(self.init)) / "bundle.json").exists():
            there = bundle.index(root)
            return bundle.load(root, name if name in there or name not in VARIANTS else VARIANTS[name].model, shapes)
        if name != "griffin":
            raise LabError(f"{name} cannot begin with {self.init}, which is no bundle; RecurrentGemma is for griffin")
        vocabulary = self.load("tokenizer").vocabulary
        return recurrentgemma.load(self.init, rope=False, vocabulary=vocabulary, seed=self.seed, shapes=shapes)

    def command(self, name: str) -> str:
        """What trains the same model anew."""
        words = ["lab", "train", name]
        asked: dict[str, Any] = {"steps": self.steps, "hours": self.hours, "seed": self.seed}
        if name not in LANGUAGE_MODELS and self.speech and self.speech != librispeech.find():
            asked["speech"] = self.speech.name  # the folder may lie elsewhere on another machine
        silent = name in LANGUAGE_MODELS and self.corpus not in data.READ
        if not silent and self.narration and self.narration != narrated_folder.find():
            asked["narration"] = self.narration.name
        asked |= {"corpus": self.corpus} | ({} if RECIPES[name].part else {"init": self.init})
        asked |= self.scale(name)
        for option, value in asked.items():
            if value != getattr(Plan, option, None):
                words += [f"--{option}", str(value)]
        for setting, value in self.settings.items():
            words += ["--set", f"{setting}={json.dumps(value)}"]
        return shlex.join(words + ["--warm"] * (self.warm and not RECIPES[name].part))

    def inputs(self, name: str) -> dict[str, str]:
        """What a model learns from: another story world, folder, tokenizer or codec has another digest."""
        recipe, language = RECIPES[name], name in LANGUAGE_MODELS
        speech = VARIANTS[name].corpus if name in VARIANTS else None
        speech = (speech or self.corpus) if language else "stories"
        read, sentences = data.READ.get(speech, (None, 0))
        found = {speech: shards.digest(read or speech), "hours": f"{self.hours or 'as the recipe has'}"}
        found |= ({"length": "as the preset has"} if language else {}) | self.scale(name)
        if not language:
            found |= {"readers": self.speech.name if self.speech else "none"}
            found |= {self.recorded: shards.digest(self.recorded)} if self.recorded else {}
        found |= {"narration": self.narration.name} if self.narration and (read or not language) else {}
        found |= {"init": self.init} if self.init else {}
        models = (*recipe.models, recipe.part or name) if self.warm or recipe.part else recipe.models
        if read:
            found["selected"] = selection.digest(self, sentences)
        return found | {model: bundle.fingerprint(self.load(model)) for model in models}

    def extent(self) -> dict[str, str]:
        """For how long, and how, as `inputs` says from what."""
        extent = {"steps": f"{self.steps or 'as the recipe has'}", "seed": f"{self.seed}"}
        return extent | ({"settings": f"{self.settings}"} if self.settings else {})
