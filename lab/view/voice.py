"""Figures of the voice: what codec levels add, how codes are decided, what a prompt changes, whose voice is near."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.colors import sequential
from plotly.subplots import make_subplots

from lab.errors import LabError
from lab.measure import audio as audio_measures
from lab.measure import speaker
from lab.measure.statistics import Estimate
from lab.tokens import TOKEN_RATE
from lab.view import style
from lab.view.style import axes, line, points, styled
from lab.voice.soundstorm import Pass


def codec_levels(scores: Sequence[Mapping[str, float]], guessed: int, bits: float) -> go.Figure:
    """`measure.audio.of_codec` with 1, 2, ... levels: each measure over the levels.

    guessed: how many of the levels the voice guesses; bits: what a level costs, a second.
    """
    figure = make_subplots(1, 2, horizontal_spacing=0.12)
    depths = list(range(1, len(scores) + 1))
    colours = [style.CONTINUATION if depth <= guessed else style.TRUTH for depth in depths]
    titles = {"log-mel L1": "log-mel L1, nepers (less is nearer)", "STOI": "STOI, 0 to 1 (more is clearer)"}
    for column, (name, title) in enumerate(titles.items(), 1):
        figure.add_scatter(
            x=depths, y=[round(score[name], 4) for score in scores], mode="lines+markers", showlegend=False,
            marker={"size": 9, "color": colours}, line={"color": "#bbb", "width": 1}, row=1, col=column,
            hovertemplate=f"%{{x}} levels: {name} %{{y:.3f}}<extra></extra>",
        )  # fmt: skip
        axes(figure, y=title, row=1, col=column)
    axes(figure, {"title_text": f"levels, {bits / 1000:g} kbit/s each", "dtick": 1})
    message = f"A recording through the codec, by levels kept; the voice guesses {guessed} of {len(scores)} (green)"
    return styled(figure, message, 320)


def confidence_map(passes: Sequence[Pass], level: int) -> np.ndarray:
    """What `generate` showed of one window -> how its level (1, 2, ...) was filled: (passes of that level, frames).

    uint8: 0 where a frame is still masked; else 1 + 254 p, p the probability of its code when it was accepted.
    Raises LabError unless all passes of that level are there, once.
    """
    chosen = [found for found in passes if found.level == level - 1]
    if not chosen or [found.number for found in chosen] != list(range(1, len(chosen) + 1)):
        raise LabError(f"{len(chosen)} passes of level {level} are not those of one window; watch one of at most 27 s")
    rows, accepted = [], np.zeros(len(chosen[0].masked), np.uint8)
    for found in chosen:
        probability = np.rint(1 + 254 * found.confidence.exp().numpy()).astype(np.uint8)
        accepted = np.where(found.masked.numpy(), 0, np.where(accepted > 0, accepted, probability))
        rows.append(accepted)
    return np.stack(rows)


def decoding(passes: Sequence[Pass], level: int = 1, number: int = 1) -> go.Figure:
    """How one level of a window of speech was filled: every pass above, below what pass `number` (or the last) did.

    passes: what `on_pass` was given. Above: `confidence_map`. Below: accepted before, in this pass, and masked again.
    """
    picture = confidence_map(passes, level)
    number = min(number, len(picture))
    chosen = next(found for found in passes if (found.level, found.number) == (level - 1, number))
    frames = picture.shape[1]
    now, before = picture[number - 1] > 0, (picture[number - 2] if number > 1 else np.zeros(frames)) > 0
    heights = np.where(before, (picture[number - 1] - 1.0) / 254, chosen.confidence.exp().numpy())
    figure = make_subplots(2, 1, shared_xaxes=True, row_heights=[0.55, 0.45], vertical_spacing=0.06)
    lightness = np.linspace(0.002, 1, len(sequential.Cividis))  # 0 alone is clear: 1 of 255 is 0.0039
    scale = [(0.0, style.CLEAR), (0.002, style.CLEAR), *zip(lightness, sequential.Cividis, strict=True)]
    figure.add_heatmap(
        z=picture, x0=0.5 / TOKEN_RATE, dx=1 / TOKEN_RATE, y0=1, dy=1, zmin=0, zmax=255, colorscale=scale,
        colorbar={"title": "accepted<br>at", "tickvals": [1, 128, 255], "ticktext": ["0 %", "50 %", "100 %"],
                  "len": 0.55, "y": 1, "yanchor": "top", "thickness": 12},
        hovertemplate="%{x:.2f} s, pass %{y}<extra></extra>", row=1, col=1,
    )  # fmt: skip
    times = (np.arange(frames) + 0.5) / TOKEN_RATE
    for name, where, colour in (
        ("accepted before", before, "#bbbbbb"),
        ("accepted in this pass", now & ~before, style.CONTINUATION),
        ("masked again", ~now, style.SEAM),
    ):
        # One path of stems: a page takes twice as long to draw as many markers.
        stems = np.stack([0 * heights, 100 * heights, np.full(frames, np.nan)], 1)[where]
        hover = "%{x:.2f} s: %{y:.0f} %<extra></extra>"
        line(
            figure, np.repeat(times[where], 3).round(2), stems.flatten().round(1), name, colour, hover, 2, row=2, col=1
        )
    figure.add_hline(number, line={"color": style.SEAM, "width": 1}, row=1, col=1)
    down = {"title_text": "pass", "autorange": "reversed", "dtick": max(1, len(picture) // 4)}
    axes(figure, y=down, row=1, col=1)
    axes(figure, "seconds of speech", {"title_text": "probability, %", "range": [-3, 103]}, row=2, col=1)
    message = f"Level {level}, pass {number} of {len(picture)}: {now.mean():.0%} of {frames} frames decided"
    return styled(figure, message, 480)


def passes_heard(
    heard: Mapping[str, tuple[Mapping[int, Estimate], Estimate | None]], chosen: int, own: str = "ctc"
) -> go.Figure:
    """What listeners make of speech in more and more passes, with 95 % intervals; chosen: how many the voice takes.

    heard: "measure (judge)" -> by passes, and of the reading that was spoken again (dashed, its interval shaded).
    own: the judge that is no outside one, drawn beside the others where it judges as well.
    """
    panels = {"words wrong": "words wrong, %", "MOS": "MOS, 1 to 5", "SpkrSim": "SpkrSim, cosine"}
    figure = make_subplots(1, len(panels), horizontal_spacing=0.09)
    n = 0
    named: set[str] = set()  # in the legend
    for name, (by_passes, truth) in heard.items():
        measure, _, judge = name.rstrip(")").partition(" (")
        if measure not in panels or not by_passes:
            continue
        column, scale = list(panels).index(measure) + 1, 100 if measure == "words wrong" else 1
        ours = judge == own
        colour, dash = (style.SLOW, "dot") if ours else (style.CONTINUATION, "solid")
        if truth and not ours:  # as lines and not as shapes, of which the range of an axis takes no notice
            low, high = (scale * (truth.value if math.isnan(end) else end) for end in truth[1:3])
            ends = [min(by_passes), max(by_passes)]
            figure.add_scatter(
                x=[*ends, *ends[::-1]], y=[low, low, high, high], fill="toself", fillcolor=style.TRUTH, opacity=0.15,
                line={"width": 0}, mode="lines", hoverinfo="skip", showlegend=False, row=1, col=column,
            )  # fmt: skip
            line(
                figure, ends, [scale * truth.value] * 2, "the reading itself", style.TRUTH,
                f"{judge}, the reading itself: %{{y:.3g}}", 2, "dash", showlegend="reading" not in named,
                legendgroup="reading", row=1, col=column,
            )  # fmt: skip
            named.add("reading")
        label = "our own reader" if ours else "outside ears"
        means = [scale * mean.value for mean in by_passes.values()]
        above, below = ([0 if math.isnan(end) else scale * abs(end - mean.value) for mean, end in
                         ((mean, mean[side]) for mean in by_passes.values())] for side in (2, 1))  # fmt: skip
        line(
            figure, list(by_passes), np.round(means, 3), label, colour, f"{judge}, %{{x}} passes: %{{y:.3g}}",
            dash=dash, mode="lines+markers", legendgroup=label, showlegend=label not in named, row=1, col=column,
            error_y={"type": "data", "array": np.round(above, 3), "arrayminus": np.round(below, 3), "thickness": 1.5},
        )  # fmt: skip
        named.add(label)
        n = max(n, *(mean.n for mean in by_passes.values()))
    for column, title in enumerate(panels.values(), 1):
        figure.add_vline(chosen, line={"color": style.SEAM, "width": 1, "dash": "dot"}, row=1, col=column)
        ticks = sorted({number for by_passes, _ in heard.values() for number in by_passes})[1::2]  # fits a phone
        x = style.log("passes of level 1", tickvals=ticks, ticktext=[str(number) for number in ticks])
        axes(figure, x, title, row=1, col=column)
    message = f"One to many passes of level 1, as others hear them (n = {n}); the voice takes {chosen} (dotted)"
    return style.legend_below(styled(figure, message, 380), 90)


def prompt_swap(
    first: np.ndarray, second: np.ndarray, swapped: np.ndarray, names: tuple[str, str], seam: float
) -> go.Figure:
    """Three renderings (N,) of the same tokens, by two prompts and by one after the other from `seam` seconds on:
    f0, which is the prompt's, and loudness in each token's 40 ms, which is the tokens'."""
    figure = make_subplots(2, 1, shared_xaxes=True, vertical_spacing=0.08)
    for name, waveform, colour, size in (
        ("swapped", swapped, style.CONTINUATION, 8),
        (names[0], first, style.PROMPT, 2),
        (names[1], second, style.OTHER_PROMPT, 2),
    ):
        times, f0 = speaker.pitch(waveform)
        loud = audio_measures.loudness(waveform, 1 / TOKEN_RATE).clip(min=-60)
        shared: dict[str, Any] = {"legendgroup": name, "opacity": 0.35 if name == "swapped" else 1, "col": 1}
        times, f0 = np.round(times, 3).astype(np.float32), np.round(f0, 1).astype(np.float32)
        points(figure, times, f0, name, colour, "%{x:.2f} s: %{y:.0f} Hz", size + 1, row=1, **shared)
        times, loud = np.round((np.arange(len(loud)) + 0.5) / TOKEN_RATE, 2), np.round(loud, 1).astype(np.float32)
        hover, dash = "%{x:.2f} s: %{y:.0f} dBFS", "dot" if waveform is second else "solid"
        line(figure, times, loud, name, colour, hover, size, dash, row=2, showlegend=False, **shared)
    figure.add_vline(seam, line={"color": style.SEAM, "width": 1, "dash": "dot"})
    axes(figure, y=style.log("f0, Hz", tickvals=[75, 100, 150, 200, 300, 400]), row=1, col=1)
    axes(figure, "seconds of speech", "level, dBFS", row=2, col=1)
    message = f"The same tokens by two prompts, and by one after the other: swapped at {seam:.1f} s"
    return styled(figure, message, 420)


