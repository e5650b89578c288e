"""What is tokenized: numbered items, and the utterances of each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lab.corpora import manifest, narration, scan
from lab.corpora.manifest import Document
from lab.corpora.utterance import Utterance, digest_of

LONG_STORY = 420  # sentences: 17 minutes, more than the longest piece that a language model learns from
PART = 600.0  # seconds of recordings that are made, written and lost together: some 10 s of work


@dataclass(frozen=True)
class Source:
    """Items in order, cut into parts. `read` goes to other processes, so it is a function of a module."""

    name: str
    read: Callable[[Any], Iterable[Utterance]]
    items: Sequence[Any]
    bounds: Sequence[int]  # part k: items[bounds[k] : bounds[k + 1]]
    hours: float | None = None  # if no other number is asked for; None: all there is
    skipped: tuple[str, ...] = ()  # known before anything was read

    @classmethod
    def of(cls, name: str) -> Source:
        """`stories`, `long-stories`, `voices`, or what `scan.documents` reads: folders, manifests, tars, cuts."""
        if name == "stories":
            return cls._narrated(name, _story, narration.training_text(0), 1, 60.0)
        if name == "long-stories":
            return cls._narrated(name, _long_story, narration.training_text(0, LONG_STORY), 1, 60.0)
        if name == "voices":
            first, _ = narration.voice_samples(0)
            return cls._narrated(name, narration.voice_samples, f"{first.narrator}: {first.text}", 16, 7.0)
        left_out: list[str] = []
        found = [each for each in scan.documents(name, left_out) if each.split in ("train", "dev")]
        place = name if "://" in name else str(Path(name).resolve())
        return cls(f"{place} {digest_of(place)}", _document, found, (), skipped=tuple(left_out)).with_items(found)

    @classmethod
    def _narrated(
        cls, name: str, read: Callable[[int], Iterable[Utterance]], first: str, part: int, hours: float
    ) -> Source:
        """`first`: who reads what, to begin with: another grammar or another cast is another corpus."""
        return cls(f"{name} {digest_of(first)}", read, range(10**6), range(0, 10**6 + 1, part), hours)

    def with_items(self, documents: Sequence[Document]) -> Source:
        """The same source, with these documents in parts of ten minutes or a document."""
        bounds, seconds = [0], 0.0
        for number, document in enumerate(documents, 1):
            seconds += document.seconds
            if seconds >= PART or number == len(documents):
                bounds.append(number)
                seconds = 0.0
        return replace(self, items=documents, bounds=bounds)

    def grown(self, folder: Path) -> Source:
        """With what `folder` has of it in the manifest there, which has its new documents at the end from now on."""
        if self.read is not _document:
            return self
        left_out = list(self.skipped)
        grown = self.with_items(manifest.grow(folder / "manifest.jsonl", self.items, left_out))
        return replace(grown, skipped=tuple(left_out))

    @property
    def parts(self) -> range:
        return range(len(self.bounds) - 1)

    def part(self, number: int) -> tuple[str, Sequence[Any]]:
        """What a part is known by, and its items."""
        items = self.items[self.bounds[number] : self.bounds[number + 1]]
        return digest_of("\n".join(str(getattr(item, "id", item)) for item in items)), items

    @property
    def digest(self) -> str:
        """Of all that there is: another world, or a corpus that grew, has another."""
        if self.read is _document:
            return digest_of("\n".join(f"{item.id} {item.seconds:.3f}" for item in self.items))
        return self.name.split()[-1]


def _story(number: int) -> tuple[Utterance]:
    return (narration.training_story(number),)


def _long_story(number: int) -> tuple[Utterance]:
    return (narration.training_story(number, LONG_STORY),)


def _document(document: Document) -> tuple[Utterance]:
    return (document.read(),)
