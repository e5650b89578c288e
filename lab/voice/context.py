"""What a token says where it stands: features of the tokenizer's CTC head, without its last layer.

A token alone is little more than a class of sounds. The CTC head learnt, from more speakers than the voice hears, which
letter it is among its neighbours; the voice begins with what the head found out, and does not have to learn it anew.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lab.nn.convnext import convnext_blocks


class Context(nn.Module):
    """Tokens (B, T) -> (B, T, out). `layers` blocks of `width` and `kernel`, those of the head; only `out` learns."""

    def __init__(self, tokens: int, layers: int, width: int, kernel: int, out: int):
        super().__init__()
        self.embedding = nn.Embedding(tokens, width)
        self.blocks = convnext_blocks(layers, width, kernel)
        self.out = nn.Linear(width, out)
        nn.init.zeros_(self.out.weight)  # a voice that had none begins as it was
        nn.init.zeros_(self.out.bias)
        self.keep()

    def keep(self) -> None:
        """What was learnt from the head stays as it is."""
        self.embedding.requires_grad_(False)
        self.blocks.requires_grad_(False)

    def forward(self, tokens: Tensor) -> Tensor:
        with torch.no_grad():
            read = self.blocks(self.embedding(tokens))
        return self.out(read)
