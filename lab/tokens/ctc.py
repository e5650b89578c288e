"""Labels of the CTC head (Graves et al. 2006) and greedy decoding: blank, space, a to z, apostrophe."""

from __future__ import annotations

import string

from torch import Tensor

CHARACTERS = " " + string.ascii_lowercase + "'"
BLANK = 0
CLASSES = len(CHARACTERS) + 1
_INDEX = {character: index for index, character in enumerate(CHARACTERS, start=1)}


def labels(text: str) -> list[int]:
    """Text -> labels 1 to 28; characters without one are dropped."""
    return [_INDEX[character] for character in text.lower() if character in _INDEX]


def decode(best: Tensor) -> str:
    """Most likely label of each token (T,) -> text: repeats merged, blanks dropped."""
    return " ".join(word for _, _, word in words(best))


def words(best: Tensor) -> list[tuple[int, int, str]]:
    """The words of `decode`, each with the token of its first letter and the one after its last."""
    found: list[tuple[int, int, str]] = []
    inside, at = False, 0
    merged, lengths = best.unique_consecutive(return_counts=True)
    for index, length in zip(merged.tolist(), lengths.tolist(), strict=True):
        start, at = at, at + length
        if index == BLANK:
            continue
        letter = CHARACTERS[index - 1]
        if letter != " ":
            begun, _, word = found.pop() if inside else (start, at, "")
            found.append((begun, at, word + letter))
        inside = letter != " "
    return found
