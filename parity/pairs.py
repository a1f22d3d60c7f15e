"""Two deep recordings and no model: which mistake makes one of the other, as far as that can be read off them.

A loss or a gradient that differs is tried by its size and by what came before it. An update is made of a state and of
gradients: where both were recorded (see ``parity.deep``) it can be made again, by the optimizer as it should be and by
every mistaken one. For that the recorded gradients are played back, and the mistakes of the phase ``update`` replayed
on them as ``parity.diagnose`` replays mistakes on a reference.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from parity.crosscheck import least_floor
from parity.deep import Step, steps_of, within_rounding
from parity.diagnose import Diagnosis, Replay, Replays, diagnose
from parity.dtypes import unit
from parity.hypotheses import CATALOGUE
from parity.locate import Location, pattern, with_loss
from parity.planting import Stepwise
from parity.spec import Array, Batches, Case, Dataset, Loss, Optimizer, Params, optimizer_from
from parity.tolerance import FACTOR
from parity.trainer import State, Trained, Trainer
from parity.trainers.numpy_trainer import slot_names
from parity.trajectory import Trajectory

AT_THE_END = ("learning-rate-folded-into-the-velocity", "learning-rate-a-decay-step-off")
"""They are planted in a run's last epoch, which a recording of its first updates has not seen."""
UPDATES = tuple(known for known in CATALOGUE if known.phase == "update" and known.name not in AT_THE_END)
SENTENCES = {known.name: known.sentence for known in CATALOGUE}

Sides = Sequence[tuple[Trajectory, Trajectory, str]]
"""Each run, the other one, and which of the two it is."""


def explain_steps(run: Trajectory, other: Trajectory, location: Location) -> Diagnosis | None:
    """Why two runs part at ``location``, which a walk along what both recorded deeply has found.

    None where nothing can be tried. ValueError where what was recorded has other shapes.
    """
    sides = (run, other, "first"), (other, run, "second")
    number = (location.epoch - 1) * max(1, run.loss.shape[1]) + location.batch
    if location.phase == "loss":
        return _tried(sides, location, number, _scales)
    if location.phase == "gradient" and number:
        return _tried(sides, location, number, _added_up)
    return _of_update(sides, location, number) if location.phase == "update" else None


@dataclass(frozen=True)
class OneByOne:
    """Row k is the only batch of epoch k + 1."""

    ordered = True

    def epochs(self, rows: int) -> Iterator[Batches]:
        return ((np.array([row]),) for row in itertools.cycle(range(rows)))


class Playback:
    """A trainer that answers for row k what was recorded at update k, whatever its parameters are."""

    def __init__(self, steps: Sequence[Step], start: State) -> None:
        self.steps, self.start = steps, start

    def predict(self, x: Array) -> Array:
        raise NotImplementedError("a recorded update has no model to ask")

    def gradients(self, x: Array, y: Array) -> tuple[float, Params]:
        step = self.steps[int(x[0])]
        return float(step.trained), step.gradients

    def train(self, segments: Sequence[Batches], inputs: Sequence[Array] = ()) -> Trained:
        raise NotImplementedError("a recorded update is made again by its rule: see Stepwise")

    def export(self) -> State:
        return self.start

    def load(self, state: State) -> None:
        """Nothing that was recorded depends on it."""


def optimizer_said(run: Trajectory) -> Optimizer | None:
    """The optimizer that a run says it has; None where it says none, or in words that are not ``parity.spec``'s."""
    said = run.meta.get("hyper_parameters")
    text = said.get("optimizer") if isinstance(said, dict) else None
    return optimizer_from(text) if isinstance(text, str) else None


def _tried(
    sides: Sides, location: Location, number: int, mistakes: Callable[..., Mapping[str, Sequence[Params]]]
) -> Diagnosis:
    """What each run's loss and gradients would be with a mistake that the other has not, held against what they are."""
    found = []
    for mine, other, which in sides:
        dtype = max(mine.meta["dtype"], other.meta["dtype"], key=unit)
        steps, theirs = steps_of(mine), steps_of(other)[number]
        got = with_loss(float(steps[number].loss), steps[number].gradients)
        replays = [
            Replay((name,), location.phase, min(within_rounding(got, wanted, dtype)[0].floors for wanted in each))
            for name, each in mistakes(steps, theirs, number).items()
        ]
        note = f"what is explained is the {location.phase} of the {which} run, from the other's"
        ranked = tuple(sorted(replays, key=lambda replay: replay.floors))
        found.append(_diagnosis(replace(location, note=note), ranked))
    return next((one for one in found if one.explanations), found[0])


