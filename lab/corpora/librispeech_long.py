"""LibriSpeech-Long (Park et al. 2024, section 5): readings of up to 4 minutes, for speech continued that long.

Two ways to it: `build` joins the utterances of LibriSpeech on disk by the paper's rule; `fetch` downloads the official
archive, whose audio comes from the uncut chapters. Both CC BY 4.0.
"""

from __future__ import annotations

import gzip
import shutil
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

import pooch
import requests
import soundfile as sf
from rich.progress import Progress

from lab.console import console
from lab.corpora import librispeech
from lab.corpora.folder import Corpus
from lab.corpora.utterance import Recording
from lab.errors import LabError
from lab.files import unpack

SECONDS = 240.0
ADDRESS = "https://storage.googleapis.com/librispeech_long/v0_1.tar.gz"  # about 3 GB
SPLITS = ("dev-clean", "dev-other", "test-clean", "test-other")
PATIENCE = 30.0  # seconds without a byte


def build(root: Path, seconds: float = SECONDS, held_out: Sequence[str] = ()) -> Corpus:
    """Documents `chapter_0000`, `chapter_0001`, ... of each LibriSpeech chapter below `root`.

    The rule of libri-light's cut_by_vad: utterances are added in reading order while their sum is at most `seconds`,
    then a new document begins; one that is longer stays whole, and what remains is a document of its own. Where an
    utterance is missing or cannot be read (`skipped`) a new document begins too: speech does not run on over a gap.
    Chapters named in `held_out` (folder names) are skipped.
    """
    built = Corpus([])
    for chapter in librispeech.chapters(root):
        if chapter.name in held_out:
            built.skipped.append(f"{chapter} is held out")
            continue
        utterances = librispeech.utterances(chapter)
        built.skipped += utterances.skipped
        for number, parts in enumerate(runs(utterances.recordings, seconds, built.skipped)):
            paths = tuple(path for part in parts for path in part.paths)
            text = " ".join(part.text for part in parts)
            name = f"{chapter.name}_{number:04}"
            built.recordings.append(Recording(name, paths, text, parts[0].narrator, "librispeech"))
    return built


def runs(utterances: list[Recording], most: float, skipped: list[str]) -> Iterator[list[Recording]]:
    """Utterances of one chapter that follow each other without a gap, up to `most` seconds, by the rule of `build`."""
    run: list[Recording] = []
    total, due = 0.0, 0
    for utterance in utterances:
        try:
            info = sf.info(utterance.paths[0])
        except sf.SoundFileError:
            skipped.append(f"{utterance.paths[0]} is not audio that can be read")
            continue
        number = int(utterance.name.rpartition("-")[2])
        if run and (total + info.duration > most or number != due):
            yield run
            run, total = [], 0.0
        run.append(utterance)
        total, due = total + info.duration, number + 1
    if run:
        yield run


def fetch(into: Path, splits: Sequence[str] = SPLITS, address: str = ADDRESS) -> Path:
    """The official archive, unpacked: into/librispeech-long/split/reader/chapter/chapter_0000.{flac,txt}.

    The archive stays in `into`, for further splits; one that was put there by hand is taken.
    Raises LabError without a network, on a full disk, and for an archive that is damaged.
    """
    if odd := [split for split in splits if split not in SPLITS]:
        raise LabError(f"LibriSpeech-Long has no split {odd[0]!r}; it has {', '.join(SPLITS)}")
    home = into / "librispeech-long"
    wanted = [split for split in splits if not (home / split).is_dir()]
    if wanted:
        try:
            into.mkdir(parents=True, exist_ok=True)
            archive = into / address.rpartition("/")[2]
            if not archive.exists():
                _download(address, archive)
            _unpack(archive, into, wanted)
        except OSError as error:
            raise LabError(f"cannot write to {into}: {error.strerror or error}; free some space") from error
    return home


def _download(address: str, archive: Path) -> None:
    """Whole or not at all; gzip's CRC-32, checked as it is unpacked, tells whether it came as it was sent."""
    pooch.get_logger().setLevel("WARNING")
    way = pooch.HTTPDownloader(progressbar=True, timeout=PATIENCE)
    try:
        pooch.retrieve(address, known_hash=None, fname=archive.name, path=archive.parent, downloader=way)
    except requests.HTTPError as error:
        raise LabError(f"{address} answers {error.args[0].partition(' for url')[0]}; try later") from None
    except requests.RequestException as error:
        told = f"cannot fetch {address} ({type(error).__name__}); try with a network, or put the file at {archive}"
        raise LabError(told) from None


def _unpack(archive: Path, into: Path, splits: Sequence[str]) -> None:
    """The splits out of the archive, which is read to its end: gzip's CRC-32 stands there."""
    part = into / ".librispeech-long.part"
    shutil.rmtree(part, ignore_errors=True)
    size = archive.stat().st_size
    try:
        with (
            archive.open("rb") as packed,
            gzip.open(packed) as plain,
            tarfile.open(fileobj=plain, mode="r|") as tar,
            Progress(console=console) as progress,
        ):
            bar = progress.add_task("checking and unpacking", total=size)
            for member in tar:
                if not set(SPLITS).difference(splits).intersection(PurePosixPath(member.name).parts[1:2]):
                    unpack(tar, member, part)
                progress.update(bar, completed=packed.tell())
            while plain.read(2**20):
                pass
            progress.update(bar, completed=size)
        unpacked, home = part / "librispeech-long", into / "librispeech-long"
        if missing := [split for split in splits if not (unpacked / split).is_dir()]:
            raise LabError(f"{archive} holds no librispeech-long/{missing[0]}; delete it and fetch it again")
        home.mkdir(exist_ok=True)
        for path in sorted(unpacked.iterdir()):
            if (home / path.name).is_dir():
                shutil.rmtree(home / path.name)
            path.replace(home / path.name)
    except (EOFError, gzip.BadGzipFile, zlib.error, tarfile.TarError) as error:
        raise LabError(f"{archive} is no whole archive ({error}); delete it and fetch it again") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
