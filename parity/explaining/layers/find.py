"""Name the layer in which two recorded runs part, by the values that layers gave.

No name, order or kind of one framework says which of another's layers is the same. Values do, as long as both runs
agree: see ``parity.explaining.layers.alignment``. The first layer whose inputs agree and whose output does not is where
the forward pass parts; of gradients, the last one backwards; of running statistics, the layer whose input makes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from parity.explaining.layers.alignment import Alignment, Relation, relation
from parity.explaining.layers.backward import backward, statistics
from parity.explaining.layers.dataflow import PREDICTION, Dataflow, kind_of
from parity.explaining.layers.further import further
from parity.explaining.layers.matching import likeness
from parity.explaining.layers.order import order_in_words
from parity.explaining.layers.parting import Parting, Place
from parity.explaining.layers.partings import Forward, set_otherwise
from parity.explaining.location import Location
from parity.explaining.pattern import agreeing_end, pattern
from parity.judging.tensors.correspondence import Correspondence
from parity.judging.witness import Expected, held
from parity.recording.layers import CALL, Layer, layers_of
from parity.recording.steps import Phase, Step, steps_of
from parity.tolerance import FACTOR
from parity.trajectory import Trajectory
from parity.typing import Array

LOSS = "loss"
HIDDEN = ("epsilon", "momentum", "padding_index")
"""The settings that matter though a layer's output agrees, within rounding or beside its output. Where it agrees, two
layers that pad otherwise by their words, say, pad alike."""
GEOMETRY = ("stride", "dilation", "groups")
"""The settings of layers behind a parting that matter though their inputs part, as a stride that another layer has."""
FORWARD = (Phase.PREDICTION, Phase.LOSS, Phase.GRADIENT)
"""The phases in which a layer's output may be what parts."""


@dataclass(frozen=True, kw_only=True)
class Layers:
    """What the layers of two runs say of one update."""

    step: int
    """Which update, from 0."""
    partings: tuple[Parting, ...]
    """Every independent one, the first in order first."""
    differences: tuple[str, ...]
    """The settings in which layers differ although their outputs agree."""
    behind: tuple[str, ...]
    """The settings in which layers differ that hold the same tensors and come after what parts."""
    aligned: tuple[int, int]
    """How many outputs of the first run's layers have a partner, and of how many."""
    alone: tuple[tuple[str, ...], tuple[str, ...]]
    """Of each run the layers without a partner that are no parting: what the other does elsewhere or not at all."""

    @property
    def sentence(self) -> str:
        """Say the first parting; empty if there is none."""
        return self.partings[0].sentence if self.partings else ""

    def explains(self, location: Location) -> bool:
        """Tell whether the partings are of what parts at a place: of an update, running statistics alone can be."""
        statistics = [one for one in self.partings if one.direction == "state"]
        if location.phase is Phase.UPDATE:
            return len(statistics) == len(location.parts) > 0
        return bool(self.partings)

    def as_json(self) -> dict[str, Any]:
        """Give it as plain data."""
        return {
            "step": self.step,
            "sentence": self.sentence,
            "partings": [_parting(parting) for parting in self.partings],
            "differences": list(self.differences),
            "behind": list(self.behind),
            "aligned": list(self.aligned),
            "alone": [list(names) for names in self.alone],
        }


def _parting(parting: Parting) -> dict[str, Any]:
    return {
        "direction": parting.direction,
        "sentence": parting.sentence,
        "ours": _place(parting.ours),
        "theirs": _place(parting.theirs),
        "inputs": parting.inputs if np.isfinite(parting.inputs) else None,
        "output": parting.output if np.isfinite(parting.output) else None,
        "differences": list(parting.differences),
        "pattern": parting.pattern,
        "note": parting.note,
        "mistake": parting.mistake.as_json() if parting.mistake is not None else None,
        "certain": parting.certain,
    }


def _place(place: Place | None) -> dict[str, Any] | None:
    if place is None:
        return None
    layer = place.layer
    return {
        "name": layer.name if layer is not None else None,
        "kind": layer.kind if layer is not None else None,
        "configuration": dict(layer.configuration) if layer is not None else {},
        "with": [one.name for one in place.with_it],
        "after": list(place.after),
        "before": place.before,
    }


