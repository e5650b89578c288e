"""Layers that two rooms share, and nothing else."""

from lab.nn.convnext import ConvNeXtBlock
from lab.nn.norm import RMSNorm
from lab.nn.quantize import ResidualVectorQuantizer, VectorQuantizer

__all__ = ["ConvNeXtBlock", "RMSNorm", "ResidualVectorQuantizer", "VectorQuantizer"]
