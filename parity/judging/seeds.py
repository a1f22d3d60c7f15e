"""Are two implementations the same in distribution? Several runs of each, where no two can share a seed.

Runs that cannot share initial weights, batch order or dropout masks part from the first update, so that nothing can be
said of a pair. Of several runs a side it can be asked whether both sides were drawn alike:

- A *difference* is shown by permutation. If the sides are drawn alike, every way to deal the runs out to them is as
  likely as the one that was seen. What is measured is the energy distance (Székely & Rizzo 2013) of whole curves, which
  any difference moves, and the largest t of their places, which a small one moves at once; the curves are that of the
  losses and two of each tensor. The smallest of all p-values is held to its own distribution over the permutations
  (Westfall & Young 1993), so that many tensors raise no false alarm.
- *Equivalence* is shown by two one-sided t-tests (Schuirmann 1987) of every mean: the sides' means differ by less than
  a margin, in standard deviations between a side's own seeds. All of them must hold, which needs no correction.

Where neither is shown, there were too few runs, and it is said how many it takes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from statistics import NormalDist
from typing import Any

import numpy as np

from parity.judging.moments import EPOCH, UPDATE, moment, unit_of
from parity.judging.tensors.correspondence import Pairing
from parity.judging.tensors.many import in_one_layout
from parity.judging.verdict import Verdict
from parity.trajectory import Trajectory, TrajectoryError
from parity.typing import Array

LEVEL = 0.05
"""The largest chance of a false alarm, and of a false PASS."""
MARGIN = 2.0
"""How many standard deviations between seeds the means of equivalent sides may differ by."""
POWER = 0.8
"""What was seen with this probability counts as what would have been seen."""
PERMUTATIONS = 9_999
"""The number of permutations that are drawn, where not all are tried."""
BINS, SNAPSHOTS = 16, 8
"""A curve of losses is cut into so many parts, and a tensor is measured at so many snapshots."""
FEWEST = 2
"""One run a side has no spread."""
MOST = 10_000
"""No number of runs above this is looked for."""


@dataclass(frozen=True)
class Quantity:
    """What is measured along every run: a curve for each.

    Attributes:
        name: ``loss``, or a tensor's name after ``size of`` or ``movement of``.
        ours: The first side's curves, (runs, places) float64.
        theirs: The second side's.
        moments: What each place is called, in words.
        at: The epochs, or updates, that were done at each place.
    """

    name: str
    ours: Array
    theirs: Array
    moments: tuple[str, ...]
    at: tuple[float, ...] = ()

    @property
    def every(self) -> Array:
        """Both sides' curves, the first side's first."""
        return np.concatenate([self.ours, self.theirs])


@dataclass(frozen=True)
class SeedsComparison:
    """What several runs of two implementations say together.

    Attributes:
        verdict: FAIL if a difference was shown, PASS if equivalence was, INCONCLUSIVE if neither.
        reason: The verdict in a sentence.
        counts: The number of runs of each side.
        p: The chance of as large a difference between sides that are drawn alike, for all quantities together.
        differs: The quantity that differs by most, as its p-value says; "" if nothing was measured.
        values: Each quantity's own p-value, adjusted for their number.
        farthest: The mean that is farthest from equivalence: its quantity, its moment, and the largest difference that
            the runs leave possible, in standard deviations between seeds.
        needed: How many runs a side would probably show equivalence, if there is any; None if something is shown.
        visible: The smallest relative change of the learning rate that so many runs would have shown with a
            probability of ``POWER``, where training goes on as much faster; None if nothing trains.
        notes: What was left out, and why.
        quantities: What was measured along the runs, the losses first.
        unit: By what the runs count their moments: see ``parity.judging.moments``.

    Examples:
        >>> SeedsComparison(Verdict.PASS, "equivalent", (12, 12)).as_json()["verdict"]
        <Verdict.PASS: 'PASS'>
    """

    verdict: Verdict
    reason: str
    counts: tuple[int, int]
    p: float = 1.0
    differs: str = ""
    values: Mapping[str, float] = field(default_factory=dict)
    farthest: tuple[str, str, float] | None = None
    needed: int | None = None
    visible: float | None = None
    notes: tuple[str, ...] = ()
    quantities: tuple[Quantity, ...] = field(default=(), repr=False)
    unit: str = EPOCH

    def as_json(self) -> dict[str, Any]:
        """Give it as plain data."""
        return {
            "verdict": self.verdict,
            "reason": self.reason,
            "runs": list(self.counts),
            "p": self.p,
            "differs": self.differs,
            "quantities": dict(self.values),
            "farthest": self.farthest and dict(zip(("quantity", "moment", "deviations"), self.farthest, strict=True)),
            "needed": self.needed,
            "visible": self.visible,
            "notes": list(self.notes),
        }


def compare_seeds(
    ours: Sequence[Trajectory],
    theirs: Sequence[Trajectory],
    margin: float = MARGIN,
    level: float = LEVEL,
    matching: Sequence[Pairing] = (),
) -> SeedsComparison:
    """Ask whether two implementations train alike, of runs with other seeds.

    Args:
        ours: Runs of one implementation, each with a seed of its own.
        theirs: Runs of the other, of as many epochs and batches.
        margin: By how many standard deviations between seeds the means of equivalent sides may differ.
        level: The largest chance of calling sides different that are drawn alike, or alike that differ by the margin.
        matching: Which tensors of the first side are which of the second, where they have other names: see
            ``parity.judging.tensors.correspondence.read_map``.

    Returns:
        The verdict and its grounds.

    Raises:
        TrajectoryError: If a side has fewer than two runs, the runs are of other lengths, or ``matching`` does not fit
            them.

    Examples:
        >>> def run(seed, rate=0.1):
        ...     draw = np.random.default_rng(seed)
        ...     loss = np.exp(-rate * np.arange(40)) * draw.normal(1, 0.05) + draw.normal(0, 0.01, 40)
        ...     return Trajectory({"dtype": "float32"}, np.arange(1), loss[:, None], {}, {})
        >>> right = [run(seed) for seed in range(12)]
        >>> compare_seeds(right, [run(seed) for seed in range(12, 24)]).verdict
        <Verdict.PASS: 'PASS'>
        >>> compare_seeds(right, [run(seed, 0.12) for seed in range(12, 24)]).verdict
        <Verdict.FAIL: 'FAIL'>
    """
    counts = len(ours), len(theirs)
    if min(counts) < FEWEST:
        raise TrajectoryError(f"{counts[0]} runs against {counts[1]}: a side needs at least {FEWEST}, for its spread")
    ours, theirs, unmapped = in_one_layout(ours, theirs, matching)
    found, notes = measured(ours, theirs)
    notes = (*unmapped, *notes)
    unit = unit_of(*ours, *theirs)
    bad = [quantity.name for quantity in found if not np.isfinite(quantity.every).all()]
    if bad:
        reason = f"{bad[0]} is not finite in some run: nothing is said of such runs"
        return SeedsComparison(Verdict.INCONCLUSIVE, reason, counts, notes=notes, quantities=tuple(found), unit=unit)
    values = differing(found)
    most = min(found, key=lambda quantity: values[quantity.name])
    differs = most.name
    reached = [(quantity, possible(quantity, level)) for quantity in found]
    quantity, reach = max(reached, key=lambda one: float(one[1].max(initial=0.0)))
    name, place = quantity.name, int(np.argmax(reach))
    farthest = name, quantity.moments[place], float(reach[place])
    common: dict[str, Any] = {
        "counts": counts,
        "p": values[differs],
        "differs": differs,
        "values": values,
        "farthest": farthest,
        "visible": visible(found, level),
        "notes": notes,
        "quantities": tuple(found),
        "unit": unit,
    }
    if values[differs] <= level:
        return SeedsComparison(Verdict.FAIL, _different(most, values), **common)
    if farthest[2] < margin:
        reason = (
            f"no difference was found (p = {values[differs]:.2g}), and every mean is within {farthest[2]:.2g} standard "
            f"deviations of its seeds, of {margin:g} that are allowed"
        )
        return SeedsComparison(Verdict.PASS, reason, **common)
    needed = max(runs_needed(sum(len(q.moments) for q in found), margin, level), 2 * min(counts))
    reason = (
        f"no difference was found (p = {values[differs]:.2g}), but none is excluded either: {name} at {farthest[1]} "
        f"may differ by {farthest[2]:.2g} standard deviations of its seeds, where {margin:g} are allowed; "
        f"about {needed} runs a side would say"
    )
    if _fewest_p(*counts) > level:
        reason += f"; {counts[0]} against {counts[1]} runs cannot show any difference at {level:g}"
    return SeedsComparison(Verdict.INCONCLUSIVE, reason, needed=needed, **common)


def measured(ours: Sequence[Trajectory], theirs: Sequence[Trajectory]) -> tuple[list[Quantity], tuple[str, ...]]:
    """Measure what can be held against each other along every run.

    Args:
        ours: One side's runs.
        theirs: The other's.

    Returns:
        The quantities, the losses first, and a sentence for what was left out.

    Raises:
        TrajectoryError: If the runs are of other lengths, or hold nothing.
    """
    runs = (*ours, *theirs)
    shapes = {run.loss.shape for run in runs}
    if len(shapes) > 1:
        raise TrajectoryError(
            "the runs hold other numbers of losses (epochs, batches): " + " and ".join(map(str, sorted(shapes)[:2]))
        )
    losses = next(iter(shapes))
    found: list[Quantity] = []
    unit = unit_of(*runs)
    if math.prod(losses):
        cuts = np.array_split(np.arange(math.prod(losses)), min(BINS, math.prod(losses)))
        one, other = (np.stack([_in_bins(run, cuts) for run in side]) for side in (ours, theirs))
        at = tuple(float(cut[-1] + 1) / losses[1] for cut in cuts)
        found.append(Quantity("loss", one, other, tuple(_between(unit, losses[1], cut) for cut in cuts), at))
    names = [name for name in runs[0].params if all(name in run.params for run in runs)]
    alike = all(np.array_equal(run.epochs, runs[0].epochs) for run in runs)
    left_out = sorted({name for run in runs for name in run.params} - set(names if alike else ()))
    if alike:
        places = np.unique(np.linspace(0, len(runs[0].epochs) - 1, SNAPSHOTS).round().astype(int))
        for name in names:
            found += _of_tensor(name, ours, theirs, places, unit)
    notes = []
    if left_out:
        why = (
            "the sides call them otherwise, and no --map says which are the same"
            if alike
            else "snapshots were taken after other epochs"
        )
        notes.append(f"{len(left_out)} tensors were left out, as {left_out[0]}: {why}; of them the losses alone speak")
    if not found:
        raise TrajectoryError("the runs hold no losses and no parameters in common: nothing was compared")
    return found, tuple(notes)


def _in_bins(run: Trajectory, cuts: Sequence[Array]) -> Array:
    losses = run.loss.astype(np.float64).ravel()
    return np.array([losses[cut].mean() for cut in cuts])


def _between(unit: str, batches: int, cut: Array) -> str:
    ends = [moment(unit, int(place) // batches + 1, int(place) % batches if unit == UPDATE else None) for place in
            (cut[0], cut[-1])]  # fmt: skip
    return ends[0] if ends[0] == ends[1] else f"{ends[0]} to {ends[1].removeprefix(unit).strip()}"


def _of_tensor(
    name: str, ours: Sequence[Trajectory], theirs: Sequence[Trajectory], places: Array, unit: str
) -> list[Quantity]:
    """A tensor's size and its movement since the beginning, as roots of mean squares."""

    def along(run: Trajectory) -> Array:
        stack = run.params[name]
        begun = np.asarray(stack[0], np.float64)
        values = (np.asarray(stack[int(place)], np.float64) for place in places)
        return np.array([(_rms(value), _rms(value - begun)) for value in values])

    when = tuple(moment(unit, int(ours[0].epochs[place])) for place in places)
    one, other = (np.stack([along(run) for run in side]) for side in (ours, theirs))  # (runs, places, 2)
    kinds = ("size of", "movement of")
    at = tuple(float(ours[0].epochs[place]) for place in places)
    return [Quantity(f"{kind} {name}", one[..., k], other[..., k], when, at) for k, kind in enumerate(kinds)]


