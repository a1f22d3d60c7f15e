"""What single updates are asked with: pairs of them, their tensors, and how far those lie apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from parity.dtypes import unit
from parity.judging.comparable import coarser_dtype
from parity.recording.steps import Phase, Step, steps_of
from parity.trajectory import Trajectory
from parity.typing import Array


@dataclass(frozen=True)
class Defect:
    """A difference that single updates show, and that no drift of the states explains.

    ``certain`` says whether rounding is ruled out; else the difference is merely suspicious.
    """

    phase: Phase
    update: int
    tensor: str
    sentence: str
    certain: bool = True


def coarser(ours: Trajectory, theirs: Trajectory) -> float:
    """Give the unit roundoff of the coarser of two runs."""
    return unit(coarser_dtype(ours, theirs))


def trained_in_both(a: Step, b: Step) -> list[str]:
    """The parameters whose gradients both runs recorded of an update, in shapes that fit."""
    return sorted(
        name
        for name in a.gradients.keys() & b.gradients.keys()
        if all(name in of for s in (a, b) for of in (s.before.params, s.after.params))
        if len({of[name].shape for s in (a, b) for of in (s.gradients, s.before.params, s.after.params)}) == 1
    )


def pairs_of(ours: Trajectory, theirs: Trajectory) -> Iterator[tuple[Step, Step]]:
    """Pair the updates that both runs recorded deeply."""
    return zip(steps_of(ours), steps_of(theirs), strict=False)


def wide(values: Array) -> Array:
    return np.asarray(values, np.float64)


def size_of(values: Array) -> float:
    return float(np.max(np.abs(wide(values)), initial=0.0))


def far_apart(one: Array, other: Array) -> float:
    return size_of(wide(one) - wide(other)) if one.shape == other.shape else np.inf


def strayed_by(both: Sequence[Step], name: str, phase: Phase = Phase.GRADIENT) -> float:
    """How far a tensor's shadows strayed in one update, of any of these steps; 0 if there were none."""
    strays = (shadow.get(name, 0.0) for step in both for shadow in step.strays.get(phase, ()))
    return max((far for far in strays if np.isfinite(far)), default=0.0)


def of_all(count: int, whole: int) -> str:
    return f"{count} of {whole} updates"
