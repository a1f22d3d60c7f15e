"""Explain updates: which run departs from the optimizer that it is meant to have, and by which of its numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from parity.dtypes import coarsest, unit
from parity.explaining.diagnose import Diagnosis
from parity.explaining.location import Location
from parity.explaining.pairs import in_words
from parity.explaining.pattern import pattern, times_in_words
from parity.explaining.replay import Replay
from parity.explaining.updates.compared import (
    ANOTHER_RATE,
    SCHEDULE,
    SOME_DECAY,
    apart_in_words,
    ratio_in_words,
    ratio_of_steps,
    set_otherwise,
    spread_of_steps,
)
from parity.explaining.updates.fits import Followed, follow
from parity.explaining.updates.given import accumulated
from parity.explaining.updates.kinds import counts_apart, inferred_of, kinds_apart
from parity.explaining.updates.numbers import alternatives_of, constants_of, numbers_of, of_keras, uncontradicted
from parity.explaining.updates.remade import Updates
from parity.explaining.updates.rules import in_words as optimizer_in_words
from parity.explaining.updates.sides import Side, class_said
from parity.judging.comparable import coarser_dtype
from parity.judging.updates.followed import followed_updates
from parity.recording.steps import Phase
from parity.tolerance import FACTOR

BESIDE = 100
"""What a run departs by from its own optimizer is small beside so many times as much."""
UNTOLD = "which of the two is meant, recordings do not tell"
MEANT = "the optimizer that it is meant to have"


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
    if followed_updates(*(side.run for side in sides)):
        return _of_one(sides, location, number)
    early = location.phase in (Phase.PREDICTION, Phase.LOSS, Phase.GRADIENT)
    if early and not number:
        # Both are seen by themselves: which of them is farther off?
        floors = location.check.floors if location.check is not None else np.inf
        if _departing_alone(sides) <= FACTOR * floors:
            return None
    if location.phase is Phase.UPDATE and (settings := _by_settings(sides, location)) is not None:
        return settings
    found = list(_departures(sides))
    if not found:
        return _of_neither(sides, location) if location.phase is Phase.UPDATE else None
    if len({one.first for one in found}) < len(found):
        return _of_both(location, found)
    if len(found) > 1 and not early and (both := _followed_by_both(found)) is not None:
        return diagnosis_of(replace(location, note=both[1]), both[0])
    told = _told_apart(sides, location)
    if told is not None and any(side.decays for side in sides):
        return told  # which tensors decay in the other run is known from its updates alone
    one = min(found, key=lambda each: each.first)
    # Once the other run departs as well, both may do what parity.spec has no words for.
    diagnosis, steps = _named(one, min((other.first for other in found if other.first > one.first), default=None))
    note = (
        f"it is the {one.side.which} run whose updates, made again from its own gradients, are not those of the "
        "optimizer that it is meant to have"
    )
    if told is not None and not diagnosis.explanations and SOME_DECAY in told.explanations[0].names:
        return told
    # A small mistake may show in the loss before it exceeds the rounding of the updates themselves.
    place = diagnosis.location
    moved = (place.epoch, place.batch) != (one.place.epoch, one.place.batch)
    own = moved or one.first < number or (early and not number)
    there = place if own else replace(location, others=place.others)
    others = (*there.others, *([in_words(location)] if early and not number else []), *location.others)
    note = ": ".join(filter(None, (note, steps)))
    there = replace(there, note=note, others=tuple(dict.fromkeys(others)))
    return replace(diagnosis, location=there, pattern=pattern(there))


def _of_one(sides: tuple[Side, Side], location: Location, number: int) -> Diagnosis | None:
    """Explain an update that both runs began from one state: where each begins anew, one alone can be made again."""
    if location.phase is not Phase.UPDATE:
        return None
    alone = sides[0].only(number), sides[1].only(number)
    found = [
        replace(one, first=0, place=replace(one.place, epoch=location.epoch, batch=location.batch))
        for one in _departures(alone)
    ]
    if not found:
        return _of_neither(alone, location)
    if len(found) > 1:
        return _of_both(location, found)
    diagnosis, steps = _named(found[0])
    note = f"this update of the {found[0].side.which} run is not that of the optimizer that it is meant to have"
    return replace(diagnosis, location=replace(location, note=": ".join(filter(None, (note, steps)))))


def departures_in_words(sides: Sequence[Side]) -> list[str]:
    """Say of each run that departs from the optimizer that it is meant to have where it does so first."""
    said = []
    for side in sides:
        if side.optimizer is not None and len(side.steps):
            found = side.updates(side.optimizer).departs()
            if found is not None:
                number, floors = found
                # Of gradients that were recorded aside an update makes more than a rounding.
                if floors <= FACTOR**2:
                    continue
                far = f"by {floors:.3g} noise floors"
                said.append(f"update {number} of the {side.which} run is not that of {side.optimizer}, {far}")
    return said


def _departing_alone(sides: Sequence[Side]) -> float:
    """Measure how far one run departs from its optimizer, in noise floors, if the other does not do so as early."""
    found = []
    for side in sides:
        if side.optimizer is not None and len(side.steps):
            found.append(side.updates(side.optimizer).departs())
    firsts = [one[0] for one in found if one is not None]
    return max((one[1] for one in found if one is not None), default=0.0) if len(firsts) == len(set(firsts)) else 0.0


def _departures(sides: Sequence[Side]) -> Iterator[Departure]:
    for side in sides:
        if side.optimizer is not None and len(side.steps):
            updates = side.updates(side.optimizer)
            mistaken = updates.first_mistaken()
            if mistaken is not None and not _chooses(updates, side.decays):
                yield Departure(*mistaken, updates, side)


def _chooses(updates: Updates, decays: Sequence[float]) -> bool:
    """Tell whether each tensor of a run has one of these decays, and all else is as its optimizer has it."""
    found = follow(updates.sample, updates.optimizer) if decays else None
    if found is None or not updates.has_rates(found):
        return False
    return all(any(abs(value - decay) <= unsure for decay in decays) for value, unsure in found.decays.values())


def _named(one: Departure, until: int | None = None) -> tuple[Diagnosis, str]:
    """Find the mistake that makes a run's updates, or the numbers that its optimizer has else, and say them."""
    updates, place = one.updates, one.place
    large = updates.largest_mistaken(one.first)
    if large != one.first:
        place = replace(updates.place_of(large), others=(in_words(one.place),))
    said: list[str] = []
    if (ratio := ratio_in_words(place, set(updates.shapes), updates.dtype)) is not None:
        said.append(ratio)
    found = follow(updates.sample_until(until), updates.optimizer)
    replays, words = numbers_of(updates, found, until) if found is not None else ([], "")
    said += [words] if words else []
    if large != one.first:
        untried = f"from update {large} on its updates are not those of {updates.said}"
        return diagnosis_of(place, untried=untried), "; ".join(said)
    diagnosis = updates.diagnose(one.first, place, until, singly=True)
    known = uncontradicted(diagnosis.replays, updates, found, until)
    if not any(replay.explains for replay in (*known, *replays)) and (said_so := of_keras(updates, until)) is not None:
        far = place.check.floors if place.check is not None else None
        others = [replay for replay in known if replay.names != said_so[0].names]
        diagnosis = replace(diagnosis, location=place, replays=(said_so[0], *others), untried="")
        return replace(diagnosis, untouched=diagnosis.untouched or far), said_so[1]
    if not any(replay.explains for replay in (*known, *replays)):
        others, more = alternatives_of(updates, until)
        known = sorted((*known, *others), key=lambda replay: replay.floors)
        said += [more] if more else []
    if not any(replay.explains for replay in (*known, *replays)):
        replays, more = constants_of(updates, until)
        said += [more] if more else []
    if not any(replay.explains for replay in (*known, *replays)):
        diagnosis = updates.diagnose(one.first, place, until)
        known = uncontradicted(diagnosis.replays, updates, found, until)
    if known and known[0].explains:
        # A mistake that is known says more than a number, but another rate may be the same.
        replays = [replay for replay in replays if replay.names == (ANOTHER_RATE,)]
    if replays:
        far = place.check.floors if place.check is not None else None
        diagnosis = replace(diagnosis, untried="", untouched=diagnosis.untouched or far)
    ranked = tuple(
        sorted((*known, *replays), key=lambda replay: (not replay.explains, replay in replays, replay.floors))
    )
    if not (known and known[0].explains):
        ranked = tuple(sorted(ranked, key=lambda replay: replay.floors))
    if not ranked and said:
        return replace(diagnosis, location=place, replays=(), untried="; ".join(said)), ""
    # Replays count an update as an epoch, and the run has its own.
    return replace(diagnosis, location=place, replays=ranked), "; ".join(dict.fromkeys(said))


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
    dtype = coarsest(*(one.updates.dtype for one in found))
    if location.phase is Phase.UPDATE and (ratio := ratio_of_steps(location, dtype)) is not None:
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
    apart = _apart([one.updates for one in found])
    if apart is None:
        return None
    optimizer = found[0].side.optimizer
    return apart[0], f"neither run keeps to the learning rate and the decay of {optimizer}: {apart[1]}; {UNTOLD}"


