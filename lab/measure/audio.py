"""What a codec keeps of the sound."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from pystoi import stoi

from lab.audio import SAMPLE_RATE
from lab.voice import Codec
from lab.voice.losses import MultiScaleMel


@torch.inference_mode()
def of_codec(codec: Codec, waveforms: Sequence[np.ndarray], levels: int) -> dict[str, float]:
    """Waveforms (N,) -> codes of the first `levels` levels -> waveforms: STOI, and the log-mel L1 of its training."""
    distance = MultiScaleMel(SAMPLE_RATE)
    intelligible, distances = [], []
    for waveform in waveforms:
        whole = torch.from_numpy(waveform)[None]
        decoded = codec.decode(codec.encode(whole)[..., :levels])[:, : len(waveform)]
        intelligible.append(stoi(waveform, decoded[0].numpy(), SAMPLE_RATE))
        distances.append(float(distance(decoded, whole)[0]))
    return {"STOI": float(np.mean(intelligible)), "log-mel L1": float(np.mean(distances))}
