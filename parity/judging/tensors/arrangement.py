"""Where the values of one tensor lie in another: found by values that are unique, proved by all of them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from parity.judging.tensors.search import Search
from parity.typing import Array

PLACES = 16
"""A value that lies at more places than these tells nothing of an arrangement."""
BLOCKS = 8
"""The most blocks that an order of gates may have."""
SAMPLE = 512
"""So many values of a pair of tensors are compared before all of them are."""


class Digit(NamedTuple):
    """An axis of a source, in a target.

    A step along it leads ``stride`` values on in the target; backwards if that is negative. With an ``order``, block k
    of the source is block ``order[k]`` of the target.
    """

    size: int
    stride: int
    order: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Arrangement:
    """Where each value of a source is in a target, both flattened: at ``start``, and a stride on for each digit.

    Attributes:
        start: The place of the source's first value, were no order of gates there.
        digits: The axes that the source falls into, the slowest first.

    Examples:
        >>> kernel = np.arange(6.0)  # (2, 3); its transpose is the target
        >>> turned = Arrangement(0, (Digit(2, 1), Digit(3, 2)))
        >>> turned.places(np.arange(6)).tolist()
        [0, 2, 4, 1, 3, 5]
    """

    start: int
    digits: tuple[Digit, ...]

    @property
    def size(self) -> int:
        """The number of the source's values."""
        return math.prod(digit.size for digit in self.digits)

    def places(self, of: Array) -> Array:
        """Give the places in the target of the source's values at these places, (n,)."""
        found, rest = np.full(of.shape, self.start), of
        for digit in reversed(self.digits):
            rest, step = np.divmod(rest, digit.size)
            found = found + digit.stride * (step if digit.order is None else np.asarray(digit.order)[step])
        return found

    def seen_in(self, target: Array) -> Array:
        """Give the source as its digits shape it, from the flattened target; a view where no order is there."""
        low = self.start + sum(digit.stride * (digit.size - 1) for digit in self.digits if digit.stride < 0)
        step = target.strides[0]
        found = np.lib.stride_tricks.as_strided(
            target[low:],
            [digit.size for digit in self.digits],
            [abs(digit.stride) * step for digit in self.digits],
            writeable=False,
        )
        found = np.flip(found, tuple(axis for axis, digit in enumerate(self.digits) if digit.stride < 0))
        for axis, digit in enumerate(self.digits):
            if digit.order is not None:
                found = np.take(found, digit.order, axis)
        return found

    def fits(self, size: int) -> bool:
        """Say whether it stays within a target of so many values, and puts no two values in one place."""
        low = self.start + sum(digit.stride * (digit.size - 1) for digit in self.digits if digit.stride < 0)
        high = self.start + sum(digit.stride * (digit.size - 1) for digit in self.digits if digit.stride > 0)
        reach = 1
        for digit in sorted(self.digits, key=lambda digit: abs(digit.stride)):
            if abs(digit.stride) < reach:
                return False
            reach = abs(digit.stride) * digit.size
        return low >= 0 and high < size


def arrangements(
    source: Array, shape: Sequence[int], target: Array, other: Sequence[int], search: Search | None = None
) -> list[Arrangement]:
    """Find where a source lies in a target of as many values or more.

    Args:
        source: The source's values, flattened.
        shape: Its shape.
        target: The target's values, flattened, of the same dtype.
        other: Its shape.
        search: What the search may take; EndedError if that is not enough.

    Returns:
        The arrangements found in which all values of the source are equal to the target's. More than one means that
        values do not tell.

    Examples:
        >>> kernel = np.random.default_rng(0).normal(size=(2, 3))
        >>> arrangements(kernel.ravel(), (2, 3), kernel.T.ravel(), (3, 2))[0].digits
        (Digit(size=2, stride=1, order=None), Digit(size=3, stride=2, order=None))
    """
    found, search = list[Arrangement](), search or Search()
    search.go_on()
    sample = np.random.default_rng(0).integers(0, max(1, len(source)), SAMPLE)
    # Any arrangement of one axis order is found as such, so that no other kind has to be looked for.
    for one in transposes(shape, other) if len(source) == len(target) else ():
        if _agrees(one, source, target, sample):
            found.append(one)
    if not found:
        # One is enough: a value that is unique cannot be at two places.
        ways = (one for one in _searched(source, target, search) if _agrees(one, source, target, sample))
        found += itertools.islice(ways, 1)
    return found


