"""A bundle from minutes of speech in minutes: the tiny model of each kind, over the loop that trains the large ones.

It shows the road from a corpus to a voice and speaks badly: the recipes give each model some forty minutes and a
hundred times the weights.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from lab import bundle, machine
from lab.corpora import Utterance, folder, narration, narrators
from lab.corpora.shards import encode
from lab.errors import LabError
from lab.tokens import Tokenizer, TokenizerConfig
from lab.train import codec, language, soundstorm, tokenizer
from lab.train.loop import Compute, Schedule, fit
from lab.voice import VoicePrompt

MODELS = ("tokenizer", "codec", "griffin", "soundstorm")  # in the order in which they need each other
STEPS = {"tokenizer": 500, "codec": 600, "griffin": 400, "soundstorm": 500}
SHORTEST = 3.0  # seconds of a recording: the voice is told who speaks by as much


def narrated(seconds: float, voices: int = 2) -> list[Utterance]:
    """Passages of training stories, `seconds` of speech or a little more, read by the first named narrators in turn."""
    made: list[Utterance] = []
    number = 0
    while sum(utterance.seconds for utterance in made) < seconds:
        passage = narration.passage(narration.training_seed(number), np.random.default_rng((0x5A11, number)))
        utterance = narration.utterance(passage, narrators.NAMED[len(made) % voices])
        number += 1
        if utterance.seconds >= SHORTEST + 1:
            made.append(utterance)
    return made


def recorded(root: Path | str, most: float = 600.0) -> list[Utterance]:
    """The recordings below `root` that have a text and last 3 s or more, up to `most` seconds of them in all.

    Raises LabError where there is no such folder, or none that can serve.
    """
    corpus = folder.corpus(Path(root), texts=True)
    found: list[Utterance] = []
    for utterance in corpus:
        if utterance.seconds >= SHORTEST and sum(kept.seconds for kept in found) < most:
            found.append(utterance)
    if not found:
        why = corpus.skipped[0] if corpus.skipped else "all are shorter than 3 s"
        raise LabError(f"nothing below {root} can be learnt from: {why}; put name.txt with its text beside name.wav")
    return found


def train(
    corpus: Sequence[Utterance],
    root: Path,
    work: Path,
    *,
    steps: Mapping[str, int] = STEPS,
    seed: int = 0,
    compute: Compute | None = None,
) -> dict[str, dict[str, float]]:
    """Train the models of MODELS on `corpus`, in `work`, into the bundle at `root`: the last figures of each.

    What was stopped goes on, and what is complete is read. Raises LabError for a corpus that is too small, and where
    `work` holds models of another corpus.
    """
    compute = compute or Compute()
    told: dict[str, dict[str, float]] = {}
    heard = sum(utterance.seconds for utterance in corpus)
    said = "\n".join(
        f"{utterance.narrator}: {utterance.text}" for utterance in corpus
    )  # espeak-ng never reads it alike
    inputs = {"speech": f"{len(corpus)} utterances {hashlib.sha256(said.encode()).hexdigest()[:12]}"}

    def keep(name: str, model: nn.Module, figures: dict[str, float]) -> None:
        told[name] = figures
        voices = len({utterance.narrator for utterance in corpus})
        bundle.save(root, name, model, _card(f"{heard / 60:.1f} min of speech by {voices} voices", figures))

    torch.manual_seed(seed)
    hears = Tokenizer(TokenizerConfig.preset("tiny"))
    figures = fit(
        tokenizer.Learner(hears),
        tokenizer.loss_of,
        tokenizer.batches([(each, each) for each in corpus], [], 4, seed, lambda step: 0.1),
        schedule=Schedule(steps["tokenizer"], learning_rate=4e-3, warmup=20),
        folder=work / "tokenizer",
        seed=seed,
        inputs=inputs,
        compute=compute,
    )
    keep("tokenizer", hears, figures)
    sounds, figures = codec.train(
        corpus, work / "codec", preset="tiny", steps=steps["codec"], batch=6, seconds=0.5, seed=seed, inputs=inputs,
        compute=compute,
    )  # fmt: skip
    keep("codec", sounds, figures)

    takes: defaultdict[str, list[VoicePrompt]] = defaultdict(list)
    for utterance in corpus:
        tokens, codes = (torch.from_numpy(part) for part in encode(utterance.samples(), hears, sounds))
        takes[utterance.narrator].append(VoicePrompt(tokens, codes))
    documents = [take.tokens.numpy() for group in takes.values() for take in group]
    vocabulary = hears.config.codes
    model, figures = language.train(
        language.TokenStream.of(documents), documents[:4], work / "griffin", preset="tiny", vocabulary=vocabulary,
        steps=steps["griffin"], seed=seed, inputs=inputs, compute=compute,
    )  # fmt: skip
    keep("griffin", model, figures)
    speaks, figures = soundstorm.train(
        list(takes.values()), work / "soundstorm", preset="tiny", vocabulary=vocabulary, steps=steps["soundstorm"],
        batch=4, seed=seed, inputs=inputs, compute=compute,
    )  # fmt: skip
    keep("soundstorm", speaks, figures)
    return told


def _card(data: str, figures: dict[str, float]) -> dict[str, Any]:
    """Of a model card what the figures tell."""
    last = {name: round(value, 4) for name, value in figures.items() if name not in ("steps", "minutes")}
    return {
        "data": data,
        "steps": int(figures["steps"]),
        "minutes": round(figures["minutes"], 1),
        "machine": machine.name(),
        "at_the_end": last,
    }
