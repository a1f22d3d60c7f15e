"""Pairs of tensors measured as they are read, by several threads, in memory that does not grow with them.

A block of each side is read into memory that is used again and again, and is measured while a core's cache holds it.
Most blocks of two checkpoints are equal byte for byte: of those only the largest magnitude is looked for, which is that
of the bits, taken as integers. No file is mapped, for what was looked at of a map counts as memory of the process.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

import numpy as np

from parity.dtypes import carrier, rounded, unpacked
from parity.judging import blocks
from parity.judging.blocks import Tally, Types, scratch_arrays
from parity.judging.tensors.fingerprint import Fingerprint, fingerprint
from parity.recording.placed import Block, Loaded, Placed, Turned, blocks_of, size_of
from parity.typing import Array

BYTES = 1 << 19
"""One block of a side. It, the other side's and what is made of them fit into a core's cache."""
AT_ONCE = 16
"""A thread takes so many blocks at a time."""
THREADS = min(8, max(4, os.cpu_count() or 1))
"""While some threads wait for a disk others measure."""

Progress = Callable[[int, str], None]
"""Is told how many bytes more were read, and of which tensor."""


@dataclass
class Pair:
    """Two tensors of one name and shape, and what was found of them."""

    name: str
    a: Placed
    b: Placed
    whole: bool = True
    """Whether they are floating-point numbers, which are measured; of others only equality is asked."""
    tally: Tally | None = None
    """The largest differences; None if all numbers are equal and finite."""
    unequal: int | None = None
    """The first place where two integers differ."""
    scales: list[float] = field(default_factory=lambda: [0.0, 0.0])
    """The largest magnitude of each side, NaN if a number is not finite."""

    @property
    def size(self) -> int:
        """The bytes of both sides."""
        return sum(size_of(side) for side in (self.a, self.b))

    def join(self, found: _Found) -> None:
        """Take in what a thread has found of some blocks."""
        self.scales = _larger(self.scales, found.scales)
        self.unequal = min((one for one in (self.unequal, found.unequal) if one is not None), default=None)
        if found.tally is not None:
            if self.tally is None:
                self.tally = found.tally
            else:
                self.tally.join(found.tally)


def measure(pairs: Sequence[Pair], dtypes: tuple[str, str], progress: Progress = lambda size, name: None) -> None:
    """Read both tensors of each pair and measure them.

    Args:
        pairs: What is measured; what is found is written into it.
        dtypes: The dtype of each side's run, as ``Snapshot`` widens its tensors to.
        progress: Is told of what was read.

    Raises:
        TrajectoryError: If a file was changed meanwhile.
    """
    units, lock = _units(pairs), Lock()

    def work() -> None:
        worker = _Worker(dtypes, lock, progress)
        with np.errstate(all="ignore"):
            while True:
                with lock:
                    unit = next(units, None)
                if unit is None:
                    break
                worker.take(*unit)
            worker.give()

    with ThreadPoolExecutor(THREADS) as pool:
        try:
            for thread in [pool.submit(work) for _ in range(THREADS)]:
                thread.result()
        except BaseException:  # an error of one thread, or Ctrl-C: the others are to end soon, too
            with lock:
                units.close()
            raise
    for file in {file for pair in pairs for side in (pair.a, pair.b) for file in side.files()}:
        file.end()


def _units(pairs: Sequence[Pair]) -> Generator[tuple[Pair, tuple[Block, ...]]]:
    """What one thread measures at a time, in order. What is kept in memory meanwhile is read by one thread alone."""
    for pair in pairs:
        width = max(pair.a.dtype.itemsize, pair.b.dtype.itemsize)
        cut = blocks_of(pair.a.shape, BYTES // width)
        if isinstance(pair.a, Loaded | Turned) or isinstance(pair.b, Loaded | Turned):
            yield pair, tuple(cut)
            continue
        while some := tuple(itertools.islice(cut, AT_ONCE)):
            yield pair, some


@dataclass
class _Found:
    """What a thread has found of one pair."""

    tally: Tally | None = None
    unequal: int | None = None
    scales: list[float] = field(default_factory=lambda: [0.0, 0.0])


class _Worker:
    """What one thread needs, and what it has found of the pair that it is at."""

    def __init__(self, dtypes: tuple[str, str], lock: Lock, progress: Progress) -> None:
        self._dtypes, self._lock, self._progress = tuple(map(carrier, dtypes)), lock, progress
        native = np.result_type(*self._dtypes, np.float32)
        narrow = min(*self._dtypes, np.dtype(np.float64), key=lambda dtype: dtype.itemsize)
        self._types = Types(native, np.result_type(native, np.float64), narrow)
        self._scratch = scratch_arrays(4, blocks.BLOCK, native)
        self._buffers = [np.empty(BYTES, np.uint8) for _ in range(2)]
        self._same = np.empty(BYTES, bool)
        self._pair: Pair | None = None
        self._found = _Found()

    def take(self, pair: Pair, some: Sequence[Block]) -> None:
        """Measure some blocks of a pair."""
        if pair is not self._pair:
            self.give()
            self._pair, self._found = pair, _Found()
        read = 0
        for block in some:
            x, y = (
                buffer[: block.size * side.dtype.itemsize].view(side.dtype)
                for buffer, side in zip(self._buffers, (pair.a, pair.b), strict=True)
            )
            pair.a.read(block, x)
            pair.b.read(block, y)
            read += x.nbytes + y.nbytes
            self._measure(pair, block.start, x, y)
        self._progress(read, pair.name)

    def give(self) -> None:
        """Hand over what was found of the last pair."""
        if self._pair is not None:
            with self._lock:
                self._pair.join(self._found)

    def _measure(self, pair: Pair, start: int, x: Array, y: Array) -> None:
        alike = x.dtype == y.dtype and pair.a.narrow == pair.b.narrow
        if not pair.whole:
            if self._found.unequal is None and (apart := np.flatnonzero(x != y)).size:
                self._found.unequal = start + int(apart[0])
            return
        if alike and x.dtype.isnative:
            bits = f"u{x.itemsize}"
            same = self._equal(x.view(bits), y.view(bits))
            scales = [largest_of(x, pair.a.narrow)]
            scales.append(scales[0] if same else largest_of(y, pair.b.narrow))
            if same and np.isfinite(scales[0]):
                self._found.scales = _larger(self._found.scales, scales)
                return
        else:
            scales = [float(np.abs(numbers_of(side, of.narrow)).max()) for side, of in ((x, pair.a), (y, pair.b))]
        self._found.scales = _larger(self._found.scales, [scale if np.isfinite(scale) else np.nan for scale in scales])
        self._tell(pair, start, x, y)

    def _equal(self, x: Array, y: Array) -> bool:
        return bool(np.equal(x, y, out=self._same[: x.size]).all())

    def _tell(self, pair: Pair, start: int, x: Array, y: Array) -> None:
        """Measure numbers that are not all equal and finite."""
        if self._found.tally is None:
            self._found.tally = Tally(self._types)
        for first in range(0, x.size, blocks.BLOCK):
            piece = slice(first, first + blocks.BLOCK)
            one, other = (
                numbers_of(side[piece], of.narrow).astype(dtype, copy=False)
                for side, of, dtype in zip((x, y), (pair.a, pair.b), self._dtypes, strict=True)
            )
            self._found.tally.add(blocks.Block(slice(0, 1), start + first, one, other), None, self._scratch)


def _larger(one: Sequence[float], other: Sequence[float]) -> list[float]:
    return [float(np.maximum(*two)) for two in zip(one, other, strict=True)]


def numbers_of(bits: Array, narrow: bool) -> Array:
    """What was read of a tensor as numbers that NumPy reckons with; ``narrow`` of those that are bfloat16's bits."""
    return unpacked(bits) if narrow else bits.astype(bits.dtype.newbyteorder("="), copy=False)