def _rms(values: Array) -> float:
    return float(np.sqrt(np.mean(np.square(values)))) if values.size else 0.0


def differing(quantities: Sequence[Quantity]) -> dict[str, float]:
    """Give each quantity the chance of as small a p-value anywhere, between sides that are drawn alike.

    Args:
        quantities: What was measured.

    Returns:
        The adjusted p-values, by name.

    Examples:
        >>> apart = Quantity("loss", np.arange(5.0)[:, None], 9 + np.arange(5.0)[:, None], ("epoch 1",))
        >>> differing([apart])["loss"] < 0.01
        True
    """
    counts = len(quantities[0].ours), len(quantities[0].theirs)
    dealt = _dealt(*counts)
    ranks = []
    for quantity in quantities:
        points = _standard(quantity)
        ranks.append(np.minimum(_ranked(_energies(points, dealt)), _ranked(_farthest(points, dealt))))
    smallest = np.min(ranks, axis=0)
    return {
        quantity.name: float(np.mean(smallest <= own[0] + 1e-12))
        for quantity, own in zip(quantities, ranks, strict=True)
    }


def _ranked(values: Array) -> Array:
    """For each permutation the share of all that have at least as much."""
    order = np.sort(values)
    # A hair less counts, or rounding would rank equals.
    hair = 1e-9 * max(float(order[-1]), np.finfo(np.float64).tiny)
    found: Array = (len(order) - np.searchsorted(order, values - hair, "left")) / len(order)
    return found


