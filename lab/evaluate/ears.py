"""The judges of an evaluation by their specs, and what is not judged without them.

`ctc` is the reader of our own tokenizer: it learnt from the narrators and the words of the story world, so it is a
stand-in, and is called that in every result. It needs no extra, and is all that is there by default.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from lab import __version__, audio, bundle, judges
from lab.audio import Waveform
from lab.errors import LabError
from lab.judges.protocols import CausalLM, MOSPredictor, Recognizer, SpeakerEncoder, TextEncoder
from lab.tokens import Tokenizer

DEFAULT = "ctc"
_KINDS = {  # by the one method that each has: its field below, and what is not judged without it
    "transcribe": ("recognizers", "any text"),
    "embed_speaker": ("speakers", "SpkrSim"),
    "predict_mos": ("mos", "MOS"),
    "log_likelihood": ("language_models", "ASR-PPL"),
    "embed_text": ("encoders", "similarity to the reference and SC-L"),
}


class Reader:
    """The CTC head of a tokenizer as a recognizer."""

    name = "ctc"

    def __init__(self, tokenizer: Tokenizer, digest: str):
        self._tokenizer, self._digest = tokenizer, digest

    def transcribe(self, waveform: Waveform) -> str:
        return self._tokenizer.transcribe(self._tokenizer.encode(audio.set_level(waveform)))

    def provenance(self) -> dict[str, str]:
        return {"backend": f"lab {__version__}, a stand-in: learnt from what it judges", "weights": self._digest}


@dataclass(frozen=True)
class Ears:
    """Judges by what they do; texts are those that the first recognizer hears."""

    recognizers: tuple[Recognizer, ...] = ()
    speakers: tuple[SpeakerEncoder, ...] = ()
    mos: tuple[MOSPredictor, ...] = ()
    language_models: tuple[CausalLM, ...] = ()
    encoders: tuple[TextEncoder, ...] = ()

    def __iter__(self) -> Iterator[Any]:
        return (each for field in fields(self) for each in getattr(self, field.name))

    def provenance(self) -> dict[str, dict[str, str]]:
        return {each.name: dict(each.provenance()) for each in self}

    def lacking(self) -> list[str]:
        """What is not judged, for want of somebody who can."""
        return [what for field, what in _KINDS.values() if not getattr(self, field)]


def load(specs: str, root: Path) -> Ears:
    """Judges by specs, divided by commas: those of `lab.judges.load`, and `ctc`, the reader of the bundle at `root`.

    Raises LabError for a spec that is none, a package or checkpoint that is missing, and two judges of one name.
    """
    return of([_reader(root) if spec == "ctc" else judges.load(spec) for spec in split(specs)])


def of(found: Sequence[Any]) -> Ears:
    """Judges by what they can do.

    Raises LabError for one that can do nothing, two of one name, and judges of a text that nobody hears.
    """
    sorted_: dict[str, tuple[Any, ...]] = {}
    for each in found:
        kinds = [field for method, (field, _) in _KINDS.items() if hasattr(each, method)]
        if not kinds:
            told = f"{each.name} scores no speech: it has none of {', '.join(_KINDS)}"
            raise LabError(f"{told}; who tells the better of two texts is given to `lab evaluate --judge`")
        for field in kinds:
            sorted_[field] = (*sorted_.get(field, ()), each)
    names = [each.name for each in found]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise LabError(f"there are two judges called {twice}; leave one out")
    if "recognizers" not in sorted_ and (deaf := {"language_models", "encoders"} & set(sorted_)):
        name = sorted_[deaf.pop()][0].name
        raise LabError(f"nobody hears the text that {name} judges; give a recognizer as well, such as whisper:base.en")
    return Ears(**sorted_)


def shown(specs: str) -> str:
    """The specs without the folders of this machine, as results keep them."""
    parts = [spec.rpartition(":") for spec in split(specs)]
    return ",".join(
        head + colon + (Path(last).name if head and Path(last).expanduser().exists() else last)
        for head, colon, last in parts
    )


def split(specs: str) -> list[str]:
    """Specs that commas divide. Raises LabError for none."""
    found = [spec.strip() for spec in specs.split(",") if spec.strip()]
    if not found:
        raise LabError(f"there is no judge in {specs!r}; give one or more, such as whisper:base.en,ge2e:PATH")
    return found


def _reader(root: Path) -> Reader:
    tokenizer = bundle.load(root, "tokenizer")
    assert isinstance(tokenizer, Tokenizer)
    return Reader(tokenizer, bundle.digests(root)["tokenizer"])
