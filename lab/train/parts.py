"""A part of a model that goes on learning alone, the rest as it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar

from torch import nn

from lab.train.loop import Compute, Schedule, fit

Model = TypeVar("Model", bound=nn.Module)


class Part(nn.Module, Generic[Model]):
    """A model of which only the layers that `learns` names learn. Called with a batch, it gives its losses."""

    model: Model

    def __init__(self, model: Model, learns: tuple[str, ...]):
        super().__init__()
        self.model = model
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name.partition(".")[0] in learns)


def fit_part(
    part: Part[Model],
    batches: Callable[[int], Any],
    folder: Path,
    schedule: Schedule,
    *,
    seed: int,
    evaluate: Callable[[Model], dict[str, float]] | None = None,
    inputs: Mapping[str, str] | None = None,
    compute: Compute | None = None,
) -> dict[str, float]:
    """Train the part in place (`fit`), and let all of its model learn again."""
    figures = fit(
        part,
        lambda part, batch: part(batch),
        batches,
        schedule=schedule,
        folder=folder,
        evaluate=(lambda _: evaluate(part.model)) if evaluate else None,
        seed=seed,
        mixed=True,
        inputs=inputs,
        compute=compute,
    )
    part.model.requires_grad_(True)
    return figures
