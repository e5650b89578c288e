"""Which of the checkpoints that a run kept becomes the model, chosen as in the paper (section 7).

Each goes on from the same prompts, and a recognizer writes down what is heard: the one whose transcripts a language
model of text finds likeliest is taken. Held-out loss, which they are kept by, says nothing of how a model that reads
its own tokens fares after minutes.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import nn

from lab import bundle
from lab.console import console
from lab.errors import LabError
from lab.evaluate import run, systems
from lab.evaluate.ears import Ears
from lab.evaluate.examples import Examples
from lab.evaluate.results import Results, Row
from lab.train import kept
from lab.train.kept import Kept
from lab.train.plan import in_int8

MOST = 5  # as many as the paper had


@dataclass(frozen=True)
class Judged:
    checkpoint: Kept
    perplexity: float  # ASR-PPL in nats a token, the mean over the samples; infinite where one has no word


def judge(
    name: str,
    work: Path,
    root: Path,
    samples: Examples,
    seconds: float,
    ears: Ears,
    *,
    temperature: float = 1.0,
    device: str | None = None,
    command: str = "",
) -> list[Judged]:
    """The checkpoints of the model `name` that its run kept in `work`, the best first, at most MOST of them.

    The other models are those of the bundle at `root`. `seconds` of prompt and continuation. What was judged lies in
    `work`, in a file for each set of judges, and a choice that was stopped goes on from there. Raises LabError where
    none was kept, where one does not fit the bundle, and without a recognizer and a language model of text.
    """
    if not ears.language_models:
        raise LabError("nobody judges transcripts; give --ears with both, such as whisper:base.en,lm:PATH")
    if not (found := kept.of(work)[:MOST]):
        raise LabError(f"no checkpoint is kept in {work}; train with --set keep=5, or give another --work")
    digest = hashlib.sha256(json.dumps(ears.provenance(), sort_keys=True).encode()).hexdigest()
    results = Results.load(work / f"choice-{digest[:8]}.json")
    key = f"ASR-PPL ({ears.language_models[0].name})"
    judged = []
    for checkpoint in found:
        with _beside(name, checkpoint, root) as trial:
            system = systems.load(name, trial, temperature, device)
            called = f"{name}, step {checkpoint.step} ({system.weights.get(name, '')[:6]})"
            asked = Row(called, samples.name, seconds, temperature, 0, system.weights, ears.provenance(), command)
            row = run.run(results, ears, samples, asked, system)
        told = [sample for example in samples if (sample := row.sample(example.name))]
        values = [sample["values"].get(key, math.inf) for sample in told]
        judged.append(Judged(checkpoint, sum(values) / len(values)))
        console.print(
            f"step {checkpoint.step}: held-out loss {checkpoint.figure:.4g}, {key} {judged[-1].perplexity:.4g}"
        )
    return sorted(judged, key=lambda each: (each.perplexity, each.checkpoint.figure))


def put(name: str, judged: Sequence[Judged], root: Path, about: Mapping[str, Any]) -> dict[str, Any]:
    """Puts the first of `judged` into the bundle at `root`: its card, which tells of all of them and what is `about`
    the choice."""
    best = judged[0]
    entry = bundle.index(root)[name]
    model = _loaded(name, best.checkpoint, root)
    each = {f"{one.checkpoint.step}": round(one.perplexity, 4) for one in judged if math.isfinite(one.perplexity)}
    card = entry["card"] | {"steps": best.checkpoint.step, "chosen": {**about, "perplexity_after_step": each}}
    bundle.save(root, name, model, card, int8=in_int8(name, model))
    return card


def _loaded(name: str, checkpoint: Kept, root: Path) -> nn.Module:
    entries = bundle.index(root)
    if name not in entries:
        raise LabError(f"the bundle in {root} has no {name}; train it first, or give the bundle that it is in")
    model = bundle.build(name, entries[name])
    try:
        model.load_state_dict(checkpoint.weights())
    except RuntimeError as error:
        said = " ".join(str(error).split())[:200]
        raise LabError(
            f"{checkpoint.path} is of another {name} than {root} has ({said}); give another --work"
        ) from None
    return model


@contextmanager
def _beside(name: str, checkpoint: Kept, root: Path) -> Iterator[Path]:
    """The bundle at `root` with the weights of a checkpoint, for a while."""
    model = _loaded(name, checkpoint, root)
    with TemporaryDirectory() as folder:
        trial = Path(folder)
        shutil.copy(root / "bundle.json", trial)
        for path in root.glob("*.safetensors"):
            if path.stem != name:
                (trial / path.name).symlink_to(path.resolve())
        bundle.save(trial, name, model, bundle.index(root)[name]["card"])
        yield trial