def _apart(both: Sequence[Updates]) -> tuple[tuple[Replay, ...], str] | None:
    """Name, and say, the learning rates and decays in which two runs differ; None if either follows no such rule."""
    one, other = (_with_rounding(follow(updates.sample, updates.optimizer), updates.dtype) for updates in both)
    apart = apart_in_words(one, other) if one is not None and other is not None else []
    if one is None or other is None or not apart:
        return None
    names, words = zip(*apart, strict=True)
    return (Replay(tuple(names), Phase.UPDATE, max(one.floors, other.floors)),), "; ".join(filter(None, words))


def _with_rounding(found: Followed | None, dtype: str) -> Followed | None:
    """Let learning rates be unsure by the roundings that frameworks make where they multiply by them."""
    return None if found is None else replace(found, unsure=found.unsure + FACTOR * unit(dtype) * np.abs(found.rates))


def _told_apart(sides: Sequence[Side], location: Location) -> Diagnosis | None:
    """Name the learning rates and decays that two runs' updates are found to have else; None if nothing else parts."""
    if location.phase is not Phase.UPDATE:
        return None
    both = [side.updates(side.optimizer) for side in sides if side.optimizer and len(side.steps)]
    apart = _apart(both) if len(both) == len(sides) else None
    return None if apart is None else diagnosis_of(replace(location, note=f"{apart[1]}; {UNTOLD}"), apart[0])


