"""What speech there is in a folder, in LibriSpeech, in lhotse's CutSet or Shar, in WebDataset's tars: documents.

Local, or by an address of fsspec. Nothing is decoded that tells its length in its header.
"""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import cache, partial
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec
import soundfile as sf

from lab.audio.containers import View
from lab.corpora import folder as folders
from lab.corpora import librispeech, librispeech_long, manifest
from lab.corpora.folder import READABLE, shown
from lab.corpora.manifest import Document, Span
from lab.corpora.storage import archive, reached, served, tried
from lab.errors import LabError

LIBRISPEECH = re.compile(r"\S+-\d+ ")  # how a line of its *.trans.txt begins: others have such files, too


def documents(source: str, left_out: list[str], listed: Mapping[str, Document] | None = None) -> list[Document]:
    """The documents of `source`; into `left_out` goes what cannot serve, and why.

    listed: those that a manifest has, by id; a file that is one of them is not opened.

    source: a folder of audio (a document a file), of LibriSpeech (documents of up to 4 minutes; the chapter that
    figures are measured on is left out), of lhotse's Shar, of tars or of a shard; a .tar or a pattern of several; a
    manifest, whose relative paths begin in its folder; a CutSet in .jsonl or .jsonl.gz; or an address of those, where
    LibriSpeech's documents are its files. Paths are absolute: a worker may be anywhere. Raises LabError where there is
    none, or no speech in it, and Unreachable where one of them stays out of reach: what is listed is all there is.
    """
    found = []
    known: set[str] = set()
    for document in _of(source, left_out, listed or {}):
        if document.id in known:
            left_out.append(f"{document.id}: there is another of this name")
        else:
            known.add(document.id)
            found.append(document)
    if not found:
        such = f" (left out: {left_out[0]})" if left_out else ""
        raise LabError(f"there is no speech in {source}{such}; give a corpus with some")
    return found


def _of(source: str, left_out: list[str], listed: Mapping[str, Document]) -> Iterator[Document]:
    if source.endswith((".jsonl", ".jsonl.gz", ".parquet")):
        first = next(manifest.rows(source), {})
        if "duration" in first or "tracks" in first:
            yield from _cuts(source, left_out)
            return
        for document in manifest.read(source):
            placed = (replace(span, path=_absolute(span.path, source)) for span in document.spans)
            yield replace(document, spans=tuple(placed))
    elif source.endswith(".tar"):
        yield from _tars(source, left_out, listed)
    elif "://" in source:
        yield from _storage(source, left_out, listed)
    elif not (root := Path(source).absolute()).is_dir():
        raise LabError(f"there is no corpus {source!r} and no folder of that name; give stories, voices or a folder")
    elif (made := root / "manifest.jsonl").exists():  # a shard
        yield from manifest.read(made)
    elif cuts := sorted(root.glob("cuts.*.jsonl*")):
        for path in cuts:
            yield from _cuts(str(path), left_out, shar=True)
    elif (texts := next(root.rglob("*.trans.txt"), None)) and LIBRISPEECH.match(texts.read_text("utf-8", "replace")):
        built = librispeech_long.build(root, held_out=(librispeech.HELD_OUT_CHAPTER,))
        left_out += built.skipped
        for each in built.recordings:
            spans = tuple(Span(str(path), 0.0, sf.info(path).duration) for path in each.paths)
            yield Document(each.name, spans, each.narrator, each.text)
    elif any(root.glob("*.tar")):
        yield from _tars(str(root / "*.tar"), left_out, listed)
    else:
        yield from _files(root, left_out, listed)


def _files(root: Path, left_out: list[str], listed: Mapping[str, Document]) -> Iterator[Document]:
    corpus = folders.corpus(root)
    left_out += corpus.skipped
    for each in corpus.recordings:
        (path,) = each.paths
        name = shown(path.relative_to(root).as_posix())
        if there := _listed(listed, name, str(path)):
            yield there
            continue
        if (seconds := served(partial(_seconds, path, str(path)), left_out)) is None:
            continue
        yield Document(name, (Span(str(path), 0.0, seconds),), _speaker(path) or each.narrator, each.text)


def _listed(listed: Mapping[str, Document], name: str, path: str) -> Document | None:
    """The document that is the whole of a file."""
    there = listed.get(name)
    return there if there and [(span.path, span.start) for span in there.spans] == [(path, 0.0)] else None


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


def _absolute(path: str, beside: str) -> str:
    """The path, or address, of what another file or address names."""
    if "://" in path or path.startswith("/"):
        return path
    return f"{beside.rpartition('/')[0]}/{path}" if "://" in beside else str(Path(beside).absolute().parent / path)


def _storage(address: str, left_out: list[str], listed: Mapping[str, Document]) -> Iterator[Document]:
    """A Shar, tars or every audio file below an address; the name of its folder is who speaks."""
    with reached(address):
        storage, root = fsspec.core.url_to_fs(address)
        names = {name: name.removeprefix(root).lstrip("/") for name in sorted(storage.find(root))}
        if not names:
            storage.info(root)  # tells why
    if cuts := [name for name in names if re.match(r"cuts\..*\.jsonl", PurePosixPath(name).name)]:
        for name in cuts:
            yield from _cuts(storage.unstrip_protocol(name), left_out, shar=True)
    elif tars := [name for name in names if name.endswith(".tar")]:
        for name in tars:
            yield from _tars(storage.unstrip_protocol(name), left_out, listed)
    else:
        yield from _members(storage, names, storage.unstrip_protocol, left_out, listed)


