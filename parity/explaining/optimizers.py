"""Explain updates: which run departs from the optimizer that it is meant to have, and by which of its numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from parity.dtypes import unit
from parity.explaining.compared import (
    ANOTHER_DECAY,
    ANOTHER_RATE,
    SOME_DECAY,
    apart_in_words,
    followed_by_both,
    rates_in_words,
)
from parity.explaining.diagnose import Diagnosis
from parity.explaining.fits import Followed, constants, errors_apart, fitted, follow, plainly
from parity.explaining.location import Location
from parity.explaining.pattern import enumerated, multiple, pattern, times_in_words
from parity.explaining.replay import Replay
from parity.explaining.updates import Updates, class_said
from parity.explaining.walk import in_words
from parity.recording.steps import Phase, Step
from parity.spec import Adam, AdamW, Optimizer
from parity.tolerance import FACTOR, least_floor
from parity.trajectory import Trajectory

ONE_CONSTANT = {
    "adam-epsilon-1e-7": ("epsilon", 1e-7),
    "adam-beta2-0.99": ("beta2", 0.99),
    "momentum-missing": ("momentum", 0.0),
}
"""Mistakes that give one constant another value."""
DECAYS = {"weight-decay-missing": 0.0, "weight-decay-doubled": 2.0}
"""Mistakes that multiply the decay of every tensor."""


@dataclass(frozen=True)
class Side:
    """One run of a pair."""

    which: str
    """``first`` or ``second``."""
    run: Trajectory
    steps: Sequence[Step]
    """The updates that it recorded deeply."""
    optimizer: Optimizer | None
    """The optimizer that it is meant to have."""


@dataclass(frozen=True)
class Departure:
    """A run whose updates are not those of the optimizer that it is meant to have."""

    first: int
    """The first update that departs."""
    place: Location
    updates: Updates
    side: Side


def diagnosis_of(location: Location, replays: tuple[Replay, ...] = (), untried: str = "") -> Diagnosis:
    """Make a diagnosis of what was tried at a place, or of why nothing was."""
    return Diagnosis(
        location=location,
        pattern=pattern(location),
        replays=replays,
        untouched=location.check.floors if replays and location.check else None,
        epochs=1,
        untried=untried,
    )


def of_updates(sides: tuple[Side, Side], location: Location, number: int) -> Diagnosis | None:
    """Find the run whose updates first depart from the optimizer that it is meant to have, and say by what.

    Args:
        sides: Both runs.
        location: The place where they part.
        number: The update of that place.

    Returns:
        The diagnosis; None if no run departs alone, and no update is what parts.
    """
    early = location.phase in (Phase.PREDICTION, Phase.LOSS, Phase.GRADIENT)
    if early and not number:
        # Both are seen by themselves: which of them is farther off?
        floors = location.check.floors if location.check is not None else np.inf
        if _departing_alone(sides) <= FACTOR * floors:
            return None
    found = list(_departures(sides))
    if not found:
        return apart_in_words_of(sides, location) if location.phase is Phase.UPDATE else None
    if len({one.first for one in found}) < len(found):
        return _of_both(location, found)
    if len(found) > 1 and not early and (both := _followed_by_both(found)) is not None:
        return diagnosis_of(replace(location, note=both[1]), both[0])
    one = min(found, key=lambda each: each.first)
    # Once the other run departs as well, both may do what parity.spec has no words for.
    diagnosis, steps = _named(one, min((other.first for other in found if other.first > one.first), default=None))
    note = (
        f"it is the {one.side.which} run whose updates, made again from its own gradients, are not those of the "
        "optimizer that it is meant to have"
    )
    # A small mistake may show in the loss before it exceeds the rounding of the updates themselves.
    place = diagnosis.location
    there = place if one.first < number or early and not number else replace(location, others=place.others)
    others = (*there.others, *([in_words(location)] if early and not number else []), *location.others)
    note = ": ".join(filter(None, (note, steps)))
    there = replace(there, note=note, others=tuple(dict.fromkeys(others)))
    return replace(diagnosis, location=there, pattern=pattern(there))


def departures_in_words(sides: Sequence[Side]) -> list[str]:
    """Say of each run that departs from the optimizer that it is meant to have where it does so first."""
    said = []
    for side in sides:
        if side.optimizer is not None and len(side.steps):
            updates = Updates(side.run, side.steps, side.optimizer)
            if (found := updates.departs()) is not None:
                number, floors = found
                said.append(
                    f"update {number} of the {side.which} run is not that of {side.optimizer}, by {floors:.3g} noise floors"
                )
    return said


def _departing_alone(sides: Sequence[Side]) -> float:
    """Measure how far one run departs from its optimizer, in noise floors, if the other does not do so as early."""
    found = []
    for side in sides:
        if side.optimizer is not None and len(side.steps):
            found.append(Updates(side.run, side.steps, side.optimizer).departs())
    firsts = [one[0] for one in found if one is not None]
    return max((one[1] for one in found if one is not None), default=0.0) if len(firsts) == len(set(firsts)) else 0.0


def _departures(sides: Sequence[Side]) -> Iterator[Departure]:
    for side in sides:
        if side.optimizer is not None and len(side.steps):
            updates = Updates(side.run, side.steps, side.optimizer)
            mistaken = updates.first_mistaken()
            if mistaken is not None:
                yield Departure(*mistaken, updates, side)


def _named(one: Departure, until: int | None = None) -> tuple[Diagnosis, str]:
    """Find the mistake that makes a run's updates, or the numbers that its optimizer has else; and say what they are."""
    updates, place = one.updates, one.place
    large = updates.largest_mistaken(one.first)
    if large != one.first:
        place = replace(updates.place_of(large), others=(in_words(one.place),))
    said: list[str] = []
    if (ratio := _ratio_in_words(place, updates)) is not None:
        said.append(ratio)
    found = follow(updates.sample_until(until), updates.optimizer)
    replays, words = _fits(updates, found, until) if found is not None else ([], "")
    said += [words] if words else []
    if large != one.first:
        untried = f"from update {large} on its updates are not those of {updates.optimizer}"
        return diagnosis_of(place, untried=untried), "; ".join(said)
    if updates.rates is None:
        diagnosis = updates.diagnose(one.first, place, until)
    else:
        diagnosis = diagnosis_of(place, untried="no mistake is replayed on updates whose learning rate changes")
    known = _true(diagnosis.replays, updates, found, until, singly=any(replay.explains for replay in replays))
    if not any(replay.explains for replay in (*known, *replays)):
        replays, more = _constants(updates, until)
        said += [more] if more else []
    if known and known[0].explains:
        # A mistake that is known says more than a number, but another rate may be the same.
        replays = [replay for replay in replays if replay.names == (ANOTHER_RATE,)]
    if replays:
        diagnosis = replace(diagnosis, untried="", untouched=diagnosis.untouched or place.check and place.check.floors)
    ranked = tuple(
        sorted((*known, *replays), key=lambda replay: (not replay.explains, replay in replays, replay.floors))
    )
    if not (known and known[0].explains):
        ranked = tuple(sorted(ranked, key=lambda replay: replay.floors))
    return replace(diagnosis, replays=ranked), "; ".join(dict.fromkeys(said))