def find_layers(
    run: Trajectory, other: Trajectory, location: Location | None = None, matched: Correspondence | None = None
) -> Layers | None:
    """Find the layers in which two runs part.

    Args:
        run: The first run.
        other: The second run, whose layers are expected of the first.
        location: Where the runs part, if that is known. Layers are asked of the first update, where both begin from
            equal weights; if nothing parts there, of the update in which the location is.
        matched: Which parameters of the runs are one another's, if equal names are not.

    Returns:
        What the layers say, None if either run recorded none, or if the runs do not begin alike.

    Raises:
        TrajectoryError: A step is recorded in part only.
    """
    steps = steps_of(run), steps_of(other)
    if not all(steps) or not all(any(layers_of(one)) for one in (run, other)):
        return None
    if location is not None and (location.phase is Phase.BATCH or _begins_apart(location, run, other)):
        return None
    found = _at(run, other, steps, 0, location, matched)
    if found is not None and not found.partings and location is not None:
        number = (location.epoch - 1) * max(1, run.loss.shape[1]) + location.batch
        if location.phase is Phase.STATE:
            number -= 1  # the update before has left it so
        if 0 < number < min(map(len, steps)):
            return _at(run, other, steps, number, location, matched) or found
    return found


def _begins_apart(location: Location, run: Trajectory, other: Trajectory) -> bool:
    """Tell whether trained parameters differ before the first update: then every layer does."""
    buffers = {name for one in (run, other) for name in one.meta.get("buffers", ()) if isinstance(name, str)}
    begun = location.phase is Phase.STATE and (location.epoch, location.batch) == (1, 0)
    return begun and any(check.tensor not in buffers for check in location.parts)


def _at(
    run: Trajectory,
    other: Trajectory,
    steps: tuple[Sequence[Step], Sequence[Step]],
    number: int,
    location: Location | None,
    matched: Correspondence | None,
) -> Layers | None:
    flows = Dataflow(run, number), Dataflow(other, number)
    if not flows[0].tensors or not flows[1].tensors:
        return None
    alignment = Alignment(*flows, matched)
    both = steps[0][number], steps[1][number]
    partings: list[Parting] = []
    forward = Forward(alignment, look)
    if not _predictions_agree(alignment, both):
        partings = forward.partings()
        if partings and (said := order_in_words(alignment)):
            partings[0] = replace(partings[0], note="; ".join(filter(None, (said, partings[0].note))))
        partings += further(alignment, forward) if partings else []
    if not partings and (location is None or location.phase is Phase.GRADIENT):
        ours, theirs = (set(step.gradients) for step in both)
        partings = backward(alignment, look, (len(theirs - ours), len(ours - theirs)))
    if location is not None and location.phase in FORWARD and not any(one.certain for one in partings):
        partings = _lost(alignment) + partings
    if not partings and location is not None and location.check is not None:
        floors = {check.tensor: check.floors for check in location.parts}
        partings = statistics(alignment, both, list(floors), floors)
    return _summed(alignment, number, partings, forward)


def _lost(alignment: Alignment) -> list[Parting]:
    """Find the layers whose outputs part, though little of it is left where the prediction is made.

    What the other run does elsewhere parts nowhere: of layers that are surely one another's alone this can be told.
    """
    found = Forward(alignment, look, bridging=False).partings()
    return [
        one
        for one in found
        if one.certain
        and one.ours is not None
        and one.theirs is not None
        and one.ours.layer
        and one.theirs.layer
        and alignment.holding.same(one.ours.layer, one.theirs.layer)
    ]


def _predictions_agree(alignment: Alignment, steps: tuple[Step, Step]) -> bool:
    """Tell whether both runs predict the same: then no difference on the way has changed anything.

    Of a run without predictions the loss tells.
    """
    name = PREDICTION if all(step.prediction.size for step in steps) else LOSS
    ours, theirs = (
        flow.tensors.get(name) or flow.tensor(name, step.prediction if name == PREDICTION else step.loss)
        for flow, step in zip(alignment.sides, steps, strict=True)
    )
    return relation(ours, theirs)[0] >= Relation.ALIKE


