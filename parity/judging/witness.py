"""Hold one step against what is expected of it, with the noise floor of that very comparison."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from parity.dtypes import NARROW
from parity.judging.compare import Difference, differences, distance
from parity.judging.floors.floor import floor_of
from parity.judging.floors.noise import stirring
from parity.recording.steps import ASKED, Phase, Step, step_of
from parity.spec import Case
from parity.tolerance import FACTOR, RUNS, least_floor, stir
from parity.trainer import Build, State, Trainer
from parity.trajectory import Trajectory
from parity.typing import Array, Batches, Params

HELD_OUT = "prediction of held-out rows"
"""The name of this prediction among the tensors of an ``Expected``."""


@dataclass(frozen=True)
class Expected:
    """The tensors that are expected in one place, and how far rounding alone may carry each of them."""

    values: Params
    floors: dict[str, float]
    dtype: str = "float64"


@dataclass(frozen=True, kw_only=True)
class Check:
    """One tensor held against what was expected."""

    tensor: str
    share: float
    """The share of its tolerance that the tensor uses: at most 1 if it agrees."""
    floors: float
    """The same distance in noise floors."""
    worst: Difference | None
    got: Array
    wanted: Array

    @property
    def agrees(self) -> bool:
        """Tell whether the tensor is within its tolerance."""
        return self.share <= 1


def apart(checks: Iterable[Check]) -> list[Check]:
    """Take the tensors that part, the farthest first."""
    return sorted((check for check in checks if not check.agrees), key=lambda check: -check.share)


def take_apart(step: Step, expected: Mapping[Phase, Expected]) -> dict[Phase, list[Check]]:
    """Hold a step against what is expected of it, phase by phase.

    Args:
        step: The step, made by a live trainer or read from a recording.
        expected: The phases that are asked, in their order, and what is expected of each. ``Witness.step`` makes it of
            the reference, ``as_expected`` of another recording.

    Returns:
        The checks of every tensor that is expected, by phase, in the order of ``expected``.

    Raises:
        ValueError: The step lacks a tensor that is expected, or has it in another shape.
    """
    seen = step.seen()
    return {phase: held(seen[phase], wanted) for phase, wanted in expected.items()}


def held(got: Params, expected: Expected) -> list[Check]:
    """Hold every expected tensor against the one that was got; ValueError if one is missing or has another shape."""
    checks = []
    for name, wanted in expected.values.items():
        if name not in got:
            raise ValueError(f"{name} is missing")
        value, wanted = _measured(got[name]), _measured(wanted)
        if value.shape != wanted.shape:
            raise ValueError(f"{name} is {value.shape}, the reference {wanted.shape}")
        found = differences(value[None], wanted[None], name, dtype=expected.dtype)
        worst = found.nonfinite or found.absolute
        far = 0.0 if worst is None else worst.absolute
        floor = expected.floors[name]
        floors = 0.0 if far == 0 else (far / floor if floor > 0 else np.inf)
        floors = floors if np.isfinite(far) else np.inf
        checks.append(Check(tensor=name, share=floors / FACTOR, floors=floors, worst=worst, got=value, wanted=wanted))
    return checks


def _measured(values: Array) -> Array:
    """Leave floats as they are and make integers float64: a model may predict classes."""
    values = np.asarray(values)
    return values if values.dtype.kind == "f" else values.astype(np.float64)


def least_floors(values: Params, dtype: str) -> dict[str, float]:
    """Give the part of the noise floor that needs no measurement: a few roundings of each tensor's largest value."""
    return {name: least_floor(float(np.max(np.abs(value), initial=0.0)), dtype) for name, value in values.items()}


