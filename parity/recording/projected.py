"""Random projections of tensors, from which the distance of two is estimated without the tensors.

A projection has ``ROWS`` rows of ``BUCKETS`` sums. In each row every number of the tensor, with a random sign, is added
to one bucket, a random one: it is a count sketch (Charikar, Chen and Farach-Colton, "Finding frequent items in data
streams", 2002; Thorup and Zhang, "Tabulation based 4-universal hashing with applications to second moment estimation",
2004). It is linear: the difference of two projections is the projection of the difference d. With Z the sum of the
squares of one of its rows,

    E Z = |d|^2,    Var Z = 2 sum over i != j of d_i^2 d_j^2 P(i and j share a bucket) <= 2/BUCKETS |d|^4

for signs are independent, and two places share a bucket with a chance of at most 1/BUCKETS. So by Cantelli's inequality
Z exceeds (1 + k) |d|^2 with a chance of at most 1 / (1 + k^2 BUCKETS/2), and falls below (1 - k) |d|^2 with no more.
The rows are independent. That all of them exceed it has that chance to the power of ROWS. See ``Distance.between``.

Signs and buckets come from Philox, a generator that counts (Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as
easy as 1, 2, 3", 2011), at the number of a place's group of ``BUCKETS`` places. A group of them is turned by a random
number of buckets, so that no two of it share one. They depend on the place alone. A difference that was made to fit
them is estimated wrongly.

``parity.recording.sketch`` sums tensors up so that their order does not matter, and bounds nothing; here places count.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from parity.typing import Array

ROWS = 4
BUCKETS = 64
"""As many as a word has bits: a group's signs are one word a row."""
CHUNK = 1 << 16
"""So many numbers are added at a time, always the same ones: sums are rounded alike, whatever blocks they came in."""
SEED = 0x7061726974
_SIGNS = 1.0 - 2.0 * np.unpackbits(np.arange(256, dtype=np.uint8)[:, np.newaxis], axis=1, bitorder="little")
_BITS = 58
"""A turn is the upper six bits of a word."""


class Projection:
    """The projection of a tensor whose numbers come in order, a few at a time.

    Examples:
        >>> whole, parts = Projection(), Projection()
        >>> whole.add(np.arange(100.0))
        >>> for part in (np.arange(30.0), np.arange(30.0, 100.0)):
        ...     parts.add(part)
        >>> bool((whole.finished() == parts.finished()).all())
        True
    """

    def __init__(self) -> None:
        # By row, turn and place in the group: what is turned alike is added first.
        self._sums = np.zeros((ROWS, BUCKETS, BUCKETS))
        self._kept, self._signs, self._turned = np.zeros(CHUNK), np.empty(CHUNK), np.empty(CHUNK)
        self._filled = self._groups = 0

    def add(self, values: Array) -> None:
        """Add the next numbers, (n,), finite."""
        while values.size:
            part, values = np.split(values, [CHUNK - self._filled])
            self._kept[self._filled : self._filled + part.size] = part
            self._filled += part.size
            if self._filled == CHUNK:
                self._fold()

    def finished(self) -> Array:
        """Give the projection, float64 (``ROWS``, ``BUCKETS``), after the last number."""
        if self._filled:
            self._fold()
        turns = np.arange(BUCKETS)
        places = (turns - turns[:, np.newaxis]) % BUCKETS
        with np.errstate(over="ignore", invalid="ignore"):
            found: Array = np.take_along_axis(self._sums, places[np.newaxis], axis=2).sum(axis=1)
        return found

    @np.errstate(over="ignore", invalid="ignore")  # of sums that are too large, no distance is told
    def _fold(self) -> None:
        count = -(-self._filled // BUCKETS)
        self._kept[self._filled : count * BUCKETS] = 0
        groups = self._kept[: count * BUCKETS].reshape(count, BUCKETS)
        signed, turned = (one[: groups.size].reshape(groups.shape) for one in (self._signs, self._turned))
        signs, turns = (_words(SEED + which, self._groups, count) for which in (0, 1))
        for row in range(ROWS):
            np.take(_SIGNS, signs[row].view(np.uint8), axis=0, out=signed.reshape(-1, 8), mode="clip")
            np.multiply(groups, signed, out=signed)
            turn = (turns[row] >> _BITS).astype(np.uint8)
            order = np.argsort(turn, kind="stable")
            firsts = np.flatnonzero(np.diff(turn[order], prepend=BUCKETS))
            sums = np.add.reduceat(np.take(signed, order, axis=0, out=turned, mode="clip"), firsts, axis=0)
            self._sums[row, turn[order[firsts]]] += sums
        self._groups += count
        self._filled = 0


def _words(key: int, first: int, count: int) -> Array:
    """One random word a row of each group, little-endian (ROWS, count)."""
    drawn = np.random.Philox(key=key, counter=first).random_raw(ROWS * count)
    return np.ascontiguousarray(drawn.reshape(count, ROWS).T, "<u8")


def rounding(size: int, largest: float) -> float:
    """Bound how far roundings carry a row of a projection, in the 2-norm.

    Args:
        size: How many numbers the tensor has.
        largest: The largest magnitude of them.

    Returns:
        The unit roundoff, times how many sums a number goes through, times the norm of the sums of magnitudes.

    Examples:
        >>> rounding(64, 1.0) < 1e-11
        True
    """
    sums = CHUNK // BUCKETS + BUCKETS + size // CHUNK + 2
    return sums * 2.0**-53 * (size / BUCKETS + 1) * math.sqrt(BUCKETS) * largest


@dataclass(frozen=True)
class Distance:
    """The 2-norm of a difference, as far as projections tell it.

    Attributes:
        estimate: What it is about: with a standard deviation of its square of at most 9 %.
        least: The least of what the rows say each.
        most: The largest.
    """

    estimate: float
    least: float
    most: float

    def between(self, chance: float) -> tuple[float, float]:
        """Bound it.

        Args:
            chance: How probable it may be that the norm is below the lower bound; and likewise above the upper one.

        Returns:
            The lower bound and the upper one, which is infinite where so few rows give none.

        Examples:
            >>> low, high = Distance(1.0, 1.0, 1.0).between(0.0005)
            >>> round(low, 2), round(high, 2)
            (0.84, 1.31)
        """
        k = math.sqrt(2 / BUCKETS * (chance ** (-1 / ROWS) - 1))
        return self.least / math.sqrt(1 + k), self.most / math.sqrt(1 - k) if k < 1 else math.inf


def distance(a: Array, b: Array) -> Distance:
    """Estimate the distance of two tensors from their projections.

    Args:
        a: What ``Projection.finished`` gave of one.
        b: And of the other.

    Returns:
        The distance; NaN if sums were so large that they overflowed.

    Examples:
        >>> ours, theirs = Projection(), Projection()
        >>> ours.add(np.array([1.0, 2.0]))
        >>> theirs.add(np.array([1.0, 5.0]))
        >>> distance(ours.finished(), theirs.finished())
        Distance(estimate=3.0, least=3.0, most=3.0)
    """
    with np.errstate(all="ignore"):
        apart = a - b
        scale = np.abs(apart).max()
        if not np.isfinite(scale):
            return Distance(math.nan, math.nan, math.nan)
        norms = scale * np.linalg.norm(apart / (scale or 1.0), axis=1)
    return Distance(
        float(np.sqrt(np.mean((norms / (scale or 1.0)) ** 2)) * scale), float(norms.min()), float(norms.max())
    )