def _ratio_in_words(place: Location, updates: Updates) -> str | None:
    """Say how many times the expected steps those of an update are."""
    ratio = _ratio_of_steps(place, updates.dtype)
    if ratio is None:
        return None
    parting = [check.tensor for check in place.parts if check.tensor in place.params]
    if set(parting) == set(updates.shapes):
        return f"in this update its steps are {times_in_words(ratio, 4)} times that optimizer's, everywhere"
    text = f"in this update its steps of {enumerated(parting)} are {times_in_words(ratio, 4)} times that optimizer's, and all others are its own"
    return text + (
        ", as where two tensors are trained and their sum is recorded, or where some have a learning rate of their own"
        if round(ratio) == 2
        else ""
    )


def _fits(updates: Updates, found: Followed, until: int | None) -> tuple[list[Replay], str]:
    """Say which numbers a run's updates follow, and how well those explain it."""
    optimizer, expected = updates.optimizer, updates.expected_rates(len(found.rates))
    same_rate = bool(np.all(np.abs(found.rates - expected) <= found.unsure + unit(updates.dtype) * np.abs(expected)))
    meant, decay = getattr(optimizer, "weight_decay", 0.0), found.decay()
    if not same_rate:
        if found.rate is None or len(found.rates) < 3:
            return [], rates_in_words(found.rates, expected, found.unsure, "", "that optimizer's")
        # The decay goes with the rate.
        if any(abs(value - meant) > unsure for value, unsure in found.decays.values()):
            return [], ""
        rate = plainly(found.rate, float(np.max(found.unsure)))
        left = updates.left_by(replace(optimizer, learning_rate=rate), until)
        some = "all that were recorded" if until is None else f"all before update {until}"
        return [Replay((ANOTHER_RATE,), Phase.UPDATE, left)], f"{some} are those of a learning rate of {rate:.6g}"
    if decay is not None and abs(decay[0] - meant) > decay[1]:
        value = plainly(*decay)
        left = updates.left_by(_decaying(optimizer, value), until)
        return [Replay((ANOTHER_DECAY,), Phase.UPDATE, left)], f"its weight decay is {value:.6g}, not {meant:.6g}"
    split = found.undecayed()
    if (
        decay is None
        and split is not None
        and all(abs(found.decays[name][0] - meant) <= found.decays[name][1] for name in split[0])
    ):
        sample, (decayed, others) = updates.sample_until(until), split
        along, shrinks = sample.directions(optimizer)
        decays = np.array([meant if name in decayed else 0.0 for name in sample.names])[sample.ids]
        left = float(np.max(sample.left(sample.before - expected[:, None] * (along + decays * shrinks)), initial=0.0))
        words = f"its weight decay of {meant:.6g} is on {enumerated(decayed)} and not on {enumerated(others)}"
        return [Replay((SOME_DECAY,), Phase.UPDATE, left)], words
    return [], ""