def _agrees(one: Arrangement, source: Array, target: Array, sample: Array) -> bool:
    if not np.array_equal(source[sample], target[one.places(sample)]):
        return False
    sizes = [digit.size for digit in one.digits]
    return np.array_equal(source.reshape(sizes), one.seen_in(target))


def transposes(shape: Sequence[int], other: Sequence[int]) -> Iterator[Arrangement]:
    """Every order of axes that makes one shape of the other."""
    mine, theirs = [size for size in shape if size > 1], [size for size in other if size > 1]
    if sorted(mine) != sorted(theirs) or len(mine) > 6:
        return
    for order in itertools.permutations(range(len(mine))):
        if [mine[axis] for axis in order] == theirs:
            strides = {axis: math.prod(theirs[place + 1 :]) for place, axis in enumerate(order)}
            yield Arrangement(0, tuple(Digit(size, strides[axis]) for axis, size in enumerate(mine)))


def _searched(source: Array, target: Array, search: Search) -> Iterator[Arrangement]:
    """Follow the source's values through the target, from its fastest axis to its slowest."""
    for first in _places(source[0], target) if len(source) else ():
        yield from _longer(source, target, first, Arrangement(first, ()), search)


def _longer(source: Array, target: Array, first: int, so_far: Arrangement, search: Search) -> Iterator[Arrangement]:
    """Every arrangement that goes on as the source's fastest values lie; ``first`` is the place of the first."""
    done = so_far.size
    left = len(source) // done
    if left == 1:
        yield so_far
        return
    for place in _places(source[done], target):
        search.go_on()
        reach = _run(source[::done], target[first :: place - first])
        for size in range(min(reach, left), 1, -1):
            if left % size == 0:
                longer = Arrangement(so_far.start, (Digit(size, place - first), *so_far.digits))
                if _holds(longer, source, target):
                    yield from _longer(source, target, first, longer, search)
    if any(digit.order for digit in so_far.digits):
        return
    for count in range(2, min(BLOCKS, left) + 1):
        if left % count == 0 and (digit := _ordered(source[::done][:count], target, first)):
            assert digit.order is not None
            begin = so_far.start - digit.order[0] * digit.stride
            longer = Arrangement(begin, (digit, *so_far.digits))
            if _holds(longer, source, target):
                yield from _longer(source, target, first, longer, search)


def _ordered(heads: Array, target: Array, first: int) -> Digit | None:
    """The order of gates whose blocks begin with these values; None if they are no equal blocks."""
    found = [first]
    for head in heads[1:]:
        places = _places(head, target)
        if len(places) != 1:
            return None
        found += places
    ranked = sorted(found)
    step = ranked[1] - ranked[0]
    if step <= 0 or any(after - before != step for before, after in itertools.pairwise(ranked)) or ranked == found:
        return None
    return Digit(len(found), step, tuple(ranked.index(place) for place in found))


def _holds(one: Arrangement, source: Array, target: Array) -> bool:
    """Say whether the source's fastest values lie as an arrangement of them says, as far as a sample tells."""
    if not one.fits(len(target)):
        return False
    sample = np.arange(one.size) if one.size <= SAMPLE else np.random.default_rng(1).integers(0, one.size, SAMPLE)
    return np.array_equal(source[sample], target[one.places(sample)])


def _places(value: float, target: Array) -> list[int]:
    found = np.flatnonzero(target == value)
    return found.tolist() if len(found) <= PLACES else []


def _run(source: Array, target: Array) -> int:
    """Count the values from the first on that are equal."""
    length = min(len(source), len(target))
    unequal = source[:length] != target[:length]
    first = int(unequal.argmax()) if length else 0
    return first if length and unequal[first] else length