@cache
def _dealt(n: int, m: int) -> Array:
    """Ways to deal runs out to two sides, (ways, n + m), 1 for the first, 0 else; the first way is what was seen."""
    if math.comb(n + m, n) <= PERMUTATIONS + 1:
        found = np.zeros((math.comb(n + m, n), n + m))
        for row, chosen in zip(found, itertools.combinations(range(n + m), n), strict=True):
            row[list(chosen)] = 1
        return found
    draw = np.random.default_rng(0)
    found = np.zeros((PERMUTATIONS + 1, n + m))
    found[0, :n] = 1
    for row in found[1:]:
        row[draw.permutation(n + m)[:n]] = 1
    return found


def _standard(quantity: Quantity) -> Array:
    """Both sides' curves, each place in units of its spread over all runs; what is the same everywhere is 0."""
    every = quantity.every
    spread = every.std(0)
    rounding = 1e-12 * np.abs(every).max(0, initial=0.0)
    return np.where(spread > rounding, (every - every.mean(0)) / np.where(spread > rounding, spread, 1.0), 0.0)


def _energies(points: Array, first: Array) -> Array:
    """The energy distance between the sides of each way to deal points out, (ways,)."""
    apart = np.sqrt(np.square(points[:, None] - points[None]).sum(-1))
    second = 1 - first
    n, m = first[0].sum(), second[0].sum()
    of_first = first @ apart
    within_first, across = (of_first * first).sum(1), (of_first * second).sum(1)
    within_second = apart.sum() - within_first - 2 * across
    found: Array = 2 * across / (n * m) - within_first / n**2 - within_second / m**2
    return found


