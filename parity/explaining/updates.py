"""Recorded updates made again from their own gradients, by the optimizer that a run is meant to have."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from parity.explaining.diagnose import Diagnosis, diagnose
from parity.explaining.location import Location
from parity.explaining.replay import Replays
from parity.judging.floor import Floor, least_floor
from parity.judging.witness import Check, within_rounding
from parity.mistakes.catalogue import CATALOGUE
from parity.mistakes.stepwise import Stepwise
from parity.nn.updates import slot_names
from parity.recording.steps import Phase, Step
from parity.spec import Case, Dataset, Loss, Optimizer, optimizer_from
from parity.tolerance import FACTOR
from parity.trainer import Build, State, Trained, Trainer, Verbs
from parity.trajectory import Trajectory
from parity.typing import Array, Batches, Params

UPDATES = tuple(known for known in CATALOGUE if known.phase is Phase.UPDATE and not known.at_the_end)
SAMPLE = 1 << 14
"""So many values of a tensor are enough to tell one optimizer from another."""


class Updates:
    """A run's recorded updates, made again from its own gradients by the optimizer that it is meant to have."""

    def __init__(self, run: Trajectory, steps: Sequence[Step], optimizer: Optimizer) -> None:
        # What is not trained, as running statistics, has no gradient and is no optimizer's work.
        trained = [name for name in run.params if all(name in step.gradients for step in steps)]
        self.shapes = {name: run.params[name].shape[1:] for name in trained}
        self.slots = slot_names(optimizer)
        self.steps = [_selected(step, self.shapes, self.slots) for step in steps]
        self.optimizer, self.dtype, self.batches = optimizer, run.meta["dtype"], max(1, run.loss.shape[1])

    def first_mistaken(self) -> tuple[int, Location] | None:
        """The first update, from 0, whose result is not the optimizer's beyond 64 roundings, and what it is."""
        for number, (step, checks) in enumerate(zip(self.steps, self._made(self.optimizer), strict=False)):
            parts = tuple(check for check in checks if not check.agrees)
            if parts:
                there = Location(
                    phase=Phase.UPDATE,
                    epoch=number // self.batches + 1,
                    batch=number % self.batches,
                    parts=parts,
                    gradient=step.gradients,
                    params=step.before.params,
                )
                return number, there
        return None

    def left_by(self, optimizer: Optimizer, until: int | None = None) -> float:
        """How far the farthest of all results, or of those before an update, is from another optimizer's, in floors."""
        left = [checks[0].floors for checks in itertools.islice(self._made(optimizer), until)]
        return max(left) if left and len(left) == len(self.steps[:until]) else math.inf

    def _made(self, optimizer: Optimizer) -> Iterator[list[Check]]:
        """The parameters after each update against what an optimizer makes, farthest first, while that is finite."""
        if not self.shapes:
            return
        made = playing(self.steps)(played(self.steps, optimizer), "float64", "cpu")
        for number, step in enumerate(self.steps):
            with np.errstate(all="ignore"):
                made.train([(np.array([number]),)])
            wanted = made.export().params
            if not all(np.isfinite(value).all() for value in wanted.values()):
                return
            yield within_rounding(step.after.params, wanted, self.dtype, times=_lost(number + 1))

    def diagnose(self, number: int, there: Location, until: int | None = None) -> Diagnosis:
        """Which mistake in the optimizer makes of the gradients what was recorded after them, ``until`` some update.

        An optimizer treats every value by itself: of large tensors a sample is enough, with what is farthest off.
        """
        worst = {check.tensor: check.worst.index for check in there.parts if check.worst is not None}
        places = {name: _places(shape, worst.get(name)) for name, shape in self.shapes.items()}
        steps = [_selected(step, self.shapes, self.slots, places) for step in self.steps[:until]]
        states = [steps[0].before, *(step.after for step in steps)]
        updated = Trajectory(
            {"dtype": self.dtype},
            np.arange(len(states)),
            np.array([[step.trained] for step in steps]).reshape(len(steps), 1),
            {name: np.stack([state.params[name] for state in states]) for name in places},
            {},
        )
        replays, floor = Replays(playing(steps), played(steps, self.optimizer), UPDATES), least_floor(updated)
        lost = np.array([_lost(count) for count in range(len(states))])
        floor = Floor(floor.loss, {name: values * lost for name, values in floor.params.items()})
        there = replace(there, epoch=number + 1, batch=0)
        return diagnose(updated, there, replays, floor, self.dtype)


