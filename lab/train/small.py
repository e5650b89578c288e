"""A bundle from minutes of speech in minutes: the tiny model of each kind, over the loop that trains the large ones.

It shows the road from a corpus to a voice and speaks badly: the recipes give each model some forty minutes and a
hundred times the weights.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from lab import bundle
from lab.corpora import Utterance, folder, narration, narrators
from lab.errors import LabError
from lab.tokens import Tokenizer, TokenizerConfig
from lab.train import codec, ctc_head, language, soundstorm, tokenizer
from lab.train.batches import seed_of
from lab.train.loop import Compute, Schedule, fit
from lab.train.recipes import card

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
    options: dict[str, Any] = {"seed": seed, "compute": compute or Compute()}
    texts = "\n".join(f"{utterance.narrator}: {utterance.text}" for utterance in corpus)  # espeak-ng varies the sound
    digest = hashlib.sha256(texts.encode()).hexdigest()[:12]
    options["inputs"] = {"speech": f"{len(corpus)} utterances {digest}"}
    minutes, voices = sum(each.seconds for each in corpus) / 60, len({each.narrator for each in corpus})
    data = f"{minutes:.1f} min of speech by {voices} voices"
    all_figures: dict[str, dict[str, float]] = {}

    def keep(name: str, model: nn.Module, figures: dict[str, float]) -> None:
        all_figures[name] = figures
        bundle.save(root, name, model, card(data, figures))

    torch.manual_seed(seed_of(seed))
    hears = Tokenizer(TokenizerConfig.preset("tiny"))
    figures = fit(
        tokenizer.Learner(hears),
        ctc_head.loss_of,
        tokenizer.batches([(each, each) for each in corpus], 4, seed, lambda step: 0.1),
        schedule=Schedule(steps["tokenizer"], learning_rate=4e-3, warmup=20),
        folder=work / "tokenizer",
        **options,
    )
    keep("tokenizer", hears, figures)
    examples = codec.examples(corpus, hears)
    sounds, figures = codec.train(examples, work / "codec", preset="tiny", steps=steps["codec"], batch=6, **options)
    keep("codec", sounds, figures)

    encoded = soundstorm.spoken(corpus, hears, sounds)
    documents = [each.tokens.numpy() for group in encoded for each in group]
    options |= {"preset": "tiny", "vocabulary": hears.config.codes}
    stream, held_out = language.TokenStream.of(documents), documents[:4]
    keep("griffin", *language.train(stream, held_out, work / "griffin", steps=steps["griffin"], **options))
    voice = soundstorm.train(encoded, work / "soundstorm", steps=steps["soundstorm"], batch=4, **options)
    keep("soundstorm", *voice)
    return all_figures
