"""Gradients that part in single updates: farther than shadows strayed, or in slices that one run does not train."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from parity.judging.comparable import coarser_dtype
from parity.judging.updates.kinks import bent_at
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
from parity.recording.layers import layers_of
from parity.recording.steps import Phase, Step
from parity.tolerance import FACTOR, ROUNDINGS
from parity.trajectory import Trajectory
from parity.typing import Array, Params

SURE = 3
"""A kink that rounding crosses makes one update's gradients differ, and rarely two of them: in so many it is none."""
FEW = 4
"""So many slices are named."""


def beyond_shadows(ours: Trajectory, theirs: Trajectory, zeros: Params, clipped: float = 0.0) -> Iterator[Defect]:
    """Yield the gradients that part at the first update, and in most of those asked, by more than rounding.

    The shadows of both runs say what rounding makes of a gradient. They say it of an update only where the states
    before it agree as far as shadows strayed: what states that have drifted apart make of it, no shadow shows. An
    update in which values within rounding of zero are seen to pass a gradient on in one run alone is not asked either.

    Args:
        ours: The run that is judged.
        theirs: The run that it is held against; both begin alike.
        zeros: The values that rounding alone moves: see ``parity.judging.updates.zeros``.
        clipped: How well a factor of all gradients is known: see ``parity.judging.updates.defects``.

    Yields:
        A defect for each such tensor; it is certain if SURE updates show it.
    """
    u, dtype = coarser(ours, theirs), coarser_dtype(ours, theirs)
    shown: dict[str, list[float]] = {}
    asked = 0
    for k, both in enumerate(pairs_of(ours, theirs)):
        if not all(step.strays.get(Phase.GRADIENT) for step in both):
            return
        names = [name for name in trained_in_both(*both) if name not in zeros or not zeros[name].all()]
        if any(_parts(Phase.STATE, both, u, name) > 1 for name in names):
            continue
        largest = max((size_of(step.gradients[name]) for step in both for name in names), default=0.0)
        told = [
            name
            for name in names
            if max(size_of(step.gradients[name]) for step in both) > FACTOR * ROUNDINGS * u * largest
        ]
        beyond = {name: far for name in told if (far := _parts(Phase.GRADIENT, both, u, name, clipped)) > 1}
        if not beyond and not k:
            return
        if beyond and bent_at(*both, dtype):
            if not k:
                return
            continue
        asked += 1
        for name, far in beyond.items():
            if not k or name in shown:
                shown.setdefault(name, []).append(far)
    for name, each in sorted(shown.items(), key=lambda one: -one[1][0]):
        if len(each) > 1 and 2 * len(each) > asked:
            yield Defect(
                Phase.GRADIENT,
                0,
                name,
                f"the gradient of {name} parts at the first update by {each[0]:.3g} times what {FACTOR} times the "
                f"strays of both runs' shadows allow, and in {of_all(len(each), asked)} in all",
                certain=len(each) >= SURE,
            )


def _parts(phase: Phase, both: tuple[Step, Step], u: float, name: str, known: float = 0.0) -> float:
    """How far a parameter or its gradient parts, as a share of FACTOR times what both runs' shadows strayed."""
    one, other = (step.gradients[name] if phase is Phase.GRADIENT else step.before.params[name] for step in both)
    size = max(size_of(one), size_of(other))
    floor = sum(max(ROUNDINGS * u * size, strayed_by([step], name, phase)) for step in both)
    allowed = FACTOR * floor + 2 * known * size
    return far_apart(one, other) / allowed if allowed else 0.0


def without_gradient(ours: Trajectory, theirs: Trajectory, zeros: Params) -> Iterator[Defect]:
    """Yield the tensors of which one run alone has no gradient in some slices, though it trains the others.

    No rounding makes an exact zero of a whole slice: a padding's row that is not trained does. A unit behind which
    ReLU bends may be dead in one run alone by a rounding, so that of other tensors than an embedding's more than one
    update must show it, and none may speak against it.
    """
    u = coarser(ours, theirs)
    tables = {layer.name for run in (ours, theirs) for layer in layers_of(run) if layer.common.kind == "embedding"}
    found: dict[tuple[str, int, int], list[tuple[int, Array]]] = {}
    contradicted: set[tuple[str, int, int]] = set()
    for k, both in enumerate(pairs_of(ours, theirs)):
        for name in trained_in_both(*both):
            values = [np.abs(wide(step.gradients[name])) for step in both]
            if values[0].ndim < 2 or (name in zeros and zeros[name].all()):
                continue
            limit = FACTOR * (FACTOR * ROUNDINGS * u * max(map(size_of, values)) + strayed_by(both, name))
            for axis in (0, values[0].ndim - 1):
                others = tuple(each for each in range(values[0].ndim) if each != axis)
                slices = [each.max(axis=others, initial=0.0) for each in values]
                for side in (0, 1):
                    lost = (slices[side] == 0) & (slices[1 - side] > limit)
                    key = name, axis, side
                    if lost.any() and slices[side].any():
                        found.setdefault(key, []).append((k, np.flatnonzero(lost)))
                    if key in found and (slices[side][found[key][0][1]] > 0).any():
                        contradicted.add(key)
    for (name, axis, side), seen in sorted(found.items(), key=lambda one: one[1][0][0]):
        table = name.rpartition("/")[0] in tables or name.rpartition(".")[0] in tables
        k, places = seen[0]
        if not table and len(seen) > 1:
            places = np.intersect1d(places, seen[1][1])
        if (name, axis, side) in contradicted or not len(places) or (len(seen) < 2 and not table):
            continue
        what, which = "column" if axis else "row", "second" if side else "first"
        listed = ", ".join(map(str, places[:FEW])) + (", …" if len(places) > FEW else "")
        yield Defect(
            Phase.GRADIENT,
            k,
            name,
            f"{what}{'s' if len(places) > 1 else ''} {listed} of {name} {'have' if len(places) > 1 else 'has'} no "
            f"gradient in the {which} run" + (", as with padding_idx" if table and not axis else ""),
        )
