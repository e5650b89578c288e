"""The weights of a Griffin as flat arrays, with the offsets of each layer's, for `lab.language.lean`.

Matrices may be rounded to int8 with one scale a row: a quarter of the bytes to read.
"""

from __future__ import annotations

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

# Offsets of a layer's matrices in `weights` (m_), of their scales in `scales` (s_), of its vectors in `vectors` (v_).
MATRICES = ("enter", "gates", "leave", "up", "down")
VECTORS = ("mix_norm", "enter", "conv", "gates", "decay", "leave", "mlp_norm", "up", "down")
LAYER = np.dtype(
    [("recurrent", "?"), ("nth", "i8")]
    + [(f"{kind}_{name}", "i8") for kind, names in (("m", MATRICES), ("s", MATRICES), ("v", VECTORS)) for name in names]
)


class Packed(NamedTuple):
    """The weights of a Griffin in the order in which a step reads them, the embedding and the last norm first."""

    config: GriffinConfig
    table: np.ndarray  # (layers,) of LAYER
    weights: np.ndarray  # all matrices, flat, float32 or int8
    scales: np.ndarray  # of all their rows, float32
    vectors: np.ndarray  # norms, biases, taps and decays, float32


def pack(model: Griffin, weights: Weights = "float32") -> Packed:
    """A copy of the weights, for any number of `Stepper`s. "int8" rounds all matrices, the embedding included.

    Raises LabError for a model that is not on the CPU in float32.
    """
    if model.embedding.device.type != "cpu" or model.embedding.dtype != torch.float32:
        where = f"{model.embedding.dtype} on {model.embedding.device}"
        raise LabError(f"only a float32 Griffin on the CPU can be packed, this one is {where}")
    matrices: list[np.ndarray] = []
    scales: list[np.ndarray] = []
    vectors: list[np.ndarray] = []

    def matrix(values: Tensor) -> tuple[int, int]:
        array, scale = values.detach().numpy(), np.ones(len(values), np.float32)
        if weights == "int8":
            array, scale = rounded(array)
        matrices.append(array.ravel())
        scales.append(scale)
        return sum(map(len, matrices[:-1])), sum(map(len, scales[:-1]))

    def vector(values: Tensor) -> int:
        vectors.append(values.detach().float().numpy().ravel())
        return sum(map(len, vectors[:-1]))

    table = np.zeros(model.config.layers, LAYER)
    matrix(model.embedding)
    vector(1 + model.norm.scale)
    vector(torch.zeros(model.config.vocabulary))
    seen = {True: 0, False: 0}
    blocks: Any = model.blocks
    for row, block in zip(table, blocks, strict=True):
        mix, mlp = block.mix, block.mlp
        row["recurrent"] = recurrent = isinstance(mix, RecurrentBlock)
        row["nth"] = seen[recurrent]
        seen[recurrent] += 1
        if recurrent:
            enter = torch.cat([mix.y.weight, mix.x.weight]), torch.cat([mix.y.bias, mix.x.bias])
            row["m_gates"], row["s_gates"] = matrix(mix.gates.weight.transpose(-1, -2).flatten(0, 2))
            row["v_gates"] = vector(mix.gates.bias)
            row["v_conv"] = vector(torch.cat([mix.conv_weight.t().flatten(), mix.conv_bias]))
            row["v_decay"] = vector(F.softplus(mix.lambda_.float()))
        else:
            enter = mix.qkv.weight, torch.zeros(len(mix.qkv.weight))
        row["v_mix_norm"], row["v_mlp_norm"] = vector(1 + block.mix_norm.scale), vector(1 + block.mlp_norm.scale)
        for name, (weight, bias) in {
            "enter": enter,
            "leave": (mix.out.weight, mix.out.bias),
            "up": (mlp.up.weight, mlp.up.bias),
            "down": (mlp.down.weight, mlp.down.bias),
        }.items():
            row[f"m_{name}"], row[f"s_{name}"] = matrix(weight)
            row[f"v_{name}"] = vector(bias)
    return Packed(model.config, table, *(np.concatenate(parts) for parts in (matrices, scales, vectors)))


def rounded(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N, K) float32 -> int8 of the same shape, and the scale of each row (N,)."""
    scales = np.maximum(np.abs(matrix).max(1), np.float32(1e-12)) / np.float32(127)
    return np.rint(matrix / scales[:, None]).astype(np.int8), scales
