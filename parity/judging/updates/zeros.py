"""Values whose gradient is zero in exact arithmetic: rounding alone moves them, and they decide nothing.

A bias before BatchNorm is one, or a key's bias under softmax, which is often a third of a tensor. Adam makes full steps
of such a gradient, so that two right runs part there by all that it moves.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from parity.judging.comparable import coarser_dtype
from parity.judging.floors.sight import moved_by_rounding
from parity.recording.steps import Step, steps_of
from parity.tolerance import FACTOR, least_floor
from parity.trainer import State
from parity.trajectory import Stack, Trajectory, as_one_array
from parity.typing import Array, Params

PART = 16
"""Rounding is at least this part of a gradient that is zero but for rounding: two right runs do not agree in it. A
small gradient in which they agree is a gradient."""


class Without:
    """A stack in which some elements are those of another stack, snapshot by snapshot.

    Args:
        stack: (S, *shape).
        other: (S, *shape).
        which: (*shape), true for the elements to take from ``other``.

    >>> Without(np.zeros((2, 3)), np.ones((2, 3)), np.array([True, False, False]))[1].tolist()
    [1.0, 0.0, 0.0]
    """

    def __init__(self, stack: Stack, other: Stack, which: Array) -> None:
        self._stack, self._other, self._which = stack, other, which
        self.shape, self.dtype = stack.shape, stack.dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: int | slice) -> Any:
        return np.where(self._which, np.asarray(self._other[key]).astype(self.dtype, copy=False), self._stack[key])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return as_one_array(self, "a stack of two", dtype, copy)


@np.errstate(all="ignore")  # a recording may hold any numbers
def moved_by_rounding_alone(ours: Trajectory, theirs: Trajectory) -> Params:
    """Mark the values whose gradients are zero but for rounding, as far as both runs recorded gradients.

    Returns:
        For each such parameter an array of its shape, true where rounding alone moves it. Such a value's gradients are
        within rounding of the largest gradient of their update, in both runs, in every update that both recorded, and
        the runs agree in them to no better than a PART; or the runs' own noise floors say so of the whole tensor.
    """
    found = {
        name: np.ones(theirs.params[name].shape[1:], bool)
        for name in moved_by_rounding((ours, theirs))
        if name in theirs.params
    }
    tiny: dict[str, Array] = {}
    apart: Params = {}
    sizes: Params = {}
    coarser = coarser_dtype(ours, theirs)
    for steps in zip(steps_of(ours), steps_of(theirs), strict=False):
        # No run speaks for another: the largest gradient of one makes none of the other's small.
        sizes_of = [[float(np.max(np.abs(g), initial=0.0)) for g in step.gradients.values()] for step in steps]
        limit = float(FACTOR * least_floor(min(max(of, default=0.0) for of in sizes_of), coarser))
        one, other = (step.gradients for step in steps)
        for name in one.keys() & other.keys():
            if name not in theirs.params or {one[name].shape, other[name].shape} != {theirs.params[name].shape[1:]}:
                continue
            a, b = np.asarray(one[name], np.float64), np.asarray(other[name], np.float64)
            if name not in tiny or tiny[name].any():
                size = np.maximum(np.abs(a), np.abs(b))
                tiny[name] = tiny.get(name, True) & (size <= limit)
                apart[name] = apart.get(name, 0.0) + np.abs(a - b)
                sizes[name] = sizes.get(name, 0.0) + size
    for name, small in tiny.items():
        which = small & (apart[name] * PART > sizes[name])
        if which.any() and name not in found:
            found[name] = which
    return found


@np.errstate(all="ignore")  # a recording may hold any numbers
def following(ours: Trajectory, theirs: Trajectory, zeros: Params) -> dict[str, str]:
    """Find the running means that part because a bias parts which rounding alone moves.

    BatchNorm takes a bias before it off again, and keeps it in its running mean. So what two runs' running means part
    by is, after each recorded update, a mixture of what it was and of what the biases part by, with one momentum; and
    never more than these have parted by.

    Args:
        ours: The run that is judged.
        theirs: The run that it is held against.
        zeros: The values that rounding alone moves: see ``moved_by_rounding_alone``.

    Returns:
        The name of the bias for each running mean.
    """
    both = {name for name in ours.params.keys() & theirs.params if ours.params[name].shape == theirs.params[name].shape}
    biases = [name for name, which in zeros.items() if name in both and which.all() and which.ndim == 1]
    steps = list(zip(steps_of(ours), steps_of(theirs), strict=False)) if biases else []
    trained = {name for pair in steps for step in pair for name in step.gradients}
    dtype, found = coarser_dtype(ours, theirs), dict[str, str]()

    def apart(name: str) -> Array:
        far: Array = np.abs(np.asarray(ours.params[name][:], np.float64) - theirs.params[name][:])
        return far

    bounds = {bias: 2 * np.maximum.accumulate(apart(bias)) for bias in biases}
    for name in both - trained if bounds else ():
        far = apart(name)
        allowed = FACTOR * float(least_floor(np.max(np.abs(theirs.params[name][:]), initial=0.0), dtype))
        for bias, bound in bounds.items():
            within = bound.shape == far.shape and bool(np.all(far <= bound + allowed))
            if within and _mixes(steps, name, bias, allowed):
                found[name] = bias
                break
    return found


def _mixes(steps: Sequence[tuple[Step, Step]], mean: str, bias: str, allowed: float) -> bool:
    """Tell whether the distance of two running means becomes that of two biases, by one share in each update."""
    apart = [
        [np.asarray(one.before.params[name], np.float64) - other.before.params[name] for name in (mean, bias)]
        for one, other in steps
        if all(name in step.before.params for step in (one, other) for name in (mean, bias))
    ]
    if len(apart) != len(steps) or len(steps) < 3:
        return False
    moved = np.stack([after[0] - before[0] for before, after in itertools.pairwise(apart)])
    pulled = np.stack([before[1] - before[0] for before in apart[:-1]])
    share = float(np.sum(moved * pulled) / np.sum(pulled * pulled))
    return 0 < share <= 1 and bool(np.max(np.abs(moved - share * pulled)) <= allowed < np.max(np.abs(pulled)))


def without(run: Trajectory, other: Trajectory, zeros: Mapping[str, Array]) -> Trajectory:
    """Give a run whose marked values are those of another run."""
    params = {name: Without(stack, other.params[name], zeros[name]) if name in zeros else stack
              for name, stack in run.params.items()}  # fmt: skip
    return replace(run, params=params)


def step_without(step: Step, other: Step, zeros: Mapping[str, Array]) -> Step:
    """Give an update whose marked values, gradients and slots are those of the same update of another run."""

    def freed(values: Params, others: Params) -> Params:
        found = dict(values)
        for name in values.keys() & others.keys():
            which = zeros.get(name, zeros.get(name.partition("/")[2]))
            if which is not None and which.shape == np.shape(values[name]) == np.shape(others[name]):
                found[name] = np.where(which, others[name], values[name]).astype(values[name].dtype, copy=False)
        return found

    def state(ours: State, theirs: State) -> State:
        slots = freed(ours.slots, theirs.slots_at(ours.slot_scale))
        return replace(ours, params=freed(ours.params, theirs.params), slots=slots)

    return replace(
        step,
        before=state(step.before, other.before),
        gradients=freed(step.gradients, other.gradients),
        after=state(step.after, other.after),
    )


def by_rounding(name: str) -> str:
    """Say that only rounding moves a tensor."""
    return f"{name} is moved by rounding alone, because its gradient is: it decides nothing"


def as_notes(zeros: Mapping[str, Array], followers: Mapping[str, str]) -> list[str]:
    """Say which values only rounding moves, and which follow these."""
    said = [
        f"{name} follows {bias}, which rounding alone moves: it decides nothing" for name, bias in followers.items()
    ]
    return said + [
        by_rounding(name)
        if which.all()
        else f"{np.count_nonzero(which)} of {which.size} values of {name} are moved by rounding alone, because their "
        "gradients are: they decide nothing"
        for name, which in sorted(zeros.items())
    ]
