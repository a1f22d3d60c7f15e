"""One way to open a file of a folder that anyone may have filled, and one way to write one there."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from parity.recording.files import opened, read_whole, remove, write_whole
from parity.recording.header import read_tensors
from parity.recording.places import old_path, put_in_place
from parity.trajectory import TrajectoryError


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file outside the folder that is looked into."""
    path = tmp_path / "secret"
    path.write_bytes(b"not of this folder")
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "folder"
    path.mkdir()
    return path


def test_a_link_out_of_the_folder_is_not_followed(folder: Path, secret: Path) -> None:
    (folder / "file").symlink_to(secret)
    (folder / "up").symlink_to("..")
    for name in ("file", "up/secret", "../secret"):
        with pytest.raises(TrajectoryError, match="a link that leaves the folder"):
            opened(folder / name, folder)
    (folder / "own").write_bytes(b"of this folder")
    (folder / "inner").symlink_to("own")
    assert read_whole(folder / "inner", 100, folder) == b"of this folder"
    (folder / "loop").symlink_to("loop")
    with pytest.raises(TrajectoryError, match="back to itself"):
        opened(folder / "loop", folder)


@pytest.mark.timeout(20)
def test_what_is_no_regular_file_is_refused_at_once(folder: Path) -> None:
    os.mkfifo(folder / "fifo")
    (folder / "inner").mkdir()
    place = socket.socket(socket.AF_UNIX)
    here = Path.cwd()
    try:
        os.chdir(folder)  # the path of a socket may have about 100 bytes
        place.bind("socket")
    finally:
        os.chdir(here)
        place.close()
    for path in (folder / "fifo", folder / "inner", folder / "socket", Path("/dev/zero")):
        with pytest.raises(TrajectoryError, match="no regular file"):
            opened(path)


def test_a_file_is_read_up_to_its_bound(folder: Path) -> None:
    (folder / "file").write_bytes(b"x" * 100)
    assert read_whole(folder / "file", 100) == b"x" * 100
    with pytest.raises(TrajectoryError, match="larger than 99 bytes"):
        read_whole(folder / "file", 99)
    with pytest.raises(FileNotFoundError):
        read_whole(folder / "other", 1)


def test_tensors_are_read_with_what_the_file_says_of_itself(folder: Path) -> None:
    path = folder / "file.safetensors"
    path.write_bytes(save({"x": np.arange(3.0)}, {"mark": "m"}))
    found = read_tensors(path, 1 << 20, folder)
    assert found is not None
    about, tensors = found
    assert about == {"mark": "m"}
    assert tensors["x"].tolist() == [0.0, 1.0, 2.0]
    for wrong in (b"", b"\0" * 8, path.read_bytes()[:-1], path.read_bytes().replace(b"F64", b"F65")):
        path.write_bytes(wrong)
        with pytest.raises(TrajectoryError, match="no valid safetensors file"):
            read_tensors(path, 1 << 20, folder)


def test_nothing_is_written_through_a_link(folder: Path, secret: Path) -> None:
    (folder / "file").symlink_to(secret)
    # The names that scratch files once had.
    for name in (".file.partial", ".file.tmp"):
        (folder / name).symlink_to(secret)
    write_whole(folder / "file", b"new")
    assert secret.read_bytes() == b"not of this folder"
    assert not (folder / "file").is_symlink()
    assert (folder / "file").read_bytes() == b"new"
    (folder / "inner").symlink_to(secret.parent)
    with pytest.raises(TrajectoryError, match="a link that leaves the folder"):
        write_whole(folder / "inner" / "secret", b"new", folder)
    assert secret.read_bytes() == b"not of this folder"


def test_a_file_is_written_whole_or_not_at_all(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_whole(folder / "file", b"old")

    def full(*arguments: object) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", full)
        with pytest.raises(OSError, match="no space"):
            write_whole(folder / "file", b"new")
    assert (folder / "file").read_bytes() == b"old"
    assert os.listdir(folder) == ["file"]
    old = os.umask(0o027)
    try:
        write_whole(folder / "file", b"new")
    finally:
        os.umask(old)
    assert (folder / "file").stat().st_mode & 0o777 == 0o640


def test_whatever_lies_there_is_taken_away_and_no_link_is_followed(folder: Path, secret: Path) -> None:
    (folder / "tree" / "inner").mkdir(parents=True)
    (folder / "tree" / "inner" / "file").write_bytes(b"")
    (folder / "file").write_bytes(b"")
    (folder / "link").symlink_to(secret)
    (folder / "to a folder").symlink_to(secret.parent)
    (folder / "to nothing").symlink_to("absent")
    for path in [*folder.iterdir(), folder / "absent"]:
        remove(path)
    assert list(folder.iterdir()) == []
    assert secret.read_bytes() == b"not of this folder"


@pytest.mark.parametrize("before", ["nothing", "a file", "a folder"])
@pytest.mark.parametrize("new", ["a file", "a folder"])
def test_what_is_put_in_place_takes_the_place_of_whatever_was_there(folder: Path, before: str, new: str) -> None:
    def make(path: Path, kind: str, data: bytes) -> None:
        if kind == "a folder":
            path.mkdir()
            path = path / "inner"
        if kind != "nothing":
            path.write_bytes(data)

    def made(path: Path) -> bytes:
        return (path / "inner" if path.is_dir() else path).read_bytes()

    source, target = folder / "source", folder / "target"
    make(target, before, b"old")
    make(old_path(target), "a folder", b"what a writer that was ended has left")
    make(source, new, b"new")
    put_in_place(source, target)
    assert made(target) == b"new"
    assert target.is_dir() == (new == "a folder")
    assert list(folder.iterdir()) == [target]