def _of_neither(sides: tuple[Side, Side], location: Location) -> Diagnosis:
    """Say what the updates of two runs are, if neither departs from an optimizer that it is meant to have."""
    ours, theirs = sides
    untrained = [check.tensor for check in location.parts if check.tensor not in location.gradient]
    if untrained and untrained[0] in ours.run.params:
        why = f"{untrained[0]} has no gradient, hence is no work of the optimizer"
        return diagnosis_of(location, untried=why)
    if ours.optimizer is not None and theirs.optimizer is not None:
        mine, its = ours.updates(ours.optimizer), theirs.updates(theirs.optimizer)
        if (both := _set_otherwise(mine, its, sides)) is not None:
            replays, words = both
            note = f"each run's updates are those of the optimizer that it is meant to have, and these differ: {words}"
            return diagnosis_of(replace(location, note=f"{note}; {UNTOLD}"), replays)
        told = dict.fromkeys(optimizer_in_words(side.optimizer) for side in sides if side.optimizer is not None)
        why = f"each run's updates are those of the optimizer that it is meant to have: {' and '.join(told)}"
        if location.check is not None and location.check.agrees:
            why = f"to within rounding {why}; one of its numbers may be another by less than a single update shows"
        return diagnosis_of(location, untried=why)
    return _of_unsaid(sides, location)


