"""Distances between two stacks of snapshots, in NumPy, one pass over both and memory that does not grow with them.

A stack is anything with a shape, a dtype and ``[int]`` and ``[slice]`` on its first axis: an array, or a tensor
of a trajectory on disk, which is read as it is compared. What is not finite never counts as near, on either side.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from parity.spec import Array

if TYPE_CHECKING:
    from parity.trajectory import Stack

# A block of each side and the scratch arrays stay in a core's second-level cache.
BLOCK = 1 << 16


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

    Subtracted in float64, or in longdouble where a side has it. A snapshot with a NaN or an infinity on either
    side, even the same on both, is infinitely far: compare with a finite tolerance. ValueError where the shapes
    differ.
    """
    _check(a, b)
    wide = np.result_type(a.dtype, b.dtype, np.float64)
    largest = np.zeros(len(a), wide)
    scratch = np.empty(_block(a), wide)
    with np.errstate(all="ignore"):
        for block in _blocks(a, b):
            d = scratch[: block.x.size]
            np.subtract(block.x, block.y, out=d, dtype=wide)
            np.abs(d, out=d)
            rows = largest[block.snapshots]
            np.maximum(rows, _row_max(d, len(rows)), out=rows)
        result = largest.astype(np.float64)
    # NaN wins every maximum; an infinity stays one, or became NaN where it met its like.
    result[np.isnan(result)] = np.inf
    return result


def scale(a: Stack) -> Array:
    """The largest |a| of each snapshot: ``(S, ...)`` to ``(S,)`` float64.

    NaN for a snapshot with a NaN or an infinity, so that no distance lies within a tolerance made from it.
    """
    largest = np.zeros(len(a), a.dtype)
    scratch = np.empty(_block(a), a.dtype)
    with np.errstate(all="ignore"):
        for block in _blocks(a, a):
            magnitude = np.abs(block.x, out=scratch[: block.x.size])
            rows = largest[block.snapshots]
            np.maximum(rows, _row_max(magnitude, len(rows)), out=rows)
        result = largest.astype(np.float64)
    result[~np.isfinite(result)] = np.nan
    return result


