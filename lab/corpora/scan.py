"""What speech there is in a folder, in LibriSpeech, in lhotse's CutSet or Shar, in WebDataset's tars: documents.

Local, or by an address of fsspec. Nothing is decoded that tells its length in its header.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec
import soundfile as sf

from lab.corpora import folder as folders
from lab.corpora import librispeech, librispeech_long, manifest
from lab.corpora.folder import READABLE, shown
from lab.corpora.manifest import Document, Span
from lab.errors import LabError


def documents(source: str, left_out: list[str]) -> list[Document]:
    """The documents of `source`; into `left_out` goes what cannot serve, and why.

    source: a folder of audio (a document a file), of LibriSpeech (documents of up to 4 minutes; the chapter that
    figures are measured on is left out), of lhotse's Shar, of tars or of a shard; a .tar or a pattern of several; a
    manifest; a CutSet in .jsonl or .jsonl.gz. Raises LabError where there is none, or no speech in it.
    """
    found = []
    known: set[str] = set()
    for document in _of(source, left_out):
        if document.id in known:
            left_out.append(f"{document.id}: there is another of this name")
        else:
            known.add(document.id)
            found.append(document)
    if not found:
        such = f" (left out: {left_out[0]})" if left_out else ""
        raise LabError(f"there is no speech in {source}{such}; give a corpus with some")
    return found


def _of(source: str, left_out: list[str]) -> Iterator[Document]:
    if source.endswith((".jsonl", ".jsonl.gz", ".parquet")):
        first = next(manifest.rows(source), {})
        yield from _cuts(source, left_out) if "duration" in first or "tracks" in first else manifest.read(source)
    elif source.endswith(".tar"):
        yield from _tars(source, left_out)
    elif "://" in source:
        yield from _storage(source, left_out)
    elif not (root := Path(source)).is_dir():
        raise LabError(f"there is no corpus {source!r} and no folder of that name; give stories, voices or a folder")
    elif (made := root / "manifest.jsonl").exists():  # a shard
        yield from manifest.read(made)
    elif cuts := sorted(root.glob("cuts.*.jsonl*")):
        for path in cuts:
            tar = root / (re.sub(r"^cuts", "recording", path.name).partition(".jsonl")[0] + ".tar")
            yield from _cuts(str(path), left_out, str(tar))
    elif next(root.rglob("*.trans.txt"), None):
        built = librispeech_long.build(root, held_out=(librispeech.HELD_OUT_CHAPTER,))
        left_out += built.skipped
        for each in built.recordings:
            spans = tuple(Span(str(path), 0.0, sf.info(path).duration) for path in each.paths)
            yield Document(each.name, spans, each.narrator, each.text)
    elif any(root.glob("*.tar")):
        yield from _tars(str(root / "*.tar"), left_out)
    else:
        yield from _files(root, left_out)


def _files(root: Path, left_out: list[str]) -> Iterator[Document]:
    corpus = folders.corpus(root)
    left_out += corpus.skipped
    for each in corpus.recordings:
        (path,) = each.paths
        try:
            seconds = _seconds(path, str(path))
        except LabError as error:
            left_out.append(folders.reason(error))
            continue
        name = shown(path.relative_to(root).as_posix())
        yield Document(name, (Span(str(path), 0.0, seconds),), _speaker(path) or each.narrator, each.text)


def _speaker(path: Path) -> str:
    """As the JSON beside a recording of LibriLight tells it, whose folders are books."""
    with suppress(OSError, ValueError, AttributeError):
        return str(json.loads(path.with_suffix(".json").read_bytes()).get("speaker") or "")
    return ""


def _seconds(file: Any, path: str) -> float:
    """The length that a file's header tells, or of what can be decoded. Raises LabError for what is no audio."""
    with suppress(sf.SoundFileError, TypeError):
        return float(sf.info(file).duration)
    return len(Span(path).load()) / 16_000


def _storage(address: str, left_out: list[str]) -> Iterator[Document]:
    """Every audio file below an address; the name of its folder is who speaks."""
    try:
        storage, root = fsspec.core.url_to_fs(address)
        names = {name: name.removeprefix(root).lstrip("/") for name in sorted(storage.find(root))}
    except ImportError as error:
        raise LabError(f"cannot read {address}: {error}") from None
    except Exception as error:  # each kind of storage has its own
        raise LabError(f"cannot read {address}: {' '.join(str(error).split())[:200]}; look at its name") from error
    yield from _members(storage, names, storage.unstrip_protocol, left_out)


def _tars(pattern: str, left_out: list[str]) -> Iterator[Document]:
    """WebDataset: files of one name are a sample, audio and what is said of it."""
    storage, root = fsspec.core.url_to_fs(pattern)
    for path in sorted(storage.glob(root)) or [root]:
        where = storage.unstrip_protocol(path) if "://" in pattern else str(Path(path).resolve())
        tar, names = _tar(where)
        named = {name: f"{PurePosixPath(path).stem}/{name}" for name in names}
        yield from _members(tar, named, f"tar://{{}}::{where}".format, left_out)


def _tar(where: str) -> tuple[Any, list[str]]:
    """A tar as a storage, and the names in it."""
    try:
        tar = manifest.tar(where)
        return tar, sorted(tar.find(""))
    except Exception as error:  # tarfile's, or the storage's
        raise LabError(f"cannot read the tar {where} ({error}); fetch it again") from None


def _members(
    storage: Any, names: dict[str, str], address: Callable[[str], str], left_out: list[str]
) -> Iterator[Document]:
    """The audio in a storage whose `names` have these ids, with text and speaker of the .json or .txt beside it."""
    for name, identity in names.items():
        path = PurePosixPath(name)
        if path.suffix.lower() not in READABLE:
            continue
        try:
            with storage.open(name, "rb") as file:
                seconds = _seconds(file, address(name))
            beside = [str(path.with_suffix(ending)) for ending in (".json", ".txt")]
            about, text = (storage.cat_file(each).decode() if each in names else "" for each in beside)
            said = json.loads(about or "{}")
            speaker, text = said.get("speaker") or path.parent.name, said.get("text") or text
        except (LabError, OSError, ValueError, AttributeError) as error:
            left_out.append(f"{address(name)}: {error}")
            continue
        yield Document(
            identity, (Span(address(name), 0.0, seconds),), str(speaker), " ".join(str(text).lower().split())
        )


def _cuts(path: str, left_out: list[str], tar: str = "") -> Iterator[Document]:
    """lhotse's cuts of one recording each; with a `tar` those of a Shar, whose audio is in there by their ids."""
    stored: dict[str, str] = {}
    if tar:
        stored = {str(PurePosixPath(name).with_suffix("")): name for name in _tar(tar)[1] if not name.endswith("json")}
    for cut in manifest.rows(path):
        try:
            said = cut.get("supervisions") or [{}]
            text = " ".join(" ".join(each.get("text") or "" for each in said).lower().split())
            if tar:
                span = Span(f"tar://{stored[cut['id']]}::{Path(tar).resolve()}", 0.0, float(cut["duration"]))
            else:
                place = next(each for each in cut["recording"]["sources"] if each["type"] in ("file", "url"))
                span = Span(place["source"], float(cut.get("start", 0)), float(cut["duration"]))
            yield Document(str(cut["id"]), (span,), str(said[0].get("speaker") or ""), text)
        except (KeyError, TypeError, StopIteration):
            left_out.append(f"{cut.get('id')} in {path} is no cut of one recording that is in a file or at an address")
