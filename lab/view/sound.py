"""Sound in a notebook that still plays when the notebook is opened cold: `<audio src="data:...">`, compressed.

IPython.display.Audio nests a `<source>`, whose address JupyterLab removes from a notebook that was never run; it also
sets every clip to full scale, which hides differences in level.
"""

from __future__ import annotations

import base64
import html
import io

import numpy as np
import soundfile
from IPython.display import HTML

from lab.audio import SAMPLE_RATE


def listen(waveform: np.ndarray, caption: str = "", seconds: float | None = None) -> HTML:
    """A player for waveform (N,), as it is in level; MP3 at about 2 kB a second. `seconds` keeps only the beginning."""
    clip = waveform if seconds is None else waveform[: int(seconds * SAMPLE_RATE)]
    file = io.BytesIO()
    soundfile.write(file, clip, SAMPLE_RATE, format="MP3", compression_level=0.9, bitrate_mode="VARIABLE")
    data = base64.b64encode(file.getvalue()).decode()
    told = html.escape(caption)
    return HTML(
        f'<div style="margin:6px 0"><div style="margin-bottom:2px">{told}</div>'
        f'<audio controls aria-label="{told}" style="width:100%;max-width:640px" src="data:audio/mpeg;base64,{data}">'
        "</audio></div>"
    )
