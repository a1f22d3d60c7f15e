"""Distances between two stacks of snapshots, in NumPy: one pass over both, in memory that does not grow with them.

A stack has a shape, a dtype, and ``[int]`` and ``[slice]`` on its first axis. It is an array, or a tensor of a
trajectory on disk, which is read during the comparison. A value that is not finite is near no other, on either side.

Both stacks are read in blocks. A block is measured in the stacks' own dtype. Only the few pairs that may be a new
largest difference are measured again in float64. Two runs of one program should be equal byte for byte, so the stacks'
bytes are compared first: that takes little more time than reading them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from parity.typing import Array

if TYPE_CHECKING:
    from parity.trajectory import Stack
from parity.judging.blocks import (
    SHORT,
    Block,
    Tally,
    absolute_distance,
    block_size,
    blocks_of,
    by_snapshot,
    identical,
    relative_distance,
    row_max,
    scratch_arrays,
    steps_between,
    types_of,
)


@dataclass(frozen=True)
class Difference:
    """Two values at one place of a stack. ``snapshot`` counts from 0, ``index`` is the place within the tensor.

    ``a`` and ``b`` keep the dtypes of their stacks, so that they print with no more digits than those need.
    ``absolute`` is |a - b|, ``relative`` is |a - b| / max(|a|, |b|), between 0 and 2, and ``ulp`` is the number of
    steps between neighbouring floating-point numbers from one to the other. If a side is not finite, ``absolute`` and
    ``relative`` are infinite and ``ulp`` is None.
    """

    tensor: str
    snapshot: int
    epoch: int
    index: tuple[int, ...]
    a: np.floating[Any]
    b: np.floating[Any]
    absolute: float
    relative: float
    ulp: int | None


@dataclass(frozen=True)
class Worst:
    """The result of ``differences`` for ``values`` pairs.

    ``absolute``, ``relative`` and ``ulp`` are the largest differences between finite values, each at its first place.
    They are None if all such pairs are equal. ``nonfinite`` is the first place with a side that is not finite;
    ``nonfinite_a`` and ``nonfinite_b`` count such values on each side. ``unequal`` counts the pairs that are not equal:
    -0.0 equals 0.0, NaN equals nothing. ``beyond`` counts the pairs that are farther apart than their snapshot's
    tolerance, and all pairs with a side that is not finite; None without a tolerance.
    """

    values: int
    absolute: Difference | None
    relative: Difference | None
    ulp: Difference | None
    nonfinite: Difference | None
    unequal: int
    nonfinite_a: int
    nonfinite_b: int
    beyond: int | None


def distance(a: Stack, b: Stack) -> Array:
    """The largest |a - b| of each snapshot: ``(S, ...)`` twice to ``(S,)`` float64.

    Computed in float64, or in longdouble if a side has it. A snapshot with a NaN or an infinity on either side is
    infinitely far, even from an equal one: compare with a finite tolerance. ValueError if the shapes differ.
    """
    _check(a, b)
    if identical(a, b):
        return np.zeros(len(a))
    types = types_of(a, b)

    def farthest(block: Block, scratch: Array) -> Array:
        rows = block.snapshots.stop - block.snapshots.start
        x, y = block.x.astype(types.native, copy=False), block.y.astype(types.native, copy=False)
        if x.size < SHORT * rows:
            return row_max(absolute_distance(x, y, types.wide), rows)
        d = np.subtract(x, y, out=scratch[: x.size])
        largest = row_max(np.abs(d, out=d), rows)
        if types.native == types.wide:
            return largest
        # Rounding keeps order, so the largest difference is among those that are largest after rounding.
        first = np.flatnonzero(d.reshape(rows, -1) == np.where(largest == 0, np.nan, largest)[:, None])
        result = largest.astype(types.wide)
        if first.size:
            exact, row = absolute_distance(x, y, types.wide, first), first // (x.size // rows)
            result[row] = 0
            np.maximum.at(result, row, exact)
        return result

    result = by_snapshot(a, b, types, farthest)
    # A NaN survives every maximum. An infinity stays infinite, or became NaN against an equal infinity.
    result[np.isnan(result)] = np.inf
    return result


def scale(a: Stack) -> Array:
    """The largest |a| of each snapshot: ``(S, ...)`` to ``(S,)`` float64.

    NaN for a snapshot with a NaN or an infinity, so that no distance lies within a tolerance made from it.
    """
    types = types_of(a, a)

    def largest(block: Block, scratch: Array) -> Array:
        magnitude = np.abs(block.x.astype(types.native, copy=False), out=scratch[: block.x.size])
        return row_max(magnitude, block.snapshots.stop - block.snapshots.start)

    result = by_snapshot(a, a, types, largest)
    result[~np.isfinite(result)] = np.nan
    return result


def differences(
    a: Stack,
    b: Stack,
    tensor: str = "",
    epochs: Sequence[int] | Array | None = None,
    tolerance: Array | None = None,
    dtype: str | None = None,
) -> Worst:
    """Compare two floating stacks ``(S, ...)`` value by value: see ``Worst``.

    ``epochs`` ``(S,)`` gives each snapshot's epoch; without it, a snapshot's number is its epoch. ``tolerance``
    ``(S,)`` is the largest |a - b| allowed at each snapshot; a NaN allows nothing.

    Absolute and relative differences are computed in float64, or in longdouble if a side has it. ULPs are counted in
    the narrower of the two dtypes, and the wider side is first rounded to it: float32 against float64 counts float32's
    steps; longdouble counts float64's. If a side holds bfloat16 in float32 (see ``parity.dtypes``), ``dtype`` must be
    "bfloat16": then whole steps of bfloat16 are counted. ValueError if the shapes differ or a side is not floating.
    """
    _check(a, b)
    if a.dtype.kind != "f" or b.dtype.kind != "f":
        raise ValueError(f"only floating-point stacks can be compared: got {a.dtype} and {b.dtype}")
    if tolerance is not None and tolerance.shape != (len(a),):
        raise ValueError(f"a tolerance for {len(a)} snapshots has shape ({len(a)},), not {tolerance.shape}")
    types = types_of(a, b)

    found, scratch = Tally(types), scratch_arrays(4, block_size(a), types.native)
    if not identical(a, b) or not (tolerance is None or (tolerance >= 0).all()):
        with np.errstate(all="ignore"):
            for block in blocks_of(a, b):
                found.add(block, None if tolerance is None else tolerance[block.snapshots], scratch)

    def at(place: int | None) -> Difference | None:
        if place is None:
            return None
        snapshot, *index = (int(i) for i in np.unravel_index(place, a.shape))
        epoch = snapshot if epochs is None else int(epochs[snapshot])
        pair = a[snapshot][tuple(index)], b[snapshot][tuple(index)]
        return difference_of(tensor, snapshot, epoch, tuple(index), *pair, dtype)

    return Worst(
        math.prod(a.shape),
        at(found.absolute.place),
        at(found.relative.place),
        at(found.ulp.place),
        at(found.nonfinite),
        found.unequal,
        found.nonfinite_a,
        found.nonfinite_b,
        None if tolerance is None else found.beyond,
    )


def _check(a: Stack, b: Stack) -> None:
    if tuple(a.shape) != tuple(b.shape):
        raise ValueError(f"stacks of different shapes cannot be compared: {tuple(a.shape)} and {tuple(b.shape)}")


def difference_of(
    tensor: str, snapshot: int, epoch: int, index: tuple[int, ...], a: Any, b: Any, dtype: str | None = None
) -> Difference:
    """Measure two floating numbers, ``a`` and ``b``, at one place; ``dtype`` as in ``differences``."""
    if not (np.isfinite(a) and np.isfinite(b)):
        return Difference(tensor, snapshot, epoch, index, a, b, math.inf, math.inf, None)
    with np.errstate(all="ignore"):
        native, wide, narrow = types_of(a, b)
        x, y = np.array([a]).astype(native), np.array([b]).astype(native)
        absolute = float(absolute_distance(x, y, wide)[0])
        relative = float(relative_distance(x, y, wide)[0])
        opposite = np.signbit(x) != np.signbit(y)
        ulp = int(steps_between(np.abs(x), np.abs(y), opposite, narrow, np.empty_like(x))[0])
    if dtype == "bfloat16":  # the upper half of a float32
        ulp >>= 16
    return Difference(tensor, snapshot, epoch, index, a, b, absolute, relative, ulp)
