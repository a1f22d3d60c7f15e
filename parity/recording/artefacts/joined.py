"""Tensors that lie in pieces: boxes which fill them, each number once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from parity.recording.artefacts.artefact import Entry
from parity.recording.limits import Budget
from parity.recording.mapped import File
from parity.recording.placed import Block, Placed
from parity.trajectory import TrajectoryError
from parity.typing import Array


class Piece(NamedTuple):
    """A box of a tensor."""

    offsets: tuple[int, ...]
    """Where in the tensor its first number is."""
    entry: Entry
    """Its numbers, in a tensor of their own."""

    @property
    def box(self) -> tuple[slice, ...]:
        """Which numbers of the tensor it holds."""
        return tuple(slice(at, at + size) for at, size in zip(self.offsets, self.entry.shape, strict=True))


def joined(path: Path, name: str, shape: tuple[int, ...], pieces: Sequence[Piece], budget: Budget) -> Entry:
    """Join the pieces of a tensor.

    Args:
        path: What errors call the file.
        name: What they call the tensor.
        shape: Its shape, which was checked.
        pieces: Its pieces, of one dtype; those without a number count for nothing.
        budget: What the reading may take.

    Returns:
        The whole tensor. It is put together when it is asked for, and can be read block by block.

    Raises:
        TrajectoryError: If a piece lies beyond the tensor, two overlap, or there is a hole.
    """
    pieces = [piece for piece in pieces if math.prod(piece.entry.shape)]
    kinds = {(piece.entry.dtype, piece.entry.narrow) for piece in pieces}
    if len(kinds) > 1:
        raise _damaged(path, name, "has pieces of several dtypes")
    _check(path, name, shape, pieces, budget)
    if not pieces:
        raise _damaged(path, name, "has no number, and nothing says of which dtype")
    dtype, narrow = kinds.pop()
    if len(pieces) == 1:
        return pieces[0].entry

    def load() -> Array:
        whole = np.empty(shape, dtype)
        for piece in pieces:
            whole[piece.box] = piece.entry.load()
        return whole

    parts = tuple((piece.offsets, piece.entry.placed()) for piece in pieces)
    places = {(part.dtype, part.narrow) for _, part in parts}
    # A piece that is loaded whole has its numbers already, and not their bits.
    place = Joined(shape, *places.pop(), parts) if len(places) == 1 else None
    return Entry(shape, dtype, load, narrow, place)


def _check(path: Path, name: str, shape: tuple[int, ...], pieces: Sequence[Piece], budget: Budget) -> None:
    """Refuse pieces that do not fill a tensor: all lie in it, no two overlap, and they have as many numbers as it."""
    for piece in pieces:
        if len(piece.offsets) != len(shape) or len(piece.entry.shape) != len(shape):
            raise _damaged(path, name, "has a piece of other axes than it has")
        if any(not 0 <= one.start <= one.stop <= size for one, size in zip(piece.box, shape, strict=True)):
            raise _damaged(path, name, f"of shape {shape} has a piece beyond it, at {piece.offsets}")
    ordered = sorted(pieces, key=lambda piece: piece.offsets)
    if shape:
        starts = np.array([piece.offsets for piece in ordered], np.int64).reshape(-1, len(shape))
        ends = starts + np.array([piece.entry.shape for piece in ordered], np.int64).reshape(-1, len(shape))
        # Of those that begin later along the first axis only the ones that begin before this one ends can overlap it.
        last = np.searchsorted(starts[:, 0], ends[:, 0])
        for number, end in enumerate(last.tolist()):
            if number % 256 == 0:
                budget.spend(path)
            others = slice(number + 1, end)
            both = (starts[others] < ends[number]) & (starts[number] < ends[others])
            if both.all(1).any():
                raise _damaged(path, name, f"has pieces that overlap, at {ordered[number].offsets}")
    elif len(pieces) > 1:
        raise _damaged(path, name, "has pieces that overlap")
    held, wanted = sum(math.prod(piece.entry.shape) for piece in pieces), math.prod(shape)
    if held != wanted:
        raise _damaged(path, name, f"has {wanted:,} numbers, of which its pieces hold {held:,}: one is missing")


def _damaged(path: Path, name: str, what: str) -> TrajectoryError:
    return TrajectoryError(f"{path}: {name!r:.80} {what}: copy or save the checkpoint again")


@dataclass(frozen=True)
class Joined:
    """A tensor in pieces that is read block by block."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    narrow: bool
    parts: tuple[tuple[tuple[int, ...], Placed], ...]
    """Where in the tensor each piece begins, and the piece."""

    def read(self, block: Block, out: Array) -> None:
        """Fill ``out`` with a block, of each piece with the part that lies in it."""
        cut = len(block.indices)
        whole = out.reshape(block.shape)
        for offsets, part in self.parts:
            box = list(zip(offsets, part.shape, strict=True))
            if any(not at <= index < at + size for (at, size), index in zip(box, block.indices, strict=False)):
                continue
            at, size = box[cut]
            first, last = max(block.rows.start, at), min(block.rows.stop, at + size)
            if first >= last:
                continue
            inner = Block(
                tuple(index - start for (start, _), index in zip(box, block.indices, strict=False)),
                slice(first - at, last - at),
                0,
                (last - first, *part.shape[cut + 1 :]),
            )
            inner = inner._replace(start=_place(part.shape, (*inner.indices, first - at)))
            where = (slice(first - block.rows.start, last - block.rows.start),)
            where += tuple(slice(start, start + length) for start, length in box[cut + 1 :])
            target = whole[where]
            if target.flags.c_contiguous:
                part.read(inner, target.reshape(-1))
            else:
                numbers = np.empty(inner.size, self.dtype)
                part.read(inner, numbers)
                target[...] = numbers.reshape(inner.shape)

    def files(self) -> set[File]:
        """The files of all pieces."""
        return set().union(*(part.files() for _, part in self.parts))


def _place(shape: tuple[int, ...], index: tuple[int, ...]) -> int:
    """The place in a flattened tensor of the first number at some first indices."""
    return sum(at * math.prod(shape[axis + 1 :]) for axis, at in enumerate(index))
