"""What the recipes' batches share: the generator of a step, sources with equal shares, crops."""

from __future__ import annotations

import operator
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import numpy as np
from torch import Tensor, nn

from lab.errors import LabError

T = TypeVar("T")


def seed_of(seed: Any) -> int:
    """Any whole number is a seed, modulo 2**64. Raises LabError for anything else."""
    try:
        return operator.index(seed) % 2**64
    except TypeError:
        raise LabError(f"the seed must be an integer, not {seed!r}") from None


def positive(**sizes: float) -> None:
    """Raises LabError for a size, by its name, that is not above 0."""
    for name, size in sizes.items():
        if not size > 0:
            raise LabError(f"cannot learn with {name} {size}; give more than 0")


def random_of(seed: int, step: int) -> np.random.Generator:
    """The generator of the batch of a step."""
    return np.random.default_rng((seed_of(seed), step))


def by_source(items: Iterable[T], of: Callable[[T], Any] = lambda item: item) -> list[list[T]]:
    """Grouped by the `source` of what each is `of`, the groups in the order of its name."""
    groups: defaultdict[str, list[T]] = defaultdict(list)
    for item in items:
        groups[of(item).source].append(item)
    return [groups[name] for name in sorted(groups)]


def of_speakers(lengths: Sequence[Sequence[int]]) -> Callable[[np.random.Generator], tuple[int, int]]:
    """For each speaker how long his utterances are -> what draws a speaker, with the square root of how long he speaks,
    and one of his utterances, with its length."""
    each = [np.array(own) for own in lengths]
    shares = np.array([own.sum() for own in each]) ** 0.5

    def drawn(random: np.random.Generator) -> tuple[int, int]:
        speaker = int(random.choice(len(each), p=shares / shares.sum()))
        return speaker, int(random.choice(len(each[speaker]), p=each[speaker] / each[speaker].sum()))

    return drawn


def crop(waveform: np.ndarray, length: int, random: np.random.Generator) -> np.ndarray:
    """`length` samples from anywhere in the waveform (N,), completed with silence."""
    start = int(random.integers(max(1, len(waveform) - length + 1)))
    piece = waveform[start : start + length]
    return np.pad(piece, (0, length - len(piece)))


def neighbours(items: list[T], count: int, random: np.random.Generator) -> list[T]:
    """`count` that stand side by side, or all if they are fewer: of items sorted by length, of about one length."""
    start = int(random.integers(max(1, len(items) - count + 1)))
    return items[start : start + count]


def padded(rows: Sequence[Tensor], padding: float = 0.0) -> Tensor:
    """Rows (N,) of any lengths -> (B, longest)."""
    return nn.utils.rnn.pad_sequence(list(rows), batch_first=True, padding_value=padding)
