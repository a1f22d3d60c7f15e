"""What a difference looks like, in words."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np

from parity.explaining.location import Location
from parity.judging.compare import scale
from parity.judging.floor import strays
from parity.tolerance import FACTOR
from parity.trajectory import Trajectory
from parity.typing import Array

Blocks = Mapping[str, tuple[str, ...]]
"""The names of the equal blocks of a tensor's last axis, by canonical name, as ``Case.blocks`` gives them."""
FEW = 8
"""The text names at most this many ranges of an axis."""


@np.errstate(all="ignore")  # a recording may hold any numbers: what overflows looks like nothing known
def pattern(location: Location, blocks: Blocks | None = None) -> str:
    """Put into words what the difference at a place looks like; empty where it looks like nothing known.

    ``blocks`` names the blocks of tensors. Without a name, index ranges are said.
    """
    check = location.check
    if check is None:
        return ""
    got, wanted = check.got.astype(np.float64), check.wanted.astype(np.float64)
    if not np.all(np.isfinite(got)):
        return f"{int(np.sum(~np.isfinite(got)))} of {got.size} values are not finite"
    if not got.any() and wanted.any():
        return "zero, everywhere"
    if factor := _factor(got, wanted):
        return f"{_times(factor)} times the reference, everywhere"
    name, names = check.tensor, _names_of(check.tensor, blocks or {})
    found = _arrangement(got, wanted, names) or _broadcast(got, wanted)
    if found:
        return found
    for what, other in (("the parameter", location.params.get(name)), ("the gradient", location.gradient.get(name))):
        if other is not None and (factor := _factor(got - wanted, other.astype(np.float64))):
            return f"off by {factor:.6g} times {what}, everywhere"
    return _part_of(location, names)


def _factor(a: Array, b: Array) -> float | None:
    """Find the number that takes b to a, within a millionth of a's largest value and a hundredth of the difference."""
    if a.size < 2 or np.array_equal(a, b):
        return None
    allowed = min(1e-6 * float(np.max(np.abs(a))), 0.01 * float(np.max(np.abs(a - b))))
    return multiple(a, b, allowed) or None


def _times(factor: float) -> str:
    """Print a factor with enough digits to tell it from 1."""
    if abs(factor - 1) >= 1e-3:
        return f"{factor:.6g}"
    return f"(1 {'+' if factor > 1 else '-'} {abs(factor - 1):.3g})"


def multiple(a: Array, b: Array, allowed: float) -> float | None:
    """Find the number that takes ``b`` closest to ``a``; None if a value is then farther off than ``allowed``."""
    largest = float(np.max(np.abs(b), initial=0.0))
    if not 0 < largest < np.inf:
        return None
    with np.errstate(all="ignore"):
        # The squares of values that are very large or small are no numbers.
        near = b / largest
        factor = float(np.sum((a / largest) * near)) / float(np.sum(near * near))
        return factor if np.max(np.abs(a - factor * b)) <= allowed else None


def _names_of(tensor: str, blocks: Blocks) -> tuple[str, ...]:
    """Look up the names of the blocks of a tensor, or of an optimizer's slot of it; none if nobody has named them."""
    return next((names for name, names in blocks.items() if tensor == name or tensor.endswith(f"/{name}")), ())


def _arrangement(got: Array, wanted: Array, names: tuple[str, ...]) -> str:
    """Say how the reference's values are arranged, if the values are the same in other places."""
    if got.size < 3 or not np.allclose(np.sort(got, None), np.sort(wanted, None), rtol=1e-6, atol=0):
        return ""
    if np.allclose(got, wanted, rtol=1e-6, atol=0):  # in their places, only slightly off
        return ""
    if got.ndim == 2 and got.shape[0] == got.shape[1] and np.allclose(got, wanted.T, rtol=1e-6):
        return "the reference transposed"
    if names and got.shape[-1] % len(names) == 0:
        ours, theirs = (np.split(values, len(names), -1) for values in (got, wanted))
        order = [next((j for j, b in enumerate(theirs) if np.allclose(a, b, rtol=1e-6)), None) for a in ours]
        if sorted(place for place in order if place is not None) == list(range(len(names))):
            said = ", ".join(names[place] for place in order if place is not None)
            return f"the reference's blocks {', '.join(names)} in the order {said}"
    for axis in range(got.ndim):
        if ranges := _ranges(got, wanted, axis):
            said = ", ".join(f"{start}:{end}" for start, end in ranges)
            return f"the reference's values, along axis {axis} in the order {said}"
    return "the reference's values in another order"


