"""A waveform: load and save it, judge it, set its level, join it to the next.

A waveform is a float32 numpy array (N,), mono, 16 kHz, within [-1, 1].
"""

from lab.audio.joining import crossfade, join, resample, stitch
from lab.audio.levels import (
    SAMPLE_RATE,
    SILENCE,
    Waveform,
    as_waveform,
    check_finite,
    check_prompt,
    frame_power,
    level,
    scaled,
    set_level,
    speech_span,
    without_offset,
)
from lab.audio.reading import load
from lab.audio.writing import ENCODINGS, Writer, save

__all__ = [
    "ENCODINGS",
    "SAMPLE_RATE",
    "SILENCE",
    "Waveform",
    "Writer",
    "as_waveform",
    "check_finite",
    "check_prompt",
    "crossfade",
    "frame_power",
    "join",
    "level",
    "load",
    "resample",
    "save",
    "scaled",
    "set_level",
    "speech_span",
    "stitch",
    "without_offset",
]
