"""The README's picture, from the bundle that ships: `make pictures`."""

from __future__ import annotations

from pathlib import Path

from lab.corpora.prompts import prompts
from lab.speech import SpeechSSM
from lab.view.figures import story

FOLDER = Path(__file__).parents[2] / "data" / "pictures"


def make() -> Path:
    """data/pictures/story.png: the first prompt and 40 s of its continuation."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / "story.png"
    story(SpeechSSM.load().continue_(prompts()[0].path, 40, seed=1)).write_image(path, width=1000, height=440)
    return path


if __name__ == "__main__":
    print(make())
