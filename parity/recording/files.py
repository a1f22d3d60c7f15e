"""Files in a folder that anyone may have filled: the one way to open a file, and the one way to write one."""

from __future__ import annotations

import os
import secrets
import shutil
import stat
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from parity.trajectory import TrajectoryError

# A FIFO opened to be read would wait for a writer, and a link could have replaced the file since it was looked at.
_PLAIN = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0)
NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
"""How a file is made where nothing lies, not even a link."""


def opened(path: Path, root: Path | None = None) -> BinaryIO:
    """Open a regular file to read it. Nothing waits, whatever lies at ``path``.

    ``root`` is the folder that no link may leave; without one, links may lead anywhere. TrajectoryError if a link
    leaves it, or no regular file lies there; OSError, with FileNotFoundError, if the file cannot be opened.
    """
    target = target_of(path, root)
    if not stat.S_ISREG(os.stat(target).st_mode):  # opening a device may do something
        raise TrajectoryError(f"{path}: is no regular file: replace it by the file")
    return reopened(target)


def reopened(target: Path) -> BinaryIO:
    """Open what ``target_of`` gave and was found to be a regular file. Errors as of ``opened``."""
    file = open(target, "rb", opener=lambda name, flags: os.open(name, flags | _PLAIN))  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise TrajectoryError(f"{target}: was replaced while it was opened: let nothing else write there")
    return file


def read_whole(path: Path, most: int, root: Path | None = None) -> bytes:
    """Read a file of at most ``most`` bytes: see ``opened``. TrajectoryError if it is larger."""
    with opened(path, root) as file:
        # No more than there is: Python takes memory for all that it is asked to read.
        data = file.read(min(most, os.fstat(file.fileno()).st_size) + 1)
    if len(data) > most:
        raise TrajectoryError(f"{path}: is larger than {in_words(most)}: it is no file of ours")
    return data


def write_whole(path: Path, data: bytes, root: Path | None = None) -> None:
    """Write a file in one step: see ``write_pieces``, of which this is the one that has a single piece."""
    write_pieces(path, (data,), root)


def write_pieces(path: Path, pieces: Iterable[bytes | memoryview], root: Path | None = None) -> None:
    """Write a file piece by piece, and put it in its place in one step: a reader sees the old file or the new one.

    That holds after a power cut, too. Nothing is written through a link. A link at ``path`` is replaced by the file;
    the scratch file has a random name, so that nobody can put a link there. ``root`` is the folder that ``path`` must
    lie in after all links of its folder. OSError if the file cannot be written, TrajectoryError if a link of its folder
    leaves ``root``.
    """
    folder = target_of(path.parent, root)
    scratch = folder / f".{path.name[:100]}.{secrets.token_hex(8)}.tmp"
    # 0o666 is narrowed by the user's own mask, as for any file.
    handle = os.open(scratch, NEW, 0o666)
    try:
        with open(handle, "wb") as file:
            for piece in pieces:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        os.replace(scratch, folder / path.name)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise


def remove(path: Path) -> None:
    """Take away a file, a link or a folder with all that is in it, where there is one. No link is followed."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def files_in(path: Path) -> list[Path]:
    """The file, or all those in the folder; no link is followed."""
    found = sorted(path.rglob("*")) if path.is_dir() and not path.is_symlink() else [path]
    return [file for file in found if file.is_file() and not file.is_symlink()]


def state_of(path: Path) -> frozenset[tuple[object, ...]]:
    """In what state the file is, or all in the folder: one that was written since is in another."""
    found = ((str(file), file.stat()) for file in files_in(path))
    return frozenset((name, known.st_ino, known.st_size, known.st_mtime_ns) for name, known in found)


def inside(path: str) -> PurePosixPath:
    """A path that someone else names, below a folder of ours: ValueError if it may lead out of that."""
    found = PurePosixPath(path)
    if not found.parts or found.is_absolute() or ".." in found.parts or "\\" in path or "\0" in path:
        raise ValueError(f"{path!r:.80} is no path below a folder")
    return found


def in_words(size: int) -> str:
    """A number of bytes in words.

    >>> in_words(4 << 20), in_words(100)
    ('4 MiB', '100 bytes')
    """
    for unit, name in ((30, "GiB"), (20, "MiB")):
        if size >= 1 << unit:
            return f"{size / (1 << unit):.3g} {name}"
    return f"{size} bytes"


def target_of(path: Path, root: Path | None) -> Path:
    """Where a path leads, after all links. TrajectoryError if that is outside ``root``, or a link leads to itself."""
    try:
        target = path.resolve()
        inside = root is None or target.is_relative_to(root.resolve())
    except (RuntimeError, ValueError) as error:  # the latter for a name with a zero byte
        raise TrajectoryError(f"{path}: is a link that leads back to itself: replace it by the file") from error
    if not inside:
        raise TrajectoryError(f"{path}: is a link that leaves the folder: replace it by the file")
    return target
