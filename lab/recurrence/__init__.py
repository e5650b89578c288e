"""RG-LRU and the causal convolution as ops with several backends, and the probe that picks one."""

from lab.recurrence.ops import causal_conv1d, rg_lru
from lab.recurrence.probe import Row, backends

__all__ = ["Row", "backends", "causal_conv1d", "rg_lru"]
