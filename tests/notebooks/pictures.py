"""The README's pictures, and the story that one of them is of, from the bundle that ships and what `lab bench` saved:
`make pictures`."""

from __future__ import annotations

import json

import soundfile as sf

from lab.audio import SAMPLE_RATE
from lab.corpora.prompts import prompts
from lab.paths import data_folder
from lab.speech import SpeechSSM
from lab.view.figures import timeline
from lab.view.speed import efficiency, saved
from tests.notebooks.static import plotly, png

if __name__ == "__main__":
    folder = data_folder() / "pictures"
    folder.mkdir(parents=True, exist_ok=True)
    story = SpeechSSM.load().generate(prompts()[0].path, 40, seed=0)
    sf.write(folder / "story.mp3", story.waveform, SAMPLE_RATE)
    with plotly() as page:
        for name, figure in {"story": timeline(story), "throughput": efficiency(saved("throughput"))}.items():
            (folder / f"{name}.png").write_bytes(png(page, json.loads(figure.to_json()), 1000, 440))
            print(folder / f"{name}.png")