def _diagnosis(location: Location, replays: tuple[Replay, ...] = (), untried: str = "") -> Diagnosis:
    untouched = location.check.floors if replays and location.check else None
    return Diagnosis(location, pattern(location), replays, untouched, 1, False, untried)


def _scales(steps: Sequence[Step], theirs: Step, number: int) -> dict[str, list[Params]]:
    """The other's loss and gradients as other reductions make them."""
    rows = len(theirs.rows)
    each = max(1, theirs.prediction.size // max(1, rows))
    factors = {
        "sum-for-mean": (rows, rows * each),
        "mean-for-sum": (1 / rows, 1 / (rows * each)),
        "mean-over-classes": (1 / each,),
        "half-squared-error": (1 / 2,),
    }
    whole = with_loss(float(theirs.loss), theirs.gradients)
    return {
        name: [{tensor: factor * value for tensor, value in whole.items()} for factor in found]
        for name, found in factors.items()
    }


def _added_up(steps: Sequence[Step], theirs: Step, number: int) -> dict[str, list[Params]]:
    """The other's gradients on top of this run's last ones."""
    before = steps[number - 1].gradients
    added = {name: g + before[name] for name, g in theirs.gradients.items()}
    return {"gradient-not-zeroed": [with_loss(float(theirs.loss), added)]}


def _of_update(sides: Sides, location: Location, number: int) -> Diagnosis:
    said = []
    for mine, other, which in sides:
        # A run that says no optimizer is meant to have the other's.
        optimizer = optimizer_said(mine) or optimizer_said(other)
        if optimizer is None:
            return _diagnosis(location, untried="neither run says its optimizer, as parity.recorder lets it")
        found = explain_updates(mine, optimizer, location, number)
        # Where the rule as it should be leaves no more than noise, this run is right, and the other one is not.
        if found.untouched is not None and found.untouched > FACTOR:
            note = f"what is explained are the updates of the {which} run, from its own gradients"
            return replace(found, location=replace(location, note=note))
        said.append(optimizer)
    which = f"{said[0]}" if said[0] == said[1] else f"{said[0]} and {said[1]}"
    return _diagnosis(location, untried=f"each run's updates are those of the optimizer that it says it has: {which}")


def explain_updates(run: Trajectory, optimizer: Optimizer, location: Location, number: int) -> Diagnosis:
    """Which mistake in the optimizer makes of a run's recorded gradients what was recorded after them.

    ``location`` is where update ``number``, from 0, was found to part from another run's. ``untouched`` is what the
    optimizer as it should be leaves: within the noise, this run is right.
    """
    steps = steps_of(run)
    case = played(steps, optimizer)

    def build(case: Case, dtype: str, device: str) -> Trainer:
        # A slot that was not recorded begins at zero, as it does where training begins.
        zeros = {f"{slot}/{name}": np.zeros_like(p) for slot in slot_names(optimizer) for name, p in initial.items()}
        return Stepwise(Playback(steps, State(case.initial(), zeros | steps[0].before.slots)), case, dtype)

    initial = case.initial()
    states = [steps[0].before, *(step.after for step in steps)]
    updated = Trajectory(
        run.meta,
        np.arange(len(states)),
        np.array([[step.trained] for step in steps]).reshape(len(steps), 1),
        {name: np.stack([state.params[name] for state in states]) for name in initial},
        {},
    )
    there = replace(location, epoch=number + 1, batch=0)
    found = diagnose(updated, there, Replays(build, case, UPDATES), least_floor(updated), run.meta["dtype"])
    return replace(found, location=location)


def played(steps: Sequence[Step], optimizer: Optimizer) -> Case:
    """Recorded updates as a case: row k stands for what went into update k, and an epoch is one update."""
    rows = np.arange(len(steps))
    data = Dataset(rows, rows)
    initial = {name: value.astype(np.float64) for name, value in steps[0].before.params.items()}
    return Case(
        name="recorded-updates",
        source="a deep recording",
        data=lambda: data,
        initial=lambda: initial,
        loss=Loss("total", "sum"),
        optimizer=optimizer,
        schedule=OneByOne(),
        epochs=len(steps),
    )
