"""What a language model learns from how its examples end: the silence that was put behind them, or nothing (paper
section 3.3).

A few steps of training on recordings that end in mid-story. Padded with silence, as a batch of one length suggests,
they teach that after so many seconds there is nothing more to say; heard as `Tokenizer.encode` hears them, they do not.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path

import numpy as np

from lab import audio
from lab.errors import LabError
from lab.language import Griffin
from lab.tokens import TOKEN_HOP, TOKEN_RATE, Tokenizer
from lab.train import language
from lab.train.loop import Compute

SILENCE, START = "silence", "the start again"  # as in `lab.measure.seams.endings`
PADDING = 4.0  # seconds of silence behind each recording
_PIECES, _LEARNING_RATE, _WARMUP = 8, 2e-3, 5  # of a step; as the recipe's own, which has 150 steps to climb


def examples(
    tokenizer: Tokenizer, recordings: Sequence[np.ndarray], ending: str, padding: float = PADDING
) -> list[np.ndarray]:
    """Recordings (N,) as tokens to learn from: SILENCE, with those of `padding` seconds of silence behind each; START,
    as `Tokenizer.encode` hears them, without. Raises LabError for another ending."""
    if ending not in (SILENCE, START):
        raise LabError(f"there is no ending {ending!r}; there are {SILENCE} and {START}")
    behind = round(padding * TOKEN_RATE) if ending == SILENCE else 0
    found = []
    for recording in recordings:
        heard = audio.as_waveform(recording)[: len(recording) // TOKEN_HOP * TOKEN_HOP]
        # More silence than is kept: the padding itself must not hear the start again.
        more = (behind + tokenizer.reach) * TOKEN_HOP if behind else 0
        tokens = tokenizer.encode(np.pad(heard, (0, more))).cpu().numpy()
        found.append(tokens[: len(heard) // TOKEN_HOP + behind])
    return found


def taught(
    model: Griffin,
    documents: Sequence[np.ndarray],
    steps: int,
    length: int,
    seed: int = 0,
    compute: Compute | None = None,
) -> Griffin:
    """A copy of a model that went on learning from documents (T,), for `steps` of 8 pieces of `length` tokens each."""
    with tempfile.TemporaryDirectory() as folder:  # nothing to go on from: it is a matter of a minute
        found, _ = language.train(
            language.TokenStream.of(list(documents)),
            [],
            Path(folder),
            vocabulary=model.config.vocabulary,
            steps=steps,
            size=_PIECES,
            length=length,
            seed=seed,
            begin=deepcopy(model),
            config=model.config,
            settings={"learning_rate": _LEARNING_RATE, "warmup": min(_WARMUP, steps)},
            compute=compute or Compute(progress=False),
        )
    assert isinstance(found, Griffin)
    return found.eval()
