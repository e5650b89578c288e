"""The weights of a Griffin as arrays of all layers of a kind, for `lab.language.lean`.

Matrices may be rounded to int8 with one scale a row: a quarter of the bytes to read. `lab.language.integers` multiplies
by them where the processor can.
"""

from __future__ import annotations

import mmap
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lab.errors import LabError
from lab.language.config import GriffinConfig
from lab.language.griffin import Griffin
from lab.language.layers import RecurrentBlock

Weights = Literal["float32", "int8"]
LINE = 64  # bytes of a line of the cache


class Matrices(NamedTuple):
    """One matrix of each of n layers: (n, N, K) float32 or int8, the scales of rows and the biases (n, N) float32."""

    weight: np.ndarray
    scale: np.ndarray
    bias: np.ndarray


class Packed(NamedTuple):
    """The weights of a Griffin: of all its layers, of the recurrent ones, or of those with attention."""

    config: GriffinConfig
    recurrent: np.ndarray  # (layers,) bool
    embedding: Matrices  # one, (V, D)
    norm: np.ndarray  # (D,), the last; of all norms 1 + scale
    norms: np.ndarray  # (layers, 2, D)
    up: Matrices
    down: Matrices
    enter: Matrices  # (2 L, D), both branches
    taps: np.ndarray  # (n, W + 1, L), the bias of the convolution behind its weights
    gates: Matrices  # (2 L, L / H)
    decay: np.ndarray  # (n, L)
    leave: Matrices  # (D, L)
    qkv: Matrices
    out: Matrices

    @property
    def weights(self) -> np.ndarray:
        """A copy of all matrices, flat."""
        return np.concatenate([part.weight.ravel() for part in self if isinstance(part, Matrices)])


def pack(model: Griffin, weights: Weights = "float32") -> Packed:
    """A copy of the weights, for any number of `Stepper`s. "int8" rounds all matrices, the embedding included.

    Raises LabError for a model that is not on the CPU in float32.
    """
    if model.embedding.device.type != "cpu" or model.embedding.dtype != torch.float32:
        where = f"{model.embedding.dtype} on {model.embedding.device}"
        raise LabError(f"only a float32 Griffin on the CPU can be packed, this one is {where}")
    config, blocks = model.config, [*model.blocks]
    recurrent: list[Any] = [block.mix for block in blocks if isinstance(block.mix, RecurrentBlock)]
    local: list[Any] = [block.mix for block in blocks if not isinstance(block.mix, RecurrentBlock)]
    mlps: list[Any] = [block.mlp for block in blocks]
    inner, queries = config.heads * config.head_dim, (config.heads + 2) * config.head_dim

    def matrices(layers: list[Tensor], biases: list[Tensor] | None = None, empty: tuple[int, int] = (0, 0)) -> Matrices:
        weight = stacked(layers, empty)
        scale = np.ones(weight.shape[:2], np.float32)
        if weights == "int8":
            weight, scale = rounded(weight)
        return Matrices(weight, scale, np.zeros_like(scale) if biases is None else stacked(biases, empty[:1]))

    parts = Packed(
        config,
        np.array([kind == "recurrent" for kind in config.blocks]),
        matrices([model.embedding]),
        stacked([1 + model.norm.scale])[0],
        stacked([1 + torch.stack([block.mix_norm.scale, block.mlp_norm.scale]) for block in blocks]),
        matrices([mlp.up.weight for mlp in mlps], [mlp.up.bias for mlp in mlps]),
        matrices([mlp.down.weight for mlp in mlps], [mlp.down.bias for mlp in mlps]),
        matrices(
            [torch.cat([mix.y.weight, mix.x.weight]) for mix in recurrent],
            [torch.cat([mix.y.bias, mix.x.bias]) for mix in recurrent],
        ),
        stacked([torch.cat([mix.conv_weight.t(), mix.conv_bias[None]]) for mix in recurrent]),
        matrices(
            [mix.gates.weight.transpose(-1, -2).flatten(0, 2) for mix in recurrent],
            [mix.gates.bias.flatten() for mix in recurrent],
        ),
        stacked([F.softplus(mix.lambda_.float()) for mix in recurrent]),
        matrices([mix.out.weight for mix in recurrent], [mix.out.bias for mix in recurrent]),
        matrices([mix.qkv.weight for mix in local], empty=(queries, config.width)),
        matrices([mix.out.weight for mix in local], [mix.out.bias for mix in local], (config.width, inner)),
    )
    return _together(parts)


def _together(parts: Packed) -> Packed:
    """A copy in one block, each array from a line of the cache on."""
    arrays = [array for part in parts[1:] for array in (part if isinstance(part, Matrices) else [part])]
    ends = np.cumsum([array.nbytes + -array.nbytes % LINE for array in arrays])
    block = _block(int(ends[-1]))
    places = iter(zip([0, *ends], arrays, strict=False))

    def placed() -> np.ndarray:
        start, array = next(places)
        copy = block[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
        copy[...] = array
        return copy

    moved: list[Any] = [
        Matrices(placed(), placed(), placed()) if isinstance(part, Matrices) else placed() for part in parts[1:]
    ]
    return Packed(parts.config, *moved)


def _block(size: int) -> np.ndarray:
    """Bytes (size,) from a line of the cache on, on Linux in huge pages: a pass over small ones waits for their
    addresses. They are new from the system, as what malloc kept stays in the pages that it has."""
    if not hasattr(mmap, "MADV_HUGEPAGE"):
        block = np.empty(size + LINE, np.uint8)
        return block[-block.ctypes.data % LINE :][:size]
    pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    pages.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(pages, np.uint8)


def stacked(tensors: list[Tensor], shape: tuple[int, ...] = ()) -> np.ndarray:
    """(n, *shape) float32; the shape is needed where there may be none."""
    return np.stack([t.detach().float().numpy() for t in tensors]) if tensors else np.zeros((0, *shape), np.float32)


def rounded(matrices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(..., N, K) float32 -> int8 of the same shape, and the scale of each row (..., N)."""
    scales = np.maximum(np.abs(matrices).max(-1), np.float32(1e-12)) / np.float32(127)
    return np.rint(matrices / scales[..., None]).astype(np.int8), scales
