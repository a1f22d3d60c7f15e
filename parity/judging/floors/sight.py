"""Could a tolerance have seen a gross mistake? Where it could not, no run has passed it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from parity.judging.compare import distance, scale
from parity.tolerance import FACTOR, least_floor
from parity.trajectory import Stack, Trajectory
from parity.typing import Array

GROSS = 4
"""How many tolerances a quantity must have moved since its start, at some place of the run.

A run whose updates are all wrong by a quarter, because of its learning rate or of the rows that a mean is taken over,
ends a quarter of the movement away from a right one. A tolerance that is no smaller lets it pass; one that is no
smaller than the whole movement lets a run pass that never trained.
"""


def blind(allowed: Mapping[str, Sequence[Array]], reference: Trajectory) -> str:
    """Say which tolerance could not have seen a gross mistake, or "".

    A quantity that moves by no more than rounding is measured by its size instead. One that is no larger than the
    rounding of the largest parameter, because it is zero in exact arithmetic, is measured by that parameter's size.

    Args:
        allowed: The tolerances of each quantity that a verdict rests on, (E·B,) of ``loss``, (S,) of a parameter, one
            array for each run in which it was held: one of them must see.
        reference: The run that they were held against.

    Returns:
        A sentence that names the quantity, its tolerance and its movement; "" if every quantity could have been seen.

    >>> run = Trajectory({"dtype": "float64"}, np.arange(3), np.ones((2, 1)), {"w": np.array([1.0, 2, 3])}, {})
    >>> blind({"w": [np.full(3, 0.4)]}, run)
    ''
    >>> blind({"w": [np.full(3, 0.5)]}, run)
    'the tolerance of w, 0.5, is no less than a quarter of its movement, 2'
    """
    still, moves = False, False
    for name, stack, held in _held(allowed, reference):
        ends = [_movement(stack, len(limits) - 1) for limits in held]
        if any(_sees(end, limits[-1:]) for end, limits in zip(ends, held, strict=True)):
            moves |= any(end.any() for end in ends)
            continue  # As nearly always, and without a look at the whole run.
        way, of = _reach(name, stack, reference)
        if not any(_sees(way[: len(limits)], limits) for limits in held):
            # Where it comes nearest to being seen; no limit is 0, which would see.
            pairs = [pair for limits in held for pair in zip(way, limits, strict=False)]
            far, limit = max(pairs, key=lambda pair: float(pair[0] / pair[1]))
            return f"the tolerance of {name}, {limit:.3g}, is no less than a quarter of {of}, {far:.3g}"
        moves |= of == _MOVEMENT
        still |= of != _MOVEMENT and bool(_movement(stack).any())
    if still and not moves:
        return "nothing moved by more than rounding, so that a run that never trained would be within the tolerances"
    return ""


def hidden(allowed: Mapping[str, Sequence[Array]], reference: Trajectory) -> str:
    """Say which tolerance is, at any place of a run, no less than half of all that its quantity ever is, or "".

    A noise floor that grew so wide in the middle of a run hides whatever happens there, though it be narrow at the end.

    Args:
        allowed: As ``blind`` has them: one of a quantity's tolerances must see at each place.
        reference: As there.

    Returns:
        A sentence that names the quantity, its tolerance and its size; "" if there is none.

    >>> run = Trajectory({"dtype": "float64"}, np.arange(3), np.ones((2, 1)), {"w": np.array([1.0, 2, 3])}, {})
    >>> hidden({"w": [np.array([0.1, 1.4, 0.1])]}, run)
    ''
    >>> hidden({"w": [np.array([0.1, 1.5, 0.1])]}, run)
    'the tolerance of w, 1.5, is no less than half of the largest value that it ever has, 3'
    """
    for name, stack, held in _held(allowed, reference):
        widest_at = max(float(np.max(limits, initial=0.0)) for limits in held)
        if 2 * widest_at < max(float(_movement(stack, len(limits) - 1)[0]) for limits in held):
            continue  # As nearly always, and without a look at the whole run.
        way, _ = _reach(name, stack, reference)
        largest = max(float(np.nanmax(way)), float(np.nanmax(scale(stack))))
        narrowest = np.min([limits[: min(map(len, held))] for limits in held], axis=0)
        wide = float(np.max(narrowest, initial=0.0))
        if 2 * wide >= largest > 0:
            said = f"the tolerance of {name}, {wide:.3g}, is no less than half of the largest value that it ever has"
            return f"{said}, {largest:.3g}"
    return ""


def _held(allowed: Mapping[str, Sequence[Array]], reference: Trajectory) -> Iterator[tuple[str, Stack, list[Array]]]:
    """Each quantity that was held to any tolerance, with its values and those tolerances."""
    stacks: dict[str, Stack] = {"loss": reference.loss.astype(np.float64).ravel(), **reference.params}
    for name, tolerances in allowed.items():
        stack = stacks[name]
        held = [limits[: len(stack)] for limits in tolerances if len(limits) and np.prod(stack.shape)]
        if held:
            yield name, stack, held


def widest(allowed: Mapping[str, Array], reference: Trajectory) -> str:
    """Say how wide the widest tolerance of a parameter became, relative to its movement; "" if nothing moved.

    >>> run = Trajectory({"dtype": "float64"}, np.arange(2), np.ones((1, 1)), {"w": np.array([1.0, 3.0])}, {})
    >>> widest({"w": np.full(2, 0.5)}, run)
    'the widest tolerance is that of w, 25 % of its movement'
    """
    parts = {}
    for name, tolerances in allowed.items():
        if len(tolerances) > 1 and np.prod(reference.params[name].shape):
            way = float(_movement(reference.params[name], len(tolerances) - 1)[0])
            if way > FACTOR * least_floor(float(scale(reference.params[name]).max()), reference.meta["dtype"]):
                parts[name] = float(tolerances[-1]) / way
    if not parts:
        return ""
    name = max(parts, key=lambda name: parts[name])
    return f"the widest tolerance is that of {name}, {100 * parts[name]:.2g} % of its movement"


def moved_by_rounding(runs: Sequence[Trajectory]) -> list[str]:
    """Name the parameters whose gradient is zero but for rounding, as far as the runs recorded gradients.

    A bias before BatchNorm is one, or a key's bias under softmax. Adam makes full steps of such a gradient, so that two
    right runs part in it by all that it moves. That is so if every run recorded gradients, and none of the tensor is
    larger than FACTOR times what the run's own shadows strayed in that update; of a run without shadows, than FACTOR
    least floors of the update's largest gradient. So no run speaks for another. How such a parameter moves can decide
    no verdict.
    """
    found = [_rounded_gradients(run) for run in runs]
    return sorted(set.intersection(*found)) if all(found) else []


def _rounded_gradients(run: Trajectory) -> set[str]:
    """Name the parameters of one run whose recorded gradients are all within rounding of zero."""
    within: dict[str, bool] = {}
    largest: dict[str, dict[str, float]] = {}
    for name in run.steps:
        number, _, rest = name.partition("/")
        if rest.startswith("gradients/"):
            values = largest.setdefault(number, {})
            values[rest.removeprefix("gradients/")] = float(np.max(np.abs(run.steps[name]), initial=0.0))
    for number, gradients in largest.items():
        least = float(least_floor(max(gradients.values()), run.meta["dtype"]))
        for tensor, size in gradients.items():
            strayed = run.steps.get(f"{number}/strays/gradients/{tensor}")
            limit = least if strayed is None else float(np.max(strayed, initial=0.0))
            within[tensor] = within.get(tensor, True) and size <= FACTOR * limit < np.inf
    return {tensor for tensor, so in within.items() if so}


_MOVEMENT = "its movement"


def _reach(name: str, stack: Stack, reference: Trajectory) -> tuple[Array, str]:
    """What a gross mistake is a part of, at each place of a quantity, and what that is called."""
    dtype, size = reference.meta.get("dtype", reference.loss.dtype.name), scale(stack)
    largest = max((scale(values).max(initial=0.0) for values in reference.params.values()), default=0.0)
    if name != "loss" and size.max() <= least_floor(largest, dtype):
        return np.full(len(size), largest), "the model's largest parameter"
    way = _movement(stack)
    return (size, "its size") if way.max() <= FACTOR * least_floor(size.max(), dtype) else (way, _MOVEMENT)


def _movement(stack: Stack, place: int | None = None) -> Array:
    """How far a quantity is from where it began, at each place or at one."""
    values = stack if place is None else stack[place : place + 1]
    return distance(values, np.broadcast_to(np.asarray(stack[0]), values.shape))


def _sees(way: Array, limits: Array) -> bool:
    return bool(((way > GROSS * limits) | (limits == 0)).any())
