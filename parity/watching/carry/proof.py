"""One forward pass of both models, which proves that weights went where they belong, or finds where they do."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from parity.dtypes import coarsest, unit
from parity.judging.tensors.arrangement import transposes
from parity.judging.tensors.correspondence import How, first_few
from parity.tolerance import FACTOR, least_floor, stir
from parity.typing import Array, Params
from parity.watching.carry.joining import Joined, values_of
from parity.watching.carry.models import Model

STIRRED = 3
"""So many stirred forward passes measure how far rounding alone carries the output."""
TRIES = 1000
"""The most pairings that are tried."""
SWAPS = 300
"""Every two layers of a group are exchanged to see whether the output tells them apart, if that is no more often; else
neighbours alone."""

Plan = Sequence[Sequence[Joined]]
"""For each group of layers, its layers as they are joined."""


@dataclass(frozen=True)
class Forward:
    """What the source gave, and what ``into`` is called with."""

    expected: Array
    taken: Model
    inputs: object

    def apart(self) -> tuple[float, float]:
        """How far the model's output is from what is expected, and how large both are at most."""
        found = self.taken.predict(self.inputs)
        both = [np.asarray(each, np.float64) for each in (found, self.expected)]
        largest = max(float(np.max(np.abs(each), initial=0.0)) for each in both)
        return _distance(*both), largest

    def allowed(self, values: Params, dtype: str) -> float:
        """Measure how far rounding carries the output, with ``values`` set, and give the tolerance that follows."""
        base, largest = np.asarray(self.taken.predict(self.inputs), np.float64), 0.0
        strays = 0.0
        for seed in range(STIRRED):
            draw = np.random.default_rng(seed)
            self.put({name: stir(value, draw, dtype) for name, value in values.items()})
            stirred = np.asarray(self.taken.predict(self.inputs), np.float64)
            strays = max(strays, float(np.max(np.abs(stirred - base), initial=0.0)))
        self.put(values)
        largest = float(np.max(np.abs(base), initial=0.0))
        return FACTOR * max(strays, float(least_floor(largest, dtype)))

    def put(self, values: Mapping[str, Array]) -> None:
        """Set tensors of the model."""
        for name, value in values.items():
            self.taken.put(name, value)


def _distance(found: Array, expected: Array) -> float:
    """The largest difference, in the order of axes that brings both nearest: channels may come first or last."""
    ways = [one.seen_in(found.reshape(-1)).reshape(expected.shape) for one in transposes(expected.shape, found.shape)]
    if not ways:
        return float("inf")
    # NaN is nowhere near.
    far = [float(np.max(np.abs(way - expected), initial=0.0)) for way in ways]
    return min((each for each in far if np.isfinite(each)), default=float("inf"))


def prove(
    given: Model, taken: Model, choices: Sequence[Iterator[Sequence[Joined]]], inputs: object, into: object
) -> Plan:
    """Set the model to the first plan whose forward pass agrees with the source's.

    Args:
        given: The source.
        taken: The model that is set.
        choices: For each group of layers the ways in which they may be joined, the most likely first.
        inputs: What the source is called with.
        into: What the model is called with.

    Returns:
        The plan, its pairings proven as far as the output tells them from others.

    Raises:
        ValueError: If no plan's forward pass agrees, or if it leaves open which of several is right. The model is left
            as it was.
    """
    forward = Forward(given.predict(inputs), taken, into)
    dtype = coarsest(given.dtype, taken.dtype)
    begun = dict(taken.tensors)
    held = [list(itertools.islice(each, TRIES)) for each in choices]
    nearest, tried = (float("inf"), 0.0), 0
    now: Params = {}
    try:
        for plan in itertools.islice(itertools.product(*held), TRIES):
            wanted = values_of([one for group in plan for one in group])
            forward.put({name: value for name, value in wanted.items() if now.get(name) is not value})
            now, tried = dict(wanted), tried + 1
            far, largest = forward.apart()
            allowed = 0.0
            # Stirring takes its time: what is far off needs none.
            if far <= FACTOR * max(1.0, largest) * np.sqrt(unit(dtype)):
                allowed = forward.allowed(now, dtype)
                if far <= allowed:
                    return _told_apart(forward, plan, allowed, [len(each) > 1 for each in held])
            nearest = min(nearest, (far, allowed))
    except BaseException:
        forward.put(begun)
        raise
    forward.put(begun)
    counts = f"in any of the {tried} pairings that were tried" if tried > 1 else "with these weights"
    raise ValueError(
        f"the forward passes of both models do not agree {counts}: their outputs are {nearest[0]:.2g} apart at the "
        "nearest. The models are not the same function, the inputs not the same, or a layer takes its inputs in "
        "another order, as one behind flatten where images are (height, width, channels). Nothing was set"
    )


def _told_apart(forward: Forward, plan: Plan, allowed: float, was_open: Sequence[bool]) -> Plan:
    """Mark as proven what the output tells from any other pairing; ValueError if what was open stays so."""
    found: list[list[Joined]] = []
    doubts: list[str] = []
    for group, open_ in zip(plan, was_open, strict=True):
        noticed = (
            [_notices(forward, _backwards(one), one.values, allowed) for one in group[:1]] if len(group) == 1 else []
        )
        known = [noticed[0] is not False] if noticed else [True] * len(group)
        every = list(itertools.combinations(range(len(group)), 2))
        for k, j in every if len(every) <= SWAPS else itertools.pairwise(range(len(group))):
            one, other = group[k], group[j]
            exchanged = _exchanged(one, other)
            seen = exchanged is None or _notices(forward, exchanged, one.values | other.values, allowed)
            if not seen:
                known[k] = known[j] = False
                if open_ and seen is False:
                    doubts.append(f"{_said(one)} and {_said(other)}")
        found.append([_marked(one, sure) for one, sure in zip(group, known, strict=True)])
    if doubts:
        raise ValueError(
            f"the outputs agree, and would with {first_few(doubts)} exchanged: which is which cannot be told. Say it "
            "with mapping, or hand over inputs that tell"
        )
    return found


def _marked(one: Joined, sure: bool) -> Joined:
    """Say of a layer's pairings that the forward pass proved them, if it did."""
    proven = tuple(replace(pairing, how=How.FORWARD, proven=True) for pairing in one.pairings)
    return replace(one, pairings=proven) if sure else one


def _said(one: Joined) -> str:
    return next(iter(one.values))


def _notices(forward: Forward, other: Params, values: Params, allowed: float) -> bool | None:
    """Whether the output tells other values from these; None if they are equal."""
    if all(np.array_equal(other[name], values[name]) for name in other):
        return None
    forward.put(other)
    far, _ = forward.apart()
    forward.put(values)
    return not far <= allowed


def _backwards(one: Joined) -> Params:
    return {
        name: np.ascontiguousarray(value.reshape(-1)[::-1].reshape(value.shape)) for name, value in one.values.items()
    }


def _exchanged(one: Joined, other: Joined) -> Params | None:
    """Both layers' values, each in the other's place; None if their tensors are not of the same shapes."""
    pairs = list(zip(one.values.items(), other.values.items(), strict=False))
    if len(one.values) != len(other.values) or any(a.shape != b.shape for (_, a), (_, b) in pairs):
        return None
    return {name: b for (name, _), (_, b) in pairs} | {name: a for (_, a), (name, _) in pairs}
