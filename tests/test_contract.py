"""What notebooks print for nbval: each dead lab has to look different from a living one."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
import pytest

from lab.audio import load
from lab.corpora.prompts import prompts
from lab.view.contract import shows, sounding, within

SPEECH = "level -40 to -8 dBFS; peak 0.05 to 1; quiet 0 to 0.6"
NOISE = np.random.default_rng(0).standard_normal(16_000).astype(np.float32)


def test_a_value_outside_its_range_is_printed():
    assert within(0.5, 0.2, 1) == within(0.2, 0.2, 1) == "0.2 to 1"
    assert within(0.1234, 0.2, 1, " s") == "0.123 s, which is not 0.2 to 1 s"
    assert within(float("nan"), 0, 1).startswith("nan, ")


def test_speech_is_in_all_ranges():
    assert sounding(load(prompts()[0].path)) == SPEECH


@pytest.mark.parametrize("dead", [0 * NOISE, 1e-4 * NOISE, (0.5 * NOISE).clip(-1, 1), np.zeros(0, np.float32)])
def test_what_is_no_speech_is_not(dead: np.ndarray):
    assert "which is not" in sounding(dead)


def test_half_a_story_that_is_missing_is_seen():
    speech = load(prompts()[0].path)
    assert "quiet 0.8" in sounding(np.concatenate([speech, np.zeros(4 * len(speech), np.float32)]))


def test_a_figure_is_told_by_its_data():
    figure = go.Figure().add_scatter(y=[1.0, 2.0, None]).add_heatmap(z=[[1, 2], [3, 4]])
    figure.add_scatter(y=[]).add_scatter(y=[0.5, 0.5])
    assert shows(figure, points=True) == "1 heatmap, 3 scatter; 1 empty; 1 level; 8 points"
    assert shows(go.Figure()) == "nothing; 0 empty; 0 level"


def test_a_hash_tells_values_apart_and_not_rounding():
    shown = [shows(go.Figure().add_scatter(y=[value, 2.0]), values=2) for value in (1.0, 1.0001, 1.1)]
    assert shown[0] == shown[1] != shown[2]
