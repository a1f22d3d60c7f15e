"""What single updates of two deep recordings show, each freed from how far the runs had drifted before it.

A long run in float32 parts from a right one by chaos alone. A single update does not, if what it began from is taken
into account:

    loss      The loss of one run follows from that of the other to second order, along the mean of both gradients:
              L(b) = L(a) + (g(a) + g(b)) / 2 · (b - a). The rest is rounding, or another forward pass. It is no more
              than sum |g(b) - g(a)| |b - a| if the gradients change as much as they do elsewhere between a and b.
    update    An optimizer moves each element by its gradients so far. Where these agree but for a share of their size,
              so must the movement. An element whose gradients are rounding alone may move as it likes.
    gradient  A kink, as ReLU's, turns a rounding into a gradient that differs in one layer and in those before it, not
              in all. So gradients that part in every tensor, from states that agree, part by no rounding; nor do those
              that part from the first update on and never agree again. Where shadows walked beside both runs, they
              say by how much rounding parts them.
    state     What is not trained, such as a running mean, after the first update: both began alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from parity.dtypes import unit
from parity.judging.updates.gradients import beyond_shadows, without_gradient
from parity.judging.updates.single import (
    Defect,
    coarser,
    far_apart,
    of_all,
    pairs_of,
    size_of,
    strayed_by,
    trained_in_both,
    wide,
)
from parity.judging.updates.zeros import moved_by_rounding_alone, step_without
from parity.recording.steps import Phase, steps_of
from parity.tolerance import FACTOR, ROUNDINGS
from parity.trajectory import Trajectory
from parity.typing import Array, Params

CORRECTION = 1024
"""A factor of the whole update, such as Adam's 1 - 0.999 at its first one, may be known a thousandfold worse than its
dtype rounds."""
SAMPLE = 1 << 16
"""Of so many values, spread over all of them, the factor of a whole update is taken."""
ENOUGH = 12
"""The least number of updates for a systematic difference. Rounding of standard deviation s exceeds FACTOR s in at most
one of FACTOR² updates (Chebyshev), so that it does so in half of twelve independent ones with a chance below 1e-11."""


@dataclass(frozen=True)
class Losses:
    """What remains of each update's loss once drift is taken off: all in units of the losses' own roundings, (N,)."""

    rest: Array
    allowed: Array
    drift: Array
    """What was taken off."""

    @property
    def usual(self) -> float:
        """The median size of what remains."""
        return float(np.median(np.abs(self.rest))) if len(self.rest) else 0.0


@np.errstate(all="ignore")  # a recording may hold any numbers
def defects(
    ours: Trajectory,
    theirs: Trajectory,
    noise: Sequence[Losses] = (),
    *,
    scalars: float = 0.0,
    clipped: float = 0.0,
    times: float = 0.0,
    zeros: Params | None = None,
) -> list[Defect]:
    """Find what single updates of two runs show, each by itself.

    Args:
        ours: The run that is judged.
        theirs: The run that it is held against.
        noise: What remains of the losses between repetitions and their runs: see ``losses``.
        scalars: How well factors of the whole update are known, if that is accepted to be worse than their dtype.
        clipped: How well a factor of all gradients is known, if that is accepted likewise.
        times: How many times as large as the recorded gradients the losses' own may be then.
        zeros: The values that rounding alone moves, if they are known: see ``parity.judging.updates.zeros``.

    Returns:
        The defects in order of updates, at most one of each kind; none if the runs did not record updates deeply, or
        did not begin alike.
    """
    if not begin_alike(ours, theirs):
        return []
    zeros = moved_by_rounding_alone(ours, theirs) if zeros is None else zeros
    found = [*_of_losses(losses(ours, theirs, times), noise)]
    found += islice(of_updates(ours, theirs, scalars), 1)
    found += islice(without_gradient(ours, theirs, zeros), 1)
    found += islice(_of_gradients(ours, theirs, zeros, clipped), 1)
    found += islice(beyond_shadows(ours, theirs, zeros, clipped), 1)
    found += islice(_of_buffers(ours, theirs), 1)
    order = list(Phase)
    return sorted(found, key=lambda defect: (not defect.certain, defect.update, order.index(defect.phase)))


def begin_alike(ours: Trajectory, theirs: Trajectory) -> bool:
    """Say whether both runs recorded updates deeply, and their first ones begin within rounding of each other."""
    steps = steps_of(ours), steps_of(theirs)
    if not all(steps):
        return False
    one, other = (each[0] for each in steps)
    u = coarser(ours, theirs)
    return all(
        far_apart(one.before.params[name], value) <= 2 * FACTOR * ROUNDINGS * u * size_of(value)
        for name, value in other.before.params.items()
        if name in one.gradients and name in one.before.params
    )


def looked_at(ours: Trajectory, theirs: Trajectory) -> int:
    """Count the first updates that can be judged by themselves: both runs recorded their gradients, of equal names."""
    if not begin_alike(ours, theirs):
        return 0
    count = 0
    for a, b in pairs_of(ours, theirs):
        if not set(trained_in_both(a, b)) == a.gradients.keys() == b.gradients.keys():
            break
        count += 1
    return count


def losses(ours: Trajectory, theirs: Trajectory, times: float = 0.0) -> Losses:
    """Take the drift of the states off the difference of the losses, update by update.

    ``times`` says how many times as large the losses' own gradients may be, where the recorded ones are clipped.

    >>> run = Trajectory({"dtype": "float64"}, np.arange(1), np.zeros((0, 0)), {}, {})
    >>> losses(run, run).usual
    0.0
    """
    u, rest, allowed, taken, largest = coarser(ours, theirs), [], [], [], 0.0
    for a, b in pairs_of(ours, theirs):
        drift = curve = 0.0
        for name in trained_in_both(a, b):
            way = wide(a.before.params[name]) - wide(b.before.params[name])
            one, other = (
                wide(run.steps.get(f"{s.number}/unclipped/{name}", s.gradients[name]))
                for run, s in ((ours, a), (theirs, b))
            )
            drift += float(np.sum((one + other) / 2 * way))
            curve += float(np.sum(np.abs((one - other) * way)))
        # A loss that happens to be small is a difference of large numbers, as a squared error of one row may be.
        largest = max(largest, abs(float(a.loss)), abs(float(b.loss)))
        if not (size := u * largest) > 0:
            continue
        rest.append((float(a.loss) - float(b.loss) - drift) / size)
        allowed.append((curve + times * abs(drift)) / size)
        taken.append(drift / size)
    return Losses(np.array(rest), np.array(allowed), np.array(taken))


def _of_losses(found: Losses, noise: Sequence[Losses]) -> Iterator[Defect]:
    """Yield the first loss that is none of its parameters', or say that most are off by more than their noise.

    It is certain if it is so of most: one alone may be a difference of large numbers.
    """
    rest, curve = np.abs(found.rest), found.allowed
    limit = 2 * FACTOR * ROUNDINGS
    if (beyond := np.flatnonzero(~(rest <= limit + curve))).size:
        k = int(beyond[0])
        yield Defect(
            Phase.LOSS,
            k,
            "loss",
            f"the loss of update {k} is off by {rest[k]:.3g} roundings where the states explain {curve[k]:.2g} and "
            f"{limit} are allowed, and that of {of_all(len(beyond), len(rest))} likewise",
            certain=2 * len(beyond) > len(rest),
        )
        return
    measured = [each for each in noise if len(each.rest) >= ENOUGH]
    usual = max([1.0, *(each.usual for each in measured)])
    # By their size in the middle of the updates: one that is large by chance says nothing.
    off = rest > FACTOR * usual + curve
    if len(rest) >= ENOUGH and 2 * int(off.sum()) > len(rest):
        same = max(np.count_nonzero(found.rest > 0), np.count_nonzero(found.rest < 0))
        yield Defect(
            Phase.LOSS,
            int(np.flatnonzero(off)[0]),
            "loss",
            f"the losses of {of_all(int(off.sum()), len(rest))} are off by more than {FACTOR * usual:.2g} "
            f"roundings, {found.usual:.3g} of them in the middle, {same} of them in one direction, each by itself, "
            "where "
            + (f"the repetitions show {usual:.2g}" if measured else "one pass through a model rounds a few times"),
            certain=bool(measured),
        )


def of_updates(ours: Trajectory, theirs: Trajectory, scalars: float = 0.0) -> Iterator[Defect]:
    """Yield the updates that their gradients do not explain; ``scalars`` as in ``defects``.

    A watched run and a suite's may have made its gradients once more aside, so that the recorded ones are rounded
    otherwise than those of the update.
    """
    u = coarser(ours, theirs)
    aside = any("layers" in run.meta or "case" in run.meta for run in (ours, theirs))
    apart: Params = {}
    size: Params = {}
    moved: Params = {}
    largest = 0.0
    for k, (a, b) in enumerate(pairs_of(ours, theirs)):
        ways = {
            name: tuple(wide(s.after.params[name]) - wide(s.before.params[name]) for s in (a, b))
            for name in trained_in_both(a, b)
        }
        if not ways:
            return
        largest = max(largest, *(size_of(side.gradients[name]) for side in (a, b) for name in ways))
        factor = _common_factor(ways.values(), FACTOR * max(CORRECTION * u, scalars))
        for name, (one, other) in ways.items():
            gradients = wide(a.gradients[name]), wide(b.gradients[name])
            apart[name] = np.maximum(apart.get(name, 0.0), np.abs(gradients[0] - gradients[1]))
            if aside:
                # What the update took was rounded otherwise than what was recorded, by as much as elsewhere.
                usual = np.sqrt(np.mean(apart[name] ** 2)) if apart[name].size else 0.0
                least = ROUNDINGS * u * size_of(gradients[0])
                apart[name] = np.maximum(apart[name], max(usual, least))
            size[name] = size.get(name, 0.0) + (gradients[0] ** 2 + gradients[1] ** 2) / 2
            moved[name] = np.maximum(np.maximum(np.abs(one), np.abs(other)), moved.get(name, 0.0))
            begun = np.maximum(np.abs(wide(a.before.params[name])), np.abs(wide(b.before.params[name])))
            rounding = ROUNDINGS * (u * begun + max(u, scalars) * moved[name])
            allowed = FACTOR * (moved[name] * _share(apart[name], np.sqrt(size[name] / (k + 1))) + rounding)
            far = np.abs(one - other * factor)
            beyond = ~(far <= allowed)
            if aside:
                beyond &= np.sqrt(size[name] / (k + 1)) > FACTOR * ROUNDINGS * u * largest
            if beyond.any():
                place = np.unravel_index(int(np.argmax(np.where(beyond, far, -1.0))), far.shape)
                yield Defect(
                    Phase.UPDATE,
                    k,
                    name,
                    f"update {k} moves {name}{_index(place)} by {one[place]:.7g} and by {other[place]:.7g}, from "
                    f"gradients {gradients[0][place]:.7g} and {gradients[1][place]:.7g}: {_elements(beyond)} differ by "
                    "more than rounding and their gradients explain",
                )


def _share(apart: Array, usual: Array) -> Array:
    """The share of its gradients so far by which each element's differ."""
    share = np.divide(apart, usual, out=np.zeros_like(usual), where=usual > 0)
    # A norm over the tensor, as LARS or LAMB take, spreads what its elements differ by; not of rounding alone.
    # Not by np.linalg.norm: BLAS lets threads wait for each other, which takes longer than the sum where cores are few.
    whole = float(np.sqrt(np.sum(np.square(apart)) / max(np.sum(np.square(usual)), np.finfo(np.float64).tiny)))
    spread: Array = share + (whole if FACTOR * whole < 1 else 0.0)
    return spread


