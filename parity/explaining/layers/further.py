"""Larger differences after the first one: a small quirk early on must not hide a mistake that comes later.

After the first parting no value says which layer is which any more. Kind, size and order do, and where the
difference between two paired tensors is many times what came in, something else parts there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from parity.explaining.layers.alignment import Alignment, floor_of
from parity.explaining.layers.arrangement import nearest
from parity.explaining.layers.dataflow import Tensor, kind_of, nearest_known
from parity.explaining.layers.parting import Parting, Place
from parity.explaining.layers.partings import Forward, set_otherwise
from parity.tolerance import FACTOR

AMPLIFIED = 100
"""A layer that is the same in both runs makes a difference no more than so many times larger, relative to values."""
UNLIKE = 0.7
"""Values that are further apart, relative to their size, may belong to two layers that have nothing in common."""


@dataclass(frozen=True)
class _Paired:
    ours: Tensor
    theirs: Tensor
    apart: float
    """The root mean square of the difference, relative to that of the values."""


def further(alignment: Alignment, forward: Forward) -> list[Parting]:
    """Find where a difference between two runs becomes many times larger than what came in.

    Args:
        alignment: The tensors of both runs.
        forward: Where the forward pass parts first.

    Returns:
        The places in order, each uncertain: their partners are found by kind, size and order.
    """
    flow = alignment.sides[0]
    paired = {one.ours.label: one for one in _pairs(alignment, forward)}
    found = []
    for one in paired.values():
        before = nearest_known(lambda label: flow.tensors[label].sources, one.ours.label, paired)
        largest = max((paired[each].apart for each in before), default=0.0)
        if not before or not 0 < AMPLIFIED * largest < one.apart < UNLIKE:
            continue
        places = []
        for tensor, after in (
            (one.ours, [paired[each].ours.label for each in before]),
            (one.theirs, [paired[each].theirs.label for each in before]),
        ):
            taker = tensor.taker.name if tensor.taker is not None else ""
            places.append(Place(layer=tensor.layer, after=tuple(after), before=taker))
        layers = one.ours.layer, one.theirs.layer
        differences = (
            set_otherwise(alignment.sides, layers[0], layers[1])
            if layers[0] is not None and layers[1] is not None
            else []
        )
        floor = floor_of(one.ours, one.theirs)
        found.append(
            Parting(
                direction="forward",
                ours=places[0],
                theirs=places[1],
                inputs=float("nan"),
                output=one.apart * float(one.theirs.sketch[2]) / floor if floor else np.inf,
                differences=tuple(differences),
                note=f"{one.apart:.2g} of the values, after inputs that are {largest:.2g} of theirs apart already",
                certain=False,
            )
        )
    return found


def _pairs(alignment: Alignment, forward: Forward) -> Iterator[_Paired]:
    """Pair the layers that part, or come after what parts, and what they take; in order."""
    classes: list[dict[tuple[str, int], list[Tensor]]] = []
    for side, flow in enumerate(alignment.sides):
        classes.append({})
        for tensor in flow.tensors.values():
            if forward.frontier.parts(side, tensor.label) and kind_of(tensor):
                classes[-1].setdefault((kind_of(tensor), tensor.size), []).append(tensor)
    # Where one run has more of a kind and size than the other, nobody knows which of them is whose.
    alike = [name for name, some in classes[0].items() if len(some) == len(classes[1].get(name, ()))]
    pairs = [pair for name in alike for pair in zip(classes[0][name], classes[1][name], strict=True)]
    for ours, theirs in sorted(pairs, key=lambda pair: pair[0].place):
        yield from _with_inputs(alignment, forward, ours, theirs)


def _with_inputs(alignment: Alignment, forward: Forward, ours: Tensor, theirs: Tensor) -> Iterator[_Paired]:
    both: list[tuple[Tensor, Tensor]] = []
    if ours.layer is not None and theirs.layer is not None:
        for label, partner in zip(ours.layer.inputs, theirs.layer.inputs, strict=False):
            if forward.frontier.parts(0, label) and forward.frontier.parts(1, partner):
                both.append((alignment.sides[0].tensors[label], alignment.sides[1].tensors[partner]))
    for one, other in (*[pair for pair in both if pair[0].layer is None], (ours, theirs)):
        apart = _apart(one, other)
        if apart is not None:
            yield _Paired(one, other, apart)


@np.errstate(all="ignore")  # a recording may hold any numbers
def _apart(ours: Tensor, theirs: Tensor) -> float | None:
    """The root mean square of the difference, relative to that of the values; None if it cannot be known."""
    if ours.values is None or theirs.values is None or ours.size != theirs.size:
        return None
    lying = nearest(ours.values, theirs.values, FACTOR * floor_of(ours, theirs))
    if lying is None:
        return None
    far = lying.of(ours.values).astype(np.float64) - theirs.values
    found = float(np.sqrt(np.mean(far**2)) / theirs.sketch[2])
    return found if np.isfinite(found) else None
