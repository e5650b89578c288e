"""Figures of windows: where they lie, how two differ where they overlap, what the last one is padded with, joins."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots
from torch import Tensor

from lab import windows
from lab.audio import SAMPLE_RATE, crossfade
from lab.measure import statistics
from lab.measure.seams import at_first
from lab.tokens import TOKEN_HOP, TOKEN_RATE
from lab.view import style
from lab.view.player import Player
from lab.view.style import axes, line, styled
from lab.voice import Synthesizer, VoicePrompt

_ENDINGS = {  # what the tokenizer heard after a cut: colour, dash
    "what follows": (style.TRUTH, "solid"),
    "the start again": (style.CONTINUATION, "dash"),
    "silence": (style.SILENCE, "dot"),
}


def window_plan(total: float, window: float, overlap: float, fade: float = 20, reach: int = 0) -> go.Figure:
    """The windows of `total` seconds as bars, and the gains of a cross-fade around the first seam.

    `window` and `overlap` in seconds (an odd number of overlapping tokens loses one); `fade` in ms, at most the
    overlap; `reach` in tokens, how far the tokenizer hears to one side. Raises LabError as `windows.plan` does.
    """
    shared = round(overlap * TOKEN_RATE) // 2 * 2
    parts = windows.plan(round(total * TOKEN_RATE), round(window * TOKEN_RATE), shared)
    seams = [seam / TOKEN_RATE for seam in windows.seams(parts)]
    figure = make_subplots(2, 1, row_heights=[0.7, 0.3], vertical_spacing=0.2)
    for name, colour, spans in (
        ("heard, and left to the neighbour", style.DROPPED, [(part.start, part.stop) for part in parts]),
        ("kept", style.WAVE, [(part.keep_start, part.keep_stop) for part in parts]),
    ):
        edges = np.array(spans) / TOKEN_RATE  # (K, 2) seconds
        figure.add_bar(
            y=np.arange(1, len(parts) + 1), base=edges[:, 0], x=edges[:, 1] - edges[:, 0], customdata=edges,
            orientation="h", name=name, marker_color=colour, row=1, col=1,
            hovertemplate="window %{y}: %{customdata[0]:.2f} to %{customdata[1]:.2f} s",
        )  # fmt: skip
    x, y = [at for seam in seams for at in (seam, seam, None)], [0.4, len(parts) + 0.6, None] * len(seams)
    line(figure, x, y, "seam", style.SEAM, width=2, dash="dot", hoverinfo="skip", row=1, col=1)
    seam = seams[0] if seams else 0.0
    width = min(fade / 1000, shared / TOKEN_RATE) if seams else 0.0
    for name, colour, dash, levels in (
        ("earlier window", style.EARLIER, "solid", (1.0, 0.0)),
        ("later window", style.LATER, "dash", (0.0, 1.0)),
    ):
        line(figure, *_gains(seam, width, levels), name, colour, "%{x:.3f} s: gain %{y:.2f}", dash=dash, row=2, col=1)
    rows = {"title_text": "window", "autorange": "reversed", "tick0": 1, "dtick": 1 + len(parts) // 9}
    axes(figure, {"title_text": "seconds of speech", "range": [0, total]}, rows, row=1, col=1)
    gain = {"title_text": "gain", "range": [-0.05, 1.1]}
    axes(figure, "seconds of speech, around the first seam", gain, row=2, col=1)
    message = "One window is enough: there is no seam"
    if seams:
        again, beyond = sum(map(len, parts)) / parts[-1].stop - 1, shared // 2
        message = f"{len(parts)} windows, {again:.0%} of the work done twice; "
        message += f"{beyond / TOKEN_RATE:.2f} s heard beyond a seam"
        message += f": {'enough' if beyond >= reach else 'TOO LITTLE'} for the tokenizer" if reach else ""
    return styled(figure, message, 480).update_layout(barmode="overlay", bargap=0.35, hovermode="closest")


def hear_seam(voice: Synthesizer, tokens: Tensor, prompt: VoicePrompt, **how: Any) -> Callable[..., Player]:
    """For `explore(hear=...)`: 4 s around the first seam of `window_plan`'s settings, spoken anew; how: of
    `measure.seams.renderings`. Plays at once."""

    def hear(total: float, window: float, overlap: float, fade: float) -> Player:
        shared = round(overlap * TOKEN_RATE) // 2 * 2
        windowing = windows.Windowing(round(window * TOKEN_RATE), shared)
        samples = min(round(fade / 1000 * SAMPLE_RATE) // 2 * 2, shared * TOKEN_HOP)
        sound, seam = at_first(voice, tokens[: round(total * TOKEN_RATE)], prompt, windowing, samples, **how)
        join = f"cross-fade of {1000 * samples / SAMPLE_RATE:.0f} ms" if samples else "plain cut"
        caption = (
            f"4 s around the seam at {seam:.0f} s: windows of {window:g} s, {shared / TOKEN_RATE:g} s shared, {join}"
        )
        return Player(sound, caption=caption, seams=[min(2.0, seam)], play=True)

    return hear


def two_versions(earlier: Tensor, later: Tensor, seam: float, reach: int) -> go.Figure:
    """An overlap, index by index: the tokens (overlap,) of both windows, where they differ, and which are kept.

    `seam` in seconds, the middle of the overlap. Dotted: as far as the tokenizer's `reach` goes from each edge.
    """
    size = len(earlier)
    differ = (earlier != later).numpy()
    kept = np.arange(size) < size // 2
    rows = {"later window": later, "kept": np.where(kept, earlier, later), "earlier window": earlier}
    shades = np.stack([differ, np.where(kept, 2, 3), differ]).astype(np.uint8)
    times = seam + (np.arange(size) - size // 2 + 0.5) / TOKEN_RATE
    colours = (style.DROPPED, style.SEAM, style.EARLIER, style.LATER)
    scale = [[(number + side) / 4, colour] for number, colour in enumerate(colours) for side in (0, 1)]
    figure = go.Figure()
    figure.add_heatmap(
        z=shades, x=times.round(2), y=list(rows), customdata=np.stack([np.asarray(row) for row in rows.values()]),
        zmin=-0.5, zmax=3.5, colorscale=scale, showscale=False, xgap=1, ygap=8,
        hovertemplate="%{x:.2f} s, %{y}: token %{customdata}<extra></extra>",
    )  # fmt: skip
    _mark_reach(figure, seam - size / 2 / TOKEN_RATE, seam + size / 2 / TOKEN_RATE, reach)
    axes(figure, "seconds of speech", {"showgrid": False, "automargin": True})
    middle = differ[reach : size - reach]
    both = f"{middle.sum()} of the {len(middle)} that both windows hear whole"
    return styled(figure, f"{differ.sum()} of {size} tokens differ, {both}", 280)


def edges(disagreement: np.ndarray, reach: int, distance: np.ndarray | None = None, seams: int = 0) -> go.Figure:
    """Over the overlap, at all seams: the share of tokens in which two windows differ (overlap,), and how far apart
    what they speak is, in nepers (overlap,). Dotted: as far as the tokenizer's `reach` goes from each edge.
    """
    size, rows = len(disagreement), 1 if distance is None else 2
    times = (np.arange(size) - size / 2 + 0.5) / TOKEN_RATE
    figure = make_subplots(rows, 1, shared_xaxes=True, vertical_spacing=0.08)
    percent, hover = (100 * disagreement).round(1), "%{x:.2f} s from the seam: %{y:.1f} %<extra></extra>"
    line(figure, times, percent, "", style.SEAM, hover, line_shape="hvh", row=1, col=1)
    axes(figure, y={"title_text": "differing, %"}, row=1, col=1)
    if distance is not None:
        hover = "%{x:.2f} s from the seam: %{y:.2f} nepers<extra></extra>"
        line(figure, times, distance.round(3), "", style.WAVE, hover, row=2, col=1)
        axes(figure, y="nepers apart", row=2, col=1)
    _mark_reach(figure, -size / 2 / TOKEN_RATE, size / 2 / TOKEN_RATE, reach)
    figure.add_vline(0, line={"color": style.SEAM, "width": 1})
    axes(figure, y={"rangemode": "tozero"})
    where = "seconds from the seam (at the left the later window begins, at the right the earlier one ends)"
    axes(figure, where, row=rows, col=1)
    middle = disagreement[reach : size - reach]
    found = "no token differs" if not middle.any() else f"{middle.mean():.1%} of the tokens differ"
    of = f" at {seams} seams" if seams else ""
    message = f"Beyond the tokenizer's reach {found}{of}; at the edges {disagreement[[0, -1]].mean():.0%} do"
    return styled(figure, message, 440).update_layout(showlegend=False)


def endings_differ(endings: Mapping[str, Tensor], last: int = 60) -> go.Figure:
    """How often each of the `last` tokens is another one than with "what follows", by what the encoder heard instead.

    `endings` as `lab.measure.seams.endings` gives them: (cuts, length) each.
    """
    before = (np.arange(last) - last + 0.5) / TOKEN_RATE
    figure, ends = go.Figure(), []
    for name, tokens in endings.items():
        if name != "what follows":
            differ = (tokens != endings["what follows"]).double().mean(0).numpy()[-last:]
            ends.append(f"{differ[-1]:.0%} ({name})")
            colour, dash = _ENDINGS[name]
            line(figure, before, (100 * differ).round(1), name, colour, "%{x:.2f} s: %{y:.0f} %", dash=dash)
    axes(figure, "seconds before the cut", {"title_text": "tokens that change, %", "rangemode": "tozero"})
    return styled(figure, f"The very last token before a cut changes: {', '.join(ends)}", 320)


def quiet_probability(chances: Mapping[str, np.ndarray]) -> go.Figure:
    """The probability of a quiet token over the time after a cut, mean and standard error of (cuts, steps), by what the
    tokenizer heard after the cut."""
    figure, means = go.Figure(), []
    for name, rows in chances.items():
        times = (np.arange(rows.shape[1]) + 0.5) / TOKEN_RATE
        mean, error = rows.mean(0), rows.std(0, ddof=1) / len(rows) ** 0.5
        means.append(f"{mean[0]:.2f} ({name})")
        colour, dash = _ENDINGS[name]
        figure.add_scatter(
            x=np.concatenate([times, times[::-1]]), y=np.concatenate([mean + error, (mean - error)[::-1]]).round(3),
            fill="toself", fillcolor=colour, opacity=0.15, line={"width": 0}, hoverinfo="skip", showlegend=False,
        )  # fmt: skip
        line(figure, times, mean.round(3), name, colour, "%{x:.2f} s: %{y:.2f}", dash=dash)
    axes(figure, "seconds after the cut", {"title_text": "probability of a quiet token", "rangemode": "tozero"})
    return styled(figure, f"Probability that the next token is quiet: {', '.join(means)}", 320)


def falls_silent(drawn: Mapping[str, np.ndarray], prompt: float, ends: float) -> go.Figure:
    """The share of quiet tokens in each second of continuations, by how the examples ended that a model learnt from:
    the mean over prompts with its 95 % interval.

    drawn: which tokens are quiet, (prompts, steps); prompt: seconds of it; ends: of what was said in an example.
    """
    figure, last = go.Figure(), []
    for name, rows in drawn.items():
        seconds = rows[:, : rows.shape[1] // TOKEN_RATE * TOKEN_RATE].reshape(len(rows), -1, TOKEN_RATE).mean(-1)
        times = prompt + 0.5 + np.arange(seconds.shape[1])
        means = [statistics.mean(second) for second in seconds.T]
        low, high = ([found.value if np.isnan(found[end]) else found[end] for found in means] for end in (1, 2))
        colour, dash = _ENDINGS[name]
        figure.add_scatter(
            x=np.concatenate([times, times[::-1]]), y=np.round([*low, *high[::-1]], 3), fill="toself",
            fillcolor=colour, opacity=0.15, line={"width": 0}, hoverinfo="skip", showlegend=False,
        )  # fmt: skip
        values = np.round([found.value for found in means], 3)
        line(figure, times, values, name, colour, "%{x:.1f} s: %{y:.2f}", dash=dash)
        last.append(f"{values[-1]:.0%} ({name})")
    figure.add_vline(ends, line={"color": style.SEAM, "width": 1, "dash": "dot"})
    share = {"title_text": "quiet tokens, share", "range": [-0.03, 1.03]}
    axes(figure, "seconds since the story began (dotted: how long the examples spoke)", share)
    return styled(figure, f"What is quiet of the last second: {', '.join(last)}", 320)


def joins(waveforms: Mapping[str, np.ndarray], seam: float, width: float = 0.1) -> go.Figure:
    """The waveforms (N,) of several joins, `width` seconds around a seam, one above the other on one scale."""
    figure = make_subplots(len(waveforms), 1, shared_xaxes=True, shared_yaxes="all", vertical_spacing=0.04)
    start, stop = (round((seam + side * width / 2) * SAMPLE_RATE) for side in (-1, 1))
    for row, (name, waveform) in enumerate(waveforms.items(), 1):
        piece = waveform[start:stop].round(3).astype(np.float32)
        shown: dict[str, Any] = {"x0": start / SAMPLE_RATE, "dx": 1 / SAMPLE_RATE, "hoverinfo": "skip"}
        line(figure, None, piece, name, style.WAVE, width=1, row=row, col=1, **shown)
        axes(figure, y={"title_text": name, "showticklabels": False}, row=row, col=1)
    figure.add_vline(seam, line={"color": style.SEAM, "width": 1, "dash": "dot"})
    axes(figure, "seconds of speech", row=len(waveforms), col=1)
    message = f"{1000 * width:.0f} ms around the seam at {seam:.2f} s: the same two windows, joined differently"
    return styled(figure, message, 440).update_layout(showlegend=False)


def _gains(seam: float, width: float, levels: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Times from 0.25 s before a seam to 0.25 s after it, and what a cross-fade of `width` seconds makes of a level
    before and one after it."""
    before, after = (np.full(64, level, np.float32) for level in levels)
    times = np.concatenate([[seam - 0.25], seam + width * np.linspace(-0.5, 0.5, 64), [seam + 0.25]])
    return times.round(4), np.concatenate([before[:1], crossfade(before, after), after[:1]]).round(3)


def _mark_reach(figure: go.Figure, begin: float, end: float, reach: int) -> None:
    for at in (begin + reach / TOKEN_RATE, end - reach / TOKEN_RATE):
        figure.add_vline(at, line={"color": style.TRUTH, "width": 1, "dash": "dot"})
