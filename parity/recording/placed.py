"""Tensors read block by block into memory of the caller's, wherever their numbers lie."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from threading import Lock
from typing import Any, NamedTuple, Protocol

import numpy as np

from parity.recording.mapped import File
from parity.typing import Array

BAND = 16 << 20
"""So many bytes of a tensor that lies in another order are in memory at a time, or one of its rows."""


class Block(NamedTuple):
    """A box of a tensor whose numbers follow each other in C order: some indices, then a slice, then whole axes."""

    indices: tuple[int, ...]
    rows: slice
    start: int
    """Its first place in the flattened tensor."""
    shape: tuple[int, ...]
    """The box's shape, without the axes of ``indices``."""

    @property
    def size(self) -> int:
        """How many numbers it has."""
        return math.prod(self.shape)


def blocks_of(shape: tuple[int, ...], most: int) -> Iterator[Block]:
    """Cut a tensor into blocks of at most ``most`` numbers, in C order.

    >>> [(block.indices, block.rows.start, block.rows.stop, block.start) for block in blocks_of((2, 3), 2)]
    [((0,), 0, 2, 0), ((0,), 2, 3, 2), ((1,), 0, 2, 3), ((1,), 2, 3, 5)]
    >>> [block.shape for block in blocks_of((3, 2), 4)], [block.shape for block in blocks_of((), 4)]
    ([(2, 2), (1, 2)], [(1,)])
    """
    if not math.prod(shape):
        return
    shape = shape or (1,)
    cut = next(axis for axis in range(len(shape)) if axis == len(shape) - 1 or math.prod(shape[axis + 1 :]) <= most)
    each = math.prod(shape[cut + 1 :])
    step = max(1, most // each)
    for number, indices in enumerate(np.ndindex(shape[:cut])):
        for first in range(0, shape[cut], step):
            rows = slice(first, min(first + step, shape[cut]))
            start = (number * shape[cut] + first) * each
            yield Block(indices, rows, start, (rows.stop - first, *shape[cut + 1 :]))


class Shaped(Protocol):
    """A tensor of which it is known how large it is."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of what is read; of bfloat16 numbers that are read block by block, that of their bits."""
        ...


def size_of(tensor: Shaped) -> int:
    """The bytes of a tensor."""
    return math.prod(tensor.shape) * tensor.dtype.itemsize


class Placed(Shaped, Protocol):
    """A tensor that is read block by block."""

    @property
    def narrow(self) -> bool:
        """Whether what is read are the bits of bfloat16 numbers."""
        ...

    def read(self, block: Block, out: Array) -> None:
        """Fill ``out`` (block.size,), of the tensor's dtype, with a block."""
        ...

    def files(self) -> set[File]:
        """The files that are read."""
        ...


@dataclass(frozen=True)
class Region:
    """A tensor whose numbers follow each other in a file, in C order."""

    file: File
    offset: int
    """In bytes."""
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    narrow: bool = False
    owner: object = None
    """What must not go before the file is read."""

    def read(self, block: Block, out: Array) -> None:
        """Fill ``out`` with a block."""
        self.file.read_into(out, self.offset + block.start * self.dtype.itemsize)

    def files(self) -> set[File]:
        """The file."""
        return {self.file}


class Loaded:
    """A tensor that is loaded whole when its first block is asked for: one that is packed, or lies in another order."""

    narrow = False

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any], load: Callable[[], Array]) -> None:
        self.shape, self.dtype, self._load = shape, dtype, load
        self._values: Array | None = None
        self._lock = Lock()

    def read(self, block: Block, out: Array) -> None:
        """Fill ``out`` with a block; the last block lets the tensor go."""
        with self._lock:
            values = self._load() if self._values is None else self._values
            last = block.start + block.size == math.prod(self.shape)
            self._values = None if last else values
        out.reshape(block.shape)[...] = values.reshape(self.shape or (1,))[block.indices][block.rows]

    def files(self) -> set[File]:
        """None that can be named."""
        return set()


class Turned:
    """A tensor with its axes in another order, as ``numpy.transpose`` takes them. A band of it is kept in memory."""

    def __init__(self, tensor: Placed, axes: tuple[int, ...]) -> None:
        self._tensor, self._axes, self._lock = tensor, axes, Lock()
        self.shape = tuple(tensor.shape[axis] for axis in axes)
        self.dtype, self.narrow = tensor.dtype, tensor.narrow
        self._rows = slice(0, 0)
        self._band: Array = np.empty(0, tensor.dtype)

    def read(self, block: Block, out: Array) -> None:
        """Fill ``out`` with a block; one that lies in the band of the last one is not read again."""
        first, rest = (block.indices[0], (*block.indices[1:], block.rows)) if block.indices else (None, ())
        rows = block.rows if first is None else slice(first, first + 1)
        with self._lock:
            if not (self._rows.start <= rows.start and rows.stop <= self._rows.stop):
                self._take(rows)
            at = self._rows.start
            found = self._band[rows.start - at : rows.stop - at] if first is None else self._band[first - at][rest]
            out.reshape(block.shape)[...] = found

    def files(self) -> set[File]:
        """Those of the tensor."""
        return self._tensor.files()

    def _take(self, rows: slice) -> None:
        """Read the band that begins with these rows: of each part of the tensor before its axis a run along that."""
        shape, axis = self._tensor.shape, self._axes[0]
        each = math.prod(shape) // shape[axis] * self.dtype.itemsize
        stop = min(shape[axis], max(rows.stop, rows.start + BAND // each))
        self._rows, run = slice(rows.start, stop), (stop - rows.start, *shape[axis + 1 :])
        band = np.empty((*shape[:axis], *run), self.dtype)
        flat = band.reshape(-1, math.prod(run))
        after = math.prod(shape[axis + 1 :])
        for number, indices in enumerate(np.ndindex(shape[:axis])):
            start = (number * shape[axis] + rows.start) * after
            self._tensor.read(Block(indices, self._rows, start, run), flat[number])
        self._band = band.transpose(self._axes)
