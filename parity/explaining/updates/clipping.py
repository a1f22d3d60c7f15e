"""How a run clips its gradients, read off the gradients that it recorded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from parity.explaining.updates.factors import SCALE
from parity.explaining.updates.fits import plainly
from parity.judging.witness import within_rounding
from parity.recording.steps import Step
from parity.tolerance import FACTOR, least_floor
from parity.trajectory import Trajectory
from parity.typing import Array, Params

TOGETHER, EACH, VALUES = "all together", "tensor by tensor", "value by value"
IN_TORCH = 1e-6
"""What torch adds to a norm before it divides by it: it clips to that much less, relative to the norm."""
TORCH_EPSILON, ANOTHER_LIMIT = "clipped-by-the-norm-and-1e-6", "another-clipping-threshold"
MOST_SCALE = 2.0**64
"""No loss is scaled by as much."""
SENTENCES = {
    "clipped-tensor-by-tensor": "The norm of each gradient is clipped by itself instead of the norm of all together.",
    "clipped-value-by-value": "Each value of a gradient is clipped by itself instead of the norm of all together.",
    "not-clipped": "The gradients are not clipped.",
}
NAMES = {EACH: "clipped-tensor-by-tensor", VALUES: "clipped-value-by-value"}


@dataclass(frozen=True)
class Clipping:
    """A bound that a run's gradients keep to, and meet in several updates."""

    how: str
    bound: float
    met: frozenset[int]
    """The updates in which the gradients are as large as the bound."""

    def __str__(self) -> str:
        what = "values" if self.how == VALUES else "norms" if self.how == EACH else "a norm"
        return f"{self.how}, to {what} of {self.plainly:.6g}"

    @property
    def plainly(self) -> float:
        """The bound with the fewest digits that torch's 1e-6 leaves of it."""
        return plainly(self.bound, 2 * IN_TORCH) if self.bound > 1e3 * IN_TORCH else self.bound

    def near(self, bound: float, dtype: str) -> bool:
        """Tell whether another bound is the same but for rounding, and for what torch adds to a norm."""
        return bool(abs(bound - self.bound) <= FACTOR * least_floor(max(bound, self.bound), dtype) + IN_TORCH)

    def of(self, gradients: Params) -> Params:
        """Clip gradients."""
        if self.how == VALUES:
            return {name: np.clip(g, -self.bound, self.bound) for name, g in gradients.items()}
        whole = math.hypot(*(_norm(g) for g in gradients.values()))
        return {
            name: g * min(1.0, self.bound / ((whole if self.how == TOGETHER else _norm(g)) or 1.0))
            for name, g in gradients.items()
        }


@np.errstate(all="ignore")  # a recording may hold any numbers
def clipping_of(steps: Sequence[Step], dtype: str) -> Clipping | None:
    """Find the bound that a run's gradients are clipped to.

    Args:
        steps: The updates that the run recorded deeply.
        dtype: The run's.

    Returns:
        The bound; None if no size of the gradients repeats, from update to update, as the largest there is.
    """
    sizes = [{name: _norm(g) for name, g in step.gradients.items()} for step in steps]
    whole = [math.hypot(*each.values()) for each in sizes]
    # Norms that are bounded one by one may have one norm all together, too; not the other way round.
    each = _bounded(EACH, [list(norms.values()) for norms in sizes], dtype)
    if each is not None and any(
        whole[number] > each.bound and not each.near(whole[number], dtype) for number in each.met
    ):
        return each
    values = [[float(np.max(np.abs(g), initial=0.0)) for g in step.gradients.values()] for step in steps]
    return _bounded(TOGETHER, [[norm] for norm in whole], dtype) or _bounded(VALUES, values, dtype)


def _bounded(how: str, sizes: Sequence[Sequence[float]], dtype: str) -> Clipping | None:
    """Find the largest size if it repeats: one that comes once is no bound, and two of many may be alike by chance."""
    bound = max((size for each in sizes for size in each), default=0.0)
    if not 0 < bound < math.inf:
        return None
    near = FACTOR * least_floor(bound, dtype) + IN_TORCH
    met = frozenset(number for number, each in enumerate(sizes) if max(each, default=0.0) >= bound - near)
    return Clipping(how, bound, met) if len(met) >= max(2, min(3, len(sizes))) else None


