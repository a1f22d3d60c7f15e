"""What a difference looks like, in words."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from parity.explaining.location import Location
from parity.judging.compare import scale
from parity.judging.floors.floor import strays
from parity.judging.moments import EPOCH, UPDATE
from parity.judging.witness import Check
from parity.recording.steps import Phase
from parity.tolerance import FACTOR
from parity.trajectory import Trajectory
from parity.typing import Array, Params

Blocks = Mapping[str, tuple[str, ...]]
"""The names of the equal blocks of a tensor's last axis, by canonical name, as ``Case.blocks`` gives them."""
FEW = 8
"""The text names at most this many ranges of an axis."""
A = {EPOCH: "an epoch", UPDATE: "an update"}


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
        return _multiples(location, factor)
    name, names = check.tensor, _names_of(check.tensor, blocks or {})
    found = _arrangement(got, wanted, names) or _broadcast(got, wanted)
    if found:
        return found
    for what, others in (("the parameter", location.params), ("the gradient", location.gradient)):
        if name in others and (factor := _factor(got - wanted, others[name].astype(np.float64))):
            same = all(
                part.tensor in others and _near(_factor(part.got - part.wanted, others[part.tensor]), factor)
                for part in location.parts
            )
            return f"off by {factor:.6g} times {what}, {_everywhere(location, same)}"
    return _reaching(location) or _part_of(location, names)


def _near(one: float | None, other: float) -> bool:
    return one is not None and abs(one - other) <= 1e-6 * abs(other)


def _everywhere(location: Location, same: bool) -> str:
    """Say of which tensors something holds that holds of the first: of all that part, or of that one."""
    one = location.parts[0].tensor
    return "everywhere" if same and (len(location.parts) > 1 or one == location.phase) else f"everywhere in {one}"


def _multiples(location: Location, first: float) -> str:
    """Say by which numbers the tensors that part are multiples; ``first`` is that of the first of them."""
    found = {part.tensor: _factor(part.got.astype(np.float64), part.wanted) for part in location.parts}
    if all(_near(factor, first) for factor in found.values()):
        scalar = scalar_in_words(first, location.params) if location.phase is Phase.PREDICTION else ""
        return "; ".join(
            filter(None, (f"{times_in_words(first)} times the reference, {_everywhere(location, True)}", scalar))
        )
    if None in found.values():
        return f"{times_in_words(first)} times the reference, {_everywhere(location, False)}"
    each = [f"{name} {times_in_words(factor)}" for name, factor in found.items() if factor is not None]
    return f"a multiple of the reference, another in each tensor: {enumerated(each)}"


def scalar_in_words(factor: float, params: Params) -> str:
    """Say which function of a parameter of one value a factor is, as of a temperature that one run exponentiates.

    Args:
        factor: How many times one run's values are the other's.
        params: The parameters from which the update began, by name.

    Returns:
        A sentence; empty if it is none, or several.

    Examples:
        >>> scalar_in_words(np.exp(2.0) / 2.0, {"logit_scale": np.array(2.0), "kernel": np.ones(3)})
        'that is exp(logit_scale) / logit_scale: one run exponentiates logit_scale and the other does not'
    """
    found = []
    for name, values in params.items():
        p = float(values.reshape(-1)[0]) if values.size == 1 else 0.0
        if not 1e-3 < abs(p) < 50:
            continue
        ways = {
            f"exp({name}) / {name}: one run exponentiates {name} and the other does not": np.exp(p) / p,
            f"exp({name}): one run does not use it": np.exp(p),
            f"exp(2 {name}): one run multiplies by exp({name}) and the other divides": np.exp(2 * p),
            f"{name}: one run does not use it": p,
            f"{name} squared: one run multiplies by it and the other divides": p * p,
        }
        found += [
            words
            for words, value in ways.items()
            if abs(value - 1) > 1e-3 and any(abs(each / factor - 1) <= 1e-5 for each in (value, 1 / value))
        ]
    return f"that is {found[0]}" if len(found) == 1 else ""


def enumerated(words: Sequence[str], last: str = "and", most: int = FEW) -> str:
    """List words in a sentence: the first ones, and how many more there are.

    >>> enumerated(["a", "b", "c"]), enumerated(["a", "b", "c"], most=2)
    ('a, b and c', 'a, b and 1 more')
    """
    shown = [*words[:most], *([f"{len(words) - most} more"] if len(words) > most else [])]
    return f" {last} ".join(filter(None, (", ".join(shown[:-1]), *shown[-1:])))


