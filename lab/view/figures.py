"""Pictures of a story, and of speed."""

from __future__ import annotations

import re

import librosa
import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from lab.audio import SAMPLE_RATE
from lab.bench import Report
from lab.language import Griffin, SpeechTransformer, state_bytes
from lab.speech import Story
from lab.tokens import TOKEN_RATE
from lab.view import style


def story(told: Story, height: int = 460) -> go.Figure:
    """A story over time: its spectrogram, its tokens, where the prompt ends and where windows were joined."""
    figure = make_subplots(3, 1, shared_xaxes=True, row_heights=[0.22, 0.5, 0.28], vertical_spacing=0.04)
    low, high, times = _envelope(told.waveform, 1200)
    figure.add_scatter(x=times, y=high, line={"width": 0, "color": style.WAVE}, hoverinfo="skip", row=1, col=1)
    figure.add_scatter(
        x=times, y=low, fill="tonexty", line={"width": 0, "color": style.WAVE}, fillcolor=style.WAVE, hoverinfo="skip",
        row=1, col=1,
    )  # fmt: skip
    picture, hop = _spectrogram(told.waveform, 900)
    figure.add_heatmap(
        z=picture, x0=0, dx=hop, y0=0, dy=8 / len(picture), colorscale="Greys", showscale=False, row=2, col=1,
        hovertemplate="%{x:.1f} s, %{y:.1f} kHz<extra></extra>",
    )  # fmt: skip
    tokens = told.tokens.numpy()
    for part, colour, name in (
        (slice(0, told.prompt_tokens), style.PROMPT, "prompt"),
        (slice(told.prompt_tokens, None), style.CONTINUATION, "continuation"),
    ):
        at = np.arange(len(tokens))[part]
        figure.add_scattergl(
            x=np.round(at / TOKEN_RATE, 2), y=tokens[part], mode="markers", marker={"size": 2, "color": colour},
            name=name, row=3, col=1, hovertemplate="%{x:.2f} s: token %{y}<extra></extra>",
        )  # fmt: skip
    for seam in told.seams:
        figure.add_vline(seam, line={"color": style.SEAM, "width": 1, "dash": "dot"})
    figure.add_vline(told.prompt_tokens / TOKEN_RATE, line={"color": style.PROMPT, "width": 2})
    figure.update_yaxes(title_text="wave", showticklabels=False, showgrid=False, row=1, col=1)
    figure.update_yaxes(title_text="frequency, kHz", row=2, col=1)
    figure.update_yaxes(title_text="token", row=3, col=1)
    figure.update_xaxes(title_text="seconds of speech", row=3, col=1)
    prompt = told.prompt_tokens / TOKEN_RATE
    message = f"{prompt:.0f} s of prompt, {told.seconds - prompt:.0f} s of new speech; dotted: joins of windows"
    return style.styled(figure, message, height).update_layout(showlegend=False)


def throughput(report: Report, height: int = 420) -> go.Figure:
    """Tokens a second over the length of the stories, from one budget of memory (`lab bench throughput`; paper Fig. 8).

    Dotted: what the bandwidth and the arithmetic of the machine allow, measured in the same run.
    """
    figure, last = go.Figure(), []
    for name, pattern, colour in (
        ("Griffin", r"throughput, (\d+) tokens", style.CONTINUATION),
        ("SpeechTransformer", r"SpeechTransformer, (\d+) tokens", style.TRANSFORMER),
    ):
        found = [
            (int(match[1]) / TOKEN_RATE, row.ours.median, row.predicted)
            for row in report.rows
            if row.ours and (match := re.fullmatch(pattern, row.name))
        ]
        seconds, measured, roofline = zip(*found, strict=True)
        figure.add_scatter(x=seconds, y=measured, name=name, mode="lines+markers", line={"color": colour, "width": 3})
        figure.add_scatter(
            x=seconds, y=roofline, name=f"{name}, roofline", mode="lines", line={"color": colour, "dash": "dot"}
        )
        last.append(measured[-1])
    lengths = [f"{length:.0f}" for length in seconds]
    figure.update_xaxes(
        title_text="length of the stories, seconds of speech", type="log", tickvals=seconds, ticktext=lengths
    )
    figure.update_yaxes(title_text="tokens a second, all stories together", type="log", dtick="D2")  # 1, 2, 5, 10
    message = (
        f"In the same memory Griffin makes {last[0] / last[1]:.0f} times the tokens, in stories of {seconds[-1]:.0f} s"
    )
    styled = style.styled(figure, message, height)
    return styled.update_layout(legend={"orientation": "v", "x": 1.02, "xanchor": "left", "y": 1, "yanchor": "top"})


def road(told: Story, language: Griffin | SpeechTransformer) -> str:
    """The road of one story as a small table in markdown: how much there is at each stop."""
    state = state_bytes(language(told.tokens[None, :1])[1])
    config = language.config
    cache = 2 * 4 * len(told.tokens) * config.layers * config.head_dim  # float32 keys and values of one head a layer
    rows = [
        (
            "semantic tokens",
            f"{len(told.tokens):,}",
            f"{TOKEN_RATE} a second, {len(told.tokens.unique())} different",
        ),
        ("state of the language model", f"{state / 1e6:.2f} MB", "the same at every token"),
        (
            "a Transformer's keys and values",
            f"{cache / 1e6:.2f} MB",
            "same depth and heads, after these tokens; growing",
        ),
        ("windows of the voice", f"{len(told.seams) + 1}", "3 s of the speaker, then up to 27 s of speech"),
        ("waveform", f"{len(told.waveform):,}", f"samples at 16 kHz, {told.seconds:.1f} s"),
    ]
    lines = ["| stop | how much | what it is |", "| --- | --- | --- |"]
    return "\n".join(lines + [f"| {stop} | {size} | {what} |" for stop, size, what in rows])


def _envelope(waveform: np.ndarray, points: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    width = max(1, len(waveform) // points)
    frames = waveform[: len(waveform) // width * width].reshape(-1, width)
    times = (np.arange(len(frames)) + 0.5) * width / SAMPLE_RATE
    return frames.min(1).round(3), frames.max(1).round(3), times.round(2)


def _spectrogram(waveform: np.ndarray, columns: int) -> tuple[np.ndarray, float]:
    """Uint8 picture (64, columns) of the log power up to 8 kHz, and the seconds of a column: small in a notebook."""
    power = np.abs(librosa.stft(waveform, n_fft=512, hop_length=128)) ** 2
    power = power[:256].reshape(64, 4, -1).mean(1)
    width = max(1, power.shape[1] // columns)
    power = power[:, : power.shape[1] // width * width].reshape(64, -1, width).mean(2)
    decibels = librosa.power_to_db(power, ref=np.max, top_db=70)
    return ((decibels + 70) / 70 * 255).astype(np.uint8), width * 128 / SAMPLE_RATE
