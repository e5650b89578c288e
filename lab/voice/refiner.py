"""What the voice does not guess: tokens, the codes of the first levels, who speaks -> the vectors of all levels.

Of the finer levels tokens and a prompt foretell little, and codes drawn so loosely blur the words. So only the first
level is drawn, and the vector that all levels would add up to is estimated: its mean, given what is known, in one pass
of convolutions.

It learns with the codes of the first levels and without them (`unknown`). Where they are a guess, what they say is
less sure than in training, and the mean of the two estimates, `GUIDED` of the one that heeds them, is understood best.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lab.nn import RMSNorm
from lab.nn.convnext import ConvNeXt
from lab.voice.context import Context

GUIDED = 0.3  # chosen with the temperature on development stories, by Whisper; no figure is of those


class Refiner(nn.Module):
    """Shapes: `layers` of `width` and `kernel`; vectors of `code_width`, `tokens` of the vocabulary, `timbre`.
    `context`: its layers, width and kernel, if it has one."""

    def __init__(
        self,
        layers: int,
        width: int,
        kernel: int,
        code_width: int,
        tokens: int,
        timbre: int,
        context: tuple[int, int, int] | None = None,
    ):
        super().__init__()
        self.embedding = nn.Embedding(tokens, width)
        nn.init.normal_(self.embedding.weight, std=0.5 if context is None else 0.2)
        self.context = None if context is None else Context(tokens, *context, width)
        self.guess = nn.Linear(code_width, width)
        self.unknown = nn.Parameter(torch.zeros(width))
        self.blocks = ConvNeXt(layers, width, kernel, timbre)
        self.out = nn.Sequential(RMSNorm(width), nn.Linear(width, code_width))

    def forward(self, tokens: Tensor, vectors: Tensor, timbre: Tensor, known: Tensor) -> Tensor:
        """Tokens (B, F), the vectors of the first levels (B, F, code_width), timbre (B, C), known (B,) bool: whether
        the vectors count. Returns (B, F, code_width)."""
        guess = torch.where(known[:, None, None], self.guess(vectors), self.unknown)
        said = self.embedding(tokens)
        if self.context is not None:
            said = said + self.context(tokens)
        return self.out(self.blocks(said + guess, timbre)).float()

    def estimate(self, tokens: Tensor, vectors: Tensor, timbre: Tensor) -> Tensor:
        """The same where the vectors are a guess: the mean of both estimates, weighted by `GUIDED`."""
        known = torch.arange(2 * len(tokens), device=tokens.device) < len(tokens)
        guided, alone = self(*(torch.cat([x, x]) for x in (tokens, vectors, timbre)), known).chunk(2)
        return torch.lerp(alone, guided, GUIDED)
