"""Values whose gradient is zero in exact arithmetic: rounding alone moves them, and they decide nothing.

A bias before BatchNorm is one, or a key's bias under softmax, which is often a third of a tensor. Adam makes full steps
of such a gradient, so that two right runs part there by all that it moves.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from parity.dtypes import unit
from parity.judging.comparable import coarser_dtype
from parity.judging.floors.sight import moved_by_rounding
from parity.judging.updates.terms import Terms, terms_of
from parity.judging.verdict import Judgement, Verdict
from parity.recording.steps import Step, steps_of
from parity.tolerance import FACTOR, least_floor
from parity.trainer import State
from parity.trajectory import Stack, Trajectory, as_one_array
from parity.typing import Array, Params

PART = 16
"""Rounding is at least this part of a gradient that is zero but for rounding: two right runs do not agree in it. A
small gradient in which they agree is a gradient."""


MANY = 8
"""So many random numbers are a multiple of others, but for a PART, with a chance below PART to the power of one less:
4e-9."""


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


@dataclass(frozen=True)
class Rounding:
    """The values that rounding alone moves in two runs.

    Attributes:
        zeros: For each parameter that has any, an array of its shape, true where its gradient is zero but for rounding.
        perhaps: The same where it may be: nothing recorded tells rounding from a gradient there.
        followers: The name of the bias, of ``zeros``, that each running mean follows.

    Examples:
        >>> found = Rounding({"bias": np.array([True])}, {}, {"norm/mean": "bias"})
        >>> sorted(found.decides_nothing({"norm/mean": np.zeros((2, 3))}))
        ['bias', 'norm/mean']
    """

    zeros: Params
    perhaps: Params
    followers: Mapping[str, str]

    def decides_nothing(self, params: Mapping[str, Stack]) -> Params:
        """Mark what cannot decide a verdict, of parameters (S, *shape): zeros, and what follows them."""
        followers = {name: np.ones(params[name].shape[1:], bool) for name in self.followers if name in params}
        return self.zeros | followers


def rounding_of(ours: Trajectory, theirs: Trajectory) -> Rounding:
    """Find what rounding alone moves in two runs, as far as both recorded gradients.

    A small gradient in which the runs do not agree is zero but for rounding where a running mean follows its bias: a
    norm takes off what it keeps there, so that no loss depends on it. Else it only may be, and decides neither way.

    Args:
        ours: The run that is judged.
        theirs: The run that it is held against.

    Returns:
        The values.
    """
    small, smallish = _small(ours, theirs, _within_rounding, _within_a_part)
    zeros = _zeros(ours, theirs, small)
    perhaps = _may_be_rounding(smallish, zeros)
    followers = following(ours, theirs, together(zeros, perhaps))
    proven = {name: perhaps.pop(name) for name in set(followers.values()) & perhaps.keys()}
    return Rounding(together(zeros, proven), perhaps, followers)


def together(some: Params, others: Params) -> Params:
    """Mark what either marks.

    >>> together({"b": np.array([True, False])}, {"b": np.array([False, False]), "c": np.array([True])})
    {'b': array([ True, False]), 'c': array([ True])}
    """
    return some | {name: which | some.get(name, False) for name, which in others.items()}


def moved_by_rounding_alone(ours: Trajectory, theirs: Trajectory) -> Params:
    """Mark the values whose gradients are zero but for rounding, as far as both runs recorded gradients.

    Returns:
        For each such parameter an array of its shape, true where rounding alone moves it. In every update that both
        recorded, such a value's gradient is within the rounding of its recorded terms, which cancel, in both runs; or,
        where the terms were not recorded, of the largest gradient of the update. And the runs agree in it to no better
        than a PART. Or the runs' own noise floors say so of the whole tensor.
    """
    (small,) = _small(ours, theirs, _within_rounding)
    return _zeros(ours, theirs, small)


def _zeros(ours: Trajectory, theirs: Trajectory, small: Mapping[str, _Seen]) -> Params:
    """Mark the values that disagree within rounding, and the tensors of which the runs' own noise floors say so."""
    found = {
        name: np.ones(theirs.params[name].shape[1:], bool)
        for name in moved_by_rounding((ours, theirs))
        if name in theirs.params
    }
    return {name: seen.disagree for name, seen in small.items() if seen.disagree.any()} | found


def _within_rounding(terms: Terms | None, largest: float, dtype: str) -> Array:
    """How large a gradient may be by rounding alone, of these terms and beside the largest gradient of its update."""
    least = np.asarray(FACTOR * least_floor(largest, dtype))
    return least if terms is None else np.maximum(least, np.where(terms.cancel, terms.limit, 0.0))


