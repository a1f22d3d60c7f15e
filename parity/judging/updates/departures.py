"""Known departures of one framework from another, which a comparison may accept by name, and nothing beside them.

Each is recognized by what it does, exactly: an accepted name that the runs do not show changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from parity.dtypes import unit
from parity.judging.compare import scale
from parity.judging.floors.floor import Floor
from parity.judging.updates.defects import begin_alike, of_updates
from parity.judging.updates.single import coarser
from parity.recording.steps import steps_of
from parity.tolerance import FACTOR, ROUNDINGS
from parity.trajectory import Stack, Trajectory, TrajectoryError, as_one_array
from parity.typing import Array


class Departure(NamedTuple):
    """A known departure: its name, what it is, and where it is written."""

    name: str
    sentence: str
    source: str


CLIP = Departure(
    "clip-epsilon",
    "torch's clip_grad_norm_ divides by the norm plus 1e-6",
    "https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.clip_grad_norm_.html",
)
VARIANCE = Departure(
    "unbiased-variance",
    "torch's BatchNorm keeps the unbiased variance of a batch, n / (n - 1) times the one that it divides by",
    "https://docs.pytorch.org/docs/stable/generated/torch.nn.BatchNorm2d.html",
)
CONSTANT = Departure(
    "float32-constants",
    "a constant of the optimizer goes through float32 in a run of float64, as Keras's hyper-parameters and optax's "
    "schedules do",
    "https://github.com/keras-team/keras/blob/master/keras/src/optimizers/base_optimizer.py",
)
DEPARTURES = {departure.name: departure for departure in (CLIP, VARIANCE, CONSTANT)}
"""All departures that can be accepted, by name."""
ADDED = 1e-6
"""What torch adds to a norm."""
SLACK = 1 / 64
"""The share by which what it does to a gradient may be another, for the roundings of so small a difference."""


def named(names: Sequence[str]) -> list[Departure]:
    """Look departures up by name; TrajectoryError for a name that is none."""
    for name in names:
        if name not in DEPARTURES:
            raise TrajectoryError(f"there is no departure {name!r} to accept: there are {', '.join(DEPARTURES)}")
    return [DEPARTURES[name] for name in names]


@dataclass(frozen=True)
class Accepted:
    """What of two runs' differences is a known departure.

    Attributes:
        run: The run that is judged, with the corrected statistics in place of its own.
        said: A sentence for each departure that the runs show.
        corrected: The names of those statistics.
        scalars: How well factors of the whole update are known; 0 as well as their dtype.
        clipped: How well a factor of all gradients is known, likewise.
        times: How many times as large as the clipped gradients the losses' own may be.
    """

    run: Trajectory
    said: list[str] = field(default_factory=list)
    corrected: frozenset[str] = frozenset()
    scalars: float = 0.0
    clipped: float = 0.0
    times: float = 0.0

    @property
    def roundings(self) -> float:
        """The unit roundoff of a run whose roundings are as large as the departures; 0 without any that act on it."""
        return max(self.scalars, self.clipped)


@np.errstate(all="ignore")  # a recording may hold any numbers
def accepted(ours: Trajectory, theirs: Trajectory, departures: Sequence[Departure]) -> Accepted:
    """Find which of the departures two runs show."""
    found = Accepted(ours)
    if VARIANCE in departures:
        found = _variances(found, theirs)
    wide = coarser(ours, theirs) < unit("float32")
    if CONSTANT in departures and wide and begin_alike(ours, theirs):
        seen = [next(of_updates(ours, theirs, scalars), None) for scalars in (0.0, unit("float32"))]
        if seen[0] is not None and seen[1] is None:
            found = replace(found, scalars=unit("float32"), said=[*found.said, CONSTANT.sentence])
    if CLIP in departures and begin_alike(ours, theirs) and (sizes := _clipped(ours, theirs)):
        found = replace(found, clipped=sizes[0], times=sizes[1], said=[*found.said, CLIP.sentence])
    return found


def _clipped(ours: Trajectory, theirs: Trajectory) -> tuple[float, float] | None:
    """The share by which gradients of the first update differ, if 1e-6 beside a norm explains it; else None.

    All of them by one factor, 1 + 1e-6 / norm, of the norm that they had before they were clipped. Where that was not
    recorded, it is no less than the clipped one. How many times as large it may be in any update comes with it.
    """
    a, b = (steps_of(run)[0] for run in (ours, theirs))
    names = sorted(name for name in a.gradients.keys() & b.gradients.keys()
                   if a.gradients[name].shape == b.gradients[name].shape)  # fmt: skip
    if not names:
        return None
    one, other = (
        np.concatenate([np.asarray(step.gradients[name], np.float64).ravel() for name in names]) for step in (a, b)
    )
    norm = float(np.linalg.norm(other))
    if not norm:
        return None
    size = float(one @ other / norm**2) - 1
    u = coarser(ours, theirs)
    rest = float(np.max(np.abs(one - (1 + size) * other), initial=0.0))
    alike = rest <= 2 * FACTOR * ROUNDINGS * u * float(np.max(np.abs(other)))
    if not alike or not FACTOR * u < abs(size) <= ADDED / norm * (1 + SLACK):
        return None
    before = [ours.steps.get(f"0/unclipped/{name}") for name in names]
    whole = [np.asarray(each, np.float64).ravel() for each in before if each is not None]
    if len(whole) == len(names) and abs(abs(size) * float(np.linalg.norm(np.concatenate(whole))) / ADDED - 1) > SLACK:
        return None
    return abs(size), FACTOR * ADDED / abs(size) / norm


class Corrected:
    """A stack from which something is taken, snapshot by snapshot.

    >>> Corrected(np.ones((2, 1)), np.array([[0.0], [0.25]]))[:].tolist()
    [[1.0], [0.75]]
    """

    def __init__(self, stack: Stack, less: Array) -> None:
        self._stack, self._less = stack, less
        self.shape, self.dtype = stack.shape, np.dtype(np.float64)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: int | slice) -> Any:
        return np.asarray(self._stack[key], np.float64) - self._less[key]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return as_one_array(self, "a corrected stack", dtype, copy)


def _variances(found: Accepted, theirs: Trajectory) -> Accepted:
    """Correct every statistic that is another's with each batch's share of it n / (n - 1) times as large."""
    params: dict[str, Stack] = dict(found.run.params)
    corrected, said = set(), list(found.said)
    trained = {name.partition("/")[2].removeprefix("gradients/") for name in found.run.steps if "/gradients/" in name}
    updates = theirs.epochs * max(1, theirs.loss.shape[1])
    for name, stack in found.run.params.items():
        if name in trained or name not in theirs.params or stack.shape != theirs.params[name].shape:
            continue
        other = theirs.params[name]
        one, two = np.asarray(stack[:], np.float64), np.asarray(other[:], np.float64)
        fitted = unbiased_fit(one, two, updates, coarser(found.run, theirs))
        if fitted is None:
            continue
        rows, less = fitted
        params[name] = Corrected(stack, less)
        corrected.add(name)
        said.append(f"{VARIANCE.sentence}: {name}, of {rows} values")
    return replace(
        found, run=replace(found.run, params=params), said=said, corrected=found.corrected | frozenset(corrected)
    )


def unbiased_fit(ours: Array, theirs: Array, updates: Array, u: float) -> tuple[int, Array] | None:
    """Fit a whole number n and what a statistic keeps of itself; None unless they explain every snapshot.

    A statistic r keeps a share K of itself at each update and takes 1 - K of the batch's variance; one that takes
    n / (n - 1) times the variance is r + (r - K^t r_0) / (n - 1) after t updates.
    """
    ways = np.abs(ours - theirs).reshape(len(ours), -1).max(1, initial=0.0)
    sizes = np.maximum(np.abs(ours), np.abs(theirs)).reshape(len(ours), -1).max(1, initial=0.0)
    allowed = 2 * FACTOR * ROUNDINGS * u * np.maximum.accumulate(sizes)
    if len(ours) < 2 or not (ways > allowed).any() or ways[0] > allowed[0] or not np.isfinite(ways).all():
        return None
    for base, sign in ((theirs, 1), (ours, -1)):  # which of the two is the unbiased one
        apart = sign * (ours - theirs)
        # After long enough nothing is left of the beginning: there the ratio is 1 / (n - 1) by itself.
        for keeps in _kept(base, apart, updates):
            shape = (-1, *(1,) * (base.ndim - 1))
            gone = base - (keeps ** updates.astype(np.float64)).reshape(shape) * base[0]
            share = float((gone * apart).sum() / max(float((gone**2).sum()), np.finfo(np.float64).tiny))
            if not np.finfo(np.float64).eps < share <= 1:  # of more values than that no variance shows it
                continue
            rows = round(1 / share) + 1
            less = gone / (rows - 1)
            if (np.abs(apart - less).reshape(len(ours), -1).max(1) <= allowed).all():
                return rows, sign * less
    return None


def _kept(base: Array, apart: Array, updates: Array) -> list[float]:
    """Candidates for what a statistic keeps of itself at each update: fitted at its first snapshot, and the usual."""
    flat, ways = base[1].ravel(), apart[1].ravel()
    begun = base[0].ravel()
    found = []
    if flat.size > 1:
        solved, *_ = np.linalg.lstsq(np.stack([flat, -begun], 1), ways, rcond=None)
        if solved[0] > 0 and 0 < solved[1] / solved[0] < 1:
            found.append(float((solved[1] / solved[0]) ** (1 / max(int(updates[1]), 1))))
    return [*found, 0.9, 0.99, 0.999, 0.1, 0.95, 0.0]


def widened(floor: Floor, run: Trajectory, roundings: float) -> Floor:
    """Widen a noise floor for a departure that acts like roundings of a coarser unit roundoff; 0 leaves it."""
    if not roundings:
        return floor

    def wide(values: Array, sizes: Array) -> Array:
        return values + ROUNDINGS * roundings * np.maximum.accumulate(sizes)[: len(values)]

    loss = wide(floor.loss.ravel(), np.abs(run.loss.astype(np.float64)).ravel()).reshape(floor.loss.shape)
    params = {name: wide(values, scale(run.params[name])) for name, values in floor.params.items()}
    return replace(floor, loss=loss, params=params, calmest=floor.calmest and widened(floor.calmest, run, roundings))