def _farthest(points: Array, first: Array) -> Array:
    """The largest distance between the means of the sides, in units of the spread within them, of each way, (ways,)."""
    n, m = first[0].sum(), (1 - first[0]).sum()
    apart = np.abs(first @ points / n + first @ points / m)  # all points add up to 0
    within = np.square(points).sum(0) - apart**2 * n * m / (n + m)
    with np.errstate(divide="ignore", invalid="ignore"):
        found: Array = np.where(apart > 0, apart / np.sqrt(np.maximum(within, 1e-12)), 0.0).max(1, initial=0.0)
    return found


def possible(quantity: Quantity, level: float = LEVEL) -> Array:
    """The largest difference of the means that the runs leave possible, in standard deviations of their seeds.

    Args:
        quantity: What was measured.
        level: The chance that the difference is larger.

    Returns:
        Of each place, (places,); 0 where both sides' runs are all the same.
    """
    apart, spread, freedom = _means(quantity)
    n, m = len(quantity.ours), len(quantity.theirs)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.where(apart == 0, 0.0, apart / spread)
    return found + np.where(spread > 0, student(1 - level, freedom) * math.sqrt(1 / n + 1 / m), 0.0)


def _means(quantity: Quantity) -> tuple[Array, Array, int]:
    """How far the means are apart, the standard deviation within the sides, and its degrees of freedom."""
    n, m = len(quantity.ours), len(quantity.theirs)
    apart = np.abs(quantity.ours.mean(0) - quantity.theirs.mean(0))
    squares = sum(np.square(side - side.mean(0)).sum(0) for side in (quantity.ours, quantity.theirs))
    spread = np.sqrt(squares / (n + m - 2))
    largest = np.abs(quantity.every).max(0, initial=0.0)
    # What differs by rounding alone, as a tensor's movement before it moves, differs by nothing.
    still = np.maximum(apart, spread) <= 1e-12 * largest
    return np.where(still, 0.0, apart), np.where(still, 0.0, spread), n + m - 2


