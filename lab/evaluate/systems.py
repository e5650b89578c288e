"""Who goes on from a prompt: a language model of the bundle, with or without restarts, or a stage of the voice.

griffin             a language model of the bundle by its name; the Transformer as the paper's: without a restart,
transformer         inside and beyond its training length
transformer+3s      slide-and-prompt: where its training length is full it starts again from the newest 3 s
transformer+10s     or 10 s
transformer+window  or all that leaves room for 3 s of new speech
gslm                the paper's other systems (`lab.others`): they refuse more than their own length; +3s, +10s and
twist, spiritlm,    +window as above
spiritlm-base,
audiolm
audiolm-refined     the codec's refiner in place of AudioLM's fine stage
codec               the reference through the codec alone, all its levels
codec+1             or the first of them, or 2, ...: what the levels above it are for
voice               the tokens of the reference, spoken in the voice of the prompt
voice+1             in one pass of level 1, or 2, ...: what the others are for
voice-live          in the windows of `lab story`, which begin with 2 s: what the seams between the first ones cost
gslm-voice          the units of the reference, as long as they last, in the one voice: what a continuation's words can
twist-voice         be understood by at best; Spirit LM's is TWIST's
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from lab import bundle, windows
from lab.audio import Waveform
from lab.errors import LabError
from lab.evaluate.examples import Example, Sound
from lab.measure.zero_resource import log_likelihood
from lab.others.audiolm import AudioLM
from lab.others.continuation import Continues, check_total
from lab.others.gslm import GSLM
from lab.others.spiritlm import SpiritLM
from lab.others.twist import TWIST
from lab.speech import TEMPERATURE, SpeechSSM
from lab.tokens import TOKEN_RATE

TRUTH = "ground truth"
NEW = 3 * TOKEN_RATE  # tokens between two restarts from the whole window
OTHERS: dict[str, Callable[[Callable[[str], Any]], Continues]] = {
    "gslm": lambda load: GSLM.of(load, "gslm", "gslm"),
    "twist": lambda load: TWIST.of(load, "twist", "twist"),
    "spiritlm": lambda load: SpiritLM.of(load, "spiritlm", "twist"),  # the same units and voice
    "spiritlm-base": lambda load: SpiritLM.of(load, "spiritlm-base", "twist"),
    "audiolm": AudioLM.of,
    "audiolm-refined": partial(AudioLM.of, refined=True),
}
# The best of those tried on development prompts; AudioLM's is its paper's.
_BEST = {"gslm": 0.4, "twist": 0.4, "spiritlm": 0.5, "spiritlm-base": 0.5, "audiolm": 0.6, "audiolm-refined": 0.6}
ONE_VOICES = ("gslm-voice", "twist-voice")
_WINDOWS: dict[str, windows.Windowing | windows.Growing] = {"voice": windows.SYNTHESIS, "voice-live": windows.LIVE}
_RESTARTS, _WHOLE_WINDOW = {"3s": 3 * TOKEN_RATE, "10s": 10 * TOKEN_RATE}, "window"


@dataclass(frozen=True)
class System:
    """`go_on`: an example, its sound and how many seconds to add -> a waveform (N,) that follows the prompt."""

    name: str
    temperature: float | None  # None: nothing is sampled from a language model
    weights: dict[str, str]  # of `bundle.digests`, of the models that decide what is heard
    go_on: Callable[[Example, Sound, float], Waveform]
    trained: float | None = None  # seconds of the longest speech that its language model learnt from
    likelihood: Callable[[Waveform], tuple[float, int]] | None = None  # nats of a waveform (N,), and of how many tokens


def usual(name: str) -> float:
    """The temperature that a system speaks with where nobody asks for another: of ours that of `lab story`, of the
    others the best on development prompts. Systems are compared at it; `load` samples at that of a system's paper."""
    return _BEST.get(name.partition("+")[0], TEMPERATURE)


def unrestarted(name: str) -> str:
    """The system that a name with a restart is of: the same models, made longer. Stages stay what they are."""
    kind, _, rest = name.partition("+")
    return kind if rest in (*_RESTARTS, _WHOLE_WINDOW) else name


def load(
    name: str,
    root: Path,
    temperature: float | None = None,
    device: str | None = None,
    seconds: float | None = None,
) -> System:
    """A system of the bundle at `root`. temperature: by default that of its own paper. seconds: of prompt and
    continuation, that it will be asked for. Raises LabError for a system that it has not, and for one that refuses
    so many."""
    kind, _, rest = name.partition("+")
    if kind in OTHERS:
        return _other(name, root, temperature, device, seconds)
    if name in ONE_VOICES:
        return _units_spoken(name, root, device)
    stage = kind in ("codec", *_WINDOWS)
    if not stage and kind not in bundle.index(root):
        known = ", ".join([*OTHERS, *ONE_VOICES, "codec", *_WINDOWS])
        raise LabError(f"there is no system {name!r}; there are {known}, and language models of the bundle in {root}")
    language, restart = ("griffin", "") if stage else (kind, rest)
    ssm = SpeechSSM.load(root, language=language, device=device)
    digests = bundle.digests(root)
    models = ("codec",) if kind == "codec" else ("tokenizer", "soundstorm", "codec", *([] if stage else [language]))
    weights = {model: digests[model] for model in models}
    if stage:
        how = _through_codec if kind == "codec" else _spoken_again
        return System(name, None, weights, how(ssm, name, rest))
    temperature = 1.0 if temperature is None else temperature
    go_on = _continued(ssm, temperature, _slide(name, restart, ssm.language.context))
    piece = bundle.index(root)[language]["card"].get("at_the_end", {}).get("piece", ssm.language.context)
    return System(
        name,
        temperature,
        weights,
        go_on,
        piece and piece / TOKEN_RATE,
        lambda waveform: log_likelihood(ssm.language, ssm.tokenizer.encode(waveform)),
    )


