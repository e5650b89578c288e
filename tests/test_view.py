"""Pictures and players, without a notebook."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
import soundfile
import torch

from lab import audio, view
from lab.speech import Story


@pytest.fixture
def story() -> Story:
    times = np.arange(60 * 16_000) / 16_000
    waveform = (0.1 * np.sin(2 * np.pi * 440 * times)).astype(np.float32)
    return Story(waveform, torch.arange(1500) % 64, 250, [25.0, 48.0])


def test_listen_plays_what_it_was_given(story: Story):
    page = view.listen(story.waveform, "a <tone>", seconds=2).data
    assert "a &lt;tone&gt;" in page and "<source" not in page
    data = re.search(r'src="data:audio/mpeg;base64,([^"]+)"', page)
    assert data is not None
    heard, rate = soundfile.read(io.BytesIO(base64.b64decode(data[1])))
    assert rate == 16_000
    assert abs(len(heard) / rate - 2) < 0.2  # MP3 pads to whole frames
    assert abs(audio.level(heard.astype(np.float32)) - audio.level(story.waveform)) < 0.5  # not normalized


def test_timeline_shows_prompt_seams_and_every_token(story: Story):
    figure = view.timeline(story)
    lines = sorted({shape.x0 for shape in figure.layout.shapes})
    assert lines == [10.0, 25.0, 48.0]
    parts = {trace.name: trace for trace in figure.data if trace.name in ("prompt", "continuation")}
    assert len(parts["prompt"].x) == 250 and len(parts["continuation"].x) == 1250
    assert parts["continuation"].x[0] == 10.0
    assert "10 s of prompt" in figure.layout.title.text and "50 s" in figure.layout.title.text


def test_spectrogram_is_dark_at_the_tone(story: Story):
    heatmap = next(trace for trace in view.timeline(story).data if trace.type == "heatmap")
    picture = np.asarray(heatmap.z)
    loudest = picture.mean(1).argmax() * heatmap.dy
    assert abs(loudest - 0.44) <= heatmap.dy
    assert picture.dtype == np.uint8  # a quarter of the notebook's size
