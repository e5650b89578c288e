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
    return " ".join(word for _, _, word in words(best))


def words(best: Tensor) -> list[tuple[int, int, str]]:
    """The words of `read`, each with the frame of its first letter and the one after its last."""
    found: list[tuple[int, int, str]] = []
    inside, at = False, 0
    letters, lengths = best.unique_consecutive(return_counts=True)
    for index, length in zip(letters.tolist(), lengths.tolist(), strict=True):
        start, at = at, at + length
        if index == BLANK:
            continue
        letter = CHARACTERS[index - 1]
        if letter != " ":
            begun, _, word = found.pop() if inside else (start, at, "")
            found.append((begun, at, word + letter))
        inside = letter != " "
    return found
