"""Arrangements of values said as layouts: one slot for each tensor, on both sides of a pairing."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from parity.judging.tensors.arrangement import Arrangement, Digit
from parity.layout import Slot


class Both(NamedTuple):
    """The slots of a source and those of a target that bring them to common canonical tensors."""

    source: tuple[Slot, ...]
    target: tuple[Slot, ...]


@dataclass(frozen=True)
class Tensor:
    """A tensor's name and shape. With an ``index`` it is one of several that are stacked under that name."""

    name: str
    shape: tuple[int, ...]
    index: int | None = None

    @property
    def size(self) -> int:
        """The number of its values."""
        return math.prod(self.shape)

    @property
    def label(self) -> str:
        """A name that it shares with no other."""
        return self.name if self.index is None else f"{self.name}/{self.index}"


def one_to_one(source: Tensor, target: Tensor, found: Arrangement, canonical: str) -> Both | None:
    """Say how a source lies in a target of the same size. The canonical tensor is the target, as far as can be.

    Args:
        source: The source.
        target: The target.
        found: Where the source's values are in it.
        canonical: What the canonical tensor is to be called.

    Returns:
        Their slots; None if no slot can say it, because axes of the two shapes overlap.

    Examples:
        >>> found = Arrangement(0, (Digit(2, 1), Digit(3, 2)))
        >>> both = one_to_one(Tensor("0.weight", (2, 3)), Tensor("Dense_0/kernel", (3, 2)), found, "Dense_0/kernel")
        >>> both.source[0].axes, both.target[0].axes
        ((1, 0), None)
    """
    digits = _refined(found.digits, source.shape, target.shape)
    if digits is None:
        return None
    # In the target's order; an axis whose blocks have another order comes last, with what runs within its blocks.
    ranked = sorted(range(len(digits)), key=lambda k: -abs(digits[k].stride))
    gated = next((k for k, digit in enumerate(digits) if digit.order is not None), None)
    axes: list[tuple[int, ...]] = [(k,) for k in ranked if k != gated]
    gates = None
    if gated is not None:
        gates = digits[gated].order
        within = gated + 1
        joined = (
            within < len(digits)
            and abs(digits[gated].stride) == digits[within].size * digits[within].stride
            and within not in _firsts(digits, source.shape)
            and not _cut(digits[gated].stride, target.shape)
        )
        if joined:
            axes.remove((within,))
        axes.append((gated, within) if joined else (gated,))
    place = {k: number for number, group in enumerate(axes) for k in group}
    sizes = tuple(math.prod(digits[k].size for k in group) for group in axes)
    flip = tuple(place[k] for k in range(len(digits)) if digits[k].stride < 0)
    mine = _grouped([(place[k], digits[k].size) for k in range(len(digits))], source.shape, sizes)
    theirs = _grouped([(place[k], digits[k].size) for k in ranked], target.shape, sizes)
    if mine is None or theirs is None:
        return None
    ours = _slot(canonical, source, mine, sizes)
    return Both((replace(ours, gates=gates, flip=flip),), (_slot(canonical, target, theirs, sizes),))


def many_to_one(sources: Sequence[Tensor], target: Tensor, found: Sequence[Arrangement], canonical: str) -> Both | None:
    """Say how several sources lie in one target that they fill: it is their concatenation.

    Args:
        sources: The sources.
        target: The target.
        found: Where each source's values are in it.
        canonical: What the canonical tensor is to be called.

    Returns:
        Their slots; None if no slot can say it.

    Examples:
        >>> q, k = Arrangement(0, (Digit(2, 4), Digit(2, 1))), Arrangement(2, (Digit(2, 4), Digit(2, 1)))
        >>> both = many_to_one([Tensor("q", (2, 2)), Tensor("k", (2, 2))], Tensor("qk", (2, 4)), [q, k], "qk")
        >>> [slot.block for slot in both.source]
        [(0, 2), (1, 2)]
    """
    order = sorted(range(len(found)), key=lambda p: found[p].start)
    refined = [_refined(found[p].digits, sources[p].shape, target.shape) for p in order]
    starts = [found[p].start for p in order]
    rows = [digits for digits in refined if digits is not None]
    if len(rows) < len(sources) or any(digit.order or digit.stride < 0 for digits in rows for digit in digits):
        return None
    if len({tuple(digit.stride for digit in digits) for digits in rows}) > 1:
        return None
    for cat in _concatenated(rows, starts):
        both = _fused([sources[p] for p in order], target, rows, cat, canonical)
        if both is not None:
            return both
    return None


def _concatenated(rows: Sequence[Sequence[Digit]], starts: Sequence[int]) -> list[tuple[int | None, int]]:
    """The digits along which the pieces may follow each other, each with its stride; None for an axis of its own."""
    first = rows[0]
    found: list[tuple[int | None, int]] = []
    for k, digit in enumerate(first):
        others = [tuple(each.size for j, each in enumerate(digits) if j != k) for digits in rows]
        ends = [0, *itertools.accumulate(digits[k].size for digits in rows)]
        if len(set(others)) == 1 and all(
            start - starts[0] == end * digit.stride for start, end in zip(starts, ends, strict=False)
        ):
            found.append((k, digit.stride))
    steps = {after - before for before, after in itertools.pairwise(starts)}
    if len(steps) == 1 and len({tuple(digits) for digits in rows}) == 1:
        found.append((None, steps.pop()))
    return found