def differences(
    a: Stack,
    b: Stack,
    tensor: str = "",
    epochs: Sequence[int] | Array | None = None,
    tolerance: Array | None = None,
) -> Worst:
    """Compare two stacks ``(S, ...)`` value by value, both floating. See ``Worst``.

    ``epochs`` ``(S,)`` gives each snapshot's epoch, else its number is taken. ``tolerance`` ``(S,)`` is the largest
    |a - b| allowed at each snapshot; a NaN allows nothing.

    Absolute and relative differences are those of float64 (of longdouble where a side has it). ULPs are counted in
    the narrower of the two dtypes, into which the wider side is rounded first: float32 against float64 counts
    float32's steps; longdouble counts float64's. ValueError where the shapes differ or a side is not floating.
    """
    _check(a, b)
    if a.dtype.kind != "f" or b.dtype.kind != "f":
        raise ValueError(f"only floating-point stacks can be compared: got {a.dtype} and {b.dtype}")
    if tolerance is not None and tolerance.shape != (len(a),):
        raise ValueError(f"a tolerance for {len(a)} snapshots has shape ({len(a)},), not {tolerance.shape}")
    native = np.result_type(a.dtype, b.dtype)
    wide = np.result_type(native, np.float64)
    narrow = min(a.dtype, b.dtype, np.dtype(np.float64), key=lambda dtype: dtype.itemsize)
    slack = 4 * max(np.finfo(native).eps, np.finfo(np.float64).eps)
    size = _block(a)
    unequal_places = np.empty(size, bool)
    d_scratch, m_scratch, n_scratch = np.empty((3, size), native)
    bits = np.dtype(f"i{narrow.itemsize}")
    i_scratch, j_scratch, k_scratch = np.empty((3, size), bits)

    absolute, relative, ulp = _Largest(), _Largest(), _Largest()
    unequal = beyond = nonfinite_a = nonfinite_b = 0
    nonfinite = None
    with np.errstate(all="ignore"):
        for block in _blocks(a, b):
            n = block.x.size
            x, y = block.x.astype(native, copy=False), block.y.astype(native, copy=False)
            different = int(np.count_nonzero(np.not_equal(x, y, out=unequal_places[:n])))
            unequal += different
            d = d_scratch[:n]
            # The largest of all |x - y| is finite only where both sides are, so equal pairs alone need a look.
            top = np.abs(np.subtract(x, y, out=d), out=d).max() if different else np.abs(x, out=d).max()
            bad = None
            if not np.isfinite(top):
                bad_x, bad_y = ~np.isfinite(x), ~np.isfinite(y)
                bad = bad_x | bad_y
                nonfinite_a += int(np.count_nonzero(bad_x))
                nonfinite_b += int(np.count_nonzero(bad_y))
                if nonfinite is None and bad.any():
                    nonfinite = block.start + int(bad.argmax())
                x, y = np.where(bad, 0, x), np.where(bad, 0, y)
                np.abs(np.subtract(x, y, out=d), out=d)

            largest = 0.0
            if different:
                largest = absolute.offer_rounded(d, block.start, slack, partial(_absolute, x, y, wide))
                if math.isfinite(largest):
                    m = np.maximum(np.abs(x, out=m_scratch[:n]), np.abs(y, out=n_scratch[:n]), out=m_scratch[:n])
                    if not m.min():
                        m[m == 0] = 1
                    np.divide(d, m, out=d)
                    relative.offer_rounded(d, block.start, slack, partial(_relative, x, y, wide))
                else:
                    relative.offer(_relative(x, y, wide), block.start)
                i, j = x.astype(narrow, copy=False).view(bits), y.astype(narrow, copy=False).view(bits)
                ulp.offer(_steps(i, j, i_scratch[:n], j_scratch[:n], k_scratch[:n]), block.start)

            if tolerance is not None:
                allowed = tolerance[block.snapshots]
                if bad is not None or not largest * (1 + slack) <= allowed.min():
                    apart = _absolute(x, y, wide)
                    if bad is not None:
                        apart[bad] = np.nan
                    within = apart.reshape(len(allowed), -1) <= allowed[:, None]
                    beyond += n - int(np.count_nonzero(within))

    def at(place: int | None) -> Difference | None:
        if place is None:
            return None
        snapshot, *index = (int(i) for i in np.unravel_index(place, a.shape))
        epoch = snapshot if epochs is None else int(epochs[snapshot])
        return _difference(tensor, snapshot, epoch, tuple(index), a[snapshot][tuple(index)], b[snapshot][tuple(index)])

    return Worst(
        math.prod(a.shape),
        at(absolute.place),
        at(relative.place),
        at(ulp.place),
        at(nonfinite),
        unequal,
        nonfinite_a,
        nonfinite_b,
        None if tolerance is None else beyond,
    )


class _Block(NamedTuple):
    """A stretch of whole snapshots, or of one snapshot, flattened."""

    snapshots: slice
    start: int
    x: Array
    y: Array


@dataclass
class _Largest:
    """The largest value seen so far and its first place in the flattened stack."""

    value: Any = 0
    place: int | None = None

    def offer(self, values: Array, start: int) -> None:
        """Take ``values`` (n,) that begin at place ``start`` into account."""
        first = int(values.argmax())
        if values[first] > self.value:
            self.value, self.place = values[first], start + first

    def offer_rounded(self, measured: Array, start: int, slack: float, exact: Callable[[Array], Array]) -> float:
        """The same for values that were rounded by a share of less than ``slack``; returns the largest of them.

        ``exact`` computes those again, by their indices, that could be the largest.
        """
        top = float(measured.max())
        if top * (1 + slack) > self.value:
            near = np.flatnonzero(measured >= top * (1 - slack))
            values = exact(near)
            first = int(values.argmax())
            if values[first] > self.value:
                self.value, self.place = values[first], start + int(near[first])
        return top


def _check(a: Stack, b: Stack) -> None:
    if tuple(a.shape) != tuple(b.shape):
        raise ValueError(f"stacks of different shapes cannot be compared: {tuple(a.shape)} and {tuple(b.shape)}")