def _summed(alignment: Alignment, number: int, partings: Sequence[Parting], forward: Forward) -> Layers:
    names = [
        {place.layer.name for place in (one.ours, one.theirs) if place is not None and place.layer is not None}
        for one in partings
    ]
    said = set[str]().union(*names)
    differences = []
    for ours, theirs in pairs_of_layers(alignment):
        found = set_otherwise(alignment.sides, ours, theirs, HIDDEN)
        if found and not {ours.name, theirs.name} & said:
            differences.append(f"{ours.name} ({ours.kind}) ↔ {theirs.name} ({theirs.kind}): {', '.join(found)}")
    alone = [
        dict.fromkeys(
            CALL.sub("", layer.name)
            for layer in flow.layers
            if not any(alignment.agrees(side, label) or forward.frontier.parts(side, label) for label in layer.outputs)
            and any(label in flow.tensors for label in layer.outputs)
            and not alignment.holding.has_partner(side, layer, alignment.sides[1 - side].layers)
        )
        for side, flow in enumerate(alignment.sides)
    ]
    outputs = [label for layer in alignment.sides[0].layers for label in layer.outputs]
    known = [label for label in outputs if label in alignment.sides[0].tensors]
    with_partner = sum(alignment.agrees(0, label) for label in known)
    return Layers(
        step=number,
        partings=tuple(partings),
        differences=tuple(differences),
        behind=tuple(_set_otherwise_behind(alignment, forward, said)),
        aligned=(with_partner, len(known)),
        alone=(tuple(alone[0]), tuple(alone[1])),
    )


def _set_otherwise_behind(alignment: Alignment, forward: Forward, said: set[str]) -> list[str]:
    """Say in what the layers behind a parting are set otherwise that hold the same tensors."""
    behind = [
        [
            layer
            for layer in flow.layers
            if layer.name not in said and any(forward.frontier.parts(side, label) for label in layer.outputs)
        ]
        for side, flow in enumerate(alignment.sides)
    ]
    found = []
    for ours in behind[0]:
        for theirs in (other for other in behind[1] if alignment.holding.same(ours, other)):
            if otherwise := set_otherwise(alignment.sides, ours, theirs, GEOMETRY):
                found.append(f"{ours.name} ({ours.kind}) ↔ {theirs.name} ({theirs.kind}): {', '.join(otherwise)}")
    return found


def pairs_of_layers(alignment: Alignment) -> list[tuple[Layer, Layer]]:
    """The layers of one kind whose outputs agree; of several that do, those whose names are most alike."""
    flows, found = alignment.sides, []
    for label, partners in alignment.partners[0].items():
        ours = flows[0].tensors[label]
        others = [flows[1].tensors[partner] for partner in partners]
        alike = [other for other in others if other.layer is not None and kind_of(other) == kind_of(ours) != ""]
        if ours.layer is not None and alike:
            best = max(alike, key=lambda other: likeness(ours.label, other.label))
            assert best.layer is not None
            found.append((ours.layer, best.layer))
    return found


def configuration_differences(run: Trajectory, other: Trajectory) -> list[str]:
    """Hold the settings of layers against each other that give the same in the first recorded update, or part there.

    Args:
        run: The first run.
        other: The second run.

    Returns:
        A sentence for each pair of layers whose settings differ; none where layers were not recorded.
    """
    found = find_layers(run, other)
    if found is None:
        return []
    parted = [
        f"{one.ours.words} ↔ {one.theirs.words}: {', '.join(one.differences)}"
        for one in found.partings
        if one.certain and one.differences and one.ours and one.theirs and one.ours.layer and one.theirs.layer
    ]
    return [*parted, *found.differences]


def look(ours: Array, theirs: Array, floor: float) -> str:
    """Put into words how one tensor differs from another, whose values lie alike.

    Args:
        ours: Numbers.
        theirs: Numbers of the same shape.
        floor: The noise floor of their distance.
    """
    check = held({"output": ours}, Expected({"output": theirs}, {"output": floor}, ours.dtype.name))[0]
    found = _positions(ours, theirs, FACTOR * floor)
    return found or pattern(Location(phase=Phase.PREDICTION, epoch=1, batch=0, parts=(check,)))


@np.errstate(all="ignore")  # a recording may hold any numbers
def _positions(ours: Array, theirs: Array, allowed: float) -> str:
    """Say along which axis the first or the last position alone agrees, or the borders alone part."""
    unequal = np.abs(ours.astype(np.float64) - theirs) > allowed
    if ours.ndim < 3:
        return ""  # features have no order
    for axis in range(1, ours.ndim):
        end = agreeing_end(unequal, axis)
        if end == "first":
            first = f"the first position along axis {axis} agrees and no other does"
            return f"{first}, as where scale, mask or positions are others"
        if end == "last":
            return f"the last position along axis {axis} agrees and no other does, as without a causal mask"
        parts = unequal.any(axis=tuple(other for other in range(ours.ndim) if other != axis))
        if len(parts) > 3 and (parts[0] or parts[-1]) and not parts[1:-1].any():
            return f"only the border along axis {axis}, as with another padding"
    return ""
