"""Distances between two stacks of snapshots, in NumPy, one pass over both and memory that does not grow with them.

A stack is anything with a shape, a dtype and ``[int]`` and ``[slice]`` on its first axis: an array, or a tensor
of a trajectory on disk, which is read as it is compared. What is not finite never counts as near, on either side.

Both sides are walked in blocks. A block is measured in the stacks' own dtype; only where it may hold a new largest
difference are the few pairs that could be it measured again in float64. Whether two stacks are the same bytes, as two
runs of one program should be, is asked first: that takes little more than reading them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
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

    ``a`` and ``b`` keep the dtypes of their stacks, so that they print as short as those allow. ``absolute`` is
    |a - b|, ``relative`` |a - b| / max(|a|, |b|), between 0 and 2, and ``ulp`` the number of steps between
    neighbouring floating-point numbers from one to the other; None where a side is not finite.
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
    """What ``differences`` found among ``values`` pairs.

    The three largest differences are taken where both sides are finite, each at its first place, and are None
    where all such pairs are equal. ``nonfinite`` is the first place where a side is not finite. ``unequal`` counts
    the pairs that are not equal: -0.0 equals 0.0, NaN equals nothing. ``beyond`` counts the pairs farther apart
    than their snapshot's tolerance, with every pair that has a side that is not finite; None without a tolerance.
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

    That of float64, or of longdouble where a side has it. A snapshot with a NaN or an infinity on either side, even
    the same on both, is infinitely far: compare with a finite tolerance. ValueError where the shapes differ.
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
        # Rounding keeps order: among those that are largest once rounded is the one that is largest.
        first = np.flatnonzero(d.reshape(rows, -1) == np.where(largest == 0, np.nan, largest)[:, None])
        result = largest.astype(types.wide)
        if first.size:
            exact, row = absolute_distance(x, y, types.wide, first), first // (x.size // rows)
            result[row] = 0
            np.maximum.at(result, row, exact)
        return result

    result = by_snapshot(a, b, types, farthest)
    # NaN wins every maximum; an infinity stays one, or became NaN where it met its like.
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
    """Compare two stacks ``(S, ...)`` value by value, both floating. See ``Worst``.

    ``epochs`` ``(S,)`` gives each snapshot's epoch, else its number is taken. ``tolerance`` ``(S,)`` is the largest
    |a - b| allowed at each snapshot; a NaN allows nothing.

    Absolute and relative differences are those of float64 (of longdouble where a side has it). ULPs are counted in
    the narrower of the two dtypes, into which the wider side is rounded first: float32 against float64 counts
    float32's steps; longdouble counts float64's. ``dtype`` is "bfloat16" where a side is that, held in float32 (see
    ``parity.dtypes``): then whole steps of bfloat16 are counted. ValueError where the shapes differ or a side is not
    floating.
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
        worst = _difference(tensor, snapshot, epoch, tuple(index), *pair)
        # A bfloat16 is the upper half of a float32.
        return replace(worst, ulp=worst.ulp >> 16) if dtype == "bfloat16" and worst.ulp is not None else worst

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


def _difference(tensor: str, snapshot: int, epoch: int, index: tuple[int, ...], a: Any, b: Any) -> Difference:
    if not (np.isfinite(a) and np.isfinite(b)):
        return Difference(tensor, snapshot, epoch, index, a, b, math.inf, math.inf, None)
    with np.errstate(all="ignore"):
        native, wide, narrow = types_of(a, b)
        x, y = np.array([a]).astype(native), np.array([b]).astype(native)
        absolute = float(absolute_distance(x, y, wide)[0])
        relative = float(relative_distance(x, y, wide)[0])
        opposite = np.signbit(x) != np.signbit(y)
        ulp = int(steps_between(np.abs(x), np.abs(y), opposite, narrow, np.empty_like(x))[0])
    return Difference(tensor, snapshot, epoch, index, a, b, absolute, relative, ulp)