def _ranges(got: Array, wanted: Array, axis: int) -> list[tuple[int, int]]:
    """Cut an axis of the reference into the index ranges which, in this order, make ours; none if they are many."""
    ours, theirs = (np.moveaxis(values, axis, -1).reshape(-1, values.shape[axis]) for values in (got, wanted))
    # If all values of the first row differ, they tell which column is which.
    order = np.empty(ours.shape[1], np.int64)
    order[np.argsort(ours[0])] = np.argsort(theirs[0])
    if not np.allclose(ours, theirs[:, order], rtol=1e-6):
        return []
    cuts = [0, *(np.flatnonzero(np.diff(order) != 1) + 1).tolist(), len(order)]
    ranges = [(int(order[start]), int(order[end - 1]) + 1) for start, end in itertools.pairwise(cuts)]
    return ranges if len(ranges) <= FEW and all(end - start > 1 for start, end in ranges) else []


def _broadcast(got: Array, wanted: Array) -> str:
    """Say along which axis the values repeat although the reference's differ."""
    for axis, length in enumerate(got.shape):
        repeats = np.ptp(got, axis) <= 1e-6 * np.max(np.abs(got), initial=0.0)
        if length > 1 and got.size > length and repeats.all() and np.ptp(wanted, axis).any():
            return f"the same value all along axis {axis}, as if broadcast"
    return ""


@np.errstate(all="ignore")
def growth(run: Trajectory, other: Trajectory) -> str:
    """Say how the distance between two runs' parameters grows from epoch to epoch; empty if no simple law fits.

    A law fits if it leaves less than a fiftieth of the variance of the logarithm of the distance.
    """
    shares = []
    for name, values in strays(run, other).items():
        if name != "loss":
            shares.append(values / (np.max(scale(other.params[name]), initial=0.0) or 1.0))
    distance = np.max(shares, axis=0)
    seen = np.isfinite(distance) & (distance > 0) & (run.epochs > 0)
    if seen.sum() < 4:
        return ""
    logarithm, epochs = np.log(distance[seen]), run.epochs[seen].astype(np.float64)
    if np.ptp(logarithm) < 0.1:
        return "stays as it is from epoch to epoch"
    laws = {}
    for law, x in (("fold", epochs), ("power", np.log(epochs))):
        slope, start = np.polyfit(x, logarithm, 1)
        laws[law] = float(np.var(logarithm - slope * x - start)), float(slope)
    law = min(laws, key=lambda name: laws[name][0])
    left, slope = laws[law]
    if slope <= 0 or left > np.var(logarithm) / 50:
        return ""
    if law == "fold":
        return f"grows {np.exp(slope):.3g}-fold an epoch"
    if abs(slope - 1) < 0.1:
        return "grows in proportion to the epochs"
    return f"grows as the epochs to the power {slope:.2g}"


def _part_of(location: Location, names: tuple[str, ...]) -> str:
    """Say which tensors part, or which part of the tensor that parts by most."""
    check = location.check
    assert check is not None
    parting = [part.tensor for part in location.parts]
    if len(parting) > 1 and all(name.endswith("bias") for name in parting):
        return "only biases"
    got, wanted = check.got, check.wanted
    floor = (check.worst.absolute if check.worst else 0.0) / max(check.floors, 1.0)
    unequal = np.abs(got.astype(np.float64) - wanted) > FACTOR * floor
    if names and got.ndim and got.shape[-1] % len(names) == 0:
        parted = [name for name, part in zip(names, np.split(unequal, len(names), -1), strict=True) if np.any(part)]
        if len(parted) == 1:
            return f"only the block {parted[0]} of {check.tensor}"
    for axis in range(got.ndim):
        places = np.flatnonzero(np.any(unequal, tuple(other for other in range(got.ndim) if other != axis)))
        start, end = (int(places[0]), int(places[-1]) + 1) if len(places) else (0, 0)
        # Most values of the range part, and the range is at most half of the axis.
        if 1 < end - start <= got.shape[axis] / 2 and np.mean(np.take(unequal, range(start, end), axis)) > 0.5:
            return f"only {start}:{end} along axis {axis} of {check.tensor}"
    count = int(np.sum(unequal))
    return f"{count} of the {unequal.size} values of {check.tensor}" if 0 < count < unequal.size / 2 else ""
