"""Make recorded updates again, from their own gradients, with the optimizer that a run is meant to have."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from parity.dtypes import unit
from parity.explaining.diagnose import Diagnosis, diagnose
from parity.explaining.location import Location
from parity.explaining.replay import Replays
from parity.explaining.updates.fits import Followed, Sample, residuals
from parity.explaining.updates.given import (
    Norms,
    accumulated,
    asks_to_clip,
    put_together,
    shortened,
    with_recorded_rates,
)
from parity.explaining.updates.played import played, playing
from parity.explaining.walk import Stop, walk
from parity.frameworks import known_framework
from parity.judging.floors.floor import Floor, least_floor
from parity.judging.floors.sight import moved_by_rounding
from parity.judging.moments import unit_of
from parity.judging.witness import Check, within_rounding
from parity.mistakes.catalogue import CATALOGUE
from parity.nn.updates import slot_names
from parity.recording.sketch import evenly
from parity.recording.steps import Lazy, Phase, Step, epochs_and_batches, update_at
from parity.spec import Optimizer
from parity.tolerance import FACTOR
from parity.trainer import State, Trainer
from parity.trajectory import Trajectory
from parity.typing import Array, Params

UPDATES = tuple(known for known in CATALOGUE if known.phase is Phase.UPDATE and not known.at_the_end)
"""The mistakes that a recording of a run's first updates can show."""
SAMPLE = 1 << 14
"""This many values of a tensor are enough to tell one optimizer from another."""
GRADIENTS_ASIDE = ("jax", "keras")
"""Frameworks whose gradients are recorded in an update that is made once more, beside the compiled one."""


