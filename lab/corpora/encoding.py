"""What a shard keeps of a waveform: its tokens, and the codes of a codec."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch

from lab import bundle, protocols, windows
from lab.errors import LabError
from lab.tokens import TOKEN_HOP, Tokenizer
from lab.voice import Codec

UNIT = np.dtype("<u2")
Encoded = tuple[np.ndarray, np.ndarray]  # tokens (T,) and codes (T, Q), uint16; Q is 0 without a codec


@cache
def models_of(root: Path, codes: bool, device: str = "cpu") -> tuple[Tokenizer, Codec | None]:
    """The tokenizer and, for `codes`, the codec of a bundle, on a device. Raises LabError for more codes than two bytes
    tell, and for a device that this machine has not."""
    tokenizer, codec = bundle.load(root, "tokenizer"), bundle.load(root, "codec") if codes else None
    assert isinstance(tokenizer, Tokenizer) and isinstance(codec, Codec | None)
    sizes = [tokenizer.vocabulary] + ([codec.codes] if codec else [])
    if max(sizes) > 2**16:
        raise LabError(f"a shard holds numbers below 65536, and there are {max(sizes)} codes")
    try:
        return tokenizer.to(device), codec.to(device) if codec else None
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # torch has one for each kind of device
        raise LabError(f"cannot compute on {device!r}: {str(error).splitlines()[0]}") from error


def encode(waveform: np.ndarray, tokenizer: protocols.Tokenizer, codec: protocols.Codec | None) -> Encoded:
    """Waveform (N,) float32 at 16 kHz -> what is kept of it."""
    return encode_all([waveform], tokenizer, codec)[0]


def encode_all(
    waveforms: Sequence[np.ndarray], tokenizer: protocols.Tokenizer, codec: protocols.Codec | None, together: int = 1
) -> list[Encoded]:
    """What is kept of each waveform (N,), with up to `together` windows of 30 s at once.

    Windows of about one length go together, whatever they are of. The codec sees windows too, so that its memory is
    that of 30 s; it looks no further than their overlaps.
    """
    if together > 1 and isinstance(tokenizer, Tokenizer):
        found = tokenizer.encode_all(waveforms, together)
    else:
        found = [tokenizer.encode(waveform) for waveform in waveforms]
    tokens = [each.cpu().numpy().astype(UNIT) for each in found]
    if codec is None:
        return [(each, np.zeros((len(each), 0), UNIT)) for each in tokens]
    padded = [torch.from_numpy(np.pad(each, (0, -len(each) % TOKEN_HOP)).astype(np.float32)) for each in waveforms]
    codes = [np.zeros((len(each), codec.levels), UNIT) for each in tokens]
    alike: defaultdict[int, list[tuple[int, windows.Window]]] = defaultdict(list)  # it would hear a filling
    for number, each in enumerate(tokens):
        for part in windows.plan(len(each), *windows.TOKENIZATION):
            alike[len(part)].append((number, part))
    for parts in alike.values():
        for at in range(0, len(parts), together):
            batch = parts[at : at + together]
            heard = [padded[number][TOKEN_HOP * part.start : TOKEN_HOP * part.stop] for number, part in batch]
            for (number, part), made in zip(batch, codec.encode(torch.stack(heard).to(codec.device)), strict=True):
                codes[number][part.keep_start : part.keep_stop] = made[part.kept()].cpu().numpy()
    return list(zip(tokens, codes, strict=True))