def _common_factor(ways: Iterable[tuple[Array, Array]], known: float) -> float:
    """The factor between two whole updates, if it is as near to 1 as a rounded factor can be, as 1 - 0.999 is."""
    pairs = [(one.ravel(), other.ravel()) for one, other in ways]
    every = max(1, sum(one.size for one, _ in pairs) // SAMPLE)
    one, other = (np.concatenate(each)[::every] for each in zip(*pairs, strict=True))
    weights = np.abs(other)
    if not weights.any():
        return 1.0
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = np.where(weights > 0, one / other, 1.0)
    order = np.argsort(ratios)
    middle = int(np.searchsorted(np.cumsum(weights[order]), weights.sum() / 2))
    factor = float(ratios[order][min(middle, len(order) - 1)])
    return factor if abs(factor - 1) <= known else 1.0


def _of_gradients(ours: Trajectory, theirs: Trajectory, zeros: Params, clipped: float) -> Iterator[Defect]:
    """Yield the gradients that part in every tensor, or in one of them from the start on."""
    u = coarser(ours, theirs)
    # A sum of terms that nearly cancel is known by so much less than its terms.
    limit = 2 * FACTOR * FACTOR * ROUNDINGS * u + 2 * clipped
    firsts: dict[str, list[tuple[float, float]]] = {}
    for k, (a, b) in enumerate(pairs_of(ours, theirs)):
        a = step_without(a, b, zeros)
        names = [name for name in trained_in_both(a, b) if name not in zeros or not zeros[name].all()]
        least = FACTOR * ROUNDINGS * u * max((size_of(b.gradients[name]) for name in names), default=0.0)
        shares, drift = {}, 0.0
        for name in names:
            size = max(size_of(a.gradients[name]), size_of(b.gradients[name]))
            if size > least:
                shares[name] = far_apart(a.gradients[name], b.gradients[name]) / size
                begun = size_of(b.before.params[name])
                drift = max(drift, far_apart(a.before.params[name], b.before.params[name]) / begun if begun else 0.0)
        allowed = limit + FACTOR * ROUNDINGS * drift
        for name, share in shares.items():
            # A scale that the next norm takes back has a gradient that nearly cancels.
            size = max(size_of(a.gradients[name]), size_of(b.gradients[name]))
            firsts.setdefault(name, []).append((share, limit + FACTOR * strayed_by((a, b), name) / size))
        if shares and min(shares.values()) > allowed:
            name = max(shares, key=lambda name: shares[name])
            yield Defect(
                Phase.GRADIENT,
                k,
                name,
                f"the gradients of update {k} part in every tensor, those of {name} by {shares[name]:.3g} of their "
                f"largest value, where the states part by {drift:.2g}",
            )
    for name, each in firsts.items():
        # A kink that rounding crosses makes one update's gradients differ; those of the next agree again.
        first, allowed = each[0]
        again = [share for share, least in each if share > max(least, first / FACTOR)]
        if len(each) > 1 and first > allowed and 2 * len(again) > len(each):
            yield Defect(
                Phase.GRADIENT,
                0,
                name,
                f"the gradient of {name} parts at the first update by {first:.3g} of its largest value, and in "
                f"{of_all(len(again), len(each))} in all",
            )


def _of_buffers(ours: Trajectory, theirs: Trajectory) -> Iterator[Defect]:
    """Yield what is not trained and parts at the first update, which both begin alike."""
    u = coarser(ours, theirs)
    for a, b in islice(pairs_of(ours, theirs), 1):
        both = ours.params.keys() & theirs.params.keys() & a.after.params.keys() & b.after.params.keys()
        for name in sorted(both - a.gradients.keys() - b.gradients.keys()):
            begun = far_apart(*(np.asarray(run.params[name][0]) for run in (ours, theirs)))
            # A loop may hand over what its forward pass has moved already.
            for one, other in ((s.params[name], t.params[name]) for s, t in ((a.before, b.before), (a.after, b.after))):
                wide = max(u, *(_kept_in(values) for values in (one, other)))
                limit = 2 * FACTOR * ROUNDINGS * wide * max(size_of(one), size_of(other))
                if begun <= limit < far_apart(one, other):
                    yield Defect(
                        Phase.STATE,
                        0,
                        name,
                        f"{name}, which is not trained, differs by {far_apart(one, other):.3g} at the first update",
                    )


def _kept_in(values: Array) -> float:
    """The unit roundoff of float32 for a tensor that is kept in it, as flax nnx keeps running statistics, else 0."""
    told = values.size > 1 and not (values == values.flat[0]).all()
    return unit("float32") if told and (values == values.astype(np.float32)).all() else 0.0


def _index(place: tuple[np.intp, ...]) -> str:
    return f"[{', '.join(map(str, place))}]" if place else ""


def _elements(beyond: Array) -> str:
    return f"{np.count_nonzero(beyond)} of its {beyond.size} values"
