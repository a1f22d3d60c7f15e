"""Where the backward pass parts, and which layer owns a running statistic that does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from parity.explaining.layers.alignment import Alignment, Relation
from parity.explaining.layers.arrangement import Arrangement
from parity.explaining.layers.dataflow import Dataflow, Tensor, kind_of, nearest_known
from parity.explaining.layers.parting import Parting, Place
from parity.explaining.layers.partings import set_otherwise
from parity.explaining.pattern import multiple
from parity.nn import configuration as words
from parity.recording.layers import Layer
from parity.recording.steps import Step
from parity.tolerance import FACTOR, least_floor
from parity.typing import Array

Look = Callable[[Array, Array, float], str]
BETWEEN = 4
"""So many layers are named at most that a gradient may have come through."""


def backward(alignment: Alignment, look: Look, untrained: tuple[int, int] = (0, 0)) -> list[Parting]:
    """Find the layers through which a gradient comes back that agrees, and goes on as one that does not.

    Of what layers gave alone: a tensor that a function gave is followed from another place in each framework.

    Args:
        alignment: The tensors of both runs; their values agree.
        look: Says what a difference looks like.
        untrained: For how many parameters each run alone has no gradient.

    Returns:
        Every independent parting, the certain ones first, then the nearest to the loss. None of them if the loss's own
        gradient parts.
    """
    pairs = {ours.label: (ours, theirs, lying) for ours, theirs, lying in _comparable(alignment)}
    apart = {label: _apart(*pair) for label, pair in pairs.items()}
    below = alignment.sides[0].below
    found = []
    for label in reversed(list(pairs)):
        if apart[label][0] <= FACTOR:
            continue
        nearest = nearest_known(below.__getitem__, label, pairs)
        if not nearest or any(apart[each][0] > FACTOR for each in nearest):
            continue
        ours, theirs, _ = pairs[label]
        places: tuple[Place, ...] = (
            _through(alignment.sides[0], ours, nearest),
            _through(alignment.sides[1], theirs, [pairs[each][1].label for each in nearest]),
        )
        differences: list[str] = []
        layers = [place.layer for place in places]
        if layers[0] is not None and layers[1] is not None:
            differences = set_otherwise(alignment.sides, layers[0], layers[1])
        far, got, wanted = apart[label]
        note, certain = "", True
        # Where nothing needs a gradient, none is recorded: it is stopped anywhere since the last layer that is trained.
        if ours.gradient is None or theirs.gradient is None:
            stopped = ours if ours.gradient is None else theirs
            note = f"nothing comes back to {stopped.label}, as through a stopped gradient"
            to = nearest, [pairs[each][1].label for each in nearest]
            side = 0 if ours.gradient is None else 1
            places = tuple(map(_since_trained, alignment.sides, (ours, theirs), to))
            differences = []
            # Behind a stop, every trained layer lacks a gradient: if fewer do, the layer itself is not trained.
            if 0 < untrained[side] < len(_trained(alignment.sides[side], stopped, places[side].after)):
                places = tuple(Place(layer=t.layer, after=tuple(t.sources), before="") for t in (ours, theirs))
                note, certain = f"nothing comes back to {stopped.label}, as if it were not trained", False
        pattern = "" if note else look(got, wanted, max(ours.gradient_floor, theirs.gradient_floor))
        found.append(
            Parting(
                direction="backward",
                ours=places[0],
                theirs=places[1],
                inputs=max(apart[each][0] for each in nearest),
                output=far,
                differences=tuple(differences),
                pattern=pattern,
                note=note,
                certain=certain,
            )
        )
    return sorted(found, key=lambda parting: not parting.certain)


def _comparable(alignment: Alignment) -> Iterator[tuple[Tensor, Tensor, Arrangement]]:
    """The outputs of layers that are surely one another's, and whose gradient at least one run has."""
    flows = alignment.sides
    for label, partners in alignment.partners[0].items():
        ours = flows[0].tensors[label]
        others = [flows[1].tensors[partner] for partner in partners]
        given = [other for other in others if other.layer is not None]
        alike = [other for other in given if kind_of(other) == kind_of(ours)]
        chosen = alike if len(alike) == 1 else given
        if ours.layer is None or len(chosen) != 1 or (ours.gradient is None and chosen[0].gradient is None):
            continue
        if any(_elsewhere(flow, tensor) for flow, tensor in zip(flows, (ours, chosen[0]), strict=True)):
            continue
        how, lying = alignment.relation(ours, chosen[0])
        if how is Relation.EQUAL and lying is not None:
            yield ours, chosen[0], lying


def _elsewhere(flow: Dataflow, tensor: Tensor) -> bool:
    """Tell whether a gradient came back to another output of a layer, as to the sequence and not to the last state."""
    if tensor.gradient is not None or tensor.layer is None:
        return False
    others = [flow.tensors[label] for label in tensor.layer.outputs if label in flow.tensors]
    return any(other.gradient is not None for other in others)


@np.errstate(all="ignore")  # a recording may hold any numbers
def _apart(ours: Tensor, theirs: Tensor, lying: Arrangement) -> tuple[float, Array, Array]:
    """The distance of two gradients in noise floors, and both as they lie in the second run. None is zeros."""
    known = next(t.gradient for t in (ours, theirs) if t.gradient is not None)
    wanted = np.zeros(lying.shape, known.dtype) if theirs.gradient is None else theirs.gradient
    got = np.zeros(lying.shape, known.dtype) if ours.gradient is None else lying.of(ours.gradient)
    far = float(np.max(np.abs(got.astype(np.float64) - wanted), initial=0.0))
    floor = max(ours.gradient_floor, theirs.gradient_floor)
    return (0.0 if far == 0 else far / floor if floor else np.inf), got, wanted


