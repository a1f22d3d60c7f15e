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
from parity.locate import UNRECORDED, Location, pattern, with_loss
from parity.planting import Stepwise
from parity.spec import Array, Batches, Case, Dataset, Loss, Optimizer, Params, optimizer_from
from parity.tolerance import FACTOR, strays
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
    if location.phase == "batch":
        return None
    sides = (run, other, "first"), (other, run, "second")
    batches = max(1, run.loss.shape[1])
    number = (location.epoch - 1) * batches + location.batch
    if location.phase == UNRECORDED:  # seen at the end of an epoch, which any update before may have made
        number = location.epoch * batches
    mistakes = {"loss": _scales, "gradient": _added_up}.get(location.phase)
    tried = _tried(sides, location, number, mistakes) if mistakes and (number or mistakes is _scales) else None
    if tried is not None and tried.explanations:
        return tried
    # From other states everything differs: then updates that are wrong by themselves say more.
    return (_of_updates(sides, location, number) if number or location.phase == "update" else None) or tried


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
    return next((one for one in found if one.explanations), replace(found[0], location=location))


def _diagnosis(location: Location, replays: tuple[Replay, ...] = (), untried: str = "") -> Diagnosis:
    untouched = location.check.floors if replays and location.check else None
    return Diagnosis(location, pattern(location), replays, untouched, 1, False, untried)


def _scales(steps: Sequence[Step], theirs: Step, number: int) -> dict[str, list[Params]]:
    """The other's loss and gradients as other reductions make them."""
    rows = max(1, len(theirs.rows))
    each = max(1, theirs.prediction.size // rows)
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


def _of_updates(sides: Sides, location: Location, number: int) -> Diagnosis | None:
    """The run whose updates are the first that are not its optimizer's; of an update that parts, the reason else."""
    found: list[tuple[int, Updates, str]] = []
    for mine, other, which in sides:
        optimizer, steps = optimizer_of(mine, other), steps_of(mine)
        if optimizer is not None and steps:
            updates = Updates(mine, steps, optimizer)
            first = updates.first_mistaken()
            if first is not None:
                found.append((first, updates, which))
    if not found:
        return _diagnosis(location, untried=_untried(sides)) if location.phase == "update" else None
    first, updates, which = min(found, key=lambda one: one[0])
    note = f"it is the {which} run whose updates, made again from its own gradients, are not those of its optimizer"
    # What makes runs part may be beyond the roundings of its own updates later than of what follows from them.
    there = updates.location(first) if first < number else location
    diagnosis = updates.diagnose(first)
    return replace(diagnosis, location=replace(there, note=note), pattern=pattern(there))


def _untried(sides: Sides) -> str:
    said = [optimizer_of(mine, other) for mine, other, _ in sides]
    if said[0] is None:
        return "neither run says its optimizer, as parity.recorder lets it"
    which = f"{said[0]}" if said[0] == said[1] else f"{said[0]} and {said[1]}"
    return f"each run's updates are those of the optimizer that it says it has: {which}"


class Updates:
    """A run's recorded updates, made again from its own gradients by the optimizer that it is meant to have."""

    def __init__(self, run: Trajectory, steps: Sequence[Step], optimizer: Optimizer) -> None:
        self.steps, self.case, self.batches = steps, played(steps, optimizer), max(1, run.loss.shape[1])
        initial = self.case.initial()
        states = [steps[0].before, *(step.after for step in steps)]
        self.made = Trajectory(
            run.meta,
            np.arange(len(states)),
            np.array([[step.trained] for step in steps]).reshape(len(steps), 1),
            {name: np.stack([state.params[name] for state in states]) for name in initial},
            {},
        )

        def build(case: Case, dtype: str, device: str) -> Trainer:
            # A slot that was not recorded begins at zero, as it does where training begins.
            names = slot_names(case.optimizer)
            slots = {f"{slot}/{name}": np.zeros_like(p) for slot in names for name, p in initial.items()}
            return Stepwise(Playback(steps, State(initial, slots | steps[0].before.slots)), case, dtype)

        self.floor = least_floor(self.made)
        self.replays = Replays(build, self.case, UPDATES)
        right = self.replays.path((), len(steps))
        assert right is not None
        self.right = right

    def first_mistaken(self) -> int | None:
        """The first update, from 0, whose result is not the optimizer's, beyond 64 roundings."""
        shares = [
            strayed / np.maximum(FACTOR * self.floor.params[name], np.finfo(float).tiny)
            for name, strayed in strays(self.made, self.right).items()
            if name != "loss"
        ]
        wrong = np.flatnonzero(~(np.max(shares, axis=0) <= 1))
        return max(0, int(wrong[0]) - 1) if len(wrong) else None

    def location(self, number: int) -> Location:
        """The update as a place, held against what the optimizer makes of it."""
        step = self.steps[number]
        wanted = {name: values[number + 1] for name, values in self.right.params.items()}
        checks = within_rounding(step.after.params, wanted, self.made.meta["dtype"])
        parts = tuple(check for check in checks if not check.agrees) or tuple(checks[:1])
        epoch, batch = number // self.batches + 1, number % self.batches
        return Location("update", epoch, batch, parts[0], {}, parts, step.gradients, step.before.params)

    def diagnose(self, number: int) -> Diagnosis:
        """Which mistake in the optimizer makes of the gradients what was recorded after them."""
        there = replace(self.location(number), epoch=number + 1, batch=0)
        return diagnose(self.made, there, self.replays, self.floor, self.made.meta["dtype"])


def optimizer_said(run: Trajectory) -> Optimizer | None:
    """The optimizer that a run says it has; None where it says none, or in words that are not ``parity.spec``'s."""
    said = run.meta.get("hyper_parameters")
    text = said.get("optimizer") if isinstance(said, dict) else None
    return optimizer_from(text) if isinstance(text, str) else None


def optimizer_of(run: Trajectory, other: Trajectory) -> Optimizer | None:
    """The optimizer that a run is meant to have: what it says, or, where it says none, what the other says."""
    return optimizer_said(run) or optimizer_said(other)


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
