"""Where two runs part: the step is taken apart at a state that both share, phase by phase.

An implementation is loaded with the reference's exact state, so that all inputs agree, and asked in turn: the same
prediction? the same loss of it? the same gradients? does it train on the rows it is given? the same update? The
first answer that differs by more than rounding explains everything after it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from parity.compare import Difference, differences, scale
from parity.dtypes import unit
from parity.spec import Array, Batches, Case, Params
from parity.tolerance import FACTOR, RUNS, Build, Stirred, stir, strays
from parity.trainer import State, Trainer
from parity.trajectory import Trajectory

PHASES = ("batch", "prediction", "loss", "gradient", "update", "state")
"""Where a step can go wrong. ``batch``: other rows than named; ``state``: what one step leaves the next."""

UNRECORDED = "unrecorded"
"""The phase where a recording has losses and snapshots alone."""

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
        self.exact.load(state)
        wanted = {"prediction": self.exact.predict(self.data.x[rows])}
        stirred = ({"prediction": t.predict(x)[np.argsort(order)]} for t, x, _, order in self._stirred(state, rows))
        return self._expected(wanted, stirred)

    def gradients(self, state: State, rows: Array) -> Expected:
        """``loss`` and the gradient of every parameter on the rows."""
        self.exact.load(state)
        wanted = with_loss(*self.exact.gradients(self.data.x[rows], self.data.y[rows]))
        return self._expected(wanted, (with_loss(*t.gradients(x, y)) for t, x, y, _ in self._stirred(state, rows)))

    def update(self, state: State, rows: Array) -> Expected:
        """``loss``, every parameter and every optimizer slot after one step on the rows."""
        self.exact.load(state)
        wanted = one_step(self.exact, (rows,))
        return self._expected(wanted, (one_step(t, (rows,)) for t, _, _, _ in self._stirred(state, rows)))

    def _stirred(self, state: State, rows: Array) -> Iterator[tuple[Stirred, Array, Array, Array]]:
        """The reference in the run's dtype at ``state``, RUNS times stirred: trainer, x, y and their rows' order."""
        ordered = self.case.schedule.ordered
        for seed in range(RUNS):
            generator = np.random.default_rng(seed)
            order = np.arange(len(rows)) if ordered else generator.permutation(len(rows))
            params = {name: stir(value, generator, self.dtype) for name, value in state.params.items()}
            slots = {name: stir(value, generator, self.dtype) for name, value in state.slots.items()}
            self.same_dtype.load(State(params, slots, state.step, state.slot_scale))
            x = stir(self.data.x[rows][order], generator, self.dtype)
            yield Stirred(self.same_dtype, generator, ordered, self.dtype), x, self.data.y[rows][order], order

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


@dataclass(frozen=True)
class Location:
    """Where a run parts from its reference, with what was found on the way.

    ``epoch`` counts from 1 and ``batch`` from 0. ``check`` is the tensor that parts by most in the phase, None where
    no single step parts. ``agreed`` gives, for each phase before, the largest share of its noise floor used.
    ``parameters`` are all tensors of the phase that part; ``gradient``, ``params`` the reference's at that state.
    """

    phase: str
    epoch: int
    batch: int
    check: Check | None
    agreed: dict[str, float]
    parts: tuple[Check, ...]
    gradient: Params
    params: Params
    note: str = ""

    @property
    def finite(self) -> bool:
        """Whether all that parts is a number in both: what follows from a NaN does not explain it."""
        return all(bool(np.isfinite(one.got).all() and np.isfinite(one.wanted).all()) for one in self.parts)

    @property
    def place(self) -> str:
        """Where, in words: epoch, batch, phase and tensor."""
        tensor = self.check.tensor if self.check is not None else ""
        if self.phase == UNRECORDED:
            return f"epoch {self.epoch}, " + (f"batch {self.batch}, loss" if tensor == "loss" else tensor)
        # That a batch is another is seen in its loss alone.
        of = f" of {tensor}" if tensor and self.phase not in (tensor, "batch") else ""
        return f"epoch {self.epoch}, batch {self.batch}, {self.phase}{of}"


def locate(trainer: Trainer, witness: Witness, reference: Trainer, start: int, until: int) -> Location:
    """Walk from the reference's state after epoch ``start`` to epoch ``until``, and stop where the first step parts.

    ``reference`` is a float64 reference at the case's beginning. Each step begins from the reference's state, in both.
    """
    order = witness.case.schedule.epochs(len(witness.data.x))
    for batches in itertools.islice(order, start):
        reference.train([batches])
    agreed: dict[str, float] = {}
    for epoch, batches in enumerate(itertools.islice(order, max(1, until - start)), start + 1):
        before = reference.export()
        for batch, rows in enumerate(batches):
            state = reference.export()
            found = step(trainer, witness, state, rows, epoch, batch, agreed)
            reference.train([(rows,)])
            if found is not None:
                return _beyond_zeros(found, trainer, witness, state, reference)
        found = _epoch(trainer, reference, before, batches, epoch, agreed, witness)
        if found is not None:
            return found
    return Location("state", start + 1, 0, None, agreed, (), {}, {}, "no single step from a shared state parts")


LATER = 8
"""So many updates later it is asked again whether zeros hid something."""


def _beyond_zeros(found: Location, trainer: Trainer, witness: Witness, state: State, reference: Trainer) -> Location:
    """What was found, unless zeros hid that an earlier phase parts: then that, from a state some updates later.

    A product with zeros is right whatever is multiplied, and a loss of zeros the same for whatever rows.
    """
    if all(value.any() for value in state.params.values()):
        return found
    order = itertools.chain.from_iterable(witness.case.schedule.epochs(len(witness.data.x)))
    for later, rows in enumerate(itertools.islice(order, state.step + 1, state.step + 1 + LATER), 1):
        again = step(trainer, witness, reference.export(), rows, found.epoch, found.batch, {})
        if again is not None and STEP.index(again.phase) < STEP.index(found.phase):
            return replace(again, note=f"seen {later} updates on: at first, parameters are zero and hide it")
        reference.train([(rows,)])
    return found


def step(
    trainer: Trainer, witness: Witness, state: State, rows: Array, epoch: int, batch: int, agreed: dict[str, float]
) -> Location | None:
    """One step from ``state``, that of both; None where every phase of it agrees. ``agreed`` is told by how much."""
    x, y = witness.data.x[rows], witness.data.y[rows]
    trainer.load(state)
    gradients = witness.gradients(state, rows)
    loss, got = trainer.gradients(x, y)
    checks = {"prediction": held({"prediction": trainer.predict(x)}, witness.prediction(state, rows))}
    all_gradients = held(with_loss(loss, got), gradients)
    checks["loss"], checks["gradient"] = all_gradients[:1], all_gradients[1:]
    after = held(one_step(trainer, (rows,)), witness.update(state, rows))
    # From agreeing gradients, a training loss that differs was taken over other rows, or at another time.
    checks["batch"], checks["update"] = after[:1], after[1:]
    reference_gradient = {name: value for name, value in gradients.values.items() if name != "loss"}
    for phase in STEP:
        parts = tuple(sorted((check for check in checks[phase] if not check.agrees), key=lambda check: -check.share))
        if parts:
            return Location(phase, epoch, batch, parts[0], dict(agreed), parts, reference_gradient, state.params, "")
        largest = max((check.floors for check in checks[phase]), default=0.0)
        agreed[phase] = max(agreed.get(phase, 0.0), largest)
    return None


def _epoch(
    trainer: Trainer,
    reference: Trainer,
    before: State,
    batches: Batches,
    epoch: int,
    agreed: dict[str, float],
    witness: Witness,
) -> Location | None:
    """A whole epoch in one call, whose steps agreed one by one; None where its losses agree too."""
    trainer.load(before)
    got = trainer.train([batches]).losses.reshape(-1)
    after = reference.export()
    reference.load(before)
    wanted = reference.train([batches]).losses.reshape(-1)
    reference.load(after)
    for batch, rows in enumerate(batches):
        floor = witness.gradients(before, rows).floors["loss"] if batch == 0 else None
        allowed = FACTOR * (floor or 128 * unit(witness.dtype) * abs(float(wanted[batch])))
        if not abs(float(got[batch]) - float(wanted[batch])) <= allowed:
            check = held(
                {"loss": got[batch]}, Expected({"loss": np.asarray(wanted[batch])}, {"loss": allowed / FACTOR})
            )
            phase = "batch" if batch == 0 else "state"
            note = "each step agrees by itself; together, in one call, they do not"
            return Location(phase, epoch, batch, check[0], dict(agreed), tuple(check), {}, before.params, note)
    return None


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
