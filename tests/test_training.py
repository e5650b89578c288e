"""lab.train.small, a bundle in minutes; lab.view.training, its pictures and the run that is watched."""

from __future__ import annotations

import asyncio
import csv
from pathlib import Path

import numpy as np
import pytest

from lab import audio, bundle
from lab.corpora import Utterance
from lab.errors import LabError
from lab.speech import SpeechSSM
from lab.train import small
from lab.train.loop import Compute, Schedule
from lab.view.training import CURVES, Watch, curves, learning_rate, read_log


@pytest.fixture(scope="module")
def speech() -> list[Utterance]:
    return small.narrated(20)


def test_narrated_speech_is_long_enough_to_learn_from(speech: list[Utterance]) -> None:
    assert sum(utterance.seconds for utterance in speech[:-1]) < 20 <= sum(utterance.seconds for utterance in speech)
    assert all(utterance.seconds >= 4 and utterance.text for utterance in speech)
    assert len({utterance.narrator for utterance in speech}) == 2
    again = small.narrated(20)
    assert [(each.narrator, each.text) for each in again] == [(each.narrator, each.text) for each in speech]


def test_recorded_speech_has_a_text_and_3_s(tmp_path: Path, speech: list[Utterance]) -> None:
    for name, seconds, text in (("long", 4, "an owl"), ("short", 2, "an owl"), ("untold", 4, "")):
        audio.save(tmp_path / f"{name}.wav", speech[0].samples()[: seconds * 16_000])
        (tmp_path / f"{name}.txt").write_text(text)
    (found,) = small.recorded(tmp_path)
    assert found.seconds == 4 and found.text == "an owl"
    (tmp_path / "long.wav").unlink()
    with pytest.raises(LabError, match=r"nothing below .* can be learnt from: .*untold.wav has no text; put name.txt"):
        small.recorded(tmp_path)
    with pytest.raises(LabError, match="no folder"):
        small.recorded(tmp_path / "none")


def test_a_bundle_that_speaks_from_a_few_seconds(tmp_path: Path, speech: list[Utterance]) -> None:
    steps = dict.fromkeys(small.MODELS, 4)
    compute = Compute(progress=False, log_every=2)
    figures = small.train(speech, tmp_path / "bundle", tmp_path, steps=steps, compute=compute)
    assert list(figures) == list(small.MODELS)
    for name in small.MODELS:
        assert read_log(tmp_path / name)[CURVES[name][0]][:, 0].tolist() == [2, 4]
        assert bundle.index(tmp_path / "bundle")[name]["card"]["steps"] == 4
    told = SpeechSSM.load(tmp_path / "bundle").generate(speech[0].samples(), seconds=1)
    assert len(told.tokens) == told.prompt_tokens + 25 and np.isfinite(told.waveform).all()

    small.train(speech, tmp_path / "bundle", tmp_path, steps=steps, compute=compute)  # all of it is there
    assert all(len(read_log(tmp_path / name)[CURVES[name][0]]) == 2 for name in small.MODELS)
    with pytest.raises(LabError, match=r"trained with speech \d utterances \w+, and this run has speech 2 utterances"):
        small.train(speech[:2], tmp_path / "bundle", tmp_path, steps=steps, compute=compute)


def write(folder: Path, name: str, values: list[float]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "log.csv").open("a", newline="") as file:
        csv.writer(file).writerows([step, 0.5 * step, name, value] for step, value in enumerate(values, 1))


def test_the_log_is_read_while_it_is_written(tmp_path: Path) -> None:
    assert read_log(tmp_path) == {}
    write(tmp_path, "loss", [3.0, 2.0])
    with (tmp_path / "log.csv").open("a") as file:
        file.write("3,1.5,lo")
    told = read_log(tmp_path)
    assert told.keys() == {"loss"} and told["loss"].tolist() == [[1, 0.5, 3], [2, 1, 2]]


def test_curves_of_what_was_trained(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="no log.csv of a model below"):
        curves(tmp_path)
    write(tmp_path / "tokenizer", "ctc", [3.0, 2.0, 1.0])
    write(tmp_path / "griffin", "loss", [5.0, 4.0])
    figure = curves(tmp_path)
    assert [trace.y.tolist() for trace in figure.data] == [[3, 2, 1], [5, 4]]
    assert [title.text for title in figure.layout.annotations] == [
        "tokenizer: CTC, nats a character", "griffin: cross-entropy, nats a token",
    ]  # fmt: skip
    assert figure.layout.title.text == "Training loss of 2 models, 0.0 minutes in all"


def test_the_learning_rate_is_that_of_the_schedule() -> None:
    (trace,) = learning_rate(steps=200, warmup=50, floor=0.1, peak=1.0).data
    rate = Schedule(200, learning_rate=1.0, warmup=50, floor=0.1).rate
    assert trace.x.tolist() == list(range(200)) and list(trace.y) == [rate(step) for step in range(200)]


def test_a_model_without_a_curve_is_refused(tmp_path: Path) -> None:
    for steps in ({}, {"voice": 4}):
        with pytest.raises(LabError, match="there is no curve for"):
            Watch(lambda compute: None, tmp_path, steps)


def test_a_run_is_watched_to_its_end(tmp_path: Path) -> None:
    def work(compute: Compute) -> str:
        assert not compute.progress and compute.log_every == 1
        write(tmp_path / "griffin", "loss", [3.0, 2.5])
        return "made"

    watch = Watch(work, tmp_path, {"griffin": 4}, seconds=0.01)
    assert asyncio.run(watch.done()) == "made"
    told = watch.children[0].value
    assert "2 of 4 steps" in told and "2.5 cross-entropy" in told and "<polyline" in told
    page = watch._repr_mimebundle_()["text/html"]
    assert "2 of 4 steps" in page and "<svg" not in page  # which an untrusted page would drop
    assert repr(watch) == "Watch(griffin: 4 steps)"


def test_stop_ends_a_run_and_says_how_it_goes_on(tmp_path: Path) -> None:
    def work(compute: Compute) -> None:
        assert compute.stop.wait(60)
        raise KeyboardInterrupt

    watch = Watch(work, tmp_path, {"codec": 4}, seconds=0.01)
    watch.halt.click()
    with pytest.raises(LabError, match="the run was stopped; run the cell that began it again"):
        asyncio.run(watch.done())


def test_what_went_wrong_in_a_run_is_told(tmp_path: Path) -> None:
    def work(compute: Compute) -> None:
        raise LabError("the corpus is empty")

    with pytest.raises(LabError, match="the corpus is empty"):
        asyncio.run(Watch(work, tmp_path, {"codec": 4}).done())
