"""By which order of its axes, and by which reshape, one tensor is another."""

from __future__ import annotations

import itertools
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
    """Axes in another order, then another shape."""

    axes: tuple[int, ...]
    shape: tuple[int, ...]

    def of(self, values: Array) -> Array:
        """Arrange the values."""
        return values.transpose(self.axes).reshape(self.shape)


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
        Arrangement(axes=(0, 2, 3, 1), shape=(1, 24))
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
    orders: Iterator[tuple[int, ...]] = iter([tuple(range(len(ours)))])
    if len(ours) <= AXES:
        orders = itertools.permutations(range(len(ours)))
    for axes in orders:
        yield Arrangement(axes, theirs)


def _picked(values: Array, one: Arrangement, places: Array) -> Array:
    """The values that an arrangement puts at some places, without arranging all."""
    if not one.axes:
        return np.full(places.shape, values, np.float64)
    index = np.unravel_index(places, [values.shape[axis] for axis in one.axes])
    own: list[Array] = [places] * len(one.axes)
    for axis, along in zip(one.axes, index, strict=True):
        own[axis] = along
    found: Array = values[tuple(own)]
    return found.astype(np.float64)


@np.errstate(all="ignore")  # a recording may hold any numbers
def _near(ours: Array, theirs: Array, allowed: float) -> bool:
    far = np.abs(ours.astype(np.float64) - theirs)
    return bool(np.all((far <= allowed) | (ours == theirs) | (np.isnan(ours) & np.isnan(theirs))))
