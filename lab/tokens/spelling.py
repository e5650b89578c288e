"""Characters of the CTC head: blank, space, a to z, apostrophe."""

from __future__ import annotations

import string

from torch import Tensor

CHARACTERS = " " + string.ascii_lowercase + "'"
BLANK = 0
SIZE = len(CHARACTERS) + 1
_INDEX = {character: index for index, character in enumerate(CHARACTERS, start=1)}


def spell(text: str) -> list[int]:
    """Text -> indices 1..28; what is no character of the alphabet is dropped."""
    return [_INDEX[character] for character in text.lower() if character in _INDEX]


def read(best: Tensor) -> str:
    """Most likely index of each frame (T,) -> text: repeats merged, blanks dropped (greedy CTC)."""
    merged = best.unique_consecutive().tolist()
    return " ".join("".join(CHARACTERS[index - 1] for index in merged if index != BLANK).split())