def _through(flow: Dataflow, tensor: Tensor, after: Sequence[str]) -> Place:
    """The layer through which a tensor's gradient comes, or functions and the few layers that it may come through."""
    taker = tensor.taker
    if taker is not None and set(after) <= set(taker.outputs):
        return Place(layer=taker, after=(tensor.label,), before=taker.name)
    passed, left = set[str](), list(flow.below[tensor.label])
    while left:
        label = left.pop()
        if label not in passed:
            passed.add(label)
            left += [] if label in after else flow.below[label]
    given = [flow.tensors[label].layer for label in sorted(passed, key=list(flow.tensors).index)]
    between = tuple(dict.fromkeys(layer for layer in given if layer is not None))
    return Place(
        layer=None,
        after=(tensor.label,),
        before=taker.name if taker is not None and taker not in between else "",
        with_it=between if len(between) <= BETWEEN else (),
    )


def _since_trained(flow: Dataflow, tensor: Tensor, to: Sequence[str]) -> Place:
    """All that lies between the last layers that are trained and the first whose gradient agrees."""
    after: dict[str, None] = {}
    between: set[str] = set()
    inside, seen = flow.after(tensor.label) | {tensor.label}, set[str]()
    left = [source for label in to for source in flow.tensors[label].sources if source in inside]
    while left:
        label = left.pop()
        each = flow.tensors[label]
        if label in seen:
            continue
        seen.add(label)
        if kind_of(each) in words.TRAINED or not each.sources:
            after[label] = None
            continue
        if each.layer is not None:
            between.add(each.layer.name)
        left += each.sources
    return Place(
        layer=None,
        after=tuple(sorted(after, key=list(flow.tensors).index)),
        before=", ".join(to),
        with_it=tuple(layer for layer in flow.layers if layer.name in between),
    )


def _trained(flow: Dataflow, tensor: Tensor, until: Sequence[str]) -> set[str]:
    """The trained layers that gave a tensor, or the tensors made of it up to the last of some."""
    last = max((flow.tensors[label].place for label in until), default=tensor.place)
    reached = [flow.tensors[label] for label in flow.after(tensor.label)]
    passed = [tensor, *(each for each in reached if each.place <= last)]
    return {each.layer.name for each in passed if each.layer is not None and kind_of(each) in words.TRAINED}


def owner(alignment: Alignment, side: int, step: Step, name: str) -> tuple[Layer, float, bool] | None:
    """Find the BatchNorm that a running statistic belongs to, by what its input says of it.

    Args:
        alignment: The tensors of both runs.
        side: 0 or 1.
        step: That run's update.
        name: The running statistic.

    Returns:
        The layer, which share of the old value it keeps, and whether it is an unbiased variance; None if no layer's
        input makes it.
    """
    before, after = step.before.params.get(name), step.after.params.get(name)
    flow = alignment.sides[side]
    if before is None or after is None or before.ndim != 1:
        return None
    moved = after.astype(np.float64) - before
    for layer in flow.layers:
        tensor = flow.tensors.get(layer.inputs[0]) if layer.inputs else None
        if layer.common.kind != "batch_norm" or tensor is None or tensor.values is None:
            continue
        for values, unbiased in _statistics(tensor.values.astype(np.float64), len(before)):
            largest = max(float(np.max(np.abs(one))) for one in (before, after, values))
            share = multiple(moved, values - before, FACTOR * float(least_floor(largest, flow.dtype)))
            if share is not None and 0 < share <= 1 and moved.any():
                return layer, 1 - share, unbiased
    return None


def _statistics(values: Array, channels: int) -> Iterator[tuple[Array, bool]]:
    """The mean of each channel, its variance and its unbiased variance, along each axis of that length."""
    for axis in (axis for axis in range(1, values.ndim) if values.shape[axis] == channels):
        others = tuple(other for other in range(values.ndim) if other != axis)
        count = values.size // channels
        yield values.mean(others), False
        yield values.var(others), False
        if count > 1:
            yield values.var(others) * count / (count - 1), True


def statistics(
    alignment: Alignment, steps: tuple[Step, Step], names: Sequence[str], floors: Mapping[str, float]
) -> list[Parting]:
    """Name the layers that own running statistics which part, and what they keep of the old ones.

    Args:
        alignment: The tensors of both runs.
        steps: The update of both.
        names: The running statistics that part.
        floors: By how many noise floors each does.
    """
    found: list[tuple[int, Parting]] = []
    for name in names:
        owners = [owner(alignment, side, step, name) for side, step in enumerate(steps)]
        if owners[0] is None or owners[1] is None:
            continue
        (ours, kept, unbiased), (theirs, other_kept, other_unbiased) = owners[0], owners[1]
        differences = []
        if abs(kept - other_kept) > 1e-3 * max(abs(1 - kept), abs(1 - other_kept)):
            differences.append(f"it keeps {kept:.4g} of {name} in an update against {other_kept:.4g}")
        if unbiased != other_unbiased:
            kinds = ["unbiased" if one else "biased" for one in (unbiased, other_unbiased)]
            differences.append(f"{name} follows the {kinds[0]} variance against the {kinds[1]} one")
        if not differences:
            continue
        differences += [one for one in words.differences(ours.common, theirs.common) if one.startswith("momentum")]
        places = [Place(layer=layer, after=layer.inputs, before="") for layer in (ours, theirs)]
        parting = Parting(
            direction="state",
            ours=places[0],
            theirs=places[1],
            inputs=0.0,
            output=floors.get(name, np.inf),
            differences=tuple(differences),
        )
        found.append((alignment.sides[0].layers.index(ours), parting))
    return [parting for _, parting in sorted(found, key=lambda one: one[0])]
