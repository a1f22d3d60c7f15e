"""Two deep recordings and no model: which mistake makes one of the other, as far as that can be read off them.

A loss or a gradient that differs is tried by its size and by what came before it. An update is made of a state and of
gradients: where both were recorded (see ``parity.deep``) it can be made again, by the optimizer as it should be and by
every mistaken one. For that the recorded gradients are played back, and the mistakes of the phase ``update`` replayed
on them as ``parity.diagnose`` replays mistakes on a reference.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from parity.crosscheck import least_floor
from parity.deep import Noise, Step, steps_of, within_rounding
from parity.diagnose import Diagnosis, Replay, Replays, diagnose
from parity.dtypes import unit
from parity.hypotheses import CATALOGUE
from parity.locate import UNRECORDED, Check, Location, multiple, pattern, with_loss
from parity.planting import Stepwise
from parity.spec import Array, Batches, Case, Dataset, Loss, Optimizer, Params, Sgd, optimizer_from
from parity.tolerance import FACTOR, Build, Floor
from parity.trainer import State, Trained, Trainer
from parity.trainers.numpy_trainer import slot_names
from parity.trajectory import Trajectory

AT_THE_END = ("learning-rate-folded-into-the-velocity", "learning-rate-a-decay-step-off")
"""They are planted in a run's last epoch, which a recording of its first updates has not seen."""
UPDATES = tuple(known for known in CATALOGUE if known.phase == "update" and known.name not in AT_THE_END)
SAMPLE = 1 << 14
"""So many values of a tensor are enough to tell one optimizer from another."""
OTHER_RATE = "another-learning-rate"
SENTENCES = {known.name: known.sentence for known in CATALOGUE} | {
    OTHER_RATE: "The learning rate is not the one that it is said to be."
}


@dataclass(frozen=True)
class Side:
    """One run of a pair: which it is, what it recorded deeply, and the optimizer that it is meant to have."""

    which: str
    run: Trajectory
    steps: Sequence[Step]
    optimizer: Optimizer | None


def explain_steps(
    run: Trajectory, other: Trajectory, location: Location, noise: Noise | None = None
) -> Diagnosis | None:
    """Why two runs part at ``location``, which a walk along what both recorded deeply has found; ``noise`` as there.

    None where nothing can be tried. ValueError where what was recorded has other shapes.
    """
    if location.phase == "batch" or not location.finite:
        return None
    # A run that says no optimizer is meant to have the other's.
    said = optimizer_said(run), optimizer_said(other)
    sides = (
        Side("first", run, steps_of(run), said[0] or said[1]),
        Side("second", other, steps_of(other), said[1] or said[0]),
    )
    batches = max(1, run.loss.shape[1])
    number = (location.epoch - 1) * batches + location.batch
    if location.phase == UNRECORDED:  # seen at the end of an epoch, which any update before may have made
        number = location.epoch * batches
    mistakes = {"loss": _other_losses, "gradient": _added_up}.get(location.phase)
    tried = None
    if mistakes:
        if location.phase == "gradient" and len({frozenset(side.steps[number].gradients) for side in sides}) > 1:
            return None  # not the same is trained in both
        tried = _tried(sides, location, number, mistakes, noise.at(number) if noise else {})
    if tried is not None and tried.explanations:
        return tried
    # From other states everything differs: then updates that are wrong by themselves say more.
    return (_of_updates(sides, location, number) if number or location.phase == "update" else None) or tried


def _tried(
    sides: tuple[Side, Side],
    location: Location,
    number: int,
    mistakes: Callable[[Side, Step], Mapping[str, Sequence[Params]]],
    strayed: Mapping[str, Sequence[Mapping[str, float]]],
) -> Diagnosis | None:
    """What each run's loss and gradients would be with a mistake that the other has not, held against what they are."""
    dtype = max((side.run.meta["dtype"] for side in sides), key=unit)
    # A loss and its gradients stray together, and are one comparison here.
    repeated = (strayed.get(phase, ()) for phase in ("loss", "gradient"))
    noise = [{**loss, **gradients} for loss, gradients in zip(*repeated, strict=True)]
    found = []
    for mine, other in (sides, sides[::-1]):
        step = mine.steps[number]
        got = with_loss(float(step.loss), step.gradients)
        replays = [
            Replay((name,), location.phase, min(_left(got, wanted, dtype, noise) for wanted in each))
            for name, each in mistakes(mine, other.steps[number]).items()
        ]
        if not replays:
            return None
        note = (
            f"what is explained is the {location.phase} of the {mine.which} run, from the other's: which of the two is "
            "meant, recordings do not tell"
        )
        ranked = tuple(sorted(replays, key=lambda replay: replay.floors))
        found.append(_diagnosis(replace(location, note=note), ranked))
    return next((one for one in found if one.explanations), replace(found[0], location=location))


