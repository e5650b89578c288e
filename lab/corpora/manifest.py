"""A corpus as data: a manifest in JSON lines or Parquet, with a row for each stretch of speech.

    id       of a document, for ever; rows of one id that follow each other are joined
    path     a file, or an address of fsspec: s3://..., https://..., tar://MEMBER::FOLDER/part-000.tar
    start    where in it, in seconds
    seconds  of speech
    speaker  text
    split    train; dev, on which the held-out loss of language models is told; or test, from which nothing learns
    digest   of the sound, if the corpus was listened to

A manifest grows at its end and its rows stay, so that what was made of them stays, too. What sounds the same, byte for
byte of its files, is in it once.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import fsspec

from lab import audio
from lab.corpora import copies
from lab.corpora.storage import Unreachable, opened, reached, without_package
from lab.corpora.utterance import Utterance, levelled
from lab.errors import LabError
from lab.files import replacing

SPLITS = ("train", "dev", "test")


@dataclass(frozen=True)
class Span:
    """`seconds` of a file or address from `start` on; 0: to its end."""

    path: str
    start: float = 0.0
    seconds: float = 0.0

    def load(self) -> audio.Waveform:
        """Raises LabError for what is no audio or not there, Unreachable for what may be there another time."""
        load = partial(audio.load, start=self.start, max_seconds=self.seconds or None)
        with reached(self.path):
            if "://" not in self.path:
                return load(self.path)
            with opened(self.path) as file:
                try:
                    return load(file)
                except Unreachable:
                    raise  # it names the address
                except LabError as error:
                    raise LabError(f"{self.path}: {error}") from None


@dataclass(frozen=True)
class Document:
    """What is learnt from as a whole: stretches of speech that follow each other."""

    id: str
    spans: tuple[Span, ...]
    speaker: str = ""
    text: str = ""
    split: str = "train"
    digest: str = ""

    @property
    def seconds(self) -> float:
        return sum(span.seconds for span in self.spans)

    def read(self, **limits: float) -> Utterance:
        """Its spans joined and levelled as narrators are. Raises LabError as `Recording.read` does. limits: those of
        `levelled`."""
        waveform = levelled(((span.path, span.load()) for span in self.spans), **limits)
        return Utterance(waveform, self.text, self.speaker, "recorded", split=self.split, recording=self.spans[0].path)


# On disk


def read(path: str | Path) -> list[Document]:
    """The documents of a manifest. Raises LabError for one that cannot be read, by the number of its first bad row."""
    documents = []
    for _, group in groupby(enumerate(rows(path), 1), key=lambda numbered: numbered[1].get("id")):
        found = list(group)
        try:
            spans = tuple(Span(str(row["path"]), float(row["start"]), float(row["seconds"])) for _, row in found)
            if not all(0 <= value < math.inf for span in spans for value in (span.start, span.seconds)):
                raise ValueError("start and seconds are numbers of 0 or more")
            first, text = found[0][1], " ".join(filter(None, (row.get("text") for _, row in found)))
            about = {key: first[key] for key in ("speaker", "split", "digest") if first.get(key)}
            if (split := about.get("split", "train")) not in SPLITS:
                raise ValueError(f"there is no split {split!r}; there are {', '.join(SPLITS)}")
            documents.append(Document(str(first["id"]), spans, text=text, **about))
        except (KeyError, TypeError, ValueError) as error:
            what = f"no {error}" if isinstance(error, KeyError) else error
            raise LabError(f"{path}, from row {found[0][0]} on, is damaged ({what}); make it anew") from None
    return documents


def rows(path: str | Path) -> Iterator[dict[str, Any]]:
    """The rows of JSON lines, gzipped or not, or of Parquet. Raises LabError for any that are none."""
    number = 0
    try:
        if str(path).endswith(".parquet"):
            table = _parquet()
            with opened(str(path)) as file:
                yield from table.read_table(file).to_pylist()
            return
        with fsspec.open(str(path), "rt", compression="infer", encoding="utf-8") as file:
            for line in file:
                number += 1
                if line.strip():
                    row = json.loads(line)
                    if not isinstance(row, dict):
                        raise ValueError("it is no object")
                    yield row
    except FileNotFoundError:
        raise LabError(f"there is no manifest {path}; make it with `lab corpus`") from None
    except (OSError, EOFError, ValueError) as error:
        raise LabError(f"cannot read {path}, row {max(1, number)}: {error}; make it anew") from None
    except ImportError as error:
        raise without_package(str(path), error) from None


def write(path: Path, documents: Iterable[Document]) -> None:
    """In place of the one before, whole or not at all."""
    documents = list(documents)
    columns = ["speaker", "split", *["digest"] * any(each.digest for each in documents)]
    table = [
        {
            "id": each.id,
            **asdict(span),
            "text": "" if n else each.text,
            **{name: getattr(each, name) for name in columns},
        }
        for each in documents
        for n, span in enumerate(each.spans)
    ]
    with replacing(Path(path)) as part:
        if Path(path).suffix == ".parquet":
            import pyarrow

            _parquet().write_table(pyarrow.Table.from_pylist(table), part)
        else:
            part.write_text("".join(json.dumps(row) + "\n" for row in table))


def _parquet() -> Any:
    try:
        import pyarrow.parquet
    except ImportError:
        raise LabError("Parquet needs `pip install pyarrow`; or give a name in .jsonl") from None
    return pyarrow.parquet


def grow(path: Path, documents: Iterable[Document], left_out: list[str]) -> list[Document]:
    """What the manifest at `path` holds, if there is one, and after it those of `documents` with other ids.

    `left_out` takes a line on each that is another sound of the same id, and on each that is the same sound of another.
    """
    there, documents = read(path) if Path(path).exists() else [], list(documents)
    known = {document.id: document.spans for document in there}
    new = [document for document in documents if document.id not in known]
    others = (each.id for each in documents if known.get(each.id, each.spans) != each.spans)
    left_out += [f"{each}: {path} has another of this id; list a folder above both into a new one" for each in others]
    new = list(_once(new, there, left_out))
    if new or not there:
        write(path, there + new)
    return there + new


def _once(documents: list[Document], before: list[Document], left_out: list[str]) -> Iterator[Document]:
    """Those that are no copy of another or of one of `before`, by the bytes of their files. What is at an address is
    not fetched for that."""
    same = copies.among(_files(documents), _files(before))

    def sound(document: Document) -> tuple[Span, ...]:
        return tuple(replace(span, path=same.get(span.path, span.path)) for span in document.spans)

    known = {sound(each): each.id for each in before}
    for each in documents:
        if (other := known.setdefault(sound(each), each.id)) == each.id:
            yield each
        else:
            left_out.append(f"{each.id} is a copy of {other}")


def _files(documents: list[Document]) -> list[str]:
    return [span.path for each in documents for span in each.spans if "://" not in span.path]