def to_rounding(
    wanted: Params, dtype: str, strayed: Sequence[Mapping[str, float]] = (), times: float = 1.0
) -> Expected:
    """Expect what was recorded, if no reference measures a noise floor.

    Args:
        wanted: The recorded tensors, by name.
        dtype: The dtype of the run that is held against them.
        strayed: How far each tensor of each repetition strayed. The noise floor is at least that.
        times: How many times the least noise floor is allowed.

    Returns:
        The tensors, each with a noise floor.
    """
    floors = {name: times * floor for name, floor in least_floors(wanted, dtype).items()}
    floors = {name: max([floor, *(far.get(name, 0.0) for far in strayed)]) for name, floor in floors.items()}
    return Expected(wanted, floors, dtype)


def within_rounding(
    got: Params, wanted: Params, dtype: str, strayed: Sequence[Mapping[str, float]] = (), times: float = 1.0
) -> list[Check]:
    """Hold the tensors that both have against each other, the farthest first, with the floors of ``to_rounding``."""
    shared = {name: np.asarray(value) for name, value in wanted.items() if name in got}
    return sorted(held(got, to_rounding(shared, dtype, strayed, times)), key=lambda check: -check.share)


def in_one_order(got: Array, wanted: Array) -> tuple[Array, Array] | None:
    """Lay two predictions in one order, because each framework has its own order of axes.

    Args:
        got: One run's prediction.
        wanted: The other run's.

    Returns:
        The two in one shape; None if they have other numbers of values. Of several orders of axes that give that shape,
        the one that brings them nearest to each other. Without any, the values of both in ascending order.

    Examples:
        >>> images = np.arange(24.0).reshape(2, 1, 3, 4)  # channels first, against channels last
        >>> got, wanted = in_one_order(images, images.transpose(0, 2, 3, 1))
        >>> got.shape, bool((got == wanted).all())
        ((2, 3, 4, 1), True)
    """
    if got.size != wanted.size:
        return None
    if got.shape == wanted.shape:
        return got, wanted
    mine, theirs = _measured(got).squeeze(), _measured(wanted).squeeze()
    fits = (
        mine.transpose(axes)
        for axes in itertools.permutations(range(mine.ndim))
        if tuple(mine.shape[axis] for axis in axes) == theirs.shape
    )
    nearest = min(fits, key=lambda one: float(np.nansum(np.abs(one - theirs))), default=None)
    if nearest is None:
        return np.sort(got, None), np.sort(wanted, None)
    return nearest.reshape(wanted.shape), wanted


def as_expected(
    other: Step, step: Step, dtype: str, strayed: Mapping[Phase, Sequence[Mapping[str, float]]]
) -> dict[Phase, Expected]:
    """Expect of a step what another run recorded of the same one.

    Args:
        other: The other run's step.
        step: The step that will be taken apart. A tensor that it lacks is not expected.
        dtype: The coarser dtype of the two runs.
        strayed: By phase, how far each tensor of each repetition strayed.

    Returns:
        Every phase of the step, the state before it first.
    """
    seen = step.seen()
    return {
        phase: to_rounding(
            {name: np.asarray(value) for name, value in wanted.items() if name in seen[phase]},
            dtype,
            strayed.get(phase, ()),
        )
        for phase, wanted in other.seen().items()
    }