def agreeing_end(unequal: Array, axis: int) -> str:
    """Say whether the ``first`` or the ``last`` position along an axis alone agrees, of three or more; else "".

    >>> agreeing_end(np.array([[False, True, True]]), 1), agreeing_end(np.array([[True, False, True]]), 1)
    ('first', '')
    """
    if unequal.shape[axis] < 3:
        return ""
    parts = np.atleast_1d(unequal.any(axis=tuple(other for other in range(unequal.ndim) if other != axis)))
    if not parts[0] and parts[1:].all():
        return "first"
    return "last" if not parts[-1] and parts[:-1].all() else ""


def _reaching(location: Location) -> str:
    """Say of a prediction of several positions which of them agree, if that tells what reaches them."""
    check = location.check
    assert check is not None
    got = check.got
    if location.phase is not Phase.PREDICTION or got.ndim < 3:
        return ""
    end = agreeing_end(_unequal(check), 1)
    if end == "first":
        return (
            "the first position alone agrees, along axis 1: what a position takes from others differs, as by a mask, "
            "by positions or by the scale of attention"
        )
    if end == "last":
        return "the last position alone agrees, along axis 1: the others see what comes after them in one run alone"
    return ""


def _factor(a: Array, b: Array) -> float | None:
    """Find the number that takes b to a, within a millionth of a's largest value and a hundredth of the difference."""
    if a.size < 2 or np.array_equal(a, b):
        return None
    allowed = min(1e-6 * float(np.max(np.abs(a))), 0.01 * float(np.max(np.abs(a - b))))
    return multiple(a, b, allowed) or None


def times_in_words(factor: float, digits: int = 6) -> str:
    """Print a factor with enough digits to tell it from 1.

    >>> times_in_words(5.24149), times_in_words(1 + 2e-7)
    ('5.24149', '(1 + 2e-07)')
    """
    if abs(factor - 1) >= 1e-3 or factor == 1:
        return f"{factor:.{digits}g}"
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
def growth(run: Trajectory, other: Trajectory, unit: str = EPOCH) -> str:
    """Say how the distance between two runs' parameters grows from epoch to epoch; empty if no simple law fits.

    A law fits if it leaves less than a fiftieth of the variance of the logarithm of the distance.

    Args:
        run: The first run.
        other: The second run.
        unit: By what they count their moments: see ``parity.judging.moments``.
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
        return f"stays as it is from {unit} to {unit}"
    laws = {}
    for law, x in (("fold", epochs), ("power", np.log(epochs))):
        slope, start = np.polyfit(x, logarithm, 1)
        laws[law] = float(np.var(logarithm - slope * x - start)), float(slope)
    law = min(laws, key=lambda name: laws[name][0])
    left, slope = laws[law]
    if slope <= 0 or left > np.var(logarithm) / 50:
        return ""
    if law == "fold":
        return f"grows {np.exp(slope):.3g}-fold {A[unit]}"
    if abs(slope - 1) < 0.1:
        return f"grows in proportion to the {unit}s"
    return f"grows as the {unit}s to the power {slope:.2g}"


def _part_of(location: Location, names: tuple[str, ...]) -> str:
    """Say which tensors part, or which part of the tensor that parts by most."""
    check = location.check
    assert check is not None
    parting = [part.tensor for part in location.parts]
    if len(parting) > 1 and all(name.endswith("bias") for name in parting):
        return "only biases"
    got, unequal = check.got, _unequal(check)
    if names and got.ndim and got.shape[-1] % len(names) == 0:
        parted = [name for name, part in zip(names, np.split(unequal, len(names), -1), strict=True) if np.any(part)]
        if len(parted) == 1:
            return f"only the block {parted[0]} of {check.tensor}"
    for axis in range(got.ndim):
        places = np.flatnonzero(np.any(unequal, tuple(other for other in range(got.ndim) if other != axis)))
        start, end = (int(places[0]), int(places[-1]) + 1) if len(places) else (0, 0)
        # Most values of the range part, and the range is at most half of the axis.
        if got.ndim > 1 and 1 == end - start < got.shape[axis] and np.mean(np.take(unequal, start, axis)) > 0.5:
            return f"only {start} along axis {axis} of {check.tensor}"
        if 1 < end - start <= got.shape[axis] / 2 and np.mean(np.take(unequal, range(start, end), axis)) > 0.5:
            return f"only {start}:{end} along axis {axis} of {check.tensor}"
    count = int(np.sum(unequal))
    return f"{count} of the {unequal.size} values of {check.tensor}" if 0 < count < unequal.size / 2 else ""


def _unequal(check: Check) -> Array:
    """Find the places where the tensor that parts does so by more than rounding."""
    floor = (check.worst.absolute if check.worst else 0.0) / max(check.floors, 1.0)
    found: Array = np.abs(check.got.astype(np.float64) - check.wanted) > FACTOR * floor
    return found
