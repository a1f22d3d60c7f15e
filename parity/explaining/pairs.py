"""Find where two recordings part: hold each update of one against the same update of the other, phase by phase."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import replace

import numpy as np

from parity.dtypes import unit
from parity.explaining.drift import from_drift, from_update
from parity.explaining.location import Location
from parity.explaining.walk import Agreed, Stop, all_agree, parting, walk
from parity.judging.comparable import coarser_dtype
from parity.judging.moments import unit_of
from parity.judging.updates.followed import another_batch, followed_updates, taken_apart, trained_alone
from parity.judging.updates.zeros import rounding_of, step_without, together
from parity.judging.witness import Check, apart, as_expected, in_one_order, take_apart
from parity.recording.steps import NOTHING, Phase, Step, epochs_and_batches, steps_of, update_at
from parity.tolerance import FACTOR, least_floor
from parity.trajectory import Trajectory
from parity.typing import Params

Strays = Mapping[Phase, Sequence[Mapping[str, float]]]
"""How far repetitions of a run strayed from it in one update, by phase and tensor."""


def walk_pair(a: Trajectory, b: Trajectory, noise: Noise | None = None) -> Location | None:
    """Walk along the updates that two runs both recorded deeply, and find where they part.

    Without a reference no noise floor is measured: 64 roundings of each tensor's largest value are allowed. Rounding
    alone may carry late updates farther apart, because each begins at its own run's state. Repetitions measure how far.

    Values whose gradient is zero but for rounding are no place, nor are their slots: a whole tensor, or a part of one,
    as a key's bias among those of queries and values. What no later update depends on
    does not end the walk: a running statistic, a loss that is reported otherwise while the gradients agree. And beyond
    a small difference the walk looks for one that is large beside it, by half of the dtype's digits: no update makes so
    much of so little.

    Args:
        a: The first run.
        b: The second run, whose values are expected of the first.
        noise: What repetitions of the runs strayed.

    Returns:
        The place, None if no update was recorded deeply by both. If all agree, the place has no check. If there are
        several places, it is the one that parts by most, and the others are named.
    """
    count = min(len(steps_of(a)), len(steps_of(b)))
    if not count:
        return None
    if followed_updates(a, b):
        found, agreed = walk(_followed(a, b))
        return found or all_agree(followed_updates(a, b), agreed)
    dtype, noise = coarser_dtype(a, b), noise or Noise(())
    pairs = Pairs(a, b, dtype, noise)
    stops = pairs.stops()
    found, beside, agreed = _along(stops)
    # No training depends on a statistic, whatever it parts by.
    statistics = [place for place in beside.values() if place.phase is not Phase.LOSS]
    losses = [place for place in beside.values() if place.phase is Phase.LOSS]
    if found is None:
        beside_all = _first_of(losses or statistics, statistics if losses else ())
        return beside_all or from_update(None, a, b, pairs.stops()) or all_agree(count, agreed)
    strayed = agreed.get(Phase.STATE, 0.0)
    if strayed > 1:
        found = from_update(found, a, b, pairs.stops()) or from_drift(found, a, b, pairs.stops()) or found
    early = found.phase in (Phase.PREDICTION, Phase.LOSS, Phase.GRADIENT, Phase.BATCH)
    if found.parts and early and strayed > 1 and not noise.at(update_at(a, found.epoch, found.batch)):
        note = (
            f"the states that this update began with differ already, to {strayed:.2g} of the noise floor, and rounding "
            "may have grown: repetitions recorded as deeply (--noise) would tell"
        )
        found = replace(found, note=note)
    large = _large_beside(found, stops, dtype)
    if large is not None:
        return _first_of([large, *losses, found], statistics)
    return _first_of([found, *losses], statistics)


def largest_parting(a: Trajectory, b: Trajectory, noise: Noise | None = None) -> Location | None:
    """Find where two runs part by most in any update that both recorded deeply, though it be within rounding.

    Args:
        a: The first run.
        b: The second run.
        noise: What repetitions of the runs strayed.

    Returns:
        The place; None if no update was recorded deeply by both, or every one is equal.
    """
    largest: Location | None = None
    stops = _followed(a, b) if followed_updates(a, b) else Pairs(a, b, coarser_dtype(a, b), noise or Noise(())).stops()
    for stop in stops:
        for phase, checks in itertools.chain(stop.checks.items(), stop.beside.items()):
            found = max(() if isinstance(checks, str) else checks, key=lambda check: check.share, default=None)
            most = largest.check.share if largest is not None and largest.check is not None else 0.0
            if found is not None and found.share > most:
                largest = stop.at(phase, (found,))
    return largest


def _followed(a: Trajectory, b: Trajectory) -> Iterator[Stop]:
    """Take apart the updates that two runs began from the same states."""
    for taken, (epoch, batch) in zip(taken_apart(a, b), epochs_and_batches(a), strict=False):
        stop = Stop(epoch=epoch, batch=batch, checks=taken.checks, unit=unit_of(a, b))
        other = taken.other
        yield stop if other is None else replace(stop, gradient=other.gradients, params=other.before.params)


def _along(stops: Iterable[Stop]) -> tuple[Location | None, dict[str, Location], Agreed]:
    """Walk to the first update that parts for good, and keep the places beside which the runs go on alike."""
    agreed: Agreed = {}
    beside: dict[str, Location] = {}
    for stop in stops:
        found, after = parting(stop, agreed)
        for phase, checks in stop.beside.items():
            if parts := apart(checks):
                place = stop.at(phase, parts, dict(agreed))
                known = {part.tensor for other in beside.values() for part in other.parts}
                if not known & {part.tensor for part in parts}:
                    beside[", ".join(sorted(part.tensor for part in parts))] = place
        if found is not None and found.phase is Phase.LOSS and _parts_in_loss_alone(stop):
            beside.setdefault("loss", found)
            rest = dict(stop.checks)
            rest.pop(Phase.LOSS, None)
            rest.pop(Phase.BATCH, None)
            found, after = parting(replace(stop, checks=rest), agreed)
        agreed = after
        begun = next((place for place in beside.values() if place.phase is Phase.STATE and _of_slots(place)), None)
        if found is not None and begun is not None and found.phase is Phase.UPDATE:
            del beside[", ".join(sorted(part.tensor for part in begun.parts))]
            return begun, beside, agreed  # the update follows from the slots
        if found is not None:
            return found, beside, agreed
    return None, beside, agreed


def _of_slots(place: Location) -> bool:
    """Tell whether slots part, which are no tensors of the model."""
    return not any(part.tensor in place.params for part in place.parts)


def _parts_in_loss_alone(stop: Stop) -> bool:
    gradients = stop.checks.get(Phase.GRADIENT, "")
    return not isinstance(gradients, str) and bool(gradients) and not apart(gradients)


def _large_beside(small: Location, stops: Iterable[Stop], dtype: str) -> Location | None:
    """Find a later place that parts by far more than the states before it; None if there is none."""
    margin = 1 / np.sqrt(unit(dtype))
    if small.check is None or small.check.floors * margin >= 1 / least_floor(1.0, dtype):
        return None  # Nothing finite is as large as that.
    for stop in stops:
        states = stop.checks.get(Phase.STATE, ())
        if isinstance(states, str):
            return None
        limit = margin * max([1.0, *(check.floors for check in states)])
        # A ReLU's kink, or the sign that Adam steps along, may make much of little: but no multiple of a tensor.
        for phase in (Phase.PREDICTION, Phase.LOSS):
            checks = stop.checks.get(phase, ())
            parts = [] if isinstance(checks, str) else apart(checks)
            if parts and limit < parts[0].floors < np.inf:
                return stop.at(phase, parts)
    return None


def _first_of(places: Sequence[Location], beside: Sequence[Location] = ()) -> Location | None:
    """Take the place that parts by most, the first of those that are alike; name the others and those ``beside``."""
    if not places:
        return None
    best = places[0]
    for place in places[1:]:
        if place.check is not None and best.check is not None and place.check.floors > FACTOR * best.check.floors:
            best = place
    others = tuple(in_words(place) for place in (*places, *beside) if place is not best)
    return replace(best, others=(*best.others, *others))


def in_words(place: Location) -> str:
    """Name a place and how far it parts."""
    return f"{place.place}" + (f", by {place.check.floors:.3g} noise floors" if place.check is not None else "")


class Pairs:
    """Hold the updates of one run against those of another."""

    def __init__(self, a: Trajectory, b: Trajectory, dtype: str, noise: Noise) -> None:
        self.a, self.b, self.dtype, self.noise = a, b, dtype, noise
        rounding, self.unit = rounding_of(a, b), unit_of(a, b)
        self.zeros = together(rounding.perhaps, rounding.zeros)
        self.alike = frozenset(
            name
            for name, values in a.params.items()
            if name in b.params and np.array_equal(values[0], b.params[name][0], equal_nan=True)
        )

    def stops(self) -> Iterator[Stop]:
        """Take apart the updates that both recorded deeply, each at the run's own state."""
        both = zip(steps_of(self.a), steps_of(self.b), epochs_and_batches(self.a), strict=False)
        return (self.against(step, other, epoch, batch) for step, other, (epoch, batch) in both)

    def against(self, step: Step, other: Step, epoch: int, batch: int) -> Stop:
        """Hold an update of one run against the same update of the other."""
        if note := another_batch(step, other, self.dtype):
            return Stop(epoch=epoch, batch=batch, checks={Phase.BATCH: note}, unit=self.unit)
        strayed = _together_strayed(self.noise.at(step.number), step.strays, other.strays)
        step, other = _laid_alike(step_without(step, other, self.zeros), other)
        expected = as_expected(other, step, self.dtype, strayed)
        untrained: dict[Phase, str] = {}
        if alone := trained_alone(step, other):
            untrained[Phase.GRADIENT] = alone
            expected = dict(itertools.takewhile(lambda one: one[0] is not Phase.GRADIENT, expected.items()))
        trained = step.gradients.keys() | other.gradients.keys()
        checks: dict[Phase, Sequence[Check]] = {}
        beside: dict[Phase, Sequence[Check]] = {}
        for phase, found in take_apart(step, expected).items():
            told = [check for check in found if not self._by_rounding(check.tensor, other)]
            aside = {check.tensor for check in told if self._is_beside(phase, check.tensor, other, trained)}
            checks[phase] = [check for check in told if check.tensor not in aside]
            beside[phase] = [check for check in told if check.tensor in aside]
        return Stop(
            epoch=epoch,
            batch=batch,
            checks={**checks, **untrained},
            beside=beside,
            gradient=other.gradients,
            params=other.before.params,
            unit=self.unit,
        )

    def _by_rounding(self, name: str, other: Step) -> bool:
        """Tell whether a tensor, or that of a slot, is moved by rounding alone, all of it."""
        which = self.zeros.get(name)
        if which is None and name not in other.before.params:
            which = self.zeros.get(name.partition("/")[2])
        return which is not None and bool(which.all())

    def _is_beside(self, phase: Phase, name: str, other: Step, trained: Set[str]) -> bool:
        """Tell whether no forward pass depends on a tensor of a state: a running statistic that began alike, a slot."""
        if phase not in (Phase.STATE, Phase.UPDATE):
            return False
        if name in other.before.params:
            return name not in trained and name in self.alike
        return phase is Phase.STATE