def _decaying(optimizer: Optimizer, decay: float) -> Optimizer:
    if type(optimizer) is Adam:
        return AdamW(optimizer.learning_rate, optimizer.beta1, optimizer.beta2, optimizer.epsilon, decay)
    return replace(optimizer, weight_decay=decay)  # type: ignore[call-arg]


def _true(
    replays: Sequence[Replay], updates: Updates, found: Followed | None, until: int | None, singly: bool
) -> list[Replay]:
    """Leave out the mistakes that explain a run but for the number that was fitted to it, and pairs if one explains it."""
    kept = []
    for replay in replays:
        if replay.explains and singly and len(replay.names) > 1:
            continue
        if replay.explains and any(_contradicts(name, updates, found, until) for name in replay.names):
            continue
        kept.append(replay)
    return kept


def _contradicts(name: str, updates: Updates, found: Followed | None, until: int | None) -> bool:
    if name in DECAYS and found is not None:
        meant = DECAYS[name] * getattr(updates.optimizer, "weight_decay", 0.0)
        return any(abs(value - meant) > unsure for value, unsure in found.decays.values())
    if name in ONE_CONSTANT:
        constant, said = ONE_CONSTANT[name]
        sample, optimizer = updates.sample_until(until), updates.optimizer
        better = replace(optimizer, **{constant: fitted(sample, optimizer, constant)})  # type: ignore[arg-type]
        wrong = replace(optimizer, **{constant: said})  # type: ignore[arg-type]
        return errors_apart(sample, wrong, better) > FACTOR and updates.left_by(better, until) <= FACTOR
    return False


def _constants(updates: Updates, until: int | None) -> tuple[list[Replay], str]:
    """Fit one constant of an optimizer after another, if its learning rate does not change."""
    optimizer, sample = updates.optimizer, updates.sample_until(until)
    if updates.rates is not None:
        return [], ""
    found: list[Replay] = []
    said = []
    for name in constants(optimizer):
        value = fitted(sample, optimizer, name)
        rounded = plainly(value, 1e-5 * abs(value))
        options = [(updates.left_by(replace(optimizer, **{name: one}), until), one) for one in (rounded, value)]  # type: ignore[arg-type]
        left, value = min(options[:1] if options[0][0] <= FACTOR else options)
        found.append(Replay((f"another-{name}",), Phase.UPDATE, left))
        if left <= FACTOR:
            said.append(f"its {name} is {value:.6g}, not {getattr(optimizer, name):.6g}")
    return (found, ", or ".join(said)) if said else ([], "")


def _of_both(location: Location, found: Sequence[Departure]) -> Diagnosis | None:
    """Explain two runs whose updates depart from their declared optimizers at the same update.

    Neither run is to blame alone, so each run's mistake is named, if it has a name. None if no update parts.
    """
    if location.phase in (Phase.PREDICTION, Phase.LOSS, Phase.GRADIENT):
        return None
    said: list[str] = []
    for one in found:
        if explanations := _named(one)[0].explanations:
            said.append(
                f"the updates of the {one.side.which} run are explained by {' and '.join(explanations[0].names)}"
            )
    why = f"from update {found[0].first} on, neither run's updates are those of the optimizer that it is meant to have"
    if len(said) < len(found):
        why += ", perhaps for a schedule, clipping or a choice of what decays, of which parity.spec has no words"
    dtype = max((one.updates.dtype for one in found), key=unit)
    if location.phase is Phase.UPDATE and (ratio := _ratio_of_steps(location, dtype)) is not None:
        said.append(
            f"in this update the first run's steps are {times_in_words(ratio, 4)} times the second's, everywhere"
        )
    if (both := _followed_by_both(found)) is not None:
        return diagnosis_of(replace(location, note="; ".join((*said, both[1]))), both[0])
    optimizers = " and ".join(dict.fromkeys(repr(one.side.optimizer) for one in found))
    return diagnosis_of(replace(location, note="; ".join(said)), untried=f"{why}: {optimizers}")


