"""Where two runs part: the step is taken apart at a state that both share, phase by phase.

An implementation is loaded with the reference's exact state, so that all inputs agree, and asked in turn: the same
prediction? the same loss of it? the same gradients? does it train on the rows it is given? the same update? The
first answer that differs by more than rounding explains everything after it.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from parity.dtypes import unit
from parity.explaining.location import Location
from parity.judging.witness import STEP, Expected, Witness, held, one_step, with_loss, within_rounding
from parity.recording.steps import Step, rows_in_words, steps_of
from parity.recording.steps import epochs_and_batches as epochs_and_batches
from parity.tolerance import FACTOR
from parity.trainer import State, Trained, Trainer
from parity.trajectory import Trajectory
from parity.typing import Array, Batches, Params


class Recorded:
    """A step as a trainer: whatever it is asked, it answers what was recorded there."""

    def __init__(self, step: Step) -> None:
        self.step, self.trained = step, False

    def predict(self, x: Array) -> Array:
        return self.step.prediction

    def gradients(self, x: Array, y: Array) -> tuple[float, Params]:
        return float(self.step.loss), self.step.gradients

    def train(self, segments: Sequence[Batches], inputs: Sequence[Array] = ()) -> Trained:
        self.trained = True
        params = {name: value[None] for name, value in self.step.after.params.items()}
        return Trained(np.asarray(self.step.trained).reshape(1, 1), params)

    def export(self) -> State:
        return self.step.after if self.trained else self.step.before

    def load(self, state: State) -> None:
        self.trained = False


def walk_recorded(run: Trajectory, witness: Witness) -> Location | None:
    """Where the first deeply recorded update parts from the reference's, at the run's own state; None without any.

    The note of a Location without a check says how many updates agree, each by itself.
    """
    steps = steps_of(run)
    if not steps:
        return None
    initial = {name: value.astype(witness.dtype) for name, value in witness.case.initial().items()}
    first = within_rounding(steps[0].before.params, initial, witness.dtype)
    agreed: dict[str, float] = {}
    if first[0].share > 1:
        note = "the run does not begin with the case's initial parameters"
        return Location("state", 1, 0, first[0], {}, tuple(c for c in first if not c.agrees), {}, initial, note)
    order = itertools.chain.from_iterable(witness.case.schedule.epochs(len(witness.data.x)))
    found: Location | None = None
    for (here, rows), (epoch, batch) in zip(zip(steps, order, strict=False), epochs_and_batches(run), strict=False):
        if not np.array_equal(here.rows, rows):
            return _other_rows(epoch, batch, here.rows, rows, agreed)
        parted = step(Recorded(here), witness, here.before, rows, epoch, batch, agreed if found is None else {})
        if found is None:
            found = parted
        elif parted is not None and STEP.index(parted.phase) < STEP.index(found.phase):
            note = f"seen at epoch {epoch}, batch {batch}: before, parameters are zero and hide it"
            return replace(parted, epoch=found.epoch, batch=found.batch, note=note)
        hidden = found is not None and any(not value.any() for value in steps[0].before.params.values())
        if found is not None and (not hidden or here.number >= LATER):
            return found
    return found or _all_agree(len(steps), agreed)


def walk_pair(a: Trajectory, b: Trajectory, noise: Noise | None = None) -> Location | None:
    """Where the first update that both runs recorded deeply parts, as far as their states agree; None without any.

    Without a reference little is measured: 64 roundings of each tensor's largest value are allowed. Late updates may
    be farther apart by rounding alone, because each begins where the run itself has come to: how far, ``noise`` shows.
    """
    ours, theirs = steps_of(a), steps_of(b)
    agreed: dict[str, float] = {}
    dtype = max(a.meta["dtype"], b.meta["dtype"], key=unit)
    both = list(zip(ours, theirs, epochs_and_batches(a), strict=False))
    for mine, other, (epoch, batch) in both:
        if not np.array_equal(mine.rows, other.rows):
            return _other_rows(epoch, batch, mine.rows, other.rows, agreed)
        seen, stirred = _seen(mine), noise.at(mine.number) if noise else {}
        for phase, wanted in _seen(other).items():
            if phase == "gradient" and (alone := sorted(mine.gradients.keys() ^ other.gradients.keys())):
                which = "second" if alone[0] in mine.gradients else "first"
                note = f"the {which} run has no gradient of {alone[0]}: there it is not trained"
                return Location(phase, epoch, batch, None, dict(agreed), (), other.gradients, other.before.params, note)
            found = within_rounding(seen[phase], wanted, dtype, stirred.get(phase, ()))
            parts = tuple(check for check in found if not check.agrees)
            if parts:
                at, note = other.before.params, ""
                if phase not in ("state", "update") and agreed.get("state", 0.0) > 1 and not stirred:
                    note = (
                        f"the states that this update began with differ already, to {agreed['state']:.2g} of the noise "
                        "floor, and rounding may have grown: repetitions recorded as deeply (--noise) would tell"
                    )
                return Location(phase, epoch, batch, parts[0], dict(agreed), parts, other.gradients, at, note)
            agreed[phase] = max(agreed.get(phase, 0.0), found[0].floors)
    return _all_agree(len(both), agreed) if both else None


class Noise:
    """How far repetitions of runs, each beside its run, stray in each update, as far as both were recorded deeply."""

    def __init__(self, noise: Sequence[tuple[Trajectory, Trajectory]]) -> None:
        self._pairs = [(steps_of(run), steps_of(base)) for run, base in noise]

    def at(self, number: int) -> dict[str, list[dict[str, float]]]:
        """By phase, how far each tensor of each repetition is from what is repeated; nothing without any."""
        found: dict[str, list[dict[str, float]]] = {}
        for run, base in self._pairs:
            if number < min(len(run), len(base)):
                theirs = _seen(base[number])
                for phase, ours in _seen(run[number]).items():
                    found.setdefault(phase, []).append(_apart(ours, theirs[phase]))
        return found


def _seen(step: Step) -> dict[str, Params]:
    """What is held against another run's of a step, phase by phase."""
    return {
        "state": _tensors(step.before),
        "prediction": {"prediction": step.prediction},
        "loss": {"loss": step.loss},
        "gradient": step.gradients,
        "batch": {"loss": step.trained},
        "update": _tensors(step.after),
    }


def _apart(a: Params, b: Params) -> dict[str, float]:
    """How far tensors that both have are apart at most."""
    pairs = {name: (np.asarray(value, np.float64), b[name]) for name, value in a.items() if name in b}
    far = {name: float(np.max(np.abs(one - other), initial=0.0)) for name, (one, other) in pairs.items()}
    # What is not finite is no distance: a floor made of it would let everything pass.
    return {name: distance for name, distance in far.items() if np.isfinite(distance)}


def _tensors(state: State) -> Params:
    return {**state.params, **state.slots}


def _other_rows(epoch: int, batch: int, ours: Array, theirs: Array, agreed: dict[str, float]) -> Location:
    note = f"it took the rows {rows_in_words(ours)} instead of {rows_in_words(theirs)}"
    return Location("batch", epoch, batch, None, dict(agreed), (), {}, {}, note)


def _all_agree(updates: int, agreed: dict[str, float]) -> Location:
    note = f"each of the {updates} updates recorded deeply agrees by itself: more of them would reach further"
    return Location("state", 1, 0, None, agreed, (), {}, {}, note)


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