def _loading(root: Path, device: str | None) -> tuple[Callable[[str], Any], dict[str, str]]:
    """What loads a model by its name, and the digests of those that it has loaded."""
    digests, weights = bundle.digests(root), {}

    def load(model: str) -> Any:
        found = bundle.load(root, model)
        weights[model] = digests[model]
        return found if device is None else found.to(device)

    return load, weights


def _units_spoken(name: str, root: Path, device: str | None) -> System:
    load, weights = _loading(root, device)
    units, one_voice, codec = load(f"{name.partition('-')[0]}-units"), load(name), load("codec")

    def go_on(example: Example, sound: Sound, seconds: float) -> Waveform:
        whole = _whole(sound)
        return one_voice.speak(units.encode(whole).cpu(), codec)[len(sound.prompt) : len(whole)]

    return System(name, None, weights, go_on)


def _other(name: str, root: Path, temperature: float | None, device: str | None, asked: float | None) -> System:
    kind, _, restart = name.partition("+")
    load, weights = _loading(root, device)
    system = OTHERS[kind](load)
    temperature = system.temperature if temperature is None else temperature
    slide = _slide(name, restart, round(TOKEN_RATE * system.longest))
    seconds = None if slide is None else slide / TOKEN_RATE
    if asked is not None:
        check_total(system.name, asked, system.longest, seconds)

    def go_on(example: Example, sound: Sound, new: float) -> Waveform:
        return system.go_on(sound.prompt, new, seed=example.seed, temperature=temperature, slide=seconds).waveform

    def likelihood(waveform: Waveform) -> tuple[float, int]:
        return log_likelihood(system.language, system.read(waveform))

    return System(name, temperature, weights, go_on, system.longest, likelihood)


def _slide(name: str, restart: str, context: int | None) -> int | None:
    if not restart:
        return None
    if context is None:
        raise LabError(f"{name}: a state of fixed size has no length to fill; leave out +{restart}")
    if restart not in (*_RESTARTS, _WHOLE_WINDOW):
        raise LabError(f"{name}: there is no restart {restart!r}; there are {', '.join(_RESTARTS)} and {_WHOLE_WINDOW}")
    return _RESTARTS[restart] if restart in _RESTARTS else max(1, context - NEW)


def _continued(ssm: SpeechSSM, temperature: float, slide: int | None) -> Callable[[Example, Sound, float], Waveform]:
    def go_on(example: Example, sound: Sound, seconds: float) -> Waveform:
        story = ssm.generate(sound.prompt, seconds, seed=example.seed, temperature=temperature, slide=slide)
        return story.waveform[len(sound.prompt) :]

    return go_on


def _through_codec(ssm: SpeechSSM, name: str, levels: str) -> Callable[[Example, Sound, float], Waveform]:
    kept = [str(level) for level in range(1, ssm.voice.codec.levels + 1)]
    if levels not in ("", *kept):
        raise LabError(f"{name}: the codec has no {levels!r} levels; it has {', '.join(kept)}")
    depth = int(levels) if levels else None

    def go_on(example: Example, sound: Sound, seconds: float) -> Waveform:
        return ssm.voice.through_codec(_whole(sound), depth)[len(sound.prompt) :]

    return go_on


def _spoken_again(ssm: SpeechSSM, name: str, passes: str) -> Callable[[Example, Sound, float], Waveform]:
    if name not in _WINDOWS and not (passes.isdecimal() and int(passes)):
        raise LabError(f"{name}: the voice takes no {passes!r} passes; give voice+1, voice+2, ..., or voice")
    above = [1] * (ssm.voice.soundstorm.config.levels - 1)  # one pass for each, as by default
    iterations = (int(passes), *above) if passes else None

    def go_on(example: Example, sound: Sound, seconds: float) -> Waveform:
        whole = _whole(sound)
        tokens = ssm.tokenizer.encode(whole)
        voice = ssm.voice.prompt(sound.prompt, ssm.tokenizer.encode(sound.prompt))
        windowing = _WINDOWS[name.partition("+")[0]]
        spoken = ssm.voice.speak(tokens, voice, example.seed, iterations=iterations, windowing=windowing)
        return spoken[len(sound.prompt) : len(whole)]

    return go_on


def _whole(sound: Sound) -> Waveform:
    if sound.reference is None:
        raise LabError("there is no reference to speak again")
    return np.concatenate([sound.prompt, sound.reference])
