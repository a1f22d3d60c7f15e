"""A forward pass that parts only because its state does: updates that differ by less than a tolerance add up."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import numpy as np

from parity.explaining.location import Location
from parity.explaining.walk import Stop
from parity.judging.updates.defects import losses
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


def _farthest(stop: Stop, phase: Phase) -> Check | None:
    """Take the tensor of a phase that is farthest from the other run's."""
    checks = stop.checks.get(phase, ())
    return None if isinstance(checks, str) else max(checks, key=lambda check: check.floors, default=None)
