"""How stories sound minute by minute, as outside judges hear them."""

from __future__ import annotations

import plotly.graph_objects as go
import pytest

from lab.errors import LabError
from lab.measure.coherence import TRUTH
from lab.view import style
from lab.view.minutes import sound_by_minute


def minute(mos: float, spkr: float) -> dict[str, dict[str, float]]:
    return {
        "MOS (distillmos)": {"value": mos, "low": mos - 0.2, "high": mos + 0.3, "n": 16},
        "SpkrSim (ge2e)": {"value": spkr, "low": spkr - 0.01, "high": spkr + 0.02, "n": 16},
    }


def test_each_judge_has_a_panel_and_each_system_a_line() -> None:
    figure = sound_by_minute(
        {TRUTH: [minute(4, 0.9)] * 2, "griffin": [minute(3, 0.8), minute(2.5, 0.7), minute(2, 0.6)]}
    )
    lines = {(trace.name, trace.xaxis): trace for trace in figure.data if trace.name}
    assert list(lines["Griffin", "x"].y) == [3, 2.5, 2] and list(lines["Griffin", "x2"].y) == [0.8, 0.7, 0.6]
    assert list(lines["ground truth", "x2"].x) == [1, 2] and lines["ground truth", "x"].line.color == style.TRUTH
    high, low = (
        trace for trace in figure.data if trace.legendgroup == "griffin" and not trace.name and trace.xaxis == "x"
    )
    assert list(high.y) == [3.3, 2.8, 2.3] and list(low.y) == [2.8, 2.3, 1.8] and low.fill == "tonexty"
    title = "MOS, first to last minute: ground truth 4.0 to 4.0, Griffin 3.0 to 2.0"
    assert figure.layout.title.text == title and isinstance(figure, go.Figure)
    with pytest.raises(LabError, match="no SpkrSim"):
        sound_by_minute({"griffin": [{"MOS (distillmos)": {"value": 1, "low": 1, "high": 1}}]})
