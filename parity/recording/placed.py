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