def speaker_similarity(cosines: np.ndarray, prompts: Sequence[str], narrators: Sequence[str]) -> go.Figure:
    """Cosines (prompts, narrators) of speech in each prompt's voice with each narrator's own, as a map.

    The narrator nearest to a prompt's speech is ringed: the prompt's own, if the voice does what it should.
    """
    nearest = [narrators[column] for column in cosines.argmax(1)]
    right = sum(prompt == found for prompt, found in zip(prompts, nearest, strict=True))
    figure = go.Figure()
    figure.add_heatmap(
        z=np.round(100 * cosines).astype(np.int8), x=list(narrators), y=list(prompts), zmin=-100, zmax=100,
        colorscale="Cividis", colorbar={"title": "cosine, %", "thickness": 12}, texttemplate="%{z}",
        hovertemplate="prompt of %{y}, beside %{x}: %{z} %<extra></extra>",
    )  # fmt: skip
    figure.add_scatter(
        x=nearest, y=list(prompts), mode="markers", hoverinfo="skip",
        marker={"size": 34, "color": style.SEAM, "symbol": "circle-open", "line": {"width": 3}},
    )  # fmt: skip
    down = {"title_text": "prompt of the voice", "autorange": "reversed", "showgrid": False, "automargin": True}
    axes(figure, "natural speech of the narrator", down)
    return styled(figure, f"For {right} of {len(prompts)} prompts the nearest narrator is their own", 440)