def _laid_alike(step: Step, other: Step) -> tuple[Step, Step]:
    """Lay the predictions of both runs in one order; leave them out if they have other numbers of values."""
    laid = in_one_order(np.asarray(step.prediction), np.asarray(other.prediction))
    ours, theirs = laid if laid is not None else (NOTHING, NOTHING)
    return replace(step, prediction=ours), replace(other, prediction=theirs)


def _together_strayed(*strays: Strays) -> dict[Phase, list[Mapping[str, float]]]:
    """Join what repetitions and shadows strayed, phase by phase."""
    return {phase: [one for each in strays for one in each.get(phase, ())] for phase in Phase}


class Noise:
    """How far repetitions stray from the runs that they repeat, in each update that both recorded deeply."""

    def __init__(self, noise: Sequence[tuple[Trajectory, Trajectory]]) -> None:
        self._pairs = [(steps_of(run), steps_of(base)) for run, base in noise]

    def at(self, number: int) -> dict[Phase, list[dict[str, float]]]:
        """Measure, by phase, how far each tensor of each repetition strays in an update; empty without repetitions."""
        found: dict[Phase, list[dict[str, float]]] = {}
        for run, base in self._pairs:
            if number < min(len(run), len(base)):
                theirs = base[number].seen()
                for phase, ours in run[number].seen().items():
                    found.setdefault(phase, []).append(_apart(ours, theirs[phase]))
        return found


@np.errstate(all="ignore")  # a recording may hold any numbers
def _apart(a: Params, b: Params) -> dict[str, float]:
    """Measure the largest distance within each tensor that both have."""
    pairs = {name: (np.asarray(value, np.float64), b[name]) for name, value in a.items() if name in b}
    far = {name: float(np.max(np.abs(one - other), initial=0.0)) for name, (one, other) in pairs.items()}
    # A noise floor of an infinite distance would let everything pass.
    return {name: distance for name, distance in far.items() if np.isfinite(distance)}
