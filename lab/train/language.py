"""Recipe of the language models: next-token prediction over long pieces of tokenized stories (paper section 3.1).

Pieces are cut anywhere from one flat stream of documents; where a document begins inside a piece, the state is reset.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lab.errors import LabError
from lab.language import Griffin, GriffinConfig, SpeechTransformer, TransformerConfig
from lab.train.loop import Losses, Schedule, fit

Batch = tuple[Tensor, Tensor, Tensor]  # tokens (B, T), targets (B, T), reset (B, T)


@dataclass(frozen=True)
class TokenStream:
    """Documents end to end: tokens (N,) of any integer kind, and where documents start, ascending from 0."""

    tokens: np.ndarray
    starts: np.ndarray

    @classmethod
    def of(cls, documents: list[np.ndarray]) -> TokenStream:
        if not documents:
            raise LabError("no documents to learn from: the corpus is empty")
        starts = np.cumsum([0] + [len(document) for document in documents[:-1]])
        return cls(np.concatenate(documents).astype(np.int32), starts)


def batches(stream: TokenStream, size: int, length: int, seed: int) -> Callable[[int], Batch]:
    """Step -> `size` pieces of `length` tokens."""
    begins = np.zeros(len(stream.tokens), bool)
    begins[stream.starts] = True
    if len(stream.tokens) <= length:
        raise LabError(f"{len(stream.tokens)} tokens are too few for pieces of {length}; make more stories")

    def batch(step: int) -> Batch:
        rng = np.random.default_rng((seed, step))
        at = rng.integers(0, len(stream.tokens) - length, size)[:, None] + np.arange(length + 1)
        tokens = torch.from_numpy(stream.tokens[at].astype(np.int64))
        reset = torch.from_numpy(begins[at])
        targets = tokens[:, 1:].masked_fill(reset[:, 1:], -100)  # nobody can know how the next story begins
        reset[:, 0] = True
        return tokens[:, :-1], targets, reset[:, :-1]

    return batch


def loss_of(model: nn.Module, batch: Batch) -> Losses:
    tokens, targets, reset = batch
    logits, _ = model(tokens, reset=reset)
    loss = F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), ignore_index=-100)
    return loss, {"loss": loss}


@torch.inference_mode()
def cross_entropy(model: nn.Module, documents: list[np.ndarray], length: int = 1024) -> float:
    """Mean cross-entropy in nats a token over the first `length` tokens of each document."""
    total, count = 0.0, 0
    for document in documents:
        tokens = torch.from_numpy(document[: length + 1].astype(np.int64))[None]
        logits, _ = model(tokens[:, :-1])
        total += float(F.cross_entropy(logits[0].float(), tokens[0, 1:], reduction="sum"))
        count += tokens.shape[1] - 1
    return total / count


def train(
    stream: TokenStream,
    held_out: list[np.ndarray],
    folder: Path,
    *,
    model: str = "griffin",
    preset: str = "laptop",
    vocabulary: int = 512,
    steps: int = 1560,
    size: int = 4,
    length: int = 1024,
    seed: int = 0,
) -> tuple[Griffin | SpeechTransformer, dict[str, float]]:
    """Griffin or SpeechTransformer on a stream of documents. Raises LabError for another model or too few tokens."""
    torch.manual_seed(seed)
    network: Griffin | SpeechTransformer
    if model == "griffin":
        network = Griffin(GriffinConfig.preset(preset, vocabulary=vocabulary))
    elif model == "transformer":
        network = SpeechTransformer(TransformerConfig.preset(preset, vocabulary=vocabulary, context=length))
    else:
        raise LabError(f"there is no language model {model!r}; there are griffin and transformer")
    figures = fit(
        network,
        loss_of,
        batches(stream, size, length, seed),
        schedule=Schedule(steps, learning_rate=2e-3, warmup=150, weight_decay=0.1, betas=(0.9, 0.95)),
        folder=folder,
        evaluate=lambda network: {"held_out_loss": cross_entropy(network, held_out)},
        seed=seed,
        mixed=True,
    )
    return network, figures
