"""Two checkpoints that are too large to be looked at whole, and whose tensors have other names, or lie transposed.

Sums that no order changes say which tensors hold the same values; each such pair is then held against each other,
number by number, in each order of the axes. So a tensor that differs has no partner, and is not compared: such
checkpoints agree, or it is not known. Everything is read in blocks, and what lies transposed in bands.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np

from parity.dtypes import coarsest, rounded
from parity.judging.checkpoints import Begin, Checkpoints, Held, floats, judged, unwatched, with_the_rest
from parity.judging.streamed import BYTES, THREADS, Pair, Progress, fingerprint_of, measure, numbers_of
from parity.judging.tensors.correspondence import Correspondence, How, Pairing, first_few
from parity.judging.tensors.fingerprint import Fingerprint
from parity.layout import Slot
from parity.recording.artefacts import dtype_of
from parity.recording.artefacts.artefact import Entry
from parity.recording.placed import Placed, Turned, blocks_of, size_of

AXES = 5
"""Of tensors with more axes than this, only those that lie alike are found."""


@dataclass(frozen=True)
class _Fit:
    """A tensor of each side with the same numbers. Ours is theirs with its ``axes`` in this order."""

    ours: str
    theirs: str
    axes: tuple[int, ...]
    proven: bool
    alone: bool
    """Whether no other tensor has these values."""


def held_under_other_names(both: Checkpoints, begin: Begin = unwatched) -> tuple[Held, Correspondence] | None:
    """Match the tensors of two checkpoints by their values, and compare those that match, by streaming both.

    Args:
        both: The checkpoints.
        begin: Is told how long it will be.

    Returns:
        What was found, and which tensors are the same; None if none is.

    Raises:
        TrajectoryError: If a file was changed meanwhile, or holds less than its tensors claim: see
            ``Budget.check_streamed``.
    """
    sides = floats(both.a), floats(both.b)
    sizes = [sum(map(size_of, side.values())) for side in sides]
    for one, budget, size in zip((both.a, both.b), both.budgets, sizes, strict=True):
        budget.check_streamed(one.path, size)
    progress = begin(2 * sum(sizes))
    dtypes = dtype_of(sides[0]), dtype_of(sides[1])
    coarser = coarsest(*dtypes)
    fits = list(_fits(sides, coarser, progress))
    if not fits:
        return None
    pairs = [Pair(fit.ours, sides[0][fit.ours].placed(), _turned(sides[1][fit.theirs], fit.axes), True) for fit in fits]
    ours, theirs = both.a.tensors.entries, both.b.tensors.entries
    others = [name for name, entry in ours.items() if name not in sides[0] and _same(entry, theirs.get(name))]
    pairs += [Pair(name, ours[name].placed(), theirs[name].placed(), False) for name in others]
    measure(pairs, dtypes, progress)
    compared = {fit.ours for fit in fits} | {*others}, {fit.theirs for fit in fits} | {*others}
    found = with_the_rest(both, pairs, judged(pairs, dtypes), dtypes, compared)
    return found, _correspondence(sides, fits)


def _same(entry: Entry, other: Entry | None) -> bool:
    """Whether the other tensor is one of integers of the same shape."""
    return other is not None and other.dtype.kind != "f" and other.shape == entry.shape


def _fits(sides: tuple[Mapping[str, Entry], Mapping[str, Entry]], dtype: str, progress: Progress) -> Iterator[_Fit]:
    groups: dict[Fingerprint, tuple[list[str], list[str]]] = defaultdict(lambda: ([], []))

    def look(side: Mapping[str, Entry], name: str) -> Fingerprint:
        with np.errstate(all="ignore"):
            found = fingerprint_of(side[name].placed(), dtype)
        progress(size_of(side[name]), name)
        return found

    with ThreadPoolExecutor(THREADS) as pool:
        for which, side in enumerate(sides):
            for name, found in zip(side, pool.map(partial(look, side), side), strict=True):
                groups[found][which].append(name)
    for ours, theirs in groups.values():
        alone, left = len(ours) == len(theirs) == 1, list(theirs)
        for name in ours:
            for other in left:
                one, its = sides[0][name], sides[1][other]
                orders = [axes for axes in _orders(one, its) if _equal(one.placed(), _turned(its, axes), dtype)]
                if orders:
                    left.remove(other)
                    yield _Fit(name, other, orders[0], alone and len(orders) == 1, alone)
                    break


def _orders(ours: Entry, theirs: Entry) -> Iterator[tuple[int, ...]]:
    """The orders of the axes of theirs in which it has the shape of ours; that in which they lie alike is the first."""
    axes = range(len(theirs.shape))
    if len(ours.shape) != len(axes):
        return
    for order in itertools.permutations(axes) if len(axes) <= AXES else [tuple(axes)]:
        if tuple(theirs.shape[axis] for axis in order) == ours.shape:
            yield order


def _turned(entry: Entry, axes: tuple[int, ...]) -> Placed:
    """A tensor with its axes in another order."""
    if axes == tuple(sorted(axes)):
        return entry.placed()
    return Turned(entry.placed(), axes)


def _equal(one: Placed, other: Placed, dtype: str) -> bool:
    """Whether two tensors have the same numbers in the same places, rounded to a dtype. One that differs ends it."""
    width = max(one.dtype.itemsize, other.dtype.itemsize)
    x, y = (np.empty(BYTES // width, side.dtype) for side in (one, other))
    with np.errstate(all="ignore"):
        for block in blocks_of(one.shape, x.size):
            one.read(block, x[: block.size])
            other.read(block, y[: block.size])
            ours, theirs = (
                rounded(numbers_of(numbers[: block.size], side.narrow), dtype)
                for numbers, side in ((x, one), (y, other))
            )
            if not np.array_equal(ours, theirs, equal_nan=True):
                return False
    return True


def _correspondence(sides: Sequence[Mapping[str, Entry]], fits: Sequence[_Fit]) -> Correspondence:
    pairings = tuple(
        Pairing(
            (Slot(fit.theirs, fit.ours, axes=None if fit.axes == tuple(sorted(fit.axes)) else fit.axes),),
            (Slot(fit.theirs, fit.theirs),),
            How.VALUE if fit.alone else How.ORDER,
            proven=fit.proven,
        )
        for fit in fits
    )
    used = {fit.ours for fit in fits}, {fit.theirs for fit in fits}
    alone = tuple(tuple(name for name in side if name not in taken) for side, taken in zip(sides, used, strict=True))
    alike = [fit.ours for fit in fits if not fit.alone]
    notes = [f"{first_few(alike)}: equal to each other, and told apart by their order alone"] if alike else []
    return Correspondence(pairings, (alone[0], alone[1]), notes=tuple(notes))
