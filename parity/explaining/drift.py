"""A forward pass that parts only because its state does: updates that differ by less than a tolerance add up."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import numpy as np

from parity.explaining.location import Location
from parity.explaining.walk import Stop
from parity.judging.updates.defects import begin_alike, losses, of_updates
from parity.judging.witness import Check
from parity.recording.steps import Phase, update_at
from parity.trajectory import Trajectory

MOST = 4
"""The states explain the losses if they explain so many times as much of their difference as they leave."""


def from_drift(found: Location, a: Trajectory, b: Trajectory, stops: Iterable[Stop]) -> Location | None:
    """Find the update that carried the states farthest apart, if what parts follows from the states.

    A prediction has no gradient in a recording, and its loss has: the loss of one run follows from the other's to
    second order. If it does so in all updates up to the place, the model is the same.

    Args:
        found: The place where the runs part first.
        a: The first run.
        b: The second run.
        stops: Their updates from the first on.

    Returns:
        The place of that update, within whose tolerance the runs agree; None if the states do not explain what parts.
    """
    number = update_at(a, found.epoch, found.batch)
    if found.phase not in (Phase.PREDICTION, Phase.LOSS) or not number:
        return None
    seen = losses(a, b)
    rest, drift = (np.abs(values[: number + 1]) for values in (seen.rest, seen.drift))
    if len(rest) <= number or not MOST * np.sum(rest) < np.sum(drift):
        return None
    place, most = None, 0.0
    for stop in itertools.islice(stops, number):
        begun, ended = _farthest(stop, Phase.STATE), _farthest(stop, Phase.UPDATE)
        if ended is None:
            continue
        moved = ended.floors - (begun.floors if begun is not None else 0.0)
        if moved > most:
            most, place = moved, (stop, ended)
    if place is None:
        return None
    stop, check = place
    note = (
        f"each update agrees within its tolerance, and what they differ by adds up: {found.place} is the first that "
        "does not agree, and the losses up to there follow from the states"
    )
    return stop.at(Phase.UPDATE, (check,), note=note)


def from_update(found: Location | None, a: Trajectory, b: Trajectory, stops: Iterable[Stop]) -> Location | None:
    """Find an update that its gradients do not explain, before the place where the runs part by more than a tolerance.

    A tolerance follows from the largest value of a tensor, and an update of small values may be wrong within it: what
    each value's gradients explain is narrower.

    Args:
        found: The place where the runs part first; None if each tolerance is kept.
        a: The first run.
        b: The second run.
        stops: Their updates from the first on.

    Returns:
        The place of that update; None if gradients explain all of them up to the place.
    """
    if not begin_alike(a, b):
        return None
    defect = next(of_updates(a, b), None)
    if defect is None or (found is not None and defect.update >= update_at(a, found.epoch, found.batch)):
        return None
    stop = next(itertools.islice(stops, defect.update, None), None)
    checks = stop.checks.get(Phase.UPDATE, ()) if stop is not None else ()
    check = next((each for each in checks if not isinstance(each, str) and each.tensor == defect.tensor), None)
    if stop is None or check is None:
        return None
    note = defect.sentence
    if found is not None:
        note = f"{note}; {found.place} is the first beyond its tolerance"
    return stop.at(Phase.UPDATE, (check,), note=note)


def _farthest(stop: Stop, phase: Phase) -> Check | None:
    """Take the tensor of a phase that is farthest from the other run's."""
    checks = stop.checks.get(phase, ())
    return None if isinstance(checks, str) else max(checks, key=lambda check: check.floors, default=None)
