"""The inner loops of ``parity.judging.compare``: two stacks, measured block by block."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from threading import Event
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from parity.typing import Array

if TYPE_CHECKING:
    from parity.trajectory import Stack


# One block of each side and the scratch arrays fit into a core's second-level cache.
BLOCK = 1 << 15
# Bytes are compared in larger blocks and by several threads, because it takes a few cores to use all of the memory's
# bandwidth. Measuring makes many short calls, and threads would wait for each other between them.
LARGE = 1 << 18
THREADS = min(4, os.cpu_count() or 1)
# Values that differ by less than this share of one of them have one sign, and their binades are the same or adjacent.
NEAR = 0.25
# Rows of fewer values are faster to transpose than to reduce one by one.
SHORT = 32


class Types(NamedTuple):
    """The dtypes of a comparison: ``native`` for measuring blocks, ``wide`` for close calls, ``narrow`` for ULPs."""

    native: np.dtype[Any]
    wide: np.dtype[Any]
    narrow: np.dtype[Any]


class Block(NamedTuple):
    """Several whole snapshots, or a piece of one, flattened. ``start`` is its first place in the flattened stack."""

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
        """Update with ``values`` (n,), the first at place ``start``."""
        first = int(values.argmax())
        if values[first] > self.value:
            self.value, self.place = values[first], start + first

    def offer_rounded(self, measured: Array, least: Any, most: Any, start: int, exact: Callable[..., Array]) -> None:
        """Update with ``measured`` (n,), values that were rounded. ``exact`` computes them again, all or by indices.

        The largest exact value is at most ``most``, and it was measured as ``least`` or more.
        """
        if not most > self.value:
            return
        close = measured >= least
        if 8 * np.count_nonzero(close) > close.size:
            self.offer(exact(), start)
            return
        near = np.flatnonzero(close)
        values = exact(near)
        first = int(values.argmax())
        if values[first] > self.value:
            self.value, self.place = values[first], start + int(near[first])

    def join(self, other: _Largest) -> None:
        """Update with the largest value among other places."""
        if other.place is None or self.place is None:
            ahead = other.place is not None
        else:
            ahead = other.value > self.value or (other.value == self.value and other.place < self.place)
        if ahead:
            self.value, self.place = other.value, other.place


@dataclass
class Tally:
    """The result of ``differences`` so far."""

    types: Types
    absolute: _Largest = field(default_factory=_Largest)
    relative: _Largest = field(default_factory=_Largest)
    ulp: _Largest = field(default_factory=_Largest)
    unequal: int = 0
    beyond: int = 0
    nonfinite_a: int = 0
    nonfinite_b: int = 0
    nonfinite: int | None = None

    def add(self, block: Block, allowed: Array | None, scratch: Array) -> None:
        """Update with a block. ``allowed`` holds its snapshots' tolerances; ``scratch`` (4, n) has the native dtype."""
        native, wide, narrow = self.types
        x, y = block.x.astype(native, copy=False), block.y.astype(native, copy=False)
        d, m, n, larger = scratch[:, : x.size]
        top = np.abs(np.subtract(x, y, out=d), out=d).max()
        bad: Array | tuple[()] = ()
        if not np.isfinite(top):
            x, y, bad = self._set_aside(x, y, block.start)
            np.abs(np.subtract(x, y, out=d), out=d)
            d[bad] = np.nan
            top = np.fmax.reduce(d, initial=0)
        if allowed is not None:
            tight = native.type(allowed.min())
            if len(bad) or not (top < tight or top == tight == 0):
                self.beyond += _beyond(x, y, d, allowed, wide)
        # Subtraction underflows gradually, so only equal values have a difference of zero. Most blocks of equal
        # stacks end here, and their values are known to be finite.
        if not top:
            return
        # NumPy counts integers faster than floats, and the bits of a difference of zero are all zero.
        self.unequal += int(np.count_nonzero(d.view(f"u{native.itemsize}") if native.itemsize <= 8 else d)) - len(bad)
        # NaN for a pair of zeros and for a pair that was set aside: fmax and fmin ignore it.
        quotient = np.divide(d, x, out=m)
        near = float(max(np.fmax.reduce(quotient), -np.fmin.reduce(quotient)))
        # The difference and the quotient are rounded once each; the difference of near neighbours is exact (Sterbenz).
        slack = 4 * float(max(np.finfo(native).eps, np.finfo(np.float64).eps))
        if near < NEAR:
            self._add_near(x, y, d, m, n, top, near, slack, block.start)
            return
        np.maximum(np.abs(x, out=m), np.abs(y, out=n), out=larger)
        share = np.fmax.reduce(np.divide(d, larger, out=larger))
        least, most = top * (1 - slack), top * (1 + slack)
        self.absolute.offer_rounded(d, least, most, block.start, partial(absolute_distance, x, y, wide))
        if np.isfinite(top):
            least, most = share * (1 - slack), min(share * (1 + slack), 2.0)
            self.relative.offer_rounded(larger, least, most, block.start, partial(relative_distance, x, y, wide))
        else:
            self.relative.offer(relative_distance(x, y, wide), block.start)
        # A pair is at most as many steps apart as both largest magnitudes together are from zero.
        if native != narrow or sum(_from_zero(side.max()) for side in (m, n)) > self.ulp.value:
            # Values of opposite signs differ by at least the larger magnitude, so by a share of 1 or more.
            opposite = np.signbit(x) != np.signbit(y) if not share < 1 else None
            self.ulp.offer(steps_between(m, n, opposite, narrow, d), block.start)

    def join(self, other: Tally) -> None:
        """Update with what was found in other blocks of the stack. In which order does not matter."""
        self.absolute.join(other.absolute)
        self.relative.join(other.relative)
        self.ulp.join(other.ulp)
        self.unequal += other.unequal
        self.beyond += other.beyond
        self.nonfinite_a += other.nonfinite_a
        self.nonfinite_b += other.nonfinite_b
        self.nonfinite = min((place for place in (self.nonfinite, other.nonfinite) if place is not None), default=None)

    def _add_near(
        self, x: Array, y: Array, d: Array, m: Array, n: Array, top: Any, near: float, slack: float, start: int
    ) -> None:
        """Update with a block whose pairs differ by at most a small share ``near`` of x.

        ``m`` holds each pair's difference as a share of x, with a sign; ``m`` and ``n`` are overwritten. Pairs that
        cannot be a new largest difference are not measured: in a long stack, nearly all of them.
        """
        native, wide, narrow = self.types
        self.absolute.offer_rounded(d, top, top, start, partial(absolute_distance, x, y, wide))
        # |y| is at most |x| + d, so a difference of q of x is between q / (1 + q) and q of the larger side.
        least, most = near * (1 - near) * (1 - slack), near * (1 + slack)
        if most > self.relative.value:
            np.abs(m, out=m)
            self.relative.offer_rounded(m, least, most, start, partial(relative_distance, x, y, wide))
        # A binade has as many steps as the mantissa has values, and a pair this near lies in at most two binades.
        steps = most * (1 + 2 * near) * 2.0 ** (np.finfo(narrow).nmant + 1)
        if native != narrow or int(steps) > self.ulp.value:
            self.ulp.offer(steps_between(np.abs(x, out=m), np.abs(y, out=n), None, narrow, d), start)

    def _set_aside(self, x: Array, y: Array, start: int) -> tuple[Array, Array, Array]:
        """Count the pairs with a side that is not finite. Returns both sides with zeros in them, and their places."""
        bad_x, bad_y = ~np.isfinite(x), ~np.isfinite(y)
        bad = np.flatnonzero(bad_x | bad_y)
        if not bad.size:
            return x, y, bad
        self.nonfinite_a += int(np.count_nonzero(bad_x))
        self.nonfinite_b += int(np.count_nonzero(bad_y))
        self.unequal += int(np.count_nonzero(x[bad] != y[bad]))
        if self.nonfinite is None:
            self.nonfinite = start + int(bad[0])
        x, y = x.copy(), y.copy()
        x[bad] = y[bad] = 0
        return x, y, bad


