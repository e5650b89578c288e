"""Named sets of prompts, each with how it really goes on (paper section 7): what no model of the bundle learnt from.

| set | prompt | by default to |
| --- | --- | --- |
| stories | the first 10 s of held-out stories of the story world, read by held-out narrators | 4 min |
| development | other such stories, for choices: no figure is measured on them | 4 min |
| narrated | the first 10 s of such stories by human-like voices, `lab narrate FOLDER --held-out` | 4 min |
| narrated-development | the first 3 s of others, for choices, `lab narrate FOLDER --development` | 13 s |
| librispeech | the first 3 s of utterances of 10 s or more | 10 s |
| librispeech-long | the first 10 s of readings of 3.5 min or more | 4 min |

Of LibriSpeech those chapters serve that are below a folder test-* or dev-*, or the one held out of our excerpt.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import soundfile as sf

from lab import audio
from lab.audio import SAMPLE_RATE, Waveform
from lab.corpora import folder, librispeech, librispeech_long, narrated_folder, narration, splits, storyworld
from lab.corpora.utterance import Recording, Utterance
from lab.errors import LabError
from lab.evaluate.examples import Example, Examples, Sound

PROMPT_SECONDS = {
    "stories": 10.0,
    "development": 10.0,
    "narrated": 10.0,
    "narrated-development": 3.0,
    "librispeech": 3.0,
    "librispeech-long": 10.0,
}
# Of prompt and continuation together.
SECONDS = {
    "stories": 240.0,
    "development": 240.0,
    "narrated": 240.0,
    "narrated-development": 13.0,
    "librispeech": 10.0,
    "librispeech-long": 240.0,
}
MADE = ("stories", "development")  # here and now, out of no folder of speech
LONG = 210.0  # seconds of a reading of librispeech-long, at least
_SENTENCES = 30  # more than any held-out narrator reads in a minute


def examples(name: str, count: int, seconds: float, speech: Path | None = None, seed: int = 0) -> Examples:
    """The first `count` of a set; the seed of each is `seed` and its number. `seconds`: of prompt and continuation.

    Raises LabError for another set, a length no longer than the prompt, and a set that is not here.
    """
    if name not in PROMPT_SECONDS:
        raise LabError(f"there is no set {name!r}; there are {', '.join(PROMPT_SECONDS)}")
    if count < 1:
        raise LabError(f"cannot score {count} samples; give 1 or more")
    if not PROMPT_SECONDS[name] + 1 <= seconds < math.inf:
        least = f"the prompts of {name} last {PROMPT_SECONDS[name]:g} s"
        raise LabError(f"cannot go on to {seconds:g} s: {least}; give a second more at least")
    if name in MADE:
        first = splits.DEVELOPMENT[splits.WATCHED] if name == "development" else 0
        return Examples(name, [_story(first + number, seconds, seed + number) for number in range(count)])
    if name in ("narrated", "narrated-development"):
        return _narrated(name, speech, count, seconds, seed)
    found = _readings(name, speech)
    prompt = PROMPT_SECONDS[name]
    found.recordings = found.recordings[:count]
    if not found.recordings:
        raise LabError(f"{speech} has no reading for {name} that no model learnt from; give --speech test-clean")
    return Examples(
        name,
        [
            Example(recording.name, partial(_cut, recording.read, prompt, seconds), seed + number, recording.text)
            for number, recording in enumerate(found.recordings)
        ],
        found.skipped,
    )


def _story(number: int, seconds: float, seed: int) -> Example:
    told = storyworld.story(narration.held_out_seed(number), sentences := _sentences(seconds))
    read = partial(narration.held_out_story, number, sentences=sentences)
    text = storyworld.normalize(told.text)
    return Example(f"story-{number:04}", partial(_cut, read, PROMPT_SECONDS["stories"], seconds), seed, text, told.cast)


def _narrated(name: str, root: Path | None, count: int, seconds: float, seed: int) -> Examples:
    numbers = splits.DEVELOPMENT if name == "narrated-development" else splits.STORIES
    found, prompt = narrated_folder.held_out(root, numbers), PROMPT_SECONDS[name]
    return Examples(
        name,
        [
            Example(
                document.path.stem,
                partial(_cut, document.read, prompt, seconds),
                seed + number,
                storyworld.normalize(" ".join(sentence.text for sentence in document.sentences)),
                storyworld.story(document.seed, len(document.sentences)).cast,  # type: ignore[arg-type]
            )
            for number, document in enumerate(found.documents[:count])
        ],
        found.skipped,
    )


def _sentences(seconds: float) -> int:
    return max(40, math.ceil(_SENTENCES * seconds / 60))  # of 40 the last 30 may be its ending


def _cut(read: Callable[[], Utterance], prompt: float, seconds: float) -> Sound:
    waveform: Waveform = audio.set_level(read().samples())
    first, last = round(prompt * SAMPLE_RATE), round(seconds * SAMPLE_RATE)
    if len(waveform) <= first + SAMPLE_RATE:
        raise LabError(f"a reading of {len(waveform) / SAMPLE_RATE:.1f} s does not go on after {prompt:g} s")
    return Sound(waveform[:first], reference=waveform[first:last])


def _readings(name: str, speech: Path | None) -> folder.Corpus:
    """Those long enough for the whole of a short continuation, or for 3.5 min of a long one."""
    if speech is None:
        raise LabError(f"{name} needs LibriSpeech: give --speech FOLDER or set LAB_LIBRISPEECH")
    least = SECONDS[name] if name == "librispeech" else LONG
    official = name == "librispeech-long" and not list(speech.rglob("*.trans.txt"))
    if official:  # the archive: texts beside the files
        found = folder.corpus(speech, source="librispeech", texts=True)
    elif name == "librispeech":
        found = librispeech.corpus(speech)
    else:
        found = librispeech_long.build(speech)
    serve = [each for each in found.recordings if _unseen(each) and _seconds(each) >= least]
    return folder.Corpus(serve, found.skipped)


def _unseen(recording: Recording) -> bool:
    parts = recording.paths[0].parts
    return parts[-2] == librispeech.HELD_OUT_CHAPTER or any(part.startswith(("test-", "dev-")) for part in parts)


def _seconds(recording: Recording) -> float:
    try:
        return sum(sf.info(path).duration for path in recording.paths)
    except sf.SoundFileError:  # reading it will say what is wrong
        return math.inf
