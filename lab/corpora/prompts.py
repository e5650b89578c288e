"""The prompts in data/prompts: the first sentences of held-out stories, read by Kokoro's voices (Apache-2.0).

Two of the voices, `kokoro.HELD_OUT`, no model here has learnt from.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from lab import audio
from lab.corpora import narration, splits, storyworld
from lab.corpora.kokoro import KokoroNarrator
from lab.errors import LabError
from lab.paths import data_folder

FOLDER = data_folder() / "prompts"
_VOICES = ("af_heart", "am_michael", "bf_emma", "bm_george", "bf_lily", "am_eric")


@dataclass(frozen=True)
class Prompt:
    name: str
    text: str
    narrator: str  # a voice of Kokoro's
    story: int  # seed
    seconds: float

    @property
    def hero(self) -> str:
        return self.name.split("_")[0]

    @property
    def path(self) -> Path:
        return FOLDER / f"{self.name}.flac"


def prompts() -> list[Prompt]:
    """What ships. Raises LabError where there is nothing."""
    try:
        return [Prompt(**entry) for entry in json.loads((FOLDER / "prompts.json").read_text())]
    except FileNotFoundError:
        raise LabError(f"there are no prompts in {FOLDER}; make them by `python -m lab.corpora.prompts`") from None


def make() -> list[Prompt]:
    """Read the prompts anew: for each narrator a held-out story of a new hero whose opening lasts 9.5 to 10.5 s."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    made: list[Prompt] = []
    number = iter(splits.PROMPTS)
    for voice in _VOICES:
        told = {prompt.hero for prompt in made}
        made.append(
            next(prompt for prompt in map(partial(_opening, voice), number) if prompt and prompt.hero not in told)
        )
        audio.save(made[-1].path, KokoroNarrator(voice).read(made[-1].text))
    (FOLDER / "prompts.json").write_text(json.dumps([asdict(prompt) for prompt in made], indent=1) + "\n")
    return made


def _opening(voice: str, number: int) -> Prompt | None:
    """The first sentences of held-out story `number`, if they last about 10 s."""
    seed = narration.held_out_seed(number)
    story = storyworld.story(seed, 20)
    for count in (3, 4, 5):
        text = " ".join(story.sentences[:count])
        if not 130 < len(text) < 190:  # far from 10 s
            continue
        seconds = len(KokoroNarrator(voice).read(text)) / audio.SAMPLE_RATE
        if 9.5 <= seconds <= 10.5:
            return Prompt(f"{story.cast.hero}_by_{voice[3:]}", text, voice, seed, round(seconds, 2))
    return None


if __name__ == "__main__":
    make()