def student(share: float, freedom: int) -> float:
    """Give the quantile of Student's t (Abramowitz & Stegun 1964, 26.7.5), to a thousandth from 3 degrees on.

    Args:
        share: The share of values below it.
        freedom: The degrees of freedom.

    Returns:
        The quantile.

    Examples:
        >>> round(student(0.95, 10), 2), round(student(0.975, 30), 3)
        (1.81, 2.042)
    """
    z = NormalDist().inv_cdf(share)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return float(z + sum(term / freedom**k for k, term in enumerate(terms, 1)))


def runs_needed(means: int, margin: float, level: float = LEVEL) -> int:
    """Say how many runs a side show equivalence with a probability of ``POWER``, if the sides are drawn alike.

    Args:
        means: How many must be within the margin, each by itself.
        margin: The margin, in standard deviations between seeds.
        level: The chance of a false PASS.

    Returns:
        The number of runs of each side.

    Examples:
        >>> runs_needed(1, 2.0), runs_needed(40, 2.0), runs_needed(40, 1.0)
        (5, 11, 40)
    """
    kept = NormalDist().inv_cdf(1 - (1 - POWER) / (2 * means))
    counts = range(FEWEST + 1, MOST)
    return next((n for n in counts if (student(1 - level, 2 * n - 2) + kept) * math.sqrt(2 / n) < margin), MOST)


def visible(quantities: Sequence[Quantity], level: float = LEVEL) -> float | None:
    """Say which relative change of the learning rate so many runs would have shown, with a probability of ``POWER``.

    A learning rate that is larger by a small part takes a run along its path that much faster. So a mean changes by
    that part of what it changes in as many updates as there were so far.

    Args:
        quantities: What was measured.
        level: The chance of a false alarm.

    Returns:
        The relative change; None if no mean moves.
    """
    n, m = len(quantities[0].ours), len(quantities[0].theirs)
    alarm = student(1 - level / 2 / len(quantities), n + m - 2)
    enough = (alarm + NormalDist().inv_cdf(POWER)) * math.sqrt(1 / n + 1 / m)
    best = 0.0
    for quantity in quantities:
        places = len(quantity.moments)
        if places < 3:
            continue
        mean = quantity.every.mean(0)
        _, spread, _ = _means(quantity)
        change = np.abs(np.gradient(mean)) * np.arange(places)
        seen = change[spread > 0] / spread[spread > 0]
        best = max(best, float(seen.max(initial=0.0)))
    return enough / best if best else None


def _fewest_p(n: int, m: int) -> float:
    """The smallest p-value that so many runs can give: both ways round, equal sides are the same."""
    return (2 if n == m else 1) / math.comb(n + m, n)


def _different(quantity: Quantity, values: Mapping[str, float]) -> str:
    apart, spread, _ = _means(quantity)
    with np.errstate(divide="ignore", invalid="ignore"):
        place = int(np.argmax(np.nan_to_num(np.where(apart == 0, 0.0, apart / spread), posinf=np.inf)))
    ours, theirs = (float(side.mean(0)[place]) for side in (quantity.ours, quantity.theirs))
    others = sum(value <= LEVEL for value in values.values()) - 1
    also = f"; so do {others} more" if others > 0 else ""
    return (
        f"{quantity.name} differs in distribution (p = {values[quantity.name]:.2g}), by most at "
        f"{quantity.moments[place]}: on average {ours:.6g} and {theirs:.6g}, with a standard deviation of "
        f"{float(spread[place]):.2g} between seeds{also}"
    )
