"""Deep recordings: a run's first updates with all that went into them, and what can be read from them alone.

``parity run --deep N``, and ``parity.recorder`` from a loop of one's own, record for each update k (from 0) of the
first N, beside the snapshots of ``trajectory``:

    steps/<k>/rows               (batch,) int64, the rows that the run was told to take
    steps/<k>/prediction         (batch, ...) of these rows, before the update
    steps/<k>/loss               their loss, before the update, and
    steps/<k>/gradients/<name>   its gradient for each parameter that is trained
    steps/<k>/trained            the loss that the update itself gave
    steps/<k>/params/<name>      the state before the update: parameters, and
    steps/<k>/slots/<slot>/...   the optimizer's slots, in the units of ``parity.spec``

and the state after the last of them as ``steps/<N>/...``. All inputs and outputs of a step are there, so that it can be
taken apart as ``locate`` does with a live implementation: at the run's own states, held against the reference, or,
where no reference is at hand, against another deep recording as far as both are in the same state.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from parity.dtypes import unit
from parity.locate import LATER, STEP, Check, Expected, Location, Witness, held, step
from parity.spec import Array, Batches, Case, Params
from parity.trainer import State, Trained, Trainer, continued, joined, predicted
from parity.trajectory import Trajectory, TrajectoryError


class Watched:
    """A trainer whose first ``updates`` updates are made one by one, with a look at what goes into each.

    ``take`` hands over what was seen since the last call, by the names above without ``steps/``.
    """

    def __init__(self, trainer: Trainer, case: Case, updates: int) -> None:
        self.trainer, self.data, self.updates = trainer, case.data(), updates
        self.predict, self.gradients = trainer.predict, trainer.gradients
        self.export, self.load = trainer.export, trainer.load
        self.done = 0
        self._seen: Params = self._state()

    def train(self, segments: Sequence[Batches], inputs: Sequence[Array] = ()) -> Trained:
        if self.done >= self.updates:
            return self.trainer.train(segments, inputs)
        return joined([self._segment(segment, inputs) for segment in segments])

    def take(self) -> Params:
        seen, self._seen = self._seen, {}
        return seen

    def _segment(self, segment: Batches, inputs: Sequence[Array]) -> Trained:
        watched = segment[: max(0, self.updates - self.done)]
        pieces = [self._watch(rows) for rows in watched]
        if len(watched) < len(segment):
            pieces.append(self.trainer.train([segment[len(watched) :]]))
        return continued(pieces)._replace(predictions=predicted(self.trainer, inputs))

    def _watch(self, rows: Array) -> Trained:
        x, y = self.data.x[rows], self.data.y[rows]
        prediction, (loss, gradients) = self.trainer.predict(x), self.trainer.gradients(x, y)
        trained = self.trainer.train([(rows,)])
        found = {"rows": rows, "prediction": prediction, "loss": np.asarray(loss), "trained": trained.losses[0, 0]}
        found |= {f"gradients/{name}": g for name, g in gradients.items()}
        self._seen |= {f"{self.done}/{name}": np.array(value) for name, value in found.items()}
        self.done += 1
        self._seen |= self._state()
        return trained

    def _state(self) -> Params:
        state = self.trainer.export()
        found = {f"params/{name}": value for name, value in state.params.items()}
        found |= {f"slots/{name}": value for name, value in state.slots_at(1.0).items()}
        return {f"{self.done}/{name}": value for name, value in found.items()}


@dataclass(frozen=True)
class Step:
    """One recorded update: the state before it, what was seen on the way, and the state after it."""

    number: int
    before: State
    rows: Array
    prediction: Array
    loss: Array
    gradients: Params
    trained: Array
    after: State


def steps_of(run: Trajectory) -> list[Step]:
    """The updates that a run recorded deeply, from the first on; none where it did not, or not under these names.

    TrajectoryError where one of them is there in part only.
    """
    found: list[Step] = []
    tensors: dict[str, Params] = {}
    for name, value in run.steps.items():
        number, _, rest = name.partition("/")
        tensors.setdefault(number, {})[rest] = value
    for k in range(len(tensors) - 1 if "0" in tensors else 0):
        here, after = tensors.get(str(k), {}), tensors.get(str(k + 1), {})
        needed = ["rows", "prediction", "loss", "trained", *(f"params/{name}" for name in run.params)]
        missing = [name for name in needed if name not in here]
        missing += [] if _part(here, "gradients") else ["gradients"]
        missing += [name for name in (f"params/{name}" for name in run.params) if name not in after]
        if missing:
            raise TrajectoryError(f"the deep recording of update {k} lacks {missing[0]}: record the run again")
        if here["loss"].size != 1 or here["trained"].size != 1:
            raise TrajectoryError(f"the loss of update {k}, recorded deeply, is no single number: record the run again")
        gradients = _part(here, "gradients")
        seen = here["rows"], here["prediction"], here["loss"], gradients, here["trained"]
        found.append(Step(k, _state(here, k), *seen, _state(after, k + 1)))
    return found


def _state(tensors: Params, number: int) -> State:
    return State(_part(tensors, "params"), _part(tensors, "slots"), number)


def _part(tensors: Params, name: str) -> Params:
    return {key.removeprefix(f"{name}/"): value for key, value in tensors.items() if key.startswith(f"{name}/")}


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


def walk(run: Trajectory, witness: Witness) -> Location | None:
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
    for (here, rows), (epoch, batch) in zip(zip(steps, order, strict=False), places(run), strict=False):
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
    both = list(zip(ours, theirs, places(a), strict=False))
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


def _tensors(state: State) -> Params:
    return {**state.params, **state.slots}


def places(run: Trajectory) -> Iterator[tuple[int, int]]:
    """The epoch, from 1, and the batch, from 0, of each update."""
    batches = max(1, run.loss.shape[1])
    return ((number // batches + 1, number % batches) for number in itertools.count())


def rows_in_words(rows: Array) -> str:
    """The first few."""
    return ", ".join(map(str, rows[:4].tolist())) + (", …" if len(rows) > 4 else "")


def _other_rows(epoch: int, batch: int, ours: Array, theirs: Array, agreed: dict[str, float]) -> Location:
    note = f"it took the rows {rows_in_words(ours)} instead of {rows_in_words(theirs)}"
    return Location("batch", epoch, batch, None, dict(agreed), (), {}, {}, note)


def _all_agree(updates: int, agreed: dict[str, float]) -> Location:
    note = f"each of the {updates} updates recorded deeply agrees by itself: more of them would reach further"
    return Location("state", 1, 0, None, agreed, (), {}, {}, note)