def unclipped(run: Trajectory, number: int) -> Params:
    """Read the gradients of an update as they were before they were clipped; empty if the run did not record them."""
    start = f"{number}/unclipped/"
    return {name.removeprefix(start): run.steps[name] for name in run.steps if name.startswith(start)}


def bounds_apart(
    mine: Clipping, other: Clipping, step: Step, its: Step, dtype: str, before: Params
) -> tuple[str, str, float] | None:
    """Say how the bounds of two runs differ, both of which clip in one way.

    Clipping to the smaller bound what is clipped to the larger one gives the same as clipping to the smaller at once.

    Args:
        mine: How the first run clips.
        other: How the second does.
        step: The first run's step.
        its: The second's.
        dtype: The coarser dtype of the two.
        before: The gradients before they were clipped; empty if neither run recorded them.

    Returns:
        The name of the mistake, empty if there is none for it; a sentence; and what the bounds leave of the gradients,
        in noise floors. None if the gradients differ by more than the bounds.
    """
    pairs = ((mine, step), (other, its))
    (low, smaller), (high, larger) = sorted(pairs, key=lambda pair: pair[0].bound)
    wanted = low.of(larger.gradients) if not mine.near(other.bound, dtype) else larger.gradients
    times = 1 + IN_TORCH / (low.bound * least_floor(1.0, dtype))
    left = within_rounding(smaller.gradients, wanted, dtype, times=times)[0].floors
    if left > FACTOR:
        return None
    if mine.near(other.bound, dtype):
        text = "both runs clip to one norm, and torch adds 1e-6 to what it divides by, which others do not"
        whole = math.hypot(*(_norm(g) for g in before.values()))
        proven = whole > 0 and abs((high.bound / low.bound - 1) * whole - IN_TORCH) <= 1e-3 * IN_TORCH
        return (TORCH_EPSILON if proven and mine.how != VALUES else "", text, left)
    ratio = high.bound / max(low.bound, np.finfo(np.float64).tiny)
    scale = round(ratio) if ratio < MOST_SCALE else 0
    what = {VALUES: "values", EACH: "norms", TOGETHER: "a norm"}[mine.how]
    text = f"the first run clips to {what} of {mine.plainly:.6g}, the second to {other.plainly:.6g}"
    if scale >= SCALE and scale & (scale - 1) == 0 and high.near(scale * low.bound, dtype):
        text += f", as where gradients of a loss scaled by {scale} for float16 are clipped before they are scaled back"
        return "", text, left
    return ANOTHER_LIMIT, text, left


def clipped_otherwise(step: Step, other: Step, mine: Clipping | None, theirs: Clipping, before: Params) -> Params:
    """Make of the other run's gradients what this run's clipping would make of them.

    Args:
        step: This run's step.
        other: The other run's, of the same update.
        mine: How this run clips; None if it does not.
        theirs: How the other run clips.
        before: The gradients before they were clipped; empty if neither run recorded them. Then they are the other
            run's, clipped all together, times one number, which is that of the tensors that this run left as they were.

    Returns:
        The gradients that this run is expected to have; empty if they cannot be known.
    """
    if not before:
        if theirs.how != TOGETHER:
            return {}
        before = _enlarged(step, other, mine)
    return mine.of(before) if mine is not None else before


def _enlarged(step: Step, other: Step, mine: Clipping | None) -> Params:
    pairs = [
        (np.asarray(g, np.float64), np.asarray(other.gradients[name], np.float64)) for name, g in step.gradients.items()
    ]
    ratios: list[float] = []
    for got, clipped in pairs:
        kept = np.ones(got.shape, bool)
        if mine is not None and mine.how == VALUES:
            kept = np.abs(got) < mine.bound
        square = float(np.sum(clipped[kept] ** 2))
        if square:
            ratios.append(float(np.sum(got[kept] * clipped[kept])) / square)
    most = max(ratios, default=1.0)
    return {name: np.asarray(g, np.float64) * most for name, g in other.gradients.items()}


def without(step: Step, names: Sequence[str]) -> Step:
    """Leave the gradients that are rounding alone out of a step."""
    return replace(step, gradients={name: g for name, g in step.gradients.items() if name not in names})


def _norm(values: Array) -> float:
    return float(np.linalg.norm(np.asarray(values, np.float64)))