def _tars(pattern: str, left_out: list[str], listed: Mapping[str, Document]) -> Iterator[Document]:
    """WebDataset: files of one name are a sample, audio and what is said of it."""
    with reached(pattern):
        storage, root = fsspec.core.url_to_fs(pattern)
        if not (paths := sorted(storage.glob(root))):
            raise FileNotFoundError(root)
    for path in paths:
        where = storage.unstrip_protocol(path) if "://" in pattern else str(Path(path).resolve())
        tar, names = tried(partial(_tar, where))
        named = {name: f"{PurePosixPath(path).stem}/{name}" for name in names}
        yield from _members(tar, named, f"tar://{{}}::{where}".format, left_out, listed)


def _tar(where: str) -> tuple[Any, list[str]]:
    """A tar as a storage, and the names in it."""
    with reached(where):
        try:
            tar = archive(where)
            return tar, sorted(tar.find(""))
        except tarfile.TarError as error:
            raise LabError(f"cannot read {where}: it is no whole tar ({error}); make it anew") from None


def _members(
    storage: Any,
    names: dict[str, str],
    address: Callable[[str], str],
    left_out: list[str],
    listed: Mapping[str, Document],
) -> Iterator[Document]:
    """The audio in a storage whose `names` have these ids, with text and speaker of the .json, .txt or .trans.txt
    beside it."""

    @cache
    def transcripts(folder: PurePosixPath) -> dict[str, str]:
        there = (each for each in names if each.endswith(".trans.txt") and PurePosixPath(each).parent == folder)
        return folders.transcribed("\n".join(storage.cat_file(each).decode() for each in there))

    def document(name: str) -> Document:
        path = PurePosixPath(name)
        with reached(address(name)):
            if (size := storage.size(name)) == 0:
                raise LabError(f"{address(name)}: it is empty (0 bytes)")
            with storage.open(name, "rb") as file:
                view = View(file, 0, size or 0, {})  # what tells no size is read as a whole
                span = Span(address(name), 0.0, _seconds(view, address(name)))
                view.check()  # else what breaks off is taken for a shorter file
            beside = [name.removesuffix(path.suffix) + ending for ending in (".json", ".txt")]
            about, text = (storage.cat_file(each).decode() if each in names else "" for each in beside)
            said = json.loads(about or "{}")
            if not isinstance(said, dict):
                raise LabError(f"{address(name)}: the .json beside it is no object; mend that")
            speaker = said.get("speaker") or folders.narrator(path)
            text = said.get("text") or text or transcripts(path.parent).get(path.stem, "")
        return Document(names[name], (span,), str(speaker), " ".join(str(text).lower().split()))

    for name in names:
        if PurePosixPath(name).suffix.lower() not in READABLE:
            continue
        if found := _listed(listed, names[name], address(name)) or served(partial(document, name), left_out):
            yield found


def _cuts(path: str, left_out: list[str], shar: bool = False) -> Iterator[Document]:
    """lhotse's cuts of one recording each, relative paths from here on; of a Shar those whose audio is in the tar of
    that number, by their ids."""
    stored: dict[str, str] = {}
    if shar:
        folder, slash, name = path.rpartition("/")
        tar = f"{folder}{slash}{re.sub('^cuts', 'recording', name).partition('.jsonl')[0]}.tar"
        _, names = tried(partial(_tar, tar))
        stored = {str(PurePosixPath(name).with_suffix("")): name for name in names if not name.endswith("json")}
    for cut in manifest.rows(path):
        try:
            said = cut.get("supervisions") or [{}]
            text = " ".join(" ".join(each.get("text") or "" for each in said).lower().split())
            if shar:
                span = Span(f"tar://{stored[cut['id']]}::{tar}", 0.0, float(cut["duration"]))
            else:
                place = _heard_from(cut)
                beside = path if "://" in path else "here"
                span = Span(_absolute(place, beside), float(cut.get("start", 0)), float(cut["duration"]))
            yield Document(str(cut["id"]), (span,), str(said[0].get("speaker") or ""), text)
        except (KeyError, TypeError, StopIteration):
            left_out.append(f"{cut.get('id')} in {path} is no cut of one recording that is in a file or at an address")
        except ValueError as error:
            left_out.append(f"{cut['id']} in {path} {error}")


def _heard_from(cut: dict[str, Any]) -> str:
    """Where the recording of a cut is, if it sounds as it is there."""
    recording = cut["recording"]
    place = next(each for each in recording["sources"] if each["type"] in ("file", "url"))
    if changed := [each["name"] for each in recording.get("transforms") or () if each["name"] != "Resample"]:
        raise ValueError(f"is changed by {', '.join(changed)}; give the recordings themselves")
    if isinstance(cut.get("channel", 0), int) and len(place.get("channels", [0])) > 1:
        raise ValueError("is one channel of several; give files of one")
    return str(place["source"])
