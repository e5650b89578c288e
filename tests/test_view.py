"""Pictures and players, without a notebook."""

from __future__ import annotations

import base64
import io
import re
from xml.etree import ElementTree

import numpy as np
import pytest
import soundfile
import torch

from lab import audio, view
from lab.errors import LabError
from lab.speech import Story
from lab.view import style
from lab.view.architecture import BESIDES, PARTS


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


def test_maps_are_clear_where_nothing_is(story: Story):
    assert style.fading("#102030") == [(0, "rgba(16,32,48,0)"), (1, "rgba(16,32,48,1)")]
    heatmap = next(trace for trace in view.timeline(story).data if trace.type == "heatmap")
    assert heatmap.colorscale[0][1].endswith(",0)")  # no white box on a dark page


def test_the_road_lights_the_part_that_it_is_asked_for():
    drawn = {name: view.road(name).data for name in (*PARTS, *BESIDES)}
    pictures = {name: base64.b64decode(page.split("base64,")[1].split('"')[0]).decode() for name, page in drawn.items()}
    for name, svg in pictures.items():
        assert ElementTree.fromstring(svg).tag.endswith("svg")
        assert svg.count(f'fill="{style.PROMPT}"') == 1 and sum(title in svg for title, *_ in PARTS.values()) == 4
        assert f"Lit: {PARTS[name][0] if name in PARTS else BESIDES[name][2]}." in drawn[name]
    assert len(set(pictures.values())) == len(pictures)
    with pytest.raises(LabError, match="no part 'mouth'; there are tokens"):
        view.road("mouth")


def test_lines_are_seen_on_light_pages_and_on_dark_ones():
    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    names = "PROMPT CONTINUATION SEAM TRANSFORMER TRUTH SILENCE GRIFFIN_30S OTHER_PROMPT SLOW FAST INK".split()
    for name in names:
        light = luminance(getattr(style, name))
        assert 1.05 / (light + 0.05) >= 3 and (light + 0.05) / (luminance("#111111") + 0.05) >= 3, name
    systems = style.CONTINUATION, style.TRANSFORMER
    lightness = [116 * luminance(colour) ** (1 / 3) - 16 for colour in systems]  # L* of CIE 1976
    assert abs(lightness[0] - lightness[1]) > 15 and style.DASHES[systems[0]] != style.DASHES[systems[1]]
