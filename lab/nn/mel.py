"""Triangular filters on the mel scale."""

from __future__ import annotations

import numpy as np

# Slaney's mel scale: linear to 1000 Hz, 15 mel, above it 27 mel for a factor of 6.4.
_LINEAR, _KNEE, _STEP = 200 / 3, 1000.0, np.log(6.4) / 27


def mel_bands(
    rate: int, size: int, bands: int, lowest: float = 0.0, highest: float | None = None, *, equal_area: bool = False
) -> np.ndarray:
    """Triangles over the Fourier bins of `size` samples, (bands, size / 2 + 1) float32, of height 1 or `equal_area`.

    lowest, highest in Hz, by default to half the rate. Those of librosa.filters.mel with norm None or "slaney", to the
    bit; not by librosa, for whose import a new process would wait before it speaks.
    """
    knee = _KNEE / _LINEAR
    ends = [f / _LINEAR if f < _KNEE else knee + np.log(f / _KNEE) / _STEP for f in (lowest, highest or rate / 2)]
    mels = np.linspace(ends[0], ends[1], bands + 2)
    edges = _LINEAR * mels
    edges[mels >= knee] = _KNEE * np.exp(_STEP * (mels[mels >= knee] - knee))  # (bands + 2,), Hz
    ramps, widths = np.subtract.outer(edges, np.fft.rfftfreq(size, 1 / rate)), np.diff(edges)[:, None]
    triangles = np.maximum(0, np.minimum(-ramps[:-2] / widths[:-1], ramps[2:] / widths[1:])).astype(np.float32)
    if equal_area:
        triangles *= (2 / (edges[2:] - edges[:-2]))[:, None]
    return triangles
