"""The shapes of the language models, frozen, with named presets; `dataclasses.asdict` makes them JSON."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal

from lab.errors import LabError
from lab.presets import Presets

PATTERN = ("recurrent", "recurrent", "attention")  # repeated and cut: 26 layers end with two recurrent


def _positive(config: Any) -> None:
    for field in fields(config):
        value = getattr(config, field.name)
        if isinstance(value, int) and not isinstance(value, bool) and value < 1:
            raise LabError(f"{type(config).__name__}: {field.name} must be 1 or more, not {value}")


@dataclass(frozen=True)
class GriffinConfig(Presets):
    """Griffin as SpeechSSM uses it: RecurrentGemma's blocks without positions (paper section 5).

    Presets: tiny (tests), laptop (3 M, learns on 2 cores), lab (7.5 M), medium (57 M, more than most caches hold), and
    2b and 9b (RecurrentGemma's shapes).
    """

    vocabulary: int
    width: int  # D, and the recurrence width L as well
    layers: int
    heads: int  # of attention, and the blocks of the gates' block-diagonal matrices
    head_dim: int  # of the one key and value head, and of each query head
    window: int = 2048  # a query attends to itself and `window` tokens before
    conv_width: int = 4
    mlp_expansion: int = 3
    soft_cap: float = 30.0
    rope: bool = False  # SpeechSSM drops it, to generate beyond the training length; RecurrentGemma has it
    # "paper": a^c in [0.9, 0.999]; at init, with gates at 1/2, half-lives of 13 to 1,386 tokens (0.5 to 55 s).
    # "recurrentgemma": a in that range, so a^c in [0.43, 0.992]; 1.6 to 173 tokens (7 s at most). The default has the
    # longer ones, as a long story depends on names from minutes ago. "minutes": the paper's in three of four channels;
    # in the fourth half-lives of 250 to 6,000 tokens (10 s to 4 min). So slow a channel cannot be learnt from the
    # paper's: Adam moves Lambda by the learning rate a step at most, and from a half-life of 10 tokens to one of 3,000
    # it is 5.7, some 6,000 steps at 1e-3 all in one direction.
    lambda_init: Literal["paper", "recurrentgemma", "minutes"] = "paper"

    PRESETS = {
        "tiny": dict(vocabulary=64, width=32, layers=3, heads=2, head_dim=16, window=16),
        "laptop": dict(vocabulary=512, width=192, layers=6, heads=3, head_dim=64, window=512, lambda_init="minutes"),
        "lab": dict(vocabulary=1024, width=256, layers=9, heads=4, head_dim=64, window=512, lambda_init="minutes"),
        "medium": dict(vocabulary=1024, width=512, layers=18, heads=8, head_dim=64, window=512),
        "2b": dict(vocabulary=32768, width=2560, layers=26, heads=10, head_dim=256),
        "9b": dict(vocabulary=32768, width=4096, layers=38, heads=16, head_dim=256),
    }

    def __post_init__(self) -> None:
        _positive(self)
        if self.width % self.heads:
            raise LabError(f"GriffinConfig: width {self.width} must be a multiple of heads {self.heads}")
        if self.rope and self.head_dim % 4:
            raise LabError(f"GriffinConfig: with rope head_dim must be a multiple of 4, not {self.head_dim}")
        if self.lambda_init not in ("paper", "recurrentgemma", "minutes"):
            raise LabError(
                f"GriffinConfig: lambda_init must be paper, recurrentgemma or minutes, not {self.lambda_init!r}"
            )

    @property
    def blocks(self) -> tuple[str, ...]:
        """The temporal mixing of each layer, "recurrent" or "attention"."""
        return tuple(PATTERN[i % len(PATTERN)] for i in range(self.layers))


@dataclass(frozen=True)
class TransformerConfig(Presets):
    """SpeechTransformer, the baseline: Gemma's decoder, matched in parameters (paper section 9).

    A preset has as many parameters as the Griffin of that name, to 3 %; 2b is Gemma-2B's shape, with 2.96 % fewer.
    """

    vocabulary: int
    width: int  # D
    layers: int
    heads: int
    head_dim: int
    mlp_width: int  # of each of the two branches
    context: int  # tokens it is trained to; sampling beyond it is extrapolation, or slide-and-prompt
    rope: bool = True  # Gemma has it; whether SpeechTransformer kept it the paper does not say
    soft_cap: float | None = None  # Gemma has none

    PRESETS = {
        "tiny": dict(vocabulary=64, width=32, layers=3, heads=2, head_dim=16, mlp_width=112, context=64),
        "laptop": dict(vocabulary=512, width=192, layers=6, heads=3, head_dim=64, mlp_width=624, context=1024),
        "lab": dict(vocabulary=1024, width=256, layers=9, heads=4, head_dim=64, mlp_width=832, context=2048),
        "medium": dict(vocabulary=1024, width=512, layers=18, heads=8, head_dim=64, mlp_width=1664, context=2048),
        "2b": dict(vocabulary=32768, width=2048, layers=18, heads=8, head_dim=256, mlp_width=16384, context=5760),
    }

    def __post_init__(self) -> None:
        _positive(self)
        if self.rope and self.head_dim % 2:
            raise LabError(f"TransformerConfig: with rope head_dim must be even, not {self.head_dim}")