def largest_of(values: Array, narrow: bool = False) -> float:
    """The largest magnitude of floating-point numbers; infinite or NaN if one is not finite.

    Of numbers of one sign the bits rise with the magnitude, as integers do. So the largest signed integer is that of
    the largest positive number, and the largest unsigned one that of the largest negative number, if there is one.

    Args:
        values: (n,) of a native dtype, n > 0.
        narrow: Whether they are the bits of bfloat16 numbers.

    >>> largest_of(np.array([1.0, -2.0])), largest_of(np.float32([-0.0, 1.5]))
    (2.0, 1.5)
    >>> largest_of(np.array([0x3F80, 0xC000], np.uint16), narrow=True)
    2.0
    """
    width, sign = values.itemsize, 1 << (8 * values.itemsize - 1)
    unsigned, signed = int(values.view(f"u{width}").max()), int(values.view(f"i{width}").max())
    bits: Any = np.array([max(signed, unsigned - sign, 0)], f"u{width}")
    return float(unpacked(bits)[0] if narrow else bits.view(f"f{width}")[0])


def fingerprint_of(side: Placed, dtype: str) -> Fingerprint:
    """The fingerprint of a tensor's numbers, rounded to a dtype: see ``parity.judging.tensors.fingerprint``."""
    found = Fingerprint(0, 0, 0)
    out = np.empty(BYTES // side.dtype.itemsize, side.dtype)
    for block in blocks_of(side.shape, out.size):
        side.read(block, out[: block.size])
        of_block = fingerprint(rounded(numbers_of(out[: block.size], side.narrow), dtype))
        found = Fingerprint(*((one + other) % 2**64 for one, other in zip(found, of_block, strict=True)))
    return found


def number_at(side: Placed, place: int, dtype: str = "") -> Any:
    """One number of a tensor, widened to a ``dtype``, that of its run."""
    index = np.unravel_index(place, side.shape or (1,))
    rows = slice(int(index[-1]), int(index[-1]) + 1)
    out = np.empty(1, side.dtype)
    side.read(Block(tuple(map(int, index[:-1])), rows, place, (1,)), out)
    found = numbers_of(out, side.narrow)[0]
    return carrier(dtype).type(found) if dtype else found
