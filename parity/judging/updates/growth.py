"""Does a distance grow as rounding does? Rounding begins small and grows; a mistake begins at its own size, at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from parity.dtypes import unit
from parity.judging.comparable import coarser_dtype
from parity.judging.compare import distance
from parity.judging.verdict import Evidence
from parity.trajectory import Trajectory
from parity.typing import Array

GROWTH = 4
"""How many times as far one update can carry two right runs apart. In a right convolutional network with BatchNorm in
float32 it was 3, for eight updates on end."""
BEGINNING = 1 / 16
"""The share of a tolerance at which rounding begins: one floor of one run's sixteen, and of the other's."""
KINK = 16
"""A rounding that crosses a kink, as ReLU's, changes the gradient of a tensor by a few hundredths at once. What parts
by less than this part of its movement may be that, in a dtype in which crossings happen."""
RARE = 2.0**-40
"""In a dtype that rounds finer, no activation is so near to a kink that rounding takes it across."""


class Place(NamedTuple):
    """Where a quantity was seen, after how many updates."""

    updates: int
    name: str
    place: int


def outgrown(evidence: Evidence, ours: Trajectory, theirs: Trajectory, after: int = 0) -> Place | None:
    """Find the first distance that no rounding can have come to, from those before it.

    Args:
        evidence: The distances and their floors.
        ours: The run that is judged.
        theirs: The run that it is held against.
        after: The number of first updates that are known to be right.

    Returns:
        The place; None if rounding may have led to every distance there.
    """
    shares = {name: np.nan_to_num(evidence.share(name), nan=np.inf) for name in evidence.asserted}
    trained = not (ours.steps or theirs.steps) and bool((shares["loss"] <= 1).all()) and bool(shares["loss"].any())
    kinks = unit(coarser_dtype(ours, theirs)) > RARE
    so_far, now = BEGINNING, 0.0
    at_snapshot: dict[str, tuple[int, float]] = {}
    time = -1
    for spot in sorted(_places(evidence, shares)):
        if spot.updates != time:  # What is seen at one time does not excuse itself.
            so_far, time = max(so_far, now), spot.updates
        share = float(shares[spot.name][spot.place])
        if spot.name == "loss":
            since, before = spot.updates - 1, so_far
        else:
            since, before = at_snapshot.get(spot.name, (spot.updates, so_far))
            at_snapshot[spot.name] = spot.updates, max(so_far, now, share)
        grown = before * float(GROWTH) ** min(spot.updates - since, 100)
        now = max(now, share)
        begun = spot.updates == 0
        if share <= (1 if begun else max(1.0, grown)) or (spot.updates <= after and not begun):
            continue
        if begun:
            return spot
        far = float(evidence.distances[spot.name][spot.place])
        moved = _moved(theirs, spot)
        if kinks and far * KINK <= moved:
            continue
        # Perhaps its gradient is zero but for rounding: who did not record gradients cannot tell.
        if trained and spot.name != "loss" and far <= 4 * moved:
            continue
        return spot
    return None


def _places(evidence: Evidence, shares: Mapping[str, Array]) -> Iterator[Place]:
    for name, values in shares.items():
        for place in range(len(values)):
            updates = place if name == "loss" else int(evidence.epochs[place]) * evidence.batches
            yield Place(updates, name, place)


def _moved(run: Trajectory, spot: Place) -> float:
    """How far a quantity moved since it was seen before."""
    if spot.name == "loss":
        return float(abs(np.diff(run.loss.astype(np.float64).ravel()[spot.place - 1 : spot.place + 1])[0]))
    if spot.name not in run.params or not spot.place:
        return 0.0
    stack = run.params[spot.name]
    return float(distance(stack[spot.place : spot.place + 1], stack[spot.place - 1 : spot.place])[0])
