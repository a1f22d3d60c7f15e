"""Explain two deep recordings without a model: find the mistake that makes one run of the other.

If a loss or a gradient differs, the local functions of mistakes are tried: each makes, of the right run's step, the
step that the mistake would make. An update follows from a state and from gradients. If both were recorded, it can be
made again, by the right optimizer and by every mistaken one: the recorded gradients are played back, and the mistakes
of the phase ``update`` are replayed on them as ``parity.explaining.diagnose`` replays mistakes on a reference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from parity.dtypes import unit
from parity.explaining.diagnose import Diagnosis
from parity.explaining.location import Location
from parity.explaining.pattern import multiple, pattern
from parity.explaining.replay import Replay
from parity.explaining.updates import Updates, optimizer_said
from parity.explaining.walk import Noise
from parity.judging.followed import followed_updates
from parity.judging.witness import within_rounding
from parity.mistakes.catalogue import CATALOGUE
from parity.mistakes.mistake import Local
from parity.recording.steps import Phase, Step, steps_of, update_at
from parity.spec import Optimizer
from parity.tolerance import FACTOR, least_floor
from parity.trajectory import Trajectory

OTHER_RATE = "another-learning-rate"
SENTENCES = {known.name: known.sentence for known in CATALOGUE} | {
    OTHER_RATE: "The learning rate is not the one that it is said to be."
}


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


def explain_steps(
    run: Trajectory, other: Trajectory, location: Location, noise: Noise | None = None
) -> Diagnosis | None:
    """Explain why two runs part, from what they recorded deeply.

    Args:
        run: The first run.
        other: The second run.
        location: The place where ``walk_pair`` found them to part.
        noise: What repetitions of the runs strayed.

    Returns:
        The diagnosis, None if no mistake can be tried.

    Raises:
        ValueError: The runs recorded tensors of different shapes.
    """
    if location.phase is Phase.BATCH or not location.finite:
        return None
    # A run that says no optimizer is meant to have the other's.
    said = optimizer_said(run), optimizer_said(other)
    sides = (
        Side("first", run, steps_of(run), said[0] or said[1]),
        Side("second", other, steps_of(other), said[1] or said[0]),
    )
    number = update_at(run, location.epoch, location.batch)
    if location.phase is Phase.UNRECORDED:  # seen after an epoch: any of its updates may be the cause
        number = update_at(run, location.epoch + 1, 0)
    tried = None
    mistakes = {known.name: known.local for known in CATALOGUE if known.local and known.local.phase is location.phase}
    if mistakes:
        if location.phase is Phase.GRADIENT and len({frozenset(side.steps[number].gradients) for side in sides}) > 1:
            return None  # the runs do not train the same parameters
        tried = _tried(sides, location, number, mistakes, noise.at(number) if noise else {})
    if tried is not None and tried.explanations:
        return tried
    # Once the states differ, everything differs: then an update that is wrong by itself says more.
    return (_of_updates(sides, location, number) if number or location.phase is Phase.UPDATE else None) or tried


def _tried(
    sides: tuple[Side, Side],
    location: Location,
    number: int,
    mistakes: Mapping[str, Local],
    strayed: Mapping[Phase, Sequence[Mapping[str, float]]],
) -> Diagnosis | None:
    """Hold each run's loss and gradients against what a mistake makes of the other run's."""
    dtype = max((side.run.meta["dtype"] for side in sides), key=unit)
    # The loss and its gradients are one comparison here.
    repeated = (strayed.get(phase, ()) for phase in (Phase.LOSS, Phase.GRADIENT))
    noise = [{**loss, **gradients} for loss, gradients in zip(*repeated, strict=True)]
    found = []
    for mine, other in (sides, sides[::-1]):
        step, before = mine.steps[number], mine.steps[number - 1] if number else None
        replays = []
        for name, local in mistakes.items():
            wrong = local.wrong(other.steps[number], before, mine.optimizer)
            if wrong:
                left = min(_left(step, wanted, dtype, noise) for wanted in wrong)
                replays.append(Replay((name,), location.phase, left))
        if not replays:
            return None
        note = (
            f"what is explained is the {location.phase} of the {mine.which} run, from the other's: which of the two is "
            "meant, recordings do not tell"
        )
        ranked = tuple(sorted(replays, key=lambda replay: replay.floors))
        found.append(_diagnosis(replace(location, note=note), ranked))
    return next((one for one in found if one.explanations), replace(found[0], location=location))


def _left(step: Step, wanted: Step, dtype: str, noise: Sequence[Mapping[str, float]]) -> float:
    """Measure how far loss and gradients are from those of another step, in noise floors."""
    got, expected = ({"loss": np.asarray(float(one.loss)), **one.gradients} for one in (step, wanted))
    return within_rounding(got, expected, dtype, noise)[0].floors


def _diagnosis(location: Location, replays: tuple[Replay, ...] = (), untried: str = "") -> Diagnosis:
    untouched = location.check.floors if replays and location.check else None
    return Diagnosis(
        location=location,
        pattern=pattern(location),
        replays=replays,
        untouched=untouched,
        epochs=1,
        untried=untried,
    )


def _of_updates(sides: tuple[Side, Side], location: Location, number: int) -> Diagnosis | None:
    """Find the run whose updates first depart from its declared optimizer.

    If neither run's do, say why, for an update that parts; None for any other phase.
    """
    found: list[tuple[int, Location, Updates, Side]] = []
    followed = bool(followed_updates(*(side.run for side in sides)))
    for side in sides:
        if side.optimizer is not None and side.steps:
            # Where each update begins anew, one alone can be made again.
            alone = side.steps[number : number + 1] if followed else side.steps
            updates = Updates(side.run, alone, side.optimizer)
            mistaken = updates.first_mistaken()
            if mistaken is not None and followed:
                mistaken = 0, replace(mistaken[1], epoch=location.epoch, batch=location.batch)
            if mistaken is not None:
                found.append((*mistaken, updates, side))
    if not found:
        return _diagnosis(location, untried=_untried(sides, location)) if location.phase is Phase.UPDATE else None
    if len({first for first, *_ in found}) < len(found):
        return _of_both(location, found)
    first, place, updates, side = min(found, key=lambda one: one[0])
    # Once the other run departs as well, both may do what parity.spec has no words for.
    diagnosis, steps = _named(updates, first, place, min((other for other, *_ in found if other > first), default=None))
    note = (
        f"it is the {side.which} run whose updates, made again from its own gradients, are not those of the optimizer "
        "that it is meant to have"
    )
    # A small mistake may show in the loss before it exceeds the rounding of the updates themselves.
    there = place if first < number else location
    note = ": ".join(filter(None, (note, steps)))
    return replace(diagnosis, location=replace(there, note=note), pattern=pattern(there))


def _named(updates: Updates, first: int, place: Location, until: int | None = None) -> tuple[Diagnosis, str]:
    """Find the mistake that makes a run's updates, or else another learning rate; and say how large its steps are."""
    diagnosis = updates.diagnose(first, place, until)
    ratio = None if diagnosis.explanations else _ratio_of_steps(place, updates.dtype)
    if ratio is None:
        return diagnosis, ""
    seen = f"in this update its steps are {ratio:.4g} times that optimizer's, everywhere"
    optimizer = replace(updates.optimizer, learning_rate=ratio * updates.optimizer.learning_rate)
    # The rate was fitted to one update: others tell a constant rate from a changing one.
    if len(updates.steps[:until]) >= first + 3:
        left = Replay((OTHER_RATE,), Phase.UPDATE, updates.left_by(optimizer, until))
        if left.explains:
            some = "all that were recorded" if until is None else f"all before update {until}"
            seen += f", and {some} are those of a learning rate of {optimizer.learning_rate:.6g}"
            diagnosis = replace(diagnosis, replays=(left, *diagnosis.replays))
    return diagnosis, seen


