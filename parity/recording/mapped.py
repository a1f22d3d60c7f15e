"""Tensors that stay on disk until they are asked for, and how few files are open for that."""

from __future__ import annotations

import math
import mmap
import os
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO, Generic, TypeVar

import numpy as np

from parity.dtypes import unpacked
from parity.recording.files import reopened
from parity.trajectory import TrajectoryError
from parity.typing import Array

T = TypeVar("T")

OPEN = 128
"""So many shards are mapped at a time, in all runs together; each takes a file descriptor. Others are mapped again when
they are asked for. An array that somebody still holds keeps its shard mapped."""
SMALL = 1 << 16
"""A recorded step's tensor of no more bytes is copied, so that whoever holds it holds no shard."""


class File:
    """A shard whose bytes were checked. It is mapped again as long as it is the file that was checked."""

    __slots__ = ("_state", "_target", "path")

    def __init__(self, path: Path, target: Path, file: BinaryIO) -> None:
        self.path, self._target, self._state = path, target, _state(file)

    def map(self) -> mmap.mmap:
        """Map the file. TrajectoryError if it was changed or replaced since it was checked."""
        try:
            with self.open() as file:
                return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError as error:
            raise self._gone(error) from error

    def open(self) -> BinaryIO:
        """Open the file. TrajectoryError as of ``map``."""
        try:
            file = reopened(self._target)
            if _state(file) == self._state:
                return file
            file.close()
        except OSError as error:
            raise self._gone(error) from error
        raise self._changed()

    def read_into(self, out: Array, offset: int) -> None:
        """Fill an array with the bytes from ``offset`` on, through no map: its pages would count as memory of ours.

        TrajectoryError as of ``map``, and if the file ends before.
        """
        file = _FILES.of(self).file
        view = memoryview(out.reshape(-1).view(np.uint8))  # type: ignore[arg-type] # NumPy's arrays are buffers
        try:
            while view:
                read = _read_at(file, view, offset)
                if not read:
                    raise self._changed()
                view, offset = view[read:], offset + read
        except OSError as error:
            raise self._gone(error) from error

    def end(self) -> None:
        """Let the file go after ``read_into``, and say that what was read is what was checked: errors as of ``map``."""
        _FILES.drop(self)
        self.open().close()

    def _gone(self, error: OSError) -> TrajectoryError:
        return TrajectoryError(f"{self.path}: cannot be read any more: {error.strerror}")

    def _changed(self) -> TrajectoryError:
        return TrajectoryError(f"{self.path}: was changed while it was read: let nothing write there, and try again")


_SEEKING = Lock()


def _read_at(file: BinaryIO, view: memoryview, offset: int) -> int:
    if hasattr(os, "preadv"):
        return os.preadv(file.fileno(), [view], offset)
    with _SEEKING:  # Windows has one place in a file for all threads
        file.seek(offset)
        return file.readinto(view) or 0  # type: ignore[attr-defined]


def _state(file: BinaryIO) -> tuple[int, ...]:
    found = os.fstat(file.fileno())
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


class _Handle:
    """An open file, which is closed when nobody reads it any more."""

    def __init__(self, file: File) -> None:
        self.file = file.open()
        weakref.finalize(self, self.file.close)


class _Last(Generic[T]):
    """What ``make`` gives of the files that were asked for last."""

    def __init__(self, make: Callable[[File], T]) -> None:
        self._make = make
        self._kept: OrderedDict[File, T] = OrderedDict()
        self._lock = Lock()

    def of(self, file: File) -> T:
        with self._lock:
            found = self._kept.pop(file, None) or self._make(file)
            self._kept[file] = found
            if len(self._kept) > OPEN:
                # Closed as soon as nobody looks into it.
                self._kept.popitem(last=False)
        return found

    def drop(self, file: File) -> None:
        with self._lock:
            self._kept.pop(file, None)


_MAPS = _Last(File.map)
_FILES = _Last(_Handle)


class Stored:
    """A tensor in a shard, (S, *shape). What is sliced from it is a view of the mapped file."""

    __slots__ = ("_file", "_offset", "dtype", "shape")

    def __init__(self, file: File, offset: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self._file, self._offset, self.shape, self.dtype = file, offset, shape, dtype

    def array(self) -> Array:
        """The whole tensor, as a view."""
        return np.ndarray(self.shape, self.dtype, _MAPS.of(self._file), self._offset)

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def place(self) -> tuple[File, int]:
        """The file, and where in it the tensor begins."""
        return self._file, self._offset

    def __getitem__(self, key: int | slice) -> Any:
        return self.array()[key]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return np.array(self.array(), dtype=dtype, copy=copy)


class Steps(Mapping[str, Array]):
    """The tensors of recorded steps by name, each read when it is asked for; bfloat16 as the float32 that holds it."""

    def __init__(self, stored: Mapping[str, tuple[Stored, bool]]) -> None:
        self._stored = stored

    def __getitem__(self, name: str) -> Array:
        stored, half = self._stored[name]
        whole = stored.array()
        if half:
            return unpacked(whole)
        return whole.copy() if math.prod(whole.shape) * whole.itemsize <= SMALL else whole

    def __iter__(self) -> Iterator[str]:
        return iter(self._stored)

    def __len__(self) -> int:
        return len(self._stored)

    def __repr__(self) -> str:
        return f"Steps({list(self)})"
