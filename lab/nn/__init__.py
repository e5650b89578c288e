"""Layers that two rooms share, and nothing else."""

from lab.nn.attention import attend
from lab.nn.convnext import ConvNeXtBlock
from lab.nn.norm import RMSNorm
from lab.nn.quantize import ResidualVectorQuantizer, VectorQuantizer

__all__ = ["attend", "ConvNeXtBlock", "RMSNorm", "ResidualVectorQuantizer", "VectorQuantizer"]
