"""Sound in a notebook that was never run: `<audio src="data:...">`, compressed, and a picture of it.

IPython.display.Audio nests a `<source>`, whose address JupyterLab removes from a notebook that was never run; it also
sets every clip to full scale, which hides differences in level.
"""

from __future__ import annotations

import base64
import html
import io
import struct
import zlib

import numpy as np
import soundfile
from IPython.display import HTML

from lab.audio import SAMPLE_RATE, as_waveform
from lab.errors import LabError
from lab.view import style

COLUMNS = 640  # pixels of a poster


def listen(waveform: np.ndarray, caption: str = "", seconds: float | None = None) -> HTML:
    """A player for waveform (N,), as it is in level; MP3 at about 2 kB a second. `seconds` keeps only the beginning.

    Raises LabError for what is no waveform of floats, or holds no samples.
    """
    waveform = as_waveform(waveform, caption or "the sound")
    if seconds is not None and not seconds > 0:
        raise LabError(f"cannot play {seconds:g} seconds; give a positive length")
    clip = waveform if seconds is None else waveform[: int(min(seconds * SAMPLE_RATE, len(waveform)))]
    if not len(clip):
        raise LabError(f"{caption or 'the sound'} holds no samples; give one that lasts")
    file = io.BytesIO()
    soundfile.write(file, clip, SAMPLE_RATE, format="MP3", compression_level=0.9, bitrate_mode="VARIABLE")
    data = base64.b64encode(file.getvalue()).decode()
    text = html.escape(caption)
    return HTML(
        f'<div style="margin:6px 0"><div style="margin-bottom:2px">{text}</div>'
        f'<audio controls aria-label="{text}" style="width:100%;max-width:640px" src="data:audio/mpeg;base64,{data}">'
        "</audio></div>"
    )


def poster(waveform: np.ndarray) -> bytes:
    """Waveform (N,) over its spectrogram up to 8 kHz, 640 x 112 pixels: a PNG of 10 to 30 kB, clear where it is silent.

    LabError as `listen`.
    """
    waveform = as_waveform(waveform, "the sound")
    shades = spectrogram(waveform, COLUMNS)[::-1] ** 1.5
    frames, padded = _frames(waveform, COLUMNS)
    width = max(1, len(waveform) // COLUMNS)
    reach = np.abs(padded[frames[:, None] + np.arange(min(width, 512))]).max(1)
    rows = np.abs(np.linspace(-1, 1, 48))[:, None]
    wave = np.where(rows <= np.maximum(reach / max(reach.max(), 1e-6), 0.03), 0.8, 0.0)  # a line through silence
    return _png((15.99 * (1 - np.concatenate([wave, shades]))).astype(np.uint8))


def spectrogram(waveform: np.ndarray, columns: int) -> np.ndarray:
    """Log power of waveform (N,) up to 8 kHz, (64, columns): 1 is the loudest, 0 is 70 dB below it and less."""
    frames, padded = _frames(waveform, columns)
    windows = np.lib.stride_tricks.sliding_window_view(padded, 512)[frames] * np.hanning(512)  # (columns, 512)
    power = (np.abs(np.fft.rfft(windows)[:, :256]) ** 2).reshape(columns, 64, 4).mean(2)
    decibels = 10 * np.log10(power + 1e-10)
    return np.clip((decibels - decibels.max() + 70) / 70, 0, 1).T


def _frames(waveform: np.ndarray, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Where frames of 512 samples begin, evenly spaced, in the waveform, padded to one."""
    padded = np.pad(waveform, (0, max(0, 512 - len(waveform))))
    return np.linspace(0, len(padded) - 512, columns).astype(int), padded


def _png(shades: np.ndarray) -> bytes:
    """Shades 0 to 15 (H, W), W even, as a PNG of four bits a pixel: from ink to clear, for light and dark pages."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = shades.shape
    rows = np.pad(shades[:, ::2] << 4 | shades[:, 1::2], ((0, 0), (1, 0)))  # each row begins with its filter, none
    header = struct.pack(">IIBBBBB", width, height, 4, 3, 0, 0, 0)  # 3: by a palette
    palette = chunk(b"PLTE", bytes.fromhex(style.INK[1:]) * 16) + chunk(b"tRNS", bytes(range(255, -1, -17)))
    body = chunk(b"IHDR", header) + palette + chunk(b"IDAT", zlib.compress(rows.tobytes(), 9)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body
