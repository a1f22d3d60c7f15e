"""Tensors that lie whole in a file, and zip archives whose entries are bounded."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any
from zlib import error as DeflateError  # noqa: N812

import numpy as np

from parity.dtypes import unpacked
from parity.recording.artefacts.artefact import Entry
from parity.recording.files import in_words, opened, target_of
from parity.recording.limits import Budget
from parity.recording.mapped import File, Stored
from parity.recording.placed import Region
from parity.trajectory import TrajectoryError
from parity.typing import Array

LOCAL = 30
"""The bytes of an entry's own header, before its name."""


def entry_of(file: File, offset: int, shape: tuple[int, ...], dtype: np.dtype[Any], narrow: bool = False) -> Entry:
    """A tensor in a file, in C order. ``narrow`` says that ``dtype`` is the bits of bfloat16 numbers."""
    stored = Stored(file, offset, shape, dtype)
    place = Region(file, offset, shape, dtype, narrow)
    if narrow:
        # NumPy makes an axis of what has none.
        def wide() -> Array:
            return unpacked(np.ascontiguousarray(stored.array())).reshape(shape)

        return Entry(shape, np.dtype(np.float32), wide, narrow, place)
    return Entry(shape, dtype, stored.array, place=place)


class Archive:
    """A zip archive that is open to be read. Its entries are stored or deflated, and no larger than they say."""

    def __init__(
        self, path: Path, file: IO[bytes], archive: zipfile.ZipFile, kept: File, budget: Budget, window: slice
    ) -> None:
        self.path, self._file, self._archive, self.kept, self.budget = path, file, archive, kept, budget
        self._window = window
        self.entries = {info.filename: info for info in archive.infolist()}

    def place(self, name: str) -> int | None:
        """Where in the file an entry's bytes begin; None if they are compressed."""
        info = self.entries[name]
        if info.compress_type != zipfile.ZIP_STORED:
            return None
        self._file.seek(info.header_offset)
        head = self._file.read(LOCAL)
        begin = info.header_offset + LOCAL + sum(int.from_bytes(head[at : at + 2], "little") for at in (26, 28))
        size = self._window.stop - self._window.start
        if head[:4] != b"PK\x03\x04" or info.file_size != info.compress_size or begin + info.file_size > size:
            raise self.damaged(f"{name!r:.80} does not lie where it says")
        return int(self._window.start + begin)

    def read(self, name: str, most: int) -> bytes:
        """An entry of at most ``most`` bytes, whole. TrajectoryError if it is larger, whatever it says."""
        info = self.entries[name]
        if info.file_size > most:
            raise TrajectoryError(f"{self.path}: {name!r:.80} is larger than {in_words(most)}: it is not read")
        self.budget.spend(self.path, kept=info.file_size)
        with readable(self.path), self._archive.open(info) as file:
            data = file.read(info.file_size + 1)
        if len(data) != info.file_size:
            raise self.damaged(f"{name!r:.80} holds another number of bytes than it says")
        return data

    def damaged(self, what: str) -> TrajectoryError:
        """The error that names the archive."""
        return TrajectoryError(f"{self.path}: {what}: write the file again")


@contextmanager
def archive_of(path: Path, budget: Budget, root: Path | None = None) -> Iterator[Archive]:
    """Open a zip archive. TrajectoryError if it is none, or an entry is encrypted or compressed in another way."""
    with opened(path, root) as file:
        budget.spend_file(path, file)
        yield archive_in(file, File(path, target_of(path, root), file), budget)


def archive_in(file: IO[bytes], kept: File, budget: Budget, window: slice | None = None) -> Archive:
    """Open a zip archive that is a file, or the ``window`` of one. Errors as of ``archive_of``."""
    path, size = kept.path, os.fstat(file.fileno()).st_size
    if window is not None and not 0 <= window.start <= window.stop <= size:
        raise TrajectoryError(f"{path}: ends before byte {window.stop:,}: copy the folder whole")
    within = file if window is None else io.BufferedReader(_Window(file, window))
    with readable(path):
        archive = zipfile.ZipFile(within)
    found = Archive(path, within, archive, kept, budget, window or slice(0, size))
    budget.spend(path, tensors=len(found.entries))
    for info in archive.infolist():
        if info.flag_bits & 1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise found.damaged(f"{info.filename!r:.80} is encrypted, or compressed in a way that is not read")
    if len(found.entries) != len(archive.infolist()):
        raise found.damaged("an entry is there twice")
    return found


class _Window(io.RawIOBase):
    """A part of an open file, as a file of its own, which leaves that one open."""

    def __init__(self, file: IO[bytes], window: slice) -> None:
        self._whole, self._start, self._size, self._place = file, window.start, window.stop - window.start, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._place = max(0, offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._size}[whence])
        return self._place

    def readinto(self, buffer: Any) -> int:
        self._whole.seek(self._start + self._place)
        data = self._whole.read(max(0, min(len(buffer), self._size - self._place)))
        buffer[: len(data)] = data
        self._place += len(data)
        return len(data)


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Say of a damaged archive that it is one: TrajectoryError."""
    try:
        yield
    except (
        zipfile.BadZipFile,
        DeflateError,
        EOFError,
        ValueError,
        NotImplementedError,
        RuntimeError,
        OSError,
    ) as error:
        if isinstance(error, TrajectoryError):
            raise
        reason = " ".join(str(error).split())
        raise TrajectoryError(f"{path}: is no sound zip archive ({reason!r:.120}): write the file again") from error


def loaded(values: Array) -> Entry:
    """A tensor that is in memory."""
    return Entry(values.shape, values.dtype, lambda: values)
