"""Pictures and players, without a notebook."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
import soundfile
import torch

from lab import audio, bench, view
from lab.bench.report import report
from lab.bench.timing import exactly
from lab.language import Griffin, GriffinConfig, state_bytes
from lab.speech import Story


@pytest.fixture
def told() -> Story:
    times = np.arange(60 * 16_000) / 16_000
    waveform = (0.1 * np.sin(2 * np.pi * 440 * times)).astype(np.float32)
    return Story(waveform, torch.arange(1500) % 64, 250, [25.0, 48.0])


def test_listen_plays_what_it_was_given(told: Story):
    page = view.listen(told.waveform, "a <tone>", seconds=2).data
    assert "a &lt;tone&gt;" in page and "<source" not in page
    data = re.search(r'src="data:audio/mpeg;base64,([^"]+)"', page)
    assert data is not None
    heard, rate = soundfile.read(io.BytesIO(base64.b64decode(data[1])))
    assert rate == 16_000
    assert abs(len(heard) / rate - 2) < 0.2  # MP3 pads to whole frames
    assert abs(audio.level(heard.astype(np.float32)) - audio.level(told.waveform)) < 0.5  # not normalized


def test_story_shows_prompt_seams_and_every_token(told: Story):
    figure = view.story(told)
    lines = sorted({shape.x0 for shape in figure.layout.shapes})
    assert lines == [10.0, 25.0, 48.0]
    parts = {trace.name: trace for trace in figure.data if trace.name in ("prompt", "continuation")}
    assert len(parts["prompt"].x) == 250 and len(parts["continuation"].x) == 1250
    assert parts["continuation"].x[0] == 10.0
    assert "10 s of prompt" in figure.layout.title.text and "50 s" in figure.layout.title.text


def test_spectrogram_is_dark_at_the_tone(told: Story):
    heatmap = next(trace for trace in view.story(told).data if trace.type == "heatmap")
    picture = np.asarray(heatmap.z)
    loudest = picture.mean(1).argmax() * heatmap.dy
    assert abs(loudest - 0.44) <= heatmap.dy
    assert picture.dtype == np.uint8  # a quarter of the notebook's size


def test_road_counts_the_state(told: Story):
    model = Griffin(GriffinConfig.preset("tiny"))
    table = view.road(told, model)
    state = state_bytes(model(told.tokens[None, :1])[1]) / 1e6
    assert f"| {state:.2f} MB | the same at every token |" in table
    assert "| 1,500 |" in table and "| 960,000 |" in table


def test_throughput_has_both_models_over_seconds_of_speech() -> None:
    def row(name: str, speed: float) -> bench.Row:
        return bench.Row(name, "tokens/s", exactly(speed), predicted=2 * speed)

    rows = [row("throughput, 100 tokens", 40), row("SpeechTransformer, 100 tokens", 20)]
    rows += [row("throughput, 5000 tokens", 30), row("SpeechTransformer, 5000 tokens", 2)]
    rows += [row("throughput, at token 5000", 1), row("limit: copy", 9)]
    figure = view.throughput(report("throughput", "lab bench throughput", rows))
    lines = {trace.name: (trace.x, trace.y) for trace in figure.data}
    assert lines["Griffin"] == ((4, 200), (40, 30)) and lines["SpeechTransformer"] == ((4, 200), (20, 2))
    assert lines["Griffin, roofline"][1] == (80, 60)
    assert "15 times the tokens, in stories of 200 s" in figure.layout.title.text
