"""Running statistics of two runs that move otherwise, though both see the same batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from parity.recording.steps import Step
from parity.tolerance import FACTOR, least_floor
from parity.trajectory import Trajectory
from parity.typing import Array

COMPLEMENT, ANOTHER, UNBIASED = "running-momentum-complement", "another-running-momentum", "unbiased-running-variance"
SENTENCES = {
    COMPLEMENT: "A running statistic's momentum counts what is kept in one run and what is new in the other.",
    ANOTHER: "A running statistic has another momentum.",
    UNBIASED: "A running variance is the unbiased one in one run alone.",
}


@dataclass(frozen=True)
class Moves:
    """What a running statistic of two runs takes of each batch's value."""

    first: float
    second: float
    times: float
    """The number by which the first run's batch values are the second's: 1 but for a variance that is unbiased."""
    floors: float
    """What this leaves of the difference, in noise floors."""

    @property
    def name(self) -> str:
        """Name the mistake."""
        if self.times != 1.0:
            return UNBIASED
        return COMPLEMENT if abs(self.first + self.second - 1) <= 1e-3 else ANOTHER

    def __str__(self) -> str:
        if self.times == 1.0:
            return f"of each batch's value the first run takes {self.first:.4g}, the second {self.second:.4g}"
        larger = max(self.times, 1 / self.times)
        return (
            f"the first run's values of a batch are {self.times:.6g} times the second's, as of a variance over "
            f"{larger / (larger - 1):.4g} values that is divided by one less"
        )


@np.errstate(all="ignore")  # a recording may hold any numbers
def moves(
    run: Trajectory, other: Trajectory, steps: Sequence[Step], others: Sequence[Step], name: str, dtype: str
) -> Moves | None:
    """Find what two runs take of each batch's value, from a statistic that both begin with and see the same batches of.

    new = old + m (batch - old) in both, with the same batch: so the batch's values cancel, and what is left is linear
    in 1/m of either run.

    Args:
        run: The first run.
        other: The second.
        steps: The first run's updates, as far as both train alike.
        others: The second run's.
        name: The statistic.
        dtype: The coarser dtype of the two.

    Returns:
        What both take, if that leaves rounding alone; None if it does not, or too few updates tell.
    """
    count = min(len(steps), len(others))
    ours, theirs = _values(run, steps[:count], name), _values(other, others[:count], name)
    if len(ours) != len(theirs) or len(ours) < 3:
        return None
    mine, its = np.diff(ours, axis=0), np.diff(theirs, axis=0)
    old, before = ours[:-1], theirs[:-1]
    floor = least_floor(float(np.max(np.abs(ours), initial=0.0)), dtype)
    for columns, wanted in (((mine, -its), before - old), ((mine, -its, -before), -old)):
        matrix = np.stack([column.ravel() for column in columns], axis=1)
        if not np.isfinite(matrix).all():
            return None
        found, *_ = np.linalg.lstsq(matrix, wanted.ravel(), rcond=None)
        if not found.all():
            continue
        left = float(np.max(np.abs(matrix @ found - wanted.ravel())))
        floors = left / (floor * float(np.max(np.abs(found)))) if floor else np.inf
        times = float(found[2]) if len(found) > 2 else 1.0
        if floors <= FACTOR:
            return Moves(1 / float(found[0]), times / float(found[1]), times, floors)
    return None


def _values(run: Trajectory, steps: Sequence[Step], name: str) -> Array:
    """List the values of a statistic along the updates, with that before training."""
    begun = np.asarray(run.params[name][0], np.float64)
    found = [np.asarray(step.before.params[name], np.float64) for step in steps]
    # A loop that hands over its state after the forward pass has moved the statistic already.
    found = found if np.array_equal(found[0], begun) else [begun, *found]
    return np.stack(found)
