"""lab.files: whole or not there, and one process at a time."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from lab import files
from lab.errors import LabError


def test_two_who_write_do_not_share_a_name(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with files.replacing(path) as first:
        first.write_text("first")
        with files.replacing(path) as second:
            second.write_text("second")
        assert path.read_text() == "second"
    assert path.read_text() == "first" and os.listdir(tmp_path) == ["a.json"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, LabError, ZeroDivisionError])
def test_what_fails_leaves_the_old_file(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "a.json"
    path.write_text("old")
    with pytest.raises(error), files.replacing(path) as part:
        part.write_text("new")
        raise error
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["a.json"]


@pytest.mark.parametrize("name", ["none/a", "a\0b", "\ud800", "x" * 300])
def test_where_nothing_can_be_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(LabError, match="cannot write"), files.replacing(tmp_path / name):
        raise AssertionError("told before any work is done")


def test_the_umask_is_obeyed_whoever_writes(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        with files.replacing(tmp_path / "a") as part:
            part.unlink()
            part.touch(0o600)
    finally:
        os.umask(old)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


def test_a_folder_in_use(tmp_path: Path) -> None:
    program = f"""
from pathlib import Path
from lab.files import locked
with locked(Path({str(tmp_path)!r})):
    print("has it", flush=True)
    input()
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[1]
    ) as other:
        assert other.stdout and other.stdout.readline() == b"has it\n"
        with pytest.raises(LabError, match="process.* is training in"):
            with files.locked(tmp_path, wait=0.1, doing="training in"):
                pass
        other.kill()
    with files.locked(tmp_path, wait=1):
        assert os.listdir(tmp_path) == []
    with pytest.raises(LabError, match="No such file"), files.locked(tmp_path / "none"):
        pass


def test_one_file_of_two_names(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    (tmp_path / "link").symlink_to("a")
    (tmp_path / "hard").hardlink_to(tmp_path / "a")
    assert all(
        files.same_file(tmp_path / "a", tmp_path / name) for name in ("link", "hard", "../" + tmp_path.name + "/a")
    )
    assert not files.same_file(tmp_path / "a", tmp_path / "b") and not files.same_file("a\0", "b")


@pytest.mark.parametrize("filtered", [True, False], ids=["this Python", "3.11.2"])
def test_an_archive_is_unpacked_into_its_folder_alone(
    filtered: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not filtered:
        monkeypatch.delattr(tarfile, "data_filter")
    with tarfile.open(tmp_path / "a.tar", "w") as made:
        for name in ("in/a.txt", "../out.txt"):
            member = tarfile.TarInfo(name)
            member.size = 2
            made.addfile(member, io.BytesIO(b"ab"))
        link = tarfile.TarInfo("in/link")
        link.type, link.linkname = tarfile.SYMTYPE, "../../out.txt"
        made.addfile(link)
    with tarfile.open(tmp_path / "a.tar") as archive:
        whole, *bad = archive
        files.unpack(archive, whole, tmp_path / "into")
        assert (tmp_path / "into/in/a.txt").read_bytes() == b"ab"
        for member in bad:
            with pytest.raises(tarfile.TarError):
                files.unpack(archive, member, tmp_path / "into")
    assert not (tmp_path / "out.txt").exists() and not (tmp_path / "into/in/link").is_symlink()
