"""A story over time."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from lab.audio import SAMPLE_RATE
from lab.speech import Story
from lab.tokens import TOKEN_RATE
from lab.view import style
from lab.view.sound import spectrogram


def timeline(story: Story) -> go.Figure:
    """Waveform, spectrogram and tokens of a story, where the prompt ends and where windows were joined."""
    figure = make_subplots(3, 1, shared_xaxes=True, row_heights=[0.22, 0.5, 0.28], vertical_spacing=0.04)
    width = max(1, len(story.waveform) // 1200)
    frames = story.waveform[: len(story.waveform) // width * width].reshape(-1, width)
    times = ((np.arange(len(frames)) + 0.5) * width / SAMPLE_RATE).round(2)
    for extreme, fill in ((frames.max(1), None), (frames.min(1), "tonexty")):
        figure.add_scatter(
            x=times, y=extreme.round(3), fill=fill, fillcolor=style.WAVE, line={"width": 0, "color": style.WAVE},
            hoverinfo="skip", row=1, col=1,
        )  # fmt: skip
    picture = (255 * spectrogram(story.waveform, 900)).astype(np.uint8)  # small in a notebook
    figure.add_heatmap(
        z=picture, x0=0, dx=story.seconds / 900, y0=1 / 16, dy=1 / 8, colorscale=style.fading(style.INK), row=2, col=1,
        colorbar=style.scale("dB", len=0.5, y=0.53, tickvals=[0, 127.5, 255], ticktext=["−70", "−35", "0"]),
        hovertemplate="%{x:.1f} s, %{y:.1f} kHz<extra></extra>",
    )  # fmt: skip
    tokens, prompt = story.tokens.numpy(), story.prompt_tokens
    for part, colour, name in (
        (slice(0, prompt), style.PROMPT, "prompt"),
        (slice(prompt, None), style.CONTINUATION, "continuation"),
    ):
        figure.add_scattergl(
            x=np.round(np.arange(len(tokens))[part] / TOKEN_RATE, 2), y=tokens[part], mode="markers", name=name,
            marker={"size": 2, "color": colour}, hovertemplate="%{x:.2f} s: token %{y}<extra></extra>", row=3, col=1,
        )  # fmt: skip
    for seam in story.seams:
        figure.add_vline(seam, line={"color": style.SEAM, "width": 1, "dash": "dot"})
    seconds = prompt / TOKEN_RATE
    figure.add_vline(seconds, line={"color": style.PROMPT, "width": 2})
    style.axes(figure, y={"title_text": "amplitude", "showticklabels": False, "showgrid": False}, row=1, col=1)
    style.axes(figure, y="frequency, kHz", row=2, col=1)
    style.axes(figure, "seconds of speech", "token number", row=3, col=1)
    message = f"{seconds:.0f} s of prompt, {story.seconds - seconds:.0f} s of new speech; dotted: joins of windows"
    return style.styled(figure, message, 460).update_layout(showlegend=False)