def _set_otherwise(mine: Updates, its: Updates, sides: tuple[Side, Side]) -> tuple[tuple[Replay, ...], str] | None:
    """Name, and say, the numbers in which the optimizers of two runs differ, each of which keeps to its own.

    None if they are the same, or if either run's updates are those of the other's numbers just as well.
    """
    apart = set_otherwise(mine.said, its.said)
    crossed = [one.updates(other.optimizer) for one, other in (sides, sides[::-1]) if other.optimizer is not None]
    if apart and all(updates.departs() is None for updates in crossed):
        apart = []
    floors = max(mine.farthest(), its.farthest())
    masked = any(side.decays for side in sides) or mine.said.decayed is not None or its.said.decayed is not None
    if mine.scheduled or its.scheduled or masked:
        found = _apart((mine, its))
        if found is not None:
            (replay,), text = found
            apart = [*apart, *((name, "") for name in replay.names[:-1]), (replay.names[-1], text)]
            floors = replay.floors if any(side.decays for side in sides) else max(floors, replay.floors)
    if not apart:
        return None
    names, words = zip(*apart, strict=True)
    return (Replay(tuple(dict.fromkeys(names)), Phase.UPDATE, floors),), "; ".join(filter(None, words))


def _by_settings(sides: tuple[Side, Side], location: Location) -> Diagnosis | None:
    """Name the constants in which two optimizers differ, where all else that a run departs by is small beside that.

    A framework may work out Adam's correction in float32, which shows in its updates, and explains no other beta.
    """
    ours, theirs = (side.optimizer for side in sides)
    apart = set_otherwise(ours, theirs) if ours is not None and theirs is not None else []
    if not apart or ours is None or theirs is None or not all(len(side.steps) for side in sides):
        return None
    own = [sides[0].updates(ours).farthest(), sides[1].updates(theirs).farthest()]
    crossed = [sides[0].updates(theirs).farthest(), sides[1].updates(ours).farthest()]
    if max(*own, 1.0) * BESIDE > min(crossed):
        return None  # there is more to it
    if not list(_departures(sides)):
        return None  # each keeps to its own, which is told elsewhere
    names, words = zip(*apart, strict=True)
    note = f"the optimizers differ, and each run keeps to its own but for a {BESIDE:g}th of that: {'; '.join(words)}"
    location = replace(location, note=f"{note}; {UNTOLD}")
    return diagnosis_of(location, (Replay(tuple(names), Phase.UPDATE, FACTOR),))


def _of_unsaid(sides: tuple[Side, Side], location: Location) -> Diagnosis:
    """Say by how much the steps of two runs differ, neither of which says its optimizer in our words."""
    classes = list(dict.fromkeys(filter(None, (class_said(side.run) for side in sides))))
    why = "no update could be made again, because " + (
        f"parity.spec has no words for {' and '.join(classes)}" if classes else "neither run says its optimizer"
    )
    dtype = coarser_dtype(*(side.run for side in sides))
    ratio = ratio_of_steps(location, dtype)
    if ratio is not None:
        why += f"; in this update the first run's steps are {times_in_words(ratio, 4)} times the second's"
    elif spread := spread_of_steps(location):
        why += f"; in this update the first run's steps are {spread} times the second's, by no one number"
    return diagnosis_of(location, untried=why)


def inferred_apart(sides: tuple[Side, Side], found: Diagnosis) -> Diagnosis | None:
    """Name what two runs' optimizers differ in, inferred from their updates alone, where nothing else names it.

    Args:
        sides: Both runs.
        found: What is known of the update in which they part.

    Returns:
        The diagnosis; None if the optimizer of either run is none that is known, or if they do not differ.
    """
    each = [accumulated(side.steps) for side in sides]
    both = [inferred_of(side.run, side.steps) for side in sides]
    apart = kinds_apart(both[0], both[1], each[0])
    # Of another number of gradients, other updates follow, but by one rule with one set of numbers.
    if each[0] != each[1] and all(both):
        apart = counts_apart(each[0], each[1]) if apart is None else replace(apart, names=())
    if apart is None:
        return None
    if apart.names == (SCHEDULE,) and any(side.optimizer is not None for side in sides):
        return None  # a run that says its rates has others in some updates, which is said and need be no schedule
    if not apart.names:
        return replace(found, untried=apart.words)
    untold = "" if MEANT in found.location.note else UNTOLD
    location = replace(found.location, note="; ".join(filter(None, (found.location.note, apart.words, untold))))
    replays = (Replay(apart.names, Phase.UPDATE, apart.floors), *found.replays)
    far = found.untouched or (location.check.floors if location.check is not None else None)
    return replace(found, location=location, replays=replays, untouched=far, untried="")