def _left(got: Params, wanted: Params, dtype: str, noise: Sequence[Mapping[str, float]]) -> float:
    """How far the farthest tensor is off, in noise floors."""
    return within_rounding(got, wanted, dtype, noise)[0].floors


def _diagnosis(location: Location, replays: tuple[Replay, ...] = (), untried: str = "") -> Diagnosis:
    untouched = location.check.floors if replays and location.check else None
    return Diagnosis(location, pattern(location), replays, untouched, 1, False, untried)


def _other_losses(mine: Side, theirs: Step) -> dict[str, list[Params]]:
    """The other's loss and gradients as other reductions make them, or a penalty that is part of them."""
    rows = max(1, len(theirs.rows))
    each = max(1, theirs.prediction.size // rows)
    factors = {
        "sum-for-mean": (rows, rows * each),
        "mean-for-sum": (1 / rows, 1 / (rows * each)),
        "mean-over-classes": (1 / each,),
        "half-squared-error": (1 / 2,),
    }
    whole = with_loss(float(theirs.loss), theirs.gradients)
    found = {
        name: [{tensor: factor * value for tensor, value in whole.items()} for factor in some]
        for name, some in factors.items()
    }
    decay = mine.optimizer.weight_decay if isinstance(mine.optimizer, Sgd) else 0.0
    if decay:
        params = {name: p for name, p in theirs.before.params.items() if name in theirs.gradients}
        squares = {name: float(np.sum(np.square(p, dtype=np.float64))) for name, p in params.items()}
        found["weight-decay-in-the-reported-loss"] = [
            whole
            | {"loss": whole["loss"] + decay / 2 * sum(squares[name] for name in names)}
            | {name: whole[name] + decay * params[name] for name in names if through}
            for names in (list(params), [name for name in params if not name.endswith("bias")])
            for through in (False, True)
        ]
    return found


def _added_up(mine: Side, theirs: Step) -> dict[str, list[Params]]:
    """The other's gradients on top of this run's last ones."""
    if not theirs.number:
        return {}
    before = mine.steps[theirs.number - 1].gradients
    added = {name: g + before[name] for name, g in theirs.gradients.items() if name in before}
    return {"gradient-not-zeroed": [with_loss(float(theirs.loss), added)]}


def _of_updates(sides: tuple[Side, Side], location: Location, number: int) -> Diagnosis | None:
    """The run whose updates are the first that are not its optimizer's; of an update that parts, the reason else."""
    found: list[tuple[int, Location, Updates, Side]] = []
    for side in sides:
        if side.optimizer is not None and side.steps:
            updates = Updates(side.run, side.steps, side.optimizer)
            mistaken = updates.first_mistaken()
            if mistaken is not None:
                found.append((*mistaken, updates, side))
    if not found:
        return _diagnosis(location, untried=_untried(sides, location)) if location.phase == "update" else None
    if len({first for first, *_ in found}) < len(found):
        return _of_both(location, found)
    first, place, updates, side = min(found, key=lambda one: one[0])
    # From where the other run leaves it, too, they may share what nobody can tell of.
    diagnosis, steps = _named(updates, first, place, min((other for other, *_ in found if other > first), default=None))
    note = (
        f"it is the {side.which} run whose updates, made again from its own gradients, are not those of the optimizer "
        "that it is meant to have"
    )
    # What makes runs part may be beyond the roundings of its own updates later than of what follows from them.
    there = place if first < number else location
    note = ": ".join(filter(None, (note, steps)))
    return replace(diagnosis, location=replace(there, note=note), pattern=pattern(there))


def _named(updates: Updates, first: int, place: Location, until: int | None = None) -> tuple[Diagnosis, str]:
    """Which mistake makes a run's updates, another learning rate if none else; and what is seen of its steps."""
    diagnosis = updates.diagnose(first, place, until)
    ratio = None if diagnosis.explanations else _ratio_of_steps(place, updates.dtype)
    if ratio is None:
        return diagnosis, ""
    seen = f"in this update its steps are {ratio:.4g} times that optimizer's, everywhere"
    optimizer = replace(updates.optimizer, learning_rate=ratio * updates.optimizer.learning_rate)
    # A rate that was fitted to one update is told from a changing one by others.
    if len(updates.steps[:until]) >= first + 3:
        left = Replay((OTHER_RATE,), "update", updates.left_by(optimizer, until))
        if left.explains:
            some = "all that were recorded" if until is None else f"all before update {until}"
            seen += f", and {some} are those of a learning rate of {optimizer.learning_rate:.6g}"
            diagnosis = replace(diagnosis, replays=(left, *diagnosis.replays))
    return diagnosis, seen


def _of_both(location: Location, found: Sequence[tuple[int, Location, Updates, Side]]) -> Diagnosis | None:
    """Two runs whose updates leave the optimizers that they are meant to have at one and the same update.

    Neither is to blame alone: what they share, or each mistake for itself, is said where it has a name. None where what
    parts is no update.
    """
    if location.phase in ("prediction", "loss", "gradient"):
        return None
    said: list[str] = []
    for first, place, updates, side in found:
        for one in _named(updates, first, place)[0].explanations[:1]:
            said.append(f"the updates of the {side.which} run are explained by {' and '.join(one.names)}")
    why = f"from update {found[0][0]} on, neither run's updates are those of the optimizer that it is meant to have"
    if len(said) < len(found):
        why += ", perhaps for a schedule, clipping or a choice of what decays, of which parity.spec has no words"
    dtype = max((updates.dtype for _, _, updates, _ in found), key=unit)
    if location.phase == "update" and (ratio := _ratio_of_steps(location, dtype)) is not None:
        said.append(f"in this update the first run's steps are {ratio:.4g} times the second's, everywhere")
    optimizers = " and ".join(dict.fromkeys(repr(side.optimizer) for *_, side in found))
    return _diagnosis(replace(location, note="; ".join(said)), untried=f"{why}: {optimizers}")


def _ratio_of_steps(place: Location, dtype: str) -> float | None:
    """The one number that takes the steps that were expected to those that were made; None where there is none."""
    ratios = []
    for check in place.parts:
        if check.tensor not in place.params:  # a slot
            continue
        before = place.params[check.tensor].astype(np.float64)
        allowed = FACTOR * 4 * unit(dtype) * float(np.max(np.abs(check.wanted)))
        ratio = multiple(check.got - before, check.wanted - before, allowed)
        if ratio is None:
            return None
        ratios.append(ratio)
    return float(np.median(ratios)) if ratios and np.ptp(ratios) <= 0.01 * abs(np.median(ratios)) else None


def _untried(sides: tuple[Side, Side], location: Location) -> str:
    ours, theirs = (side.optimizer for side in sides)
    if ours is None:
        return "no update could be made again, because neither run says its optimizer, as parity.recorder lets it"
    untrained = [check.tensor for check in location.parts if check.tensor not in location.gradient]
    if untrained:
        return f"{untrained[0]} has no gradient, hence is no work of the optimizer"
    which = f"{ours}" if ours == theirs else f"{ours} and {theirs}"
    return f"each run's updates are those of the optimizer that it is meant to have: {which}"


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
                epoch, batch = number // self.batches + 1, number % self.batches
                there = Location("update", epoch, batch, parts[0], {}, parts, step.gradients, step.before.params)
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


def playing(steps: Sequence[Step]) -> Build:
    """Recorded gradients as an implementation: what follows them is done in NumPy, by the case's optimizer."""

    def build(case: Case, dtype: str, device: str) -> Trainer:
        initial, names = case.initial(), slot_names(case.optimizer)
        # A slot that was not recorded begins at zero, as it does where training begins.
        slots = {f"{slot}/{name}": np.zeros_like(p) for slot in names for name, p in initial.items()}
        return Stepwise(Playback(steps, State(initial, slots | steps[0].before.slots)), case, dtype)

    return build


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