def _lost(updates: int) -> float:
    """How many times the least noise floor is a run's after so many updates.

    Each may be less than half a unit in the last place, and be lost: a rounding, of the 64 that are tolerated of one.
    """
    return 1 + updates / (4 * FACTOR)


def _places(shape: tuple[int, ...], worst: tuple[int, ...] | None) -> Array:
    """The places, in the flattened tensor, that a sample of it has: all of a small one."""
    size = math.prod(shape)
    evenly = np.arange(size) if size <= SAMPLE else np.linspace(0, size - 1, SAMPLE).astype(np.int64)
    return evenly if worst is None else np.union1d(evenly, [int(np.ravel_multi_index(worst, shape))])


def _selected(
    step: Step,
    shapes: Mapping[str, tuple[int, ...]],
    slots: Sequence[str],
    places: Mapping[str, Array] | None = None,
) -> Step:
    """What is recorded of these parameters and slots, at those places of each; ValueError where it has other shapes."""

    def of(values: Params, slot: str = "") -> Params:
        found = {}
        for name, shape in shapes.items():
            value = np.asarray(values[slot + name])
            if value.shape != shape:
                raise ValueError(f"{slot}{name} of update {step.number} is {value.shape}, the parameter {shape}")
            found[slot + name] = value if places is None else value.reshape(-1)[places[name]]
        return found

    def state(whole: State) -> State:
        kept: Params = {}
        for slot in slots:
            if all(f"{slot}/{name}" in whole.slots for name in shapes):
                kept |= of(whole.slots, f"{slot}/")
        return State(of(whole.params), kept, whole.step)

    return replace(step, before=state(step.before), gradients=of(step.gradients), after=state(step.after))


def optimizer_said(run: Trajectory) -> Optimizer | None:
    """The optimizer that a run says it has; None where it says none, or in words that are not ``parity.spec``'s."""
    said = run.meta.get("hyper_parameters")
    text = said.get("optimizer") if isinstance(said, dict) else None
    return optimizer_from(text) if isinstance(text, str) else None


@dataclass(frozen=True)
class OneByOne:
    """Row k is the only batch of epoch k + 1."""

    ordered = True

    def epochs(self, rows: int) -> Iterator[Batches]:
        return ((np.array([row]),) for row in itertools.cycle(range(rows)))


def playback(steps: Sequence[Step], start: State) -> Verbs:
    """Verbs that answer for row k what was recorded at update k, whatever the parameters are."""

    def gradients(x: Array, y: Array) -> tuple[float, Params]:
        step = steps[int(x[0])]
        return float(step.trained), step.gradients

    def no_model(x: Array) -> Array:
        raise NotImplementedError("a recorded update has no model to ask")

    def no_training(segments: Sequence[Batches], inputs: Sequence[Array] = ()) -> Trained:
        raise NotImplementedError("a recorded update is made again by its rule: see Stepwise")

    # Nothing that was recorded depends on what is loaded.
    return Verbs(
        predict=no_model, gradients=gradients, train=no_training, export=lambda: start, load=lambda state: None
    )


def playing(steps: Sequence[Step]) -> Build:
    """Recorded gradients as an implementation: what follows them is done in NumPy, by the case's optimizer."""

    def build(case: Case, dtype: str, device: str) -> Trainer:
        initial, names = case.initial(), slot_names(case.optimizer)
        # A slot that was not recorded begins at zero, as it does where training begins.
        slots = {f"{slot}/{name}": np.zeros_like(p) for slot in names for name, p in initial.items()}
        return Stepwise(playback(steps, State(initial, slots | steps[0].before.slots)), case, dtype)

    return build


def played(steps: Sequence[Step], optimizer: Optimizer) -> Case:
    """Recorded updates as a case: row k stands for what went into update k, and an epoch is one update."""
    rows = np.arange(len(steps))
    data = Dataset(rows, rows)
    initial = {name: value.astype(np.float64) for name, value in steps[0].before.params.items()}
    return Case(
        name="recorded-updates",
        data=lambda: data,
        initial=lambda: initial,
        loss=Loss("total", "sum"),
        optimizer=optimizer,
        schedule=OneByOne(),
        epochs=len(steps),
    )