def _within_a_part(terms: Terms | None, largest: float, dtype: str) -> Array:
    """How large it may be if terms 1 / sqrt(u) times as large as any gradient may have rounded to it."""
    part = FACTOR * float(least_floor(1.0, dtype)) / np.sqrt(unit(dtype))
    if terms is None:
        return np.asarray(part * largest)
    return np.where(terms.total <= part * terms.magnitude, part * largest, 0.0)


def _may_be_rounding(small: Mapping[str, _Seen], zeros: Params) -> Params:
    """Mark the values whose gradients may be zero but for rounding, though nothing recorded shows that.

    They are so small beside the largest gradient of their update that terms 1 / sqrt(u) times as large would round to
    them; the runs agree in them to no better than a PART; and neither run's are a multiple of the other's, as they
    would be of a mistake that scales them. Recorded terms that are known to add up to more speak against it.
    """
    found = {}
    for name, seen in small.items():
        which = seen.disagree & ~zeros.get(name, np.zeros(seen.disagree.shape, bool))
        if which.any() and not seen.is_multiple(which):
            found[name] = which
    return found


@dataclass
class _Seen:
    """What was seen of a tensor's gradients in all updates, value by value, in the tensor's shape."""

    tiny: Array
    apart: Array
    sizes: Array
    ours: Array
    theirs: Array
    both: Array
    updates: int = 1

    @property
    def disagree(self) -> Array:
        """Which values are small in every update, and agree to no better than a PART."""
        return np.asarray(self.tiny & (self.apart * PART > self.sizes))

    def is_multiple(self, which: Array) -> bool:
        """Whether one run's gradients of these values are the other's, times a number, but for a PART."""
        ours, theirs, both = (float(np.sum(each[which])) for each in (self.ours, self.theirs, self.both))
        if not ours or not theirs:
            return True
        # What is left of either, in squares, once the best multiple of the other is taken off. Few numbers are a
        # multiple of others by chance.
        left = 1 - both * both / (ours * theirs)
        return self.updates * int(np.count_nonzero(which)) >= MANY and left * PART * PART <= 1


@np.errstate(all="ignore")  # a recording may hold any numbers
def _small(
    ours: Trajectory, theirs: Trajectory, *limits: Callable[[Terms | None, float, str], Array]
) -> list[dict[str, _Seen]]:
    """Gather, for each limit, the tensors with values whose gradients are within it in every update of both runs."""
    every: list[dict[str, _Seen]] = [{} for _ in limits]
    coarser = coarser_dtype(ours, theirs)
    for steps in zip(steps_of(ours), steps_of(theirs), strict=False):
        # No run speaks for another: the largest gradient of one makes none of the other's small.
        sizes_of = [[float(np.max(np.abs(g), initial=0.0)) for g in step.gradients.values()] for step in steps]
        largest = min(max(of, default=0.0) for of in sizes_of)
        one, other = (step.gradients for step in steps)
        for name in one.keys() & other.keys():
            if name not in theirs.params or {one[name].shape, other[name].shape} != {theirs.params[name].shape[1:]}:
                continue
            asked = [(found, limit) for found, limit in zip(every, limits, strict=True) if _goes_on(found.get(name))]
            if not asked:
                continue
            a, b = np.asarray(one[name], np.float64), np.asarray(other[name], np.float64)
            size = np.maximum(np.abs(a), np.abs(b))
            terms = [terms_of(step, name, coarser) for step in steps]
            for found, limit in asked:
                tiny = np.all([size <= limit(each, largest, coarser) for each in terms], axis=0)
                now = _Seen(tiny, np.abs(a - b), size, a * a, b * b, a * b)
                if (seen := found.get(name)) is not None:
                    summed = ("apart", "sizes", "ours", "theirs", "both", "updates")
                    now = _Seen(seen.tiny & tiny, *(getattr(seen, each) + getattr(now, each) for each in summed))
                found[name] = now
    return [{name: seen for name, seen in found.items() if seen.tiny.any()} for found in every]


def _goes_on(seen: _Seen | None) -> bool:
    return seen is None or bool(seen.tiny.any())


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


def doubted(freed: Judgement, perhaps: Mapping[str, Array]) -> Judgement:
    """Keep back a FAIL that comes of nothing but what may be rounding.

    Args:
        freed: The judgement without the values that may be moved by rounding alone, which does not fail.
        perhaps: These values: see ``Rounding``.

    Returns:
        An INCONCLUSIVE judgement that says what would tell.
    """
    names = ", ".join(sorted(perhaps))
    several = len(perhaps) > 1
    reason = (
        f"all else agrees, but {names} {'part' if several else 'parts'}, and that may be rounding alone, as of a bias "
        f"before BatchNorm, because the runs do not agree in {'their' if several else 'its'} small gradients: hand the "
        "activations and activation_gradients of each layer to Recorder.step, which shows how large the terms are that "
        "they are sums of, or measure a noise floor"
    )
    return replace(freed, verdict=Verdict.INCONCLUSIVE, reason=reason)


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
