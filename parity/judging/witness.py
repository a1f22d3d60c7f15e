"""One step held against the float64 reference at the same state, with the noise floor of that very comparison."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from parity.dtypes import unit
from parity.judging.compare import Difference, differences
from parity.judging.noise import stirring
from parity.spec import Case
from parity.tolerance import FACTOR, RUNS, stir
from parity.trainer import Build, State, Trainer
from parity.typing import Array, Batches, Params


def within_rounding(
    got: Params, wanted: Params, dtype: str, strayed: Sequence[Mapping[str, float]] = (), times: float = 1.0
) -> list[Check]:
    """The tensors that both have, the farthest apart first.

    The floor is four roundings of the largest value, so many times, or how far repetitions ``strayed``.
    """
    shared = {name: np.asarray(wanted[name]) for name in wanted if name in got}
    least = 4 * unit(dtype) * times
    floors = {name: least * float(np.max(np.abs(value), initial=0.0)) for name, value in shared.items()}
    for name, floor in floors.items():
        floors[name] = max([floor, *(far.get(name, 0.0) for far in strayed)])
    return sorted(held(got, Expected(shared, floors, dtype)), key=lambda check: -check.share)


PHASES = ("batch", "prediction", "loss", "gradient", "update", "state")
"""Where a step can go wrong. ``batch``: other rows than named; ``state``: what one step leaves the next."""
HELD_OUT = "prediction of held-out rows"
STEP = ("prediction", "loss", "gradient", "batch", "update")
"""The order in which a step from a shared state is asked."""


@dataclass(frozen=True)
class Expected:
    """What the float64 reference gives in one place, and how far rounding alone may carry each tensor from it."""

    values: Params
    floors: dict[str, float]
    dtype: str = "float64"


@dataclass(frozen=True)
class Check:
    """One tensor held against what was expected: the share of its tolerance used, below 1 where it agrees."""

    tensor: str
    share: float
    floors: float
    worst: Difference | None
    got: Array
    wanted: Array

    @property
    def agrees(self) -> bool:
        return self.share <= 1


class Witness:
    """The reference at any state: what it gives there, and the noise floor of that very comparison.

    The floor is that of ``parity.tolerance``: the reference in the run's dtype, evaluated RUNS times at the state
    with its rounding errors stirred.
    """

    def __init__(self, reference: Build, case: Case, dtype: str) -> None:
        self.case, self.dtype, self.data = case, dtype, case.data()
        self.exact = reference(case, "float64", "cpu")
        self.same_dtype = reference(case, dtype, "cpu")

    def prediction(self, state: State, rows: Array) -> Expected:
        """``prediction`` on the rows."""
        return self._prediction(state, "prediction", self.data.x[rows], self.data.y[rows])

    def held_out_prediction(self, state: State) -> Expected:
        """``prediction of held-out rows``, of all of them; ValueError where the case holds none out."""
        return self._prediction(state, HELD_OUT, *self.data.split("test"))

    def _prediction(self, state: State, name: str, x: Array, y: Array) -> Expected:
        self.exact.load(state)
        wanted = {name: self.exact.predict(x)}
        return self._expected(
            wanted, ({name: t.predict(x)[np.argsort(o)]} for t, x, _, o in self._stirred(state, x, y))
        )

    def gradients(self, state: State, rows: Array) -> Expected:
        """``loss`` and the gradient of every parameter on the rows."""
        self.exact.load(state)
        x, y = self.data.x[rows], self.data.y[rows]
        wanted = with_loss(*self.exact.gradients(x, y))
        return self._expected(wanted, (with_loss(*t.gradients(x, y)) for t, x, y, _ in self._stirred(state, x, y)))

    def update(self, state: State, rows: Array) -> Expected:
        """``loss``, every parameter and every optimizer slot after one step on the rows."""
        self.exact.load(state)
        wanted = one_step(self.exact, (rows,))
        x, y = self.data.x[rows], self.data.y[rows]
        return self._expected(wanted, (one_step(t, (rows,)) for t, _, _, _ in self._stirred(state, x, y)))

    def _stirred(self, state: State, x: Array, y: Array) -> Iterator[tuple[Trainer, Array, Array, Array]]:
        """The reference in the run's dtype at ``state``, RUNS times stirred: trainer, x, y and their rows' order."""
        ordered = self.case.schedule.ordered
        for seed in range(RUNS):
            generator = np.random.default_rng(seed)
            order = np.arange(len(x)) if ordered else generator.permutation(len(x))
            params = {name: stir(value, generator, self.dtype) for name, value in state.params.items()}
            slots = {name: stir(value, generator, self.dtype) for name, value in state.slots.items()}
            self.same_dtype.load(State(params, slots, state.step, state.slot_scale))
            moved = stir(x[order], generator, self.dtype)
            yield stirring(self.same_dtype, generator, ordered, self.dtype), moved, y[order], order

    def _expected(self, wanted: Params, stirred: Iterator[Params]) -> Expected:
        floors = {
            name: 4 * unit(self.dtype) * float(np.max(np.abs(value), initial=0.0)) for name, value in wanted.items()
        }
        for other in stirred:
            for name, value in wanted.items():
                strayed = np.abs(other[name].astype(np.float64) - value)
                floors[name] = max(floors[name], float(np.max(strayed, initial=0.0)))
        return Expected(wanted, floors, self.dtype)


def with_loss(loss: float, gradients: Params) -> Params:
    return {"loss": np.asarray(loss), **gradients}


def one_step(trainer: Trainer, batch: Batches) -> Params:
    """Loss, parameters and slots, by name, after one segment of one batch."""
    losses = trainer.train([batch]).losses
    state = trainer.export()
    return {"loss": losses.reshape(-1)[0], **state.params, **state.slots_at(1.0)}


def held(got: Params, expected: Expected) -> list[Check]:
    """Every expected tensor against what was got; ValueError where one is missing or has another shape."""
    checks = []
    for name, wanted in expected.values.items():
        if name not in got:
            raise ValueError(f"{name} is missing")
        value, wanted = _measured(got[name]), _measured(wanted)
        if value.shape != wanted.shape:
            raise ValueError(f"{name} is {value.shape}, the reference {wanted.shape}")
        found = differences(value[None], wanted[None], name, dtype=expected.dtype)
        worst = found.nonfinite or found.absolute
        distance = 0.0 if worst is None else worst.absolute
        floor = expected.floors[name]
        floors = 0.0 if distance == 0 else (distance / floor if floor > 0 else np.inf)
        floors = floors if np.isfinite(distance) else np.inf
        checks.append(Check(name, floors / FACTOR, floors, worst, value, wanted))
    return checks


def _measured(values: Array) -> Array:
    """Floats as they are, integers as float64: a model may predict classes."""
    values = np.asarray(values)
    return values if values.dtype.kind == "f" else values.astype(np.float64)