def _followed_by_both(found: Sequence[Departure]) -> tuple[tuple[Replay, ...], str] | None:
    """Hold against each other the learning rates and decays with which two runs follow one optimizer's rule.

    None if either does not, or if they have the same.
    """
    fits = [follow(one.updates.sample, one.updates.optimizer) for one in found]
    if fits[0] is None or fits[1] is None:
        return None
    apart = apart_in_words(fits[0], fits[1])
    if not apart:
        return None
    names, words = zip(*apart, strict=True)
    note = (
        f"neither run keeps to the learning rate and the decay of {found[0].side.optimizer}: {'; '.join(words)}; which of "
        "the two is meant, recordings do not tell"
    )
    return (Replay(tuple(names), Phase.UPDATE, max(fits[0].floors, fits[1].floors)),), note


def _ratio_of_steps(place: Location, dtype: str) -> float | None:
    """Find the number that takes the expected steps to the steps made; None if no single number does."""
    ratios = []
    for check in place.parts:
        if check.tensor not in place.params:  # a slot
            continue
        before = place.params[check.tensor].astype(np.float64)
        allowed = FACTOR * least_floor(float(np.max(np.abs(check.wanted))), dtype)
        ratio = multiple(check.got - before, check.wanted - before, allowed)
        if ratio is None:
            return None
        ratios.append(ratio)
    return float(np.median(ratios)) if ratios and np.ptp(ratios) <= 0.01 * abs(np.median(ratios)) else None


def apart_in_words_of(sides: tuple[Side, Side], location: Location) -> Diagnosis:
    """Say what the updates of two runs are, if neither departs from an optimizer that it is meant to have."""
    ours, theirs = sides
    untrained = [check.tensor for check in location.parts if check.tensor not in location.gradient]
    if untrained and untrained[0] in ours.run.params:
        why = f"{untrained[0]} has no gradient, hence is no work of the optimizer"
        return diagnosis_of(location, untried=why)
    if ours.optimizer is not None:
        which = (
            f"{ours.optimizer}" if ours.optimizer == theirs.optimizer else f"{ours.optimizer} and {theirs.optimizer}"
        )
        why = f"each run's updates are those of the optimizer that it is meant to have: {which}"
        return diagnosis_of(location, untried=why)
    return _of_unsaid(sides, location)


def _of_unsaid(sides: tuple[Side, Side], location: Location) -> Diagnosis:
    """Say what the updates of two runs are, neither of which says its optimizer in the words of ``parity.spec``."""
    both = followed_by_both([(side.run, side.steps) for side in sides])
    note = "which of the two is meant, recordings do not tell"
    if both is not None:
        (one, other), rule, floors = both
        if found := apart_in_words(one, other):
            names, words = zip(*found, strict=True)
            location = replace(location, note=f"both runs' updates are {rule}: {'; '.join(words)}; {note}")
            return diagnosis_of(location, (Replay(tuple(names), Phase.UPDATE, floors),))
    classes = list(dict.fromkeys(filter(None, (class_said(side.run) for side in sides))))
    why = "no update could be made again, because " + (
        f"parity.spec has no words for {' and '.join(classes)}" if classes else "neither run says its optimizer"
    )
    dtype = max((side.run.meta["dtype"] for side in sides), key=unit)
    ratio = _ratio_of_steps(location, dtype)
    if ratio is not None:
        why += f"; in this update the first run's steps are {times_in_words(ratio, 4)} times the second's"
    elif spread := _spread_of_steps(location):
        why += f"; in this update the first run's steps are {spread} times the second's, by no one number"
    return diagnosis_of(location, untried=why)


@np.errstate(all="ignore")  # a recording may hold any numbers
def _spread_of_steps(place: Location) -> str:
    """Say between which numbers nine of ten ratios of steps lie."""
    ratios = []
    for check in place.parts:
        if check.tensor in place.params:
            before = place.params[check.tensor].astype(np.float64)
            ratios.append(((check.got - before) / (check.wanted - before)).ravel())
    every = np.concatenate(ratios) if ratios else np.empty(0)
    every = every[np.isfinite(every)]
    if not every.size:
        return ""
    low, high = np.quantile(every, [0.05, 0.95])
    return f"{low:.3g} to {high:.3g}"