def _fused(
    sources: Sequence[Tensor],
    target: Tensor,
    rows: Sequence[Sequence[Digit]],
    cat: tuple[int | None, int],
    canonical: str,
) -> Both | None:
    along, stride = cat
    count = len(sources)
    # Canonical axes: those of the pieces in their own order, but the one along which they follow each other is last.
    kept = [k for k in range(len(rows[0])) if k != along]
    lengths = [1 if along is None else digits[along].size for digits in rows]
    last = len(kept)
    sizes = (*(rows[0][k].size for k in kept), sum(lengths))
    strides = [*(rows[0][k].stride for k in kept), stride]
    ranked = sorted(range(last + 1), key=lambda axis: -strides[axis])
    reach = 1
    for axis in reversed(ranked):
        if strides[axis] != reach:
            return None
        reach *= sizes[axis]
    theirs = _grouped([(axis, sizes[axis]) for axis in ranked], target.shape, sizes)
    if reach != math.prod(target.shape) or theirs is None:
        return None
    blocks: int | tuple[int, ...] = count if len(set(lengths)) == 1 else tuple(lengths)
    slots = []
    for number, (source, digits) in enumerate(zip(sources, rows, strict=True)):
        place = {k: axis for axis, k in enumerate(kept)} | ({} if along is None else {along: last})
        shape = (*sizes[:-1], lengths[number])
        pairs = [(place[k], digit.size) for k, digit in enumerate(digits)]
        if along is None:
            pairs.append((last, 1))
        mine = _grouped(pairs, source.shape, shape)
        if mine is None:
            return None
        slots.append(replace(_slot(canonical, source, mine, shape), block=(number, blocks)))
    return Both(tuple(slots), (_slot(canonical, target, theirs, sizes),))


def _refined(digits: Sequence[Digit], shape: Sequence[int], other: Sequence[int]) -> list[Digit] | None:
    """Split digits wherever an axis of either shape ends; None if one ends where no digit can be split."""
    found = [digit for digit in digits if digit.size > 1]
    ends = _ends(shape)
    number = len(found) - 1
    reach = 1  # the source's values that the faster digits run through
    while number >= 0:
        digit = found[number]
        cut = next((end for end in ends if reach < end < reach * digit.size), None)
        within = None if cut is None else cut / reach
        step = abs(digit.stride)
        mark = next((end for end in _ends(other) if step < end < step * digit.size), None)
        if within is None and mark is not None:
            within = mark / step
        if within is None:
            reach *= digit.size
            number -= 1
            continue
        size = int(within)
        if size != within or digit.size % size or digit.order is not None:
            return None
        found[number : number + 1] = [Digit(digit.size // size, digit.stride * size), Digit(size, digit.stride)]
        number += 1
    return found


def _ends(shape: Sequence[int]) -> list[int]:
    """The number of values after which each axis begins anew, the fastest first."""
    return list(itertools.accumulate(reversed(shape), lambda done, size: done * size))


def _firsts(digits: Sequence[Digit], shape: Sequence[int]) -> set[int]:
    """The digits that begin an axis of the shape."""
    reach, found = math.prod(shape), set()
    ends = {math.prod(shape[axis:]) for axis in range(len(shape))}
    for k, digit in enumerate(digits):
        if reach in ends:
            found.add(k)
        reach //= digit.size
    return found


def _cut(stride: int, shape: Sequence[int]) -> bool:
    """Say whether an axis of the shape ends where a digit's stride begins."""
    return abs(stride) in _ends(shape)


def _grouped(
    pairs: Sequence[tuple[int, int]], shape: Sequence[int], sizes: Sequence[int]
) -> tuple[int | tuple[int, ...], ...] | None:
    """Sort canonical axes, each with its size here and in order, into the axes of a shape."""
    groups: list[int | tuple[int, ...]] = []
    left = list(pairs)
    for axis in shape:
        group: list[int] = []
        done = 1
        while left and done < axis:
            place, size = left.pop(0)
            done *= size
            if place not in group:  # blocks and what runs within them are one axis
                group.append(place)
        if done != axis:
            return None
        groups.append(group[0] if len(group) == 1 else tuple(group))
    # Axes of one value alone, as of a block of one, join whatever is there.
    for place, size in left:
        if size != 1:
            return None
        if groups:
            before = groups[-1]
            groups[-1] = (*(before if isinstance(before, tuple) else (before,)), place)
        else:
            groups.append(place)
    return tuple(groups)


def _slot(canonical: str, tensor: Tensor, axes: tuple[int | tuple[int, ...], ...], sizes: tuple[int, ...]) -> Slot:
    plain = axes == tuple(range(len(sizes)))
    merges = any(isinstance(group, tuple) and len(group) > 1 for group in axes)
    return Slot(
        canonical,
        tensor.name,
        axes=None if plain else axes,
        shape=sizes if merges else None,
        index=tensor.index,
    )