def _of_both(location: Location, found: Sequence[tuple[int, Location, Updates, Side]]) -> Diagnosis | None:
    """Explain two runs whose updates depart from their declared optimizers at the same update.

    Neither run is to blame alone, so each run's mistake is named, if it has a name. None if no update parts.
    """
    if location.phase in (Phase.PREDICTION, Phase.LOSS, Phase.GRADIENT):
        return None
    said: list[str] = []
    for first, place, updates, side in found:
        if explanations := _named(updates, first, place)[0].explanations:
            said.append(f"the updates of the {side.which} run are explained by {' and '.join(explanations[0].names)}")
    why = f"from update {found[0][0]} on, neither run's updates are those of the optimizer that it is meant to have"
    if len(said) < len(found):
        why += ", perhaps for a schedule, clipping or a choice of what decays, of which parity.spec has no words"
    dtype = max((updates.dtype for _, _, updates, _ in found), key=unit)
    if location.phase is Phase.UPDATE and (ratio := _ratio_of_steps(location, dtype)) is not None:
        said.append(f"in this update the first run's steps are {ratio:.4g} times the second's, everywhere")
    optimizers = " and ".join(dict.fromkeys(repr(side.optimizer) for *_, side in found))
    return _diagnosis(replace(location, note="; ".join(said)), untried=f"{why}: {optimizers}")


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


def _untried(sides: tuple[Side, Side], location: Location) -> str:
    """Say why no mistake in an optimizer can be tried."""
    ours, theirs = (side.optimizer for side in sides)
    if ours is None:
        return "no update could be made again, because neither run says its optimizer, as parity.recorder lets it"
    untrained = [check.tensor for check in location.parts if check.tensor not in location.gradient]
    if untrained:
        return f"{untrained[0]} has no gradient, hence is no work of the optimizer"
    which = f"{ours}" if ours == theirs else f"{ours} and {theirs}"
    return f"each run's updates are those of the optimizer that it is meant to have: {which}"