class Updates:
    """A run's recorded updates, made again from its own gradients with the optimizer that it is meant to have."""

    def __init__(self, run: Trajectory, steps: Sequence[Step], optimizer: Optimizer) -> None:
        self.each = accumulated(steps)
        """Of how many of the run's steps an update is made: here updates are counted, outside steps."""
        self.run, self.said, self.dtype = run, optimizer, run.meta["dtype"]
        framework = known_framework(str(run.meta.get("implementation", "")))
        self._aside = framework is not None and framework.name in GRADIENTS_ASIDE
        self._take(put_together(steps, self.each))
        if self.each > 1 and (far := self.farthest()) > FACTOR:
            self._take(put_together(steps, self.each, last=True))
            if self.farthest() > far:
                self._take(put_together(steps, self.each))

    def _take(self, steps: Sequence[Step]) -> None:
        """Make these updates again, and forget others."""
        run, optimizer = self.run, self.said
        # The optimizer does not touch a tensor without a gradient, such as running statistics. Where a gradient is zero
        # but for rounding, its update tells nothing.
        moved = [frozenset(step.gradients) for step in steps]
        every = [name for name in run.params if all(name in names for names in moved)]
        zero = set(moved_by_rounding((run,)))
        trained = [name for name in every if name not in zero] or every
        self.shapes = {name: run.params[name].shape[1:] for name in trained}
        self.slots = slot_names(optimizer)
        self.norms = Norms(steps)
        if optimizer.clipping is not None and not asks_to_clip(optimizer.clipping, run, self.norms, len(steps)):
            optimizer = replace(optimizer, clipping=None)
        self.optimizer = with_recorded_rates(optimizer, run, self.each)
        """The optimizer, which says the run's recorded learning rates, and no clipping of what is clipped already."""
        self.raw = Lazy(len(steps), lambda number: _selected(steps[number], self.shapes, self.slots))
        """The updates with the gradients that were recorded."""
        self._samples: dict[int | None, Sample] = {}
        self._mistaken: tuple[tuple[int, Location] | None] | None = None
        self._replayed: tuple[int | None, tuple[Trajectory, Replays, Floor]] | None = None

    @property
    def sample(self) -> Sample:
        """Some values of each tensor, to which numbers are fitted."""
        return self.sample_until(None)

    def sample_until(self, until: int | None) -> Sample:
        """Take the same of the updates before one."""
        until = self._counted(until)
        if until not in self._samples:
            norms = None if self.optimizer.clipping is None else self.norms
            self._samples[until] = Sample(self.raw[:until], list(self.shapes), self.dtype, self.slots, norms)
        return self._samples[until]

    @property
    def scheduled(self) -> bool:
        """Tell whether the learning rate changes, as the optimizer says it or as the run recorded it."""
        return self.optimizer.rates is not None

    def steps_of(self, optimizer: Optimizer) -> Sequence[Step]:
        """Give the updates with their gradients as an optimizer gets them: clipped, if it clips."""
        asked = optimizer.clipping
        if asked is None:
            return self.raw

        def clipped(number: int) -> Step:
            step, own, whole = self.raw[number], self.norms(number), self.norms.whole(number)
            wide = {name: np.asarray(g, np.float64) for name, g in step.gradients.items()}
            return replace(step, gradients={name: shortened(asked, g, own[name], whole) for name, g in wide.items()})

        return Lazy(len(self.raw), clipped)

    @property
    def steps(self) -> Sequence[Step]:
        """The updates with their gradients as the run's own optimizer gets them."""
        return self.steps_of(self.optimizer)

    def expected_rates(self, count: int) -> Array:
        """Give the learning rates of the first updates: those that the run recorded, else those of its optimizer."""
        return self.sample.rates(self.optimizer)[:count]

    def has_rates(self, found: Followed) -> bool:
        """Tell whether the learning rates that were fitted to the updates are the expected ones, but for rounding."""
        expected = self.expected_rates(len(found.rates))
        return bool(np.all(np.abs(found.rates - expected) <= found.unsure + unit(self.dtype) * np.abs(expected)))

    def departs(self) -> tuple[int, float] | None:
        """Find the update that is farthest from the optimizer's, made from the run's own state before it.

        Returns:
            The first update that departs, and how far the farthest does, in noise floors; None if none departs.
        """
        far = self._departures()
        if not np.any(far > FACTOR):
            return None
        return int(np.argmax(far > FACTOR)) * self.each + self.each - 1, float(np.max(far))

    def farthest(self) -> float:
        """Measure how far the update that is farthest from the optimizer's is from it, in noise floors."""
        return float(np.max(self._departures(), initial=0.0))

    @np.errstate(all="ignore")  # a recording may hold any numbers
    def _departures(self) -> Array:
        if not self.shapes or not len(self.steps):
            return np.zeros(0)
        rates = self.expected_rates(len(self.steps))
        left = residuals(self.sample, self.optimizer)
        left = np.maximum(np.abs(left) - rates[:, None] * self.effect_of_strays(self.optimizer), 0.0)
        far: Array = np.max(self.sample.left(self.sample.after - left), axis=1, initial=0.0)
        return far

    def effect_of_strays(self, optimizer: Optimizer, until: int | None = None) -> Array:
        """Say what rounding in the recorded gradients makes of each step, at a learning rate of one.

        Where gradients are recorded aside, the run's own are others by a rounding. Adam makes as long a step of one
        that is rounding alone as of any, and where one is as small as its epsilon the step follows its rounding.

        Returns:
            (updates, values) of the sample; zeros where the gradients are the run's own.
        """
        sample = self.sample_until(until)
        effect = np.zeros_like(sample.gradients)
        strays = np.array([[of[name] for name in sample.names] for of in self._strays(self._counted(until))])
        if strays.any():
            along, _ = sample.directions(optimizer)
            aside = copy.copy(sample)
            for sign in (1, -1):
                aside.gradients = sample.gradients + sign * strays[:, sample.ids]
                effect = np.maximum(effect, np.abs(aside.directions(optimizer)[0] - along))
        return effect

    def _strays(self, until: int | None = None) -> Iterator[Mapping[str, float]]:
        """Yield of each update how far rounding moved each of its gradients, as far as that was measured.

        Of no update where the gradients are the run's own: to look at one is to read it.
        """
        for step in self.steps[:until] if self._aside else ():
            each = step.strays.get(Phase.GRADIENT, ())
            yield {name: max((one.get(name, 0.0) for one in each), default=0.0) for name in self.shapes}

    def _moments(self) -> Iterator[tuple[int, int]]:
        """Count the epoch and the batch of the step that ends each update."""
        return itertools.islice(epochs_and_batches(self.run), self.each - 1, None, self.each)

    def _counted(self, step: int | None) -> int | None:
        """Count the updates before a step of the run."""
        return None if step is None else step // self.each

    def first_mistaken(self) -> tuple[int, Location] | None:
        """Find the first update whose result is more than 64 roundings from the optimizer's: its number and place."""
        if self._mistaken is None:
            self._mistaken = (self._find_mistaken(),)
        return self._mistaken[0]

    def _find_mistaken(self) -> tuple[int, Location] | None:
        stops = (
            Stop(
                epoch=epoch,
                batch=batch,
                checks={Phase.UPDATE: checks},
                gradient=step.gradients,
                params=step.before.params,
                unit=unit_of(self.run),
            )
            for step, checks, (epoch, batch) in zip(
                self.steps, self._made(self.optimizer), self._moments(), strict=False
            )
        )
        found, _ = walk(stops)
        return None if found is None else (update_at(self.run, found.epoch, found.batch), replace(found, agreed={}))

    def largest_mistaken(self, first: int) -> int:
        """Find the update that departs from the optimizer so far that the first one that departs is small beside it.

        Each update is made again from its own state. Small is what half of the dtype's digits do not reach.

        Args:
            first: The first update that departs.

        Returns:
            The number of the first update that departs that far; ``first`` if none does.
        """
        far = self._departures()
        beyond = far > max(far[first // self.each], 1.0) / math.sqrt(unit(self.dtype))
        return int(np.argmax(beyond)) * self.each + self.each - 1 if beyond.any() else first

    def place_of(self, number: int) -> Location:
        """Hold the parameters after one update against the optimizer's, made from the state before it."""
        number //= self.each
        checks = next(itertools.islice(self._made(self.optimizer, own=True), number, None))
        epoch, batch = next(itertools.islice(self._moments(), number, None))
        step = self.steps[number]
        unit, params = unit_of(self.run), step.before.params
        stop = Stop(epoch=epoch, batch=batch, checks={}, gradient=step.gradients, params=params, unit=unit)
        return stop.at(Phase.UPDATE, tuple(check for check in checks if not check.agrees))

    def left_by(self, optimizer: Optimizer, until: int | None = None) -> float:
        """Measure how far the results, up to an update, are from another optimizer's, in noise floors."""
        until = self._counted(until)
        left = [checks[0].floors for checks in itertools.islice(self._made(optimizer), until)]
        return max(left) if left and len(left) == len(self.steps[:until]) else math.inf

    def _made(self, optimizer: Optimizer, own: bool = False) -> Iterator[list[Check]]:
        """Hold the parameters after each update against an optimizer's, the farthest first, while those are finite.

        The updates follow each other, or each begins from the run's ``own`` parameters.
        """
        if not self.shapes:
            return
        strays = list(self._strays())
        moved = (0, 1, -1) if any(any(of.values()) for of in strays) else (0,)
        steps = self.steps_of(optimizer)
        every = [self._player(optimizer, steps, strays, sign) for sign in moved]
        for number, step in enumerate(steps):
            for made in every:
                if own:
                    made.load(replace(made.export(), params=step.before.params))
                with np.errstate(all="ignore"):
                    made.train([(np.array([number]),)])
            wanted, *others = (made.export().params for made in every)
            if not all(np.isfinite(value).all() for value in wanted.values()):
                return
            # What rounding in the gradients may make of the update is allowed.
            if others:
                ends = {name: [of[name] for of in (wanted, *others)] for name in wanted}
                wanted = {name: np.clip(step.after.params[name], np.minimum.reduce(of), np.maximum.reduce(of))
                          for name, of in ends.items()}  # fmt: skip
            yield within_rounding(step.after.params, wanted, self.dtype, times=1 if own else _lost(number + 1))

    def _player(
        self, optimizer: Optimizer, steps: Sequence[Step], strays: Sequence[Mapping[str, float]], sign: int
    ) -> Trainer:
        """Make the recorded updates with an optimizer, of gradients that are moved as far as they stray, or not."""

        def moved(number: int) -> Step:
            step, far = steps[number], strays[number]
            return replace(step, gradients={name: value + sign * far[name] for name, value in step.gradients.items()})

        steps_moved = Lazy(len(steps), moved) if sign else steps
        return playing(steps_moved)(played(steps_moved, optimizer), "float64", "cpu")

    def diagnose(self, number: int, there: Location, until: int | None = None, singly: bool = False) -> Diagnosis:
        """Replay the mistakes in the optimizer on the recorded gradients.

        An optimizer treats every value by itself, so a sample of a large tensor is enough, with its farthest value.

        Args:
            number: The first update that departs from the optimizer.
            there: Its place.
            until: The update before which the replays end.
            singly: Whether each mistake is tried by itself alone.

        Returns:
            How well each mistake explains the run.
        """
        updated, replays, floor = self._replays(there, self._counted(until))
        there = replace(there, epoch=number // self.each + 1, batch=0)
        return diagnose(updated, there, replays, floor, self.dtype, singly=singly)

    def _replays(self, there: Location, until: int | None) -> tuple[Trajectory, Replays, Floor]:
        """Make a run of the recorded updates, and what replays mistakes on it; once, however often it is asked for."""
        if self._replayed is not None and self._replayed[0] == until:
            return self._replayed[1]
        worst = {check.tensor: check.worst.index for check in there.parts if check.worst is not None}
        # Of many tensors a part of each is enough.
        most = max(1, 4 * SAMPLE // max(4, len(self.shapes)))
        places = {name: _sample(shape, worst.get(name), most) for name, shape in self.shapes.items()}
        steps = [_selected(step, self.shapes, self.slots, places) for step in itertools.islice(self.steps, until)]
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
        self._replayed = until, (updated, replays, floor)
        return self._replayed[1]


def _lost(updates: int) -> float:
    """Say how many times the least noise floor is allowed after a number of updates.

    Each update may be less than half a unit in the last place, and be lost. That is one rounding more for each update,
    while 64 roundings are tolerated of one.
    """
    return 1 + updates / (4 * FACTOR)


def _sample(shape: tuple[int, ...], worst: tuple[int, ...] | None, most: int) -> Array:
    """Choose the places of a flattened tensor that are looked at: all of a small one; the worst in any case."""
    places = evenly(math.prod(shape), most)
    return places if worst is None else np.union1d(places, [int(np.ravel_multi_index(worst, shape))])


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
