"""What a difference looks like, in words."""

from __future__ import annotations

import itertools

import numpy as np

from parity.explaining.location import Location
from parity.judging.compare import scale
from parity.judging.floor import strays
from parity.trajectory import Trajectory
from parity.typing import Array


def pattern(location: Location) -> str:
    """What the difference looks like, in words; empty where it looks like nothing known."""
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
    found = _arrangement(got, wanted) or _broadcast(got, wanted)
    if found:
        return found
    name = check.tensor
    for what, other in (("the parameter", location.params.get(name)), ("the gradient", location.gradient.get(name))):
        if other is not None and (factor := _factor(got - wanted, other.astype(np.float64))):
            return f"off by {factor:.6g} times {what}, everywhere"
    return _places(location)


def _factor(a: Array, b: Array) -> float | None:
    """The one number that takes b to a, within a millionth of the largest value and a hundredth of what b is off."""
    if a.size < 2 or np.array_equal(a, b):
        return None
    allowed = min(1e-6 * float(np.max(np.abs(a))), 0.01 * float(np.max(np.abs(a - b))))
    return multiple(a, b, allowed) or None


def _times(factor: float) -> str:
    """A factor in words that tell it from 1."""
    if abs(factor - 1) >= 1e-3:
        return f"{factor:.6g}"
    return f"(1 {'+' if factor > 1 else '-'} {abs(factor - 1):.3g})"


def multiple(a: Array, b: Array, allowed: float) -> float | None:
    """The number that takes ``b`` closest to ``a``, where no value is farther off than allowed; else None."""
    norm = float(np.sum(b * b))
    if norm == 0:
        return None
    factor = float(np.sum(a * b)) / norm
    return factor if np.max(np.abs(a - factor * b)) <= allowed else None


def _arrangement(got: Array, wanted: Array) -> str:
    """Whether the same values stand in other places."""
    if got.size < 3 or not np.allclose(np.sort(got, None), np.sort(wanted, None), rtol=1e-6, atol=0):
        return ""
    if np.allclose(got, wanted, rtol=1e-6, atol=0):  # in their places, only slightly off
        return ""
    if got.ndim == 2 and got.shape[0] == got.shape[1] and np.allclose(got, wanted.T, rtol=1e-6):
        return "the reference transposed"
    for blocks, names in ((3, "r, z, n"),):
        if got.shape[-1] % blocks == 0:
            parts = np.split(wanted, blocks, -1)
            for order in itertools.permutations(range(blocks)):
                if order != tuple(range(blocks)) and np.allclose(
                    got, np.concatenate([parts[place] for place in order], -1), rtol=1e-6
                ):
                    return (
                        f"the reference's blocks {names} in the order {', '.join(names.split(', ')[p] for p in order)}"
                    )
    return "the reference's values in another order"


def _broadcast(got: Array, wanted: Array) -> str:
    """Whether values repeat along an axis along which they should differ."""
    for axis, length in enumerate(got.shape):
        repeats = np.ptp(got, axis) <= 1e-6 * np.max(np.abs(got), initial=0.0)
        if length > 1 and got.size > length and repeats.all() and np.ptp(wanted, axis).any():
            return f"the same value all along axis {axis}, as if broadcast"
    return ""


def growth(run: Trajectory, other: Trajectory) -> str:
    """How the distance between two runs' parameters grows from epoch to epoch; empty where no simple law fits.

    A law fits that leaves less than a fiftieth of the variance of the logarithm of the distance.
    """
    shares = []
    for name, values in strays(run, other).items():
        if name != "loss":
            shares.append(values / (np.max(scale(other.params[name]), initial=0.0) or 1.0))
    with np.errstate(invalid="ignore"):
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


def _places(location: Location) -> str:
    """Which tensors, or which part of the tensor, part."""
    check = location.check
    assert check is not None
    parting = [part.tensor for part in location.parts]
    if len(parting) > 1 and all(name.endswith("bias") for name in parting):
        return "only biases"
    got, wanted = check.got, check.wanted
    unequal = np.abs(got.astype(np.float64) - wanted) > 16 * (check.worst.absolute if check.worst else 0.0) / max(
        check.floors, 1.0
    )
    if got.ndim and got.shape[-1] % 3 == 0 and got.shape[-1] >= 6:
        blocks = [bool(np.any(part)) for part in np.split(unequal, 3, -1)]
        if sum(blocks) == 1 and got.ndim <= 2:
            return f"only the block of gate {'rzn'[blocks.index(True)]}"
    count = int(np.sum(unequal))
    return f"{count} of the {unequal.size} values of {check.tensor}" if 0 < count < unequal.size / 2 else ""
