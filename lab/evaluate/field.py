"""Every system goes on from the prompts that ship, to be heard on one clock: what `data/field` keeps, or made now.

    field.json           system -> its temperature, weights and, of each prompt, predicted MOS of every 5 s
    SYSTEM/PROMPT.opus    the continuation alone, 30 s

`python -m lab.evaluate.field distillmos:PATH gslm+3s twist+3s` keeps those systems of the bundle in use (LAB_BUNDLE),
judged by that predictor. What is neither kept nor in the bundle is named with the command that trains it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import soundfile

from lab import audio, bundle, judges
from lab.audio import SAMPLE_RATE, Waveform
from lab.corpora.prompts import Prompt, prompts
from lab.errors import LabError
from lab.evaluate import systems
from lab.evaluate.examples import Example, Sound
from lab.files import made, replacing
from lab.judges.protocols import MOSPredictor
from lab.paths import data_folder

FOLDER = data_folder() / "field"
SECONDS, SPAN = 30.0, 5.0  # of a continuation, and of what a predictor of MOS hears at a time


class Asked(NamedTuple):
    command: str  # that trains it
    last: str  # of its models in a bundle


SYSTEMS = {
    "griffin": Asked("lab train griffin", "griffin"),
    "transformer+3s": Asked("lab train transformer", "transformer"),
    "gslm+3s": Asked("lab train gslm", "gslm-language"),
    "twist+3s": Asked("lab train twist", "twist-language"),
    "spiritlm+3s": Asked("lab train spiritlm", "spiritlm-language"),
    "audiolm-refined+3s": Asked("lab train audiolm", "audiolm-coarse"),  # its own fine codes are not understood
}


class Heard(NamedTuple):
    waveform: Waveform  # (N,) the prompt, and how it was gone on with
    mos: list[float]  # of every SPAN after the prompt; empty where nobody judged it
    kept: bool  # in the folder; made now otherwise


class Field(NamedTuple):
    heard: dict[str, Heard]
    missing: list[str]  # a line for each system that nobody has made


def field(prompt: Prompt, seconds: float = SECONDS, root: Path | None = None, folder: Path = FOLDER) -> Field:
    """How all systems go on from a prompt: kept ones, and those of the bundle at `root` (that in use), made now.

    Raises LabError for a folder or a bundle that is damaged.
    """
    root, before = root or bundle.folder(), audio.set_level(audio.load(prompt.path))
    index, there, found, missing = _index(folder), bundle.index(root), {}, []
    for system, asked in SYSTEMS.items():
        if prompt.name in (clips := index.get(system, {}).get("clips", {})):
            after = audio.load(folder / system / f"{prompt.name}.opus")[: round(seconds * SAMPLE_RATE)]
            found[system] = Heard(_joined(before, after), clips[prompt.name][: int(seconds // SPAN)], True)
            continue
        if asked.last not in there:
            missing.append(f"{system.partition('+')[0]} is not made yet: `{asked.command}`, and LAB_BUNDLE=runs/bundle")
            continue
        after = _goes_on(systems.load(system, root, systems.usual(system)), prompt, before, seconds)
        found[system] = Heard(_joined(before, after), [], False)
    return Field(found, missing)


def keep(asked: Sequence[str], judge: MOSPredictor, root: Path, folder: Path = FOLDER) -> None:
    """Have systems of the bundle at `root` go on from all prompts, and keep that. Raises LabError as they do."""
    if unknown := [name for name in asked if name not in SYSTEMS]:
        raise LabError(f"there is no {unknown[0]!r} in the field; there are {', '.join(SYSTEMS)}")
    for name in asked:
        system, clips = systems.load(name, root, systems.usual(name)), {}
        for prompt in prompts():
            before = audio.set_level(audio.load(prompt.path))
            after = audio.set_level(_goes_on(system, prompt, before, SECONDS))
            span = round(SPAN * SAMPLE_RATE)
            clips[prompt.name] = [
                round(float(judge.predict_mos(after[at : at + span])), 2)
                for at in range(0, len(after) - span + 1, span)
            ]
            with replacing(made(folder / name) / f"{prompt.name}.opus") as part:  # 2 kB a second
                soundfile.write(part, after, SAMPLE_RATE, format="OGG", subtype="OPUS", compression_level=0.96)
        about = {"temperature": system.temperature, "weights": system.weights, "judge": judge.name, "clips": clips}
        index = _index(folder) | {name: about}
        with replacing(folder / "field.json") as part:
            part.write_text(json.dumps(index, indent=1, sort_keys=True) + "\n")


def _index(folder: Path) -> dict[str, Any]:
    try:
        return json.loads((folder / "field.json").read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise LabError(f"{folder / 'field.json'} is damaged ({error}); restore it from the repository") from None


def _goes_on(system: systems.System, prompt: Prompt, before: Waveform, seconds: float) -> Waveform:
    sound = Sound(before)
    return system.go_on(Example(prompt.name, lambda: sound), sound, seconds)


def _joined(before: Waveform, after: Waveform) -> Waveform:
    return audio.join(before, audio.set_level(after), 0)


if __name__ == "__main__":
    spec, *names = sys.argv[1:]
    keep(names, judges.load(spec), bundle.folder())
