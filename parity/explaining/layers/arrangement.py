"""By which order of its axes, and by which reshape, one tensor is another."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from parity.typing import Array

AXES = 5
"""Of tensors with more axes, only their own order is tried."""
PROBES = 64
"""So many values are compared before all are."""


@dataclass(frozen=True)
class Arrangement:
    """A shape, its axes in another order, then another shape."""

    split: tuple[int, ...]
    axes: tuple[int, ...]
    shape: tuple[int, ...]

    def of(self, values: Array) -> Array:
        """Arrange the values."""
        return values.reshape(self.split).transpose(self.axes).reshape(self.shape)


def arranged(ours: Array, theirs: Array, allowed: float) -> Arrangement | None:
    """Find how our values lie as theirs do.

    Args:
        ours: Numbers of any shape.
        theirs: As many numbers.
        allowed: How far each may be from its counterpart.

    Returns:
        The first arrangement that takes ours to theirs; None if none does.

    Examples:
        >>> images = np.arange(24.0).reshape(1, 2, 3, 4)
        >>> arranged(images, images.transpose(0, 2, 3, 1).reshape(1, 24), 0.0)
        Arrangement(split=(1, 2, 3, 4), axes=(0, 2, 3, 1), shape=(1, 24))
        >>> arranged(images, images.reshape(1, 24)[:, ::-1], 0.0) is None
        True
    """
    return next((one for one in _candidates(ours, theirs, allowed) if _near(one.of(ours), theirs, allowed)), None)


def nearest(ours: Array, theirs: Array, allowed: float) -> Arrangement | None:
    """Find the arrangement in which most values of tensors that part still agree; None for other sizes.

    Where none agrees, the arrangement of the least distance.
    """
    if ours.size != theirs.size or not ours.size:
        return None
    places = np.random.default_rng(0).integers(0, ours.size, 4096)
    best: tuple[tuple[float, float], Arrangement] | None = None
    for one in _all(ours.shape, theirs.shape):
        far = np.abs(_picked(ours, one, places) - theirs.reshape(-1)[places].astype(np.float64))
        score = (float(np.mean(far <= allowed)), -float(np.mean(far)))
        if best is None or score > best[0]:
            best = score, one
    return None if best is None else best[1]


def _candidates(ours: Array, theirs: Array, allowed: float) -> Iterator[Arrangement]:
    """The arrangements that put a few values, taken at random, where they belong."""
    if ours.size != theirs.size or not ours.size:
        return
    places = np.random.default_rng(0).integers(0, ours.size, PROBES)
    wanted = theirs.reshape(-1)[places].astype(np.float64)
    for one in _all(ours.shape, theirs.shape):
        if _near(_picked(ours, one, places), wanted, allowed):
            yield one


def _all(ours: tuple[int, ...], theirs: tuple[int, ...]) -> Iterator[Arrangement]:
    """Every order of our axes, and every one of theirs if they are more: ours may be what was flattened.

    A reshape merges axes that lie beside each other, or splits one. Any other mixes values of different axes, which is
    a mistake that people make, and no arrangement.
    """
    for axes in _orders(len(ours)):
        if _merges(tuple(ours[axis] for axis in axes), theirs):
            yield Arrangement(ours, axes, theirs)
    if len(theirs) > len(ours):
        for axes in _orders(len(theirs)):
            split = tuple(theirs[axis] for axis in axes)
            if _merges(split, ours):
                yield Arrangement(split, tuple(axes.index(axis) for axis in range(len(axes))), theirs)


def _merges(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Tell whether one shape comes of the other by merging axes."""
    ends, others = (set(itertools.accumulate(shape, operator.mul)) for shape in (one, other))
    return ends <= others or others <= ends


def _orders(count: int) -> Iterator[tuple[int, ...]]:
    return itertools.permutations(range(count)) if count <= AXES else iter([tuple(range(count))])


def _picked(values: Array, one: Arrangement, places: Array) -> Array:
    """The values that an arrangement puts at some places, without arranging all."""
    if not one.axes:
        return np.full(places.shape, values.reshape(()), np.float64)
    cut = values.reshape(one.split)
    index = np.unravel_index(places, [one.split[axis] for axis in one.axes])
    own: list[Array] = [places] * len(one.axes)
    for axis, along in zip(one.axes, index, strict=True):
        own[axis] = along
    found: Array = cut[tuple(own)]
    return found.astype(np.float64)


@np.errstate(all="ignore")  # a recording may hold any numbers
def _near(ours: Array, theirs: Array, allowed: float) -> bool:
    far = np.abs(ours.astype(np.float64) - theirs)
    return bool(np.all((far <= allowed) | (ours == theirs) | (np.isnan(ours) & np.isnan(theirs))))