def types_of(a: Stack, b: Stack) -> Types:
    """The dtypes of a comparison. float16 is widened to float32, which is exact: few processors compute in float16."""
    native = np.result_type(a.dtype, b.dtype, np.float32)
    narrow = min(a.dtype, b.dtype, np.dtype(np.float64), key=lambda dtype: dtype.itemsize)
    return Types(native, np.result_type(native, np.float64), narrow)


def block_size(a: Stack) -> int:
    return min(BLOCK, math.prod(a.shape))


def blocks_of(a: Stack, b: Stack, size: int = 0, share: tuple[int, int] = (0, 1)) -> Iterator[Block]:
    """Yield both stacks in blocks of at most ``size`` values, 0 for ``BLOCK``.

    A ``share`` of (k, n) takes every n-th block from the k-th on.
    """
    size = size or BLOCK
    each = math.prod(a.shape[1:])
    if not each:
        return
    first, step = share
    if each <= size:
        rows = size // each
        for start in range(first * rows, len(a), step * rows):
            snapshots = slice(start, min(start + rows, len(a)))
            yield Block(snapshots, start * each, a[snapshots].reshape(-1), b[snapshots].reshape(-1))
        return
    current, parts = None, -(-each // size)
    for number in range(first, len(a) * parts, step):
        snapshot, part = divmod(number, parts)
        if snapshot != current:
            current, x, y = snapshot, a[snapshot].reshape(-1), b[snapshot].reshape(-1)
        piece = slice(part * size, (part + 1) * size)
        yield Block(slice(snapshot, snapshot + 1), snapshot * each + piece.start, x[piece], y[piece])


def identical(a: Stack, b: Stack) -> bool:
    """Say whether both stacks are the same bytes, all of finite values. Most others differ in their first block."""
    if a.dtype != b.dtype or a.dtype.itemsize > 8:  # some bytes of a longdouble are padding
        return False
    differs = Event()

    def look(share: tuple[int, int]) -> None:
        zeros = np.zeros(min(LARGE, math.prod(a.shape)), a.dtype)
        with np.errstate(all="ignore"):
            for block in blocks_of(a, b, LARGE, share):
                x, y = (side.view(f"u{side.itemsize}") for side in (block.x, block.y))
                # Only NaN and the infinities do not become zero when multiplied by zero.
                if differs.is_set() or not (np.array_equal(x, y) and block.x.dot(zeros[: x.size]) == 0):
                    return differs.set()

    first = next(blocks_of(a, b, LARGE), None)
    if first is None or not np.array_equal(first.x, first.y):
        return first is None
    threads = max(1, min(THREADS, math.prod(a.shape) // LARGE))
    if threads == 1:
        look((0, 1))
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(look, [(k, threads) for k in range(threads)]))
    return not differs.is_set()


def by_snapshot(a: Stack, b: Stack, types: Types, largest: Callable[[Block, Array], Array]) -> Array:
    """The maximum (S,) float64 over each snapshot's blocks. ``largest`` gives a value for each snapshot of a block."""
    result = np.zeros(len(a), types.wide)
    (scratch,) = scratch_arrays(1, block_size(a), types.native)
    with np.errstate(all="ignore"):
        for block in blocks_of(a, b):
            rows = result[block.snapshots]
            np.maximum(rows, largest(block, scratch).astype(types.wide), out=rows)
    with np.errstate(over="ignore"):
        return result.astype(np.float64)


def scratch_arrays(arrays: int, size: int, dtype: np.dtype[Any]) -> Array:
    """Uninitialised arrays, ``(arrays, size or more)``. Each begins a cache line, which makes NumPy twice as fast."""
    line = 64 // dtype.itemsize
    stride = -(-size // line) * line
    raw = np.empty(arrays * stride + line, dtype)
    first = -raw.ctypes.data % 64 // dtype.itemsize
    return raw[first : first + arrays * stride].reshape(arrays, stride)


def row_max(values: Array, rows: int) -> Array:
    """The maximum (rows,) of each of ``rows`` equal parts of ``values``."""
    each = values.size // rows
    if each == 1:
        return values
    table = values.reshape(rows, each)
    # NumPy starts its inner loop anew for each row, so short rows are faster to transpose first.
    largest: Array = np.ascontiguousarray(table.T).max(0) if each < SHORT else table.max(1)
    return largest


def absolute_distance(x: Array, y: Array, wide: np.dtype[Any], at: Array | slice = slice(None)) -> Array:
    apart: Array = x[at].astype(wide) - y[at].astype(wide, copy=False)
    np.abs(apart, out=apart)
    return apart


def relative_distance(x: Array, y: Array, wide: np.dtype[Any], at: Array | slice = slice(None)) -> Array:
    x, y = x[at].astype(wide), y[at].astype(wide)
    apart, largest = absolute_distance(x, y, wide), np.maximum(np.abs(x), np.abs(y))
    # Where the difference overflows, a quarter of both sides has the same quotient.
    over = np.isinf(apart)
    apart[over] = np.abs(x[over] / 4 - y[over] / 4)
    largest[over] /= 4
    largest[largest == 0] = 1
    share: Array = apart / largest
    return share


def _beyond(x: Array, y: Array, d: Array, allowed: Array, wide: np.dtype[Any]) -> int:
    """Count the pairs of a block that are farther apart than allowed. ``d`` is |x - y|, rounded; a NaN in it counts."""
    limits = allowed.astype(d.dtype)[:, None]
    table = d.reshape(len(allowed), -1)
    beyond = d.size - int(np.count_nonzero(table <= limits))
    # Rounding keeps order, so it hides an excess only where the difference and its limit became the same number.
    close = np.flatnonzero(table == limits)
    excess = absolute_distance(x, y, wide, close) > allowed[close // table.shape[1]]
    return beyond + int(np.count_nonzero(excess))


def steps_between(m: Array, n: Array, opposite: Array | None, narrow: np.dtype[Any], scratch: Array) -> Array:
    """ULPs between pairs, given by their magnitudes ``m`` and ``n``, which are overwritten.

    ``opposite`` marks the pairs of opposite signs; None means that there are none. IEEE 754 orders magnitudes as their
    bits. Values of opposite signs are as many steps apart as the sum of their bits. The sum may exceed the signed type,
    so the counts are unsigned.
    """
    bits, counts = np.dtype(f"i{narrow.itemsize}"), np.dtype(f"u{narrow.itemsize}")
    i, j = m.astype(narrow, copy=False).view(bits), n.astype(narrow, copy=False).view(bits)
    apart = scratch.view(bits)[: i.size]
    np.abs(np.subtract(i, j, out=apart), out=apart)
    steps: Array = apart.view(counts)
    if opposite is not None:
        # A sum is never less than a difference.
        sums = np.multiply(np.add(i, j, out=j), opposite.astype(bits), out=j)
        np.maximum(steps, sums.view(counts), out=steps)
    return steps


def _from_zero(magnitude: Any) -> int:
    """The number of steps from zero to a magnitude: its bits."""
    return int(magnitude.view(f"u{magnitude.itemsize}"))
