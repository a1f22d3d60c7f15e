"""Repetitions of a run: the same once more, from one unit in the last place away. What is none of it shows no noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from parity.judging.comparable import incomparable
from parity.judging.floors.floor import least_floor, strays
from parity.judging.preflight import other_settings
from parity.judging.updates.defects import defects, looked_at
from parity.judging.updates.growth import outgrown
from parity.judging.verdict import judge
from parity.recording.reader import read
from parity.tolerance import least_floor as least
from parity.trajectory import Trajectory, TrajectoryError
from parity.typing import Params


@dataclass(frozen=True, eq=False)
class Repetition:
    """A run that repeats ``base`` with its roundings stirred, and its distances from it: see ``floor.strays``."""

    run: Trajectory
    base: Trajectory
    distances: Params


def repetitions(ours: Trajectory, theirs: Trajectory, noise: Sequence[Path]) -> list[Repetition]:
    """Read each run in ``noise``, and pair it with the run that it repeats: the nearer of the two that it may.

    Raises:
        TrajectoryError: One cannot be read, or is no repetition of either run: it has other settings, begins farther
            away than one unit in the last place, or parts faster than rounding can.
    """
    return [_repetition(folder, read(folder), ours, theirs) for folder in noise]


def _repetition(folder: Path, run: Trajectory, ours: Trajectory, theirs: Trajectory) -> Repetition:
    """Pair a run with the nearer of the two that it may repeat; TrajectoryError says why it repeats neither."""
    doubts = [incomparable(run, base) for base in (ours, theirs)]
    if all(doubts):
        raise TrajectoryError(f"{folder}: shows no noise of these runs: {doubts[0]}")
    bases = [base for base, doubt in zip((ours, theirs), doubts, strict=True) if not doubt]
    judged = [(judge(run, base, least_floor(base)), base) for base in bases]
    judged.sort(key=lambda pair: np.inf if pair[0].ratio is None else pair[0].ratio)
    refused = []
    for found, base in judged:
        distances = found.evidence[0].distances
        if not any(values.any() for values in distances.values()):
            raise TrajectoryError(
                f"{folder}: shows no noise: it is one of these runs to the bit, where a repetition begins from values "
                "that parity.tolerance.stir has moved (it leaves zeros as they are)"
            )
        refusal = _refusal(run, base, distances)
        if not refusal:
            return Repetition(run, base, distances)
        refused.append(refusal)
    raise TrajectoryError(f"{folder}: {refused[0]}")


def _refusal(run: Trajectory, base: Trajectory, distances: Params) -> str:
    """Say why a run does not repeat another, or ""."""
    for name, values in base.params.items():
        begun = np.asarray(values[0], np.float64)
        if not distances[name][0] <= least(np.max(np.abs(begun), initial=0.0), run.meta["dtype"]):
            return (
                f"shows no noise of these runs: {name} begins {distances[name][0]:.3g} away from both, "
                "which is no rounding"
            )
    if other := next(other_settings(run, base), None):
        return f"is no repetition of these runs: {other}"
    if grown := _no_rounding(run, base):
        return f"is no repetition of these runs, because it parts faster than rounding can: {grown}"
    return ""


def _no_rounding(run: Trajectory, base: Trajectory) -> str:
    """Say how a run parts from another as no repetition does, or ""."""
    for defect in defects(run, base):
        if defect.certain:
            return defect.sentence
    found = judge(run, base, least_floor(base)).evidence[0]
    spot = outgrown(found, run, base, after=looked_at(run, base))
    if spot is None:
        return ""
    far = strays(run, base)[spot.name][spot.place]
    return f"{spot.name} is {far:.3g} away after {spot.updates} updates"
