"""Make recorded updates again, from their own gradients, with the optimizer that a run is meant to have."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from parity.explaining.diagnose import Diagnosis, diagnose
from parity.explaining.location import Location
from parity.explaining.replay import Replays
from parity.explaining.walk import Stop, walk
from parity.judging.floor import Floor, least_floor
from parity.judging.witness import Check, within_rounding
from parity.mistakes.catalogue import CATALOGUE
from parity.mistakes.stepwise import Stepwise
from parity.nn.updates import slot_names
from parity.recording.steps import Lazy, Phase, Step, epochs_and_batches, update_at
from parity.spec import Case, Dataset, Loss, Optimizer, optimizer_from
from parity.tolerance import FACTOR
from parity.trainer import Build, State, Trained, Trainer, Verbs
from parity.trajectory import Trajectory
from parity.typing import Array, Batches, Params

UPDATES = tuple(known for known in CATALOGUE if known.phase is Phase.UPDATE and not known.at_the_end)
"""The mistakes that a recording of a run's first updates can show."""
SAMPLE = 1 << 14
"""This many values of a tensor are enough to tell one optimizer from another."""


class Updates:
    """A run's recorded updates, made again from its own gradients with the optimizer that it is meant to have."""

    def __init__(self, run: Trajectory, steps: Sequence[Step], optimizer: Optimizer) -> None:
        # The optimizer does not touch a tensor without a gradient, such as running statistics.
        moved = [frozenset(step.gradients) for step in steps]
        trained = [name for name in run.params if all(name in names for names in moved)]
        self.shapes = {name: run.params[name].shape[1:] for name in trained}
        self.slots = slot_names(optimizer)
        self.steps = Lazy(len(steps), lambda number: _selected(steps[number], self.shapes, self.slots))
        self.run, self.optimizer, self.dtype = run, optimizer, run.meta["dtype"]

    def first_mistaken(self) -> tuple[int, Location] | None:
        """Find the first update whose result is more than 64 roundings from the optimizer's: its number and place."""
        stops = (
            Stop(
                epoch=epoch,
                batch=batch,
                checks={Phase.UPDATE: checks},
                gradient=step.gradients,
                params=step.before.params,
            )
            for step, checks, (epoch, batch) in zip(
                self.steps, self._made(self.optimizer), epochs_and_batches(self.run), strict=False
            )
        )
        found, _ = walk(stops)
        return None if found is None else (update_at(self.run, found.epoch, found.batch), replace(found, agreed={}))

    def left_by(self, optimizer: Optimizer, until: int | None = None) -> float:
        """Measure how far the results, up to an update, are from another optimizer's, in noise floors."""
        left = [checks[0].floors for checks in itertools.islice(self._made(optimizer), until)]
        return max(left) if left and len(left) == len(self.steps[:until]) else math.inf

    def _made(self, optimizer: Optimizer) -> Iterator[list[Check]]:
        """Hold the parameters after each update against an optimizer's, the farthest first, while those are finite."""
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
        """Replay the mistakes in the optimizer on the recorded gradients.

        An optimizer treats every value by itself, so a sample of a large tensor is enough, with its farthest value.

        Args:
            number: The first update that departs from the optimizer.
            there: Its place.
            until: The update before which the replays end.

        Returns:
            How well each mistake explains the run.
        """
        worst = {check.tensor: check.worst.index for check in there.parts if check.worst is not None}
        places = {name: _sample(shape, worst.get(name)) for name, shape in self.shapes.items()}
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
    """Say how many times the least noise floor is allowed after a number of updates.

    Each update may be less than half a unit in the last place, and be lost. That is one rounding more for each update,
    while 64 roundings are tolerated of one.
    """
    return 1 + updates / (4 * FACTOR)


def _sample(shape: tuple[int, ...], worst: tuple[int, ...] | None) -> Array:
    """Choose the places of a flattened tensor that are looked at: all of a small one; the worst in any case."""
    size = math.prod(shape)
    evenly = np.arange(size) if size <= SAMPLE else np.linspace(0, size - 1, SAMPLE).astype(np.int64)
    return evenly if worst is None else np.union1d(evenly, [int(np.ravel_multi_index(worst, shape))])


def _selected(
    step: Step,
    shapes: Mapping[str, tuple[int, ...]],
    slots: Sequence[str],
    places: Mapping[str, Array] | None = None,
) -> Step:
    """Select parameters and slots of a step, and places of each; ValueError if they have other shapes."""

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

    # A prediction is no part of an update, and might be large.
    kept = replace(step, prediction=np.empty(0))
    return replace(kept, before=state(step.before), gradients=of(step.gradients), after=state(step.after))


def optimizer_said(run: Trajectory) -> Optimizer | None:
    """Read the optimizer that a run declares; None if it declares none, or not in the words of ``parity.spec``."""
    said = run.meta.get("hyper_parameters")
    text = said.get("optimizer") if isinstance(said, dict) else None
    return optimizer_from(text) if isinstance(text, str) else None


@dataclass(frozen=True)
class OneByOne:
    """A batch order in which row k is the only batch of epoch k + 1."""

    ordered = True

    def epochs(self, rows: int) -> Iterator[Batches]:
        return ((np.array([row]),) for row in itertools.cycle(range(rows)))


def playback(steps: Sequence[Step], start: State) -> Verbs:
    """Make verbs which return, for row k, what was recorded at update k, whatever the parameters are."""

    def gradients(x: Array, y: Array) -> tuple[float, Params]:
        step = steps[int(x[0])]
        return float(step.trained), step.gradients

    def no_model(x: Array) -> Array:
        raise NotImplementedError("a recorded update has no model to ask")

    def no_training(segments: Sequence[Batches], inputs: Sequence[Array] = ()) -> Trained:
        raise NotImplementedError("a recorded update is made again by its rule: see Stepwise")

    # The recorded answers do not depend on the state that is loaded.
    return Verbs(
        predict=no_model, gradients=gradients, train=no_training, export=lambda: start, load=lambda state: None
    )


def playing(steps: Sequence[Step]) -> Build:
    """Make an implementation of recorded gradients, whose updates NumPy makes with the case's optimizer."""

    def build(case: Case, dtype: str, device: str) -> Trainer:
        initial, names = case.initial(), slot_names(case.optimizer)
        # A slot that was not recorded begins at zero, as at the beginning of training.
        slots = {f"{slot}/{name}": np.zeros_like(p) for slot in names for name, p in initial.items()}
        begun = State(initial, slots | steps[0].before.slots, steps[0].before.step)
        return Stepwise(playback(steps, begun), case, dtype)

    return build


def played(steps: Sequence[Step], optimizer: Optimizer) -> Case:
    """Make a case of recorded updates: row k stands for the batch of update k, and an epoch is one update."""
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