class Witness:
    """The reference, asked at any state what it expects there, with the noise floor of that very comparison.

    The noise floor is that of ``parity.tolerance``: the reference in the run's dtype is evaluated RUNS times at the
    state, with its rounding errors stirred.
    """

    def __init__(self, reference: Build, case: Case, dtype: str) -> None:
        self.case, self.dtype, self.data = case, dtype, case.data()
        self.exact = reference(case, "float64", "cpu")
        self.same_dtype = reference(case, dtype, "cpu")

    def step(self, state: State, rows: Array, asked: Collection[Phase] = ASKED) -> dict[Phase, Expected]:
        """Expect a step from a state on these rows.

        Args:
            state: The state from which the step begins.
            rows: (batch,) int64, the rows that the step takes.
            asked: The phases that are asked.

        Returns:
            What is expected of each of them. Slots are in the units of ``parity.spec``.
        """
        seen = step_of(self.exact, state, self.data.x[rows], self.data.y[rows], rows, asked).seen()
        wanted = {phase: {name: np.asarray(value) for name, value in seen[phase].items()} for phase in asked}
        floors = {phase: least_floors(values, self.dtype) for phase, values in wanted.items()}
        for trainer, begun, x, y, order in self._stirred(state, self.data.x[rows], self.data.y[rows]):
            other = step_of(trainer, begun, x, y, rows, asked)
            if Phase.PREDICTION in asked:
                other = replace(other, prediction=other.prediction[np.argsort(order)])
            strayed = other.seen()
            for phase, values in wanted.items():
                for name, value in values.items():
                    far = np.abs(np.asarray(strayed[phase][name]).astype(np.float64) - value)
                    floors[phase][name] = max(floors[phase][name], float(np.max(far, initial=0.0)))
        return {phase: Expected(values, floors[phase], self.dtype) for phase, values in wanted.items()}

    def prediction(self, state: State, rows: Array) -> Expected:
        """Expect the ``prediction`` of these rows."""
        return self.step(state, rows, (Phase.PREDICTION,))[Phase.PREDICTION]

    def held_out_prediction(self, state: State) -> Expected:
        """Expect the prediction of every row that is held out; ValueError if the case holds no rows out."""
        x, y = self.data.split("test")
        self.exact.load(state)
        wanted = {HELD_OUT: self.exact.predict(x)}
        floors = least_floors(wanted, self.dtype)
        for trainer, begun, moved, _, order in self._stirred(state, x, y):
            trainer.load(begun)
            far = np.abs(trainer.predict(moved)[np.argsort(order)].astype(np.float64) - wanted[HELD_OUT])
            floors[HELD_OUT] = max(floors[HELD_OUT], float(np.max(far, initial=0.0)))
        return Expected(wanted, floors, self.dtype)

    def epoch(self, state: State, batches: Batches) -> list[Expected]:
        """Expect the ``loss`` of each batch of an epoch that is trained in one call.

        Rounding grows along the epoch, so that the noise floor of a batch's own state would be too small. The floor is
        that of a run, measured on stirred runs of this epoch.
        """
        exact = self._losses(self.exact, state, batches)
        x, y = self.data.x[batches[0]], self.data.y[batches[0]]
        strayed = [self._losses(each, begun, batches) for each, begun, *_ in self._stirred(state, x, y)]
        if self.dtype in NARROW:
            # As ``noise.runs_of`` says: stirring carries over updates that a narrow dtype would lose.
            strayed.append(self._losses(self.same_dtype, state, batches))
        run = Trajectory({}, np.zeros(1, np.int64), exact[None], {}, {})
        floors = floor_of([{"loss": distance(losses, exact)} for losses in strayed], run, self.dtype).loss[0]
        return [
            Expected({"loss": loss}, {"loss": float(floor)}, self.dtype)
            for loss, floor in zip(exact, floors, strict=True)
        ]

    @staticmethod
    def _losses(trainer: Trainer, state: State, batches: Batches) -> Array:
        """Train the batches in one call: (batches,)."""
        trainer.load(state)
        return trainer.train([batches]).losses.reshape(-1)

    def _stirred(self, state: State, x: Array, y: Array) -> Iterator[tuple[Trainer, State, Array, Array, Array]]:
        """Stir the reference in the run's dtype, RUNS times: its trainer, state, x, y and the order of their rows."""
        ordered = self.case.schedule.ordered
        for seed in range(RUNS):
            generator = np.random.default_rng(seed)
            order = np.arange(len(x)) if ordered else generator.permutation(len(x))
            params = {name: stir(value, generator, self.dtype) for name, value in state.params.items()}
            slots = {name: stir(value, generator, self.dtype) for name, value in state.slots.items()}
            begun = State(params, slots, state.step, state.slot_scale)
            moved = stir(x[order], generator, self.dtype)
            trainer = stirring(self.same_dtype, generator, ordered, self.dtype)
            yield trainer, begun, moved, y[order], order
