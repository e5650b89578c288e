"""What of a corpus is not listed in its manifest, and why: by length, by how it sounds, by language.

Each takes documents and gives those that stay; into `left_out` goes a line on each of the others.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from lab import audio
from lab.audio.levels import CLIPPED_SHARE, SILENCE
from lab.corpora.manifest import Document, Span
from lab.corpora.storage import served
from lab.errors import LabError


def cut(documents: Iterable[Document], seconds: float, left_out: list[str]) -> list[Document]:
    """Longer files in pieces of `seconds`; what remains is one, too, if it is more than a tenth of that."""
    if not 1 <= seconds < math.inf:
        raise LabError(f"cannot cut into pieces of {seconds:g} seconds; give 1 or more")
    pieces = []
    for document in documents:
        if len(document.spans) > 1 or document.seconds <= seconds:
            pieces.append(document)
            continue
        (whole,) = document.spans
        for number, at in enumerate(np.arange(0, whole.seconds, seconds).tolist()):
            length = min(seconds, whole.seconds - at)
            if length > 0.1 * seconds:
                span = Span(whole.path, round(whole.start + at, 3), round(length, 3))
                pieces.append(replace(document, id=f"{document.id}#{number:04}", spans=(span,), text=""))
            else:
                left_out.append(f"{document.id}: its last {length:.1f} s are too little for a piece of {seconds:g} s")
    return pieces


def between(documents: Iterable[Document], least: float, most: float, left_out: list[str]) -> list[Document]:
    """Those of `least` to `most` seconds."""
    kept = []
    for document in documents:
        if least <= document.seconds <= most:
            kept.append(document)
        else:
            left_out.append(f"{document.id} lasts {document.seconds:.1f} s, and {least:g} to {most:g} are wanted")
    return kept


@dataclass(frozen=True)
class Sound:
    """What a document has to sound like. Raises LabError for what none can, and for less than all that learn ask for.

    speech: the least share of its time that holds speech; within: dB from the loudest twentieth of its frames of 20 ms
    down to the softest that does; quietest: the least peak, in dBFS; clipped: the largest share of samples at full
    scale.
    """

    speech: float = 0.0
    within: float = 30.0
    quietest: float = SILENCE
    clipped: float = CLIPPED_SHARE

    def __post_init__(self) -> None:
        ranges = {"speech": (0, 1), "within": (0, 120), "quietest": (SILENCE, 0), "clipped": (0, CLIPPED_SHARE)}
        for name, (least, most) in ranges.items():
            if not least <= (value := getattr(self, name)) <= most:
                raise LabError(f"cannot listen with --{name} {value:g}; give {least:g} to {most:g}")


def heard(
    documents: Iterable[Document], asked: Sound, left_out: list[str], before: Iterable[Document] = ()
) -> Iterator[Document]:
    """Those that can be read, sound as `asked` and are no copy of another or of one that was heard `before`, each with
    the digest of its sound. Raises Unreachable as `served` does."""
    known = {document.digest: document.id for document in before}
    for document in documents:
        read = partial(document.read, silence=asked.quietest, clipped=asked.clipped)
        if (utterance := served(read, left_out)) is None:
            continue
        waveform = utterance.samples()
        digest = hashlib.sha256(waveform.tobytes()).hexdigest()[:16]
        power = audio.frame_power(waveform)
        share = float((power > 10 ** (-asked.within / 10) * np.percentile(power, 95)).mean())
        if digest in known:
            left_out.append(f"{document.id} is a copy of {known[digest]}")
        elif share < asked.speech:
            found = f"speech in {share:.0%} of its time, within {asked.within:g} dB of its loudest"
            left_out.append(f"{document.id} has {found}, and {asked.speech:.0%} is asked for")
        else:
            known[digest] = document.id
            yield replace(document, digest=digest)


def spoken_in(
    documents: Iterable[Document], code: str, tell: Callable[[np.ndarray], tuple[str, float]], left_out: list[str]
) -> Iterator[Document]:
    """Those in the language of that code. tell: a waveform (N,) -> the code of what is spoken, and its probability.

    Raises Unreachable as `served` does.
    """
    for document in documents:
        told = served(partial(_told, tell, document), left_out)
        if told is None:
            continue
        heard, probability = told
        if heard == code:
            yield document
        else:
            left_out.append(f"{document.id} is in {heard}, to {probability:.0%}, and {code} is asked for")


def _told(tell: Callable[[np.ndarray], tuple[str, float]], document: Document) -> tuple[str, float]:
    return tell(document.read().samples())