def _block(a: Stack) -> int:
    return min(BLOCK, math.prod(a.shape))


def _blocks(a: Stack, b: Stack) -> Iterator[_Block]:
    each = math.prod(a.shape[1:])
    if not each:
        return
    if each <= BLOCK:
        rows = BLOCK // each
        for first in range(0, len(a), rows):
            snapshots = slice(first, min(first + rows, len(a)))
            yield _Block(snapshots, first * each, a[snapshots].reshape(-1), b[snapshots].reshape(-1))
        return
    for snapshot in range(len(a)):
        x, y = a[snapshot].reshape(-1), b[snapshot].reshape(-1)
        for first in range(0, each, BLOCK):
            part = slice(first, first + BLOCK)
            yield _Block(slice(snapshot, snapshot + 1), snapshot * each + first, x[part], y[part])


def _row_max(values: Array, rows: int) -> Array:
    each = values.size // rows
    if each == 1:
        return values
    table = values.reshape(rows, each)
    # NumPy starts its inner loop anew for each row: short rows are quicker to turn round than to go through.
    largest: Array = np.ascontiguousarray(table.T).max(0) if each < 32 else table.max(1)
    return largest


def _absolute(x: Array, y: Array, wide: np.dtype[Any], at: Array | slice = slice(None)) -> Array:
    apart: Array = np.subtract(x[at], y[at], dtype=wide)
    np.abs(apart, out=apart)
    return apart


def _relative(x: Array, y: Array, wide: np.dtype[Any], at: Array | slice = slice(None)) -> Array:
    x, y = x[at].astype(wide), y[at].astype(wide)
    apart, largest = _absolute(x, y, wide), np.maximum(np.abs(x), np.abs(y))
    # Where the difference has no finite value, a quarter of both sides has the same quotient.
    over = np.isinf(apart)
    apart[over] = np.abs(x[over] / 4 - y[over] / 4)
    largest[over] /= 4
    largest[largest == 0] = 1
    share: Array = apart / largest
    return share


def _steps(i: Array, j: Array, out: Array, left: Array, right: Array) -> Array:
    """ULPs between values given by their bits: IEEE 754 orders magnitudes as integers, the sign stands apart.

    Signed bits in, unsigned counts out: opposite signs can lie farther apart than the signed type reaches, and
    subtraction that wraps around is exact in the unsigned one.
    """
    if np.bitwise_xor(i, j, out=out).min() >= 0:
        np.subtract(i, j, out=out)
        np.abs(out, out=out)
    else:
        _ordered(i, left, out)
        _ordered(j, right, out)
        np.maximum(left, right, out=out)
        np.minimum(left, right, out=left)
        np.subtract(out, left, out=out)
    steps: Array = out.view(f"u{out.itemsize}")
    return steps


def _ordered(bits: Array, out: Array, sign: Array) -> None:
    """Magnitude bits, negated for negative values, so that -0.0 and 0.0 are the same integer."""
    np.right_shift(bits, 8 * bits.itemsize - 1, out=sign)
    np.bitwise_and(bits, np.iinfo(bits.dtype).max, out=out)
    np.bitwise_xor(out, sign, out=out)
    np.subtract(out, sign, out=out)


def _difference(tensor: str, snapshot: int, epoch: int, index: tuple[int, ...], a: Any, b: Any) -> Difference:
    if not (np.isfinite(a) and np.isfinite(b)):
        return Difference(tensor, snapshot, epoch, index, a, b, math.inf, math.inf, None)
    with np.errstate(all="ignore"):
        narrow = min(a.dtype, b.dtype, np.dtype(np.float64), key=lambda dtype: dtype.itemsize)
        wide = np.result_type(a, b, np.float64)
        x, y = np.array([a]), np.array([b])
        absolute = float(_absolute(x, y, wide)[0])
        relative = float(_relative(x, y, wide)[0])
        bits = np.dtype(f"i{narrow.itemsize}")
        i, j = x.astype(narrow).view(bits), y.astype(narrow).view(bits)
        ulp = int(_steps(i, j, *np.empty((3, 1), bits))[0])
    return Difference(tensor, snapshot, epoch, index, a, b, absolute, relative, ulp)
