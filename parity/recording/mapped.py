"""Tensors that stay on disk until they are asked for, and how few files are open for that."""

from __future__ import annotations

import math
import mmap
import os
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO

import numpy as np

from parity.dtypes import unpacked
from parity.recording.files import reopened
from parity.trajectory import TrajectoryError
from parity.typing import Array

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
            with reopened(self._target) as file:
                if _state(file) == self._state:
                    return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError as error:
            raise TrajectoryError(f"{self.path}: cannot be read any more: {error.strerror}") from error
        raise TrajectoryError(f"{self.path}: was changed while it was read: let nothing write there, and try again")


def _state(file: BinaryIO) -> tuple[int, ...]:
    found = os.fstat(file.fileno())
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


class _Maps:
    """The shards that are mapped now: those that were asked for last."""

    def __init__(self) -> None:
        self._maps: OrderedDict[File, mmap.mmap] = OrderedDict()
        self._lock = Lock()

    def of(self, file: File) -> mmap.mmap:
        with self._lock:
            found = self._maps.pop(file, None) or file.map()
            self._maps[file] = found
            if len(self._maps) > OPEN:
                # Closed as soon as no array looks into it.
                self._maps.popitem(last=False)
        return found


_MAPS = _Maps()


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
