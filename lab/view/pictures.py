"""The README's pictures, from the bundle that ships and what `lab bench` saved: `make pictures`."""

from __future__ import annotations

from pathlib import Path

from lab import bench
from lab.corpora.prompts import prompts
from lab.paths import data_folder
from lab.speech import SpeechSSM
from lab.view.figures import story, throughput

FOLDER = data_folder() / "pictures"


def make() -> list[Path]:
    """story.png: the first prompt and 40 s of its continuation. throughput.png: of the bench that was saved."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    figures = {"story": story(SpeechSSM.load().generate(prompts()[0].path, 40, seed=0))}
    if reports := sorted(bench.FOLDER.glob("throughput-*.json")):
        figures["throughput"] = throughput(bench.Report.load(reports[0]))
    for name, figure in figures.items():
        figure.write_image(FOLDER / f"{name}.png", width=1000, height=440)
    return [FOLDER / f"{name}.png" for name in figures]


if __name__ == "__main__":
    print(*make(), sep="\n")
