"""Vector quantization with codebooks that follow their inputs (SoundStream 2107.03312, section III-C).

Codebooks are exponential moving averages of the vectors assigned to them, not parameters: they start as a sample of the
first batch refined by k-means, and a code with next to no vectors lately is replaced by an input. Without that, 140 of
512 codes were used.

A forward pass in training moves them, so a training step that is rejected has to restore the buffers (`fit` does).
Vectors that are not finite never move a codebook.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lab.errors import LabError
from lab.nn.indices import as_indices
from lab.nn.sampling import generator_of


class VectorQuantizer(nn.Module):
    """Nearest of `codes` vectors of `width`; by angle when `cosine` (inputs and codes on the unit sphere).

    decay: of the moving averages. dead: share of the mean usage under which a code is replaced. seed: of the draws of
    new codes from the inputs; the same batches give the same codebook.
    """

    codebook: Tensor
    usage: Tensor
    sums: Tensor
    started: Tensor

    def __init__(
        self, codes: int, width: int, *, cosine: bool = False, decay: float = 0.99, dead: float = 0.05, seed: int = 0
    ):
        super().__init__()
        self.cosine, self.decay, self.dead, self.seed = cosine, decay, dead, seed
        self.register_buffer("codebook", torch.zeros(codes, width))
        # The averages matter to training alone: a checkpoint carries them, a bundle may leave them out.
        self.register_buffer("usage", torch.zeros(codes))
        self.register_buffer("sums", torch.zeros(codes, width))
        self.register_buffer("started", torch.tensor(0))  # batches followed

    def forward(self, x: Tensor, valid: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(..., width) -> quantized with straight-through gradient (..., width), indices (...).

        `valid` (...) bool: which vectors may move the codebook (padding may not).
        """
        indices = self.assign(x, valid)
        x = self.on_sphere(x)
        return x + (self.codebook[indices] - x).detach(), indices

    @torch.no_grad()
    def assign(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        """`nearest` (..., width) -> (...), after the codebook has followed the `valid` vectors, if in training."""
        unit = self.on_sphere(x)
        indices = self.nearest(unit)
        if self.training:
            squares = x.float().square().sum(-1)
            # Neither NaN nor so large that distances overflow; of cosines 0 has no direction.
            usable = squares.isfinite() & ((squares > 0) | (not self.cosine))
            if valid is not None:
                usable &= valid
            vectors = unit[usable]
            if len(vectors):  # quantizer dropout may leave a level without one
                if not self.started:
                    self._start(vectors)
                    indices = self.nearest(unit)
                self._follow(vectors, indices[usable])
        return indices

    def on_sphere(self, x: Tensor) -> Tensor:
        return F.normalize(x, dim=-1) if self.cosine else x

    def scores(self, x: Tensor) -> Tensor:
        """(..., width) -> (..., codes), largest for the nearest code: cosine, or minus half the squared distance."""
        with torch.autocast(x.device.type, enabled=False):  # 8 bits cannot tell neighbours apart
            x = x.float()
            if self.cosine:
                return self.on_sphere(x) @ self.codebook.T
            return x @ self.codebook.T - 0.5 * self.codebook.square().sum(-1)

    @torch.no_grad()
    def nearest(self, x: Tensor) -> Tensor:
        return self.scores(x).argmax(-1)

    def _start(self, x: Tensor, rounds: int = 10) -> None:
        """k-means; but a codebook from a bundle, which leaves averages out, is trained on from where it is."""
        if self.codebook.any():
            self.usage.fill_(1)
            self.sums.copy_(self.codebook)
            return
        self.codebook.copy_(self._drawn(x))
        for _ in range(rounds):
            counts, sums = self._count(x, self.nearest(x))
            self.codebook.copy_(torch.where(counts[:, None] > 0, sums / counts[:, None].clamp(min=1), self.codebook))
            self.codebook.copy_(self.on_sphere(self.codebook))
        share = len(x) / len(self.codebook)
        self.usage.fill_(share)
        self.sums.copy_(self.codebook * share)

    def _drawn(self, x: Tensor) -> Tensor:
        """As many of the vectors (N, width) as there are codes."""
        random = generator_of(self.seed, int(self.started))
        return x[torch.randint(len(x), (len(self.codebook),), generator=random).to(x.device)]

    def _count(self, x: Tensor, indices: Tensor) -> tuple[Tensor, Tensor]:
        counts = torch.bincount(indices, minlength=len(self.codebook)).to(x.dtype)
        return counts, torch.zeros_like(self.codebook).index_add_(0, indices, x)

    def _follow(self, x: Tensor, indices: Tensor) -> None:
        counts, sums = self._count(x, indices)
        self.usage.lerp_(counts, 1 - self.decay)
        self.sums.lerp_(sums, 1 - self.decay)
        share = self.usage.sum() / len(self.usage)
        dead = self.usage < self.dead * share
        self.started += 1
        self.sums.copy_(torch.where(dead[:, None], self._drawn(x) * share, self.sums))
        self.usage.copy_(torch.where(dead, share, self.usage))
        self.codebook.copy_(self.on_sphere(self.sums / self.usage[:, None]))


class ResidualVectorQuantizer(nn.Module):
    """A cascade: each level quantizes what the levels before it left over. Q levels of `codes` vectors."""

    levels: Sequence[VectorQuantizer]

    def __init__(self, levels: int, codes: int, width: int, decay: float = 0.99):
        super().__init__()
        # A vector that is a code of one level leaves 0 to the next, which has to draw others.
        quantizers = [VectorQuantizer(codes, width, decay=decay, seed=level) for level in range(levels)]
        self.levels = cast(Sequence[VectorQuantizer], nn.ModuleList(quantizers))

    def forward(self, x: Tensor, depth: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, F, width), depth (B,) levels to use in each example (quantizer dropout).

        Returns quantized with straight-through gradient (B, F, width), codes (B, F, Q), commitment loss ().
        """
        residual, total = x, torch.zeros_like(x)
        codes, losses = [], []
        for number, level in enumerate(self.levels):
            used = (depth > number)[:, None].expand(x.shape[:2])  # (B, F)
            indices = level.assign(residual, used)
            vectors = level.codebook[indices] * used[..., None]
            losses.append(((residual - vectors).square().mean(-1) * used).sum() / used.sum().clamp(min=1))
            residual = residual - vectors
            total = total + vectors
            codes.append(indices)
        return x + (total - x).detach(), torch.stack(codes, -1), torch.stack(losses).mean()

    @torch.no_grad()
    def encode(self, x: Tensor) -> Tensor:
        """(B, F, width) -> codes (B, F, Q)."""
        codes = []
        for level in self.levels:
            codes.append(level.nearest(x))
            x = x - level.codebook[codes[-1]]
        return torch.stack(codes, -1)

    def decode(self, codes: Tensor, depth: Tensor | None = None) -> Tensor:
        """Codes (B, F, q), the first q <= Q levels -> (B, F, width); depth (B,) levels to use in each example.

        Raises LabError for codes that are no integers in range, or of more levels.
        """
        codes = as_indices(codes, len(self.levels[0].codebook), "code").to(self.levels[0].codebook.device)
        if codes.ndim < 2 or not 1 <= codes.shape[-1] <= len(self.levels):
            raise LabError(f"codes of shape {tuple(codes.shape)}; give (B, F, q) of 1 to {len(self.levels)} levels")
        found = [level.codebook[index] for level, index in zip(self.levels, codes.unbind(-1), strict=False)]
        vectors = torch.stack(found)  # (q, B, F, width)
        if depth is not None:
            used = torch.arange(len(vectors), device=depth.device)[:, None] < depth
            vectors = vectors * used[..., None, None]
        return vectors.sum(0)
