"""The layers of two runs side by side, in the order in which they were called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from parity.explaining.layers.alignment import Alignment, Pair, longest_common
from parity.explaining.layers.dataflow import Dataflow
from parity.explaining.layers.find import pairs_of_layers
from parity.explaining.layers.matching import likeness
from parity.explaining.layers.partings import set_otherwise
from parity.judging.tensors.correspondence import Correspondence
from parity.recording.layers import CALL, Layer, layers_of
from parity.recording.steps import steps_of
from parity.trajectory import Trajectory

VALUE, PARTING, TENSORS, ORDER = "value", "parting", "tensors", "order"
"""By what two layers were found to be one another's: what they give, what they take, the parameters that they hold, or
kind and order alone."""


Group = tuple[list[Layer], list[Layer]]
"""The layers of each run that are one another's."""


@dataclass(frozen=True, kw_only=True)
class Beside:
    """A row: a layer of each run, or of one of them alone."""

    ours: tuple[str, str] | None
    """Name and kind of the first run's layer, or of several that are one of the other's, as query, key and value."""
    theirs: tuple[str, str] | None
    how: str = ""
    """``value``, ``parting``, ``tensors`` or ``order``; empty where a layer is alone."""
    floors: float | None = None
    """The distance of what they give, in noise floors."""
    differences: tuple[str, ...] = ()
    """The settings in which they differ."""
    parting: int | None = None
    """Which of the partings this is, from 0."""


def side_by_side(
    run: Trajectory, other: Trajectory, layers: Mapping[str, Any] | None, matched: Correspondence | None = None
) -> list[Beside]:
    """Put the layers of two runs side by side.

    Args:
        run: The first run.
        other: The second run.
        layers: What ``Layers.as_json`` says of them, with the update that it is said of; of None the first one.
        matched: Which parameters of the runs are one another's, if equal names are not.

    Returns:
        A row for each pair of layers and for each layer without a partner, in the order of both; empty if a run has
        recorded no layers.
    """
    number = layers["step"] if layers is not None else 0
    if not all(any(layers_of(one)) and number < len(steps_of(one)) for one in (run, other)):
        return []
    alignment = Alignment(Dataflow(run, number), Dataflow(other, number), matched)
    sides = [flow.layers for flow in alignment.sides]
    partings = layers["partings"] if layers is not None else []
    found = _by_parting(sides, partings)
    for ours, theirs in _by_value(alignment):
        if all(ours is not one and theirs is not two for one, two in found):
            found.append((ours, theirs))
    hows = [VALUE] * len(found)
    found += _by_tensors(alignment, found)
    hows += [TENSORS] * (len(found) - len(hows))
    found += _by_order(alignment, found)
    hows += [ORDER] * (len(found) - len(hows))
    groups = _with_fused(alignment, found)
    rows = {}
    for how, (ours, theirs), group in zip(hows, found, groups, strict=True):
        parting = _parting(partings, ours, theirs)
        floors = partings[parting]["output"] if parting is not None else _apart(alignment, ours, theirs)
        differences = partings[parting]["differences"] if parting is not None else _differences(alignment, ours, theirs)
        row = Beside(
            ours=_named(*group[0]),
            theirs=_named(*group[1]),
            how=how if parting is None else PARTING,
            floors=floors,
            parting=parting,
        )
        rows[id(group[0][0])] = replace(row, differences=tuple(differences)), group
    return _with_functions(_in_order(sides, rows, partings), partings)


def _named(*layers: Layer) -> tuple[str, str]:
    return ", ".join(layer.name for layer in layers), ", ".join(dict.fromkeys(layer.kind for layer in layers))


def _by_parting(sides: Sequence[Sequence[Layer]], partings: Sequence[Mapping[str, Any]]) -> list[tuple[Layer, Layer]]:
    found = []
    for parting in partings:
        layers = [_layer(side, parting[which]) for side, which in zip(sides, ("ours", "theirs"), strict=True)]
        if layers[0] is not None and layers[1] is not None:
            found.append((layers[0], layers[1]))
    return found


def _layer(side: Sequence[Layer], place: Mapping[str, Any] | None) -> Layer | None:
    return next((layer for layer in side if place is not None and layer.name == place["name"]), None)


def _by_value(alignment: Alignment) -> list[tuple[Layer, Layer]]:
    """Pairs of layers that give the same: those of one kind first, then what stands at the same place."""
    found: list[tuple[Layer, Layer]] = []
    in_order = [(pair.ours.layer, pair.theirs.layer) for pair in alignment.pairs]
    known = [(one, other) for one, other in in_order if one is not None and other is not None]
    for ours, theirs in (*pairs_of_layers(alignment), *known):
        if all(ours is not one and theirs is not other for one, other in found):
            found.append((ours, theirs))
    return found


def _by_tensors(alignment: Alignment, found: Sequence[tuple[Layer, Layer]]) -> list[tuple[Layer, Layer]]:
    """Pair the layers that hold the same parameters, call by call."""
    taken = [{id(pair[side]) for pair in found} for side in (0, 1)]
    pairs = []
    for ours in alignment.sides[0].layers:
        if id(ours) in taken[0] or not alignment.holding.holds(0, ours):
            continue
        for theirs in alignment.sides[1].layers:
            if id(theirs) in taken[1] or _call(ours) != _call(theirs):
                continue
            if alignment.holding.alike(ours, theirs):
                pairs.append((ours, theirs))
                taken[1].add(id(theirs))
                break
    return pairs


def _with_fused(alignment: Alignment, found: Sequence[tuple[Layer, Layer]]) -> list[Group]:
    """Add to each pair the layers that hold, together with one of it, what the other one holds."""
    groups: list[Group] = [([ours], [theirs]) for ours, theirs in found]
    for side, flow in enumerate(alignment.sides):
        paired = {id(pair[side]) for pair in found}
        for layer in flow.layers:
            if id(layer) in paired or not alignment.holding.holds(side, layer):
                continue
            for group in groups:
                both = (layer, group[1][0]) if side == 0 else (group[0][0], layer)
                if _call(both[0]) == _call(both[1]) and alignment.holding.alike(*both):
                    group[side].append(layer)
                    group[side].sort(key=flow.layers.index)
                    break
    return groups


def _call(layer: Layer) -> str:
    call = CALL.search(layer.name)
    return "" if call is None else call[0]


def _by_order(alignment: Alignment, found: Sequence[tuple[Layer, Layer]]) -> list[tuple[Layer, Layer]]:
    """Pair the layers behind a parting, which give other values: those of one kind or of matched tensors, in order."""
    left = [
        [
            layer
            for layer in flow.layers
            if all(layer is not pair[side] for pair in found)
            and any(label in flow.tensors and not alignment.agrees(side, label) for label in layer.outputs)
        ]
        for side, flow in enumerate(alignment.sides)
    ]
    weights = np.zeros((len(left[0]), len(left[1])))
    for i, ours in enumerate(left[0]):
        for j, theirs in enumerate(left[1]):
            alike = ours.common.kind == theirs.common.kind and (ours.common.kind or ours.kind == theirs.kind)
            if (alike and not alignment.holding.apart(ours, theirs)) or alignment.holding.together(ours, theirs):
                weights[i, j] = 1 + likeness(ours.name, theirs.name)
    return [(left[0][i], left[1][j]) for i, j in longest_common(weights)]


def _parting(partings: Sequence[Mapping[str, Any]], ours: Layer | None, theirs: Layer | None) -> int | None:
    for number, parting in enumerate(partings):
        names = [None if parting[which] is None else parting[which]["name"] for which in ("ours", "theirs")]
        if names == [None if layer is None else layer.name for layer in (ours, theirs)] != [None, None]:
            return number
    return None


def _apart(alignment: Alignment, ours: Layer, theirs: Layer) -> float | None:
    found = []
    for label in ours.outputs:
        for partner in alignment.partners[0].get(label, set()) & set(theirs.outputs):
            one, other = alignment.sides[0].tensors[label], alignment.sides[1].tensors[partner]
            found.append(Pair(one, other, *alignment.relation(one, other)).floors)
    # Of a fused layer the other's is a part, and no distance.
    return max((floors for floors in found if np.isfinite(floors)), default=None)


def _differences(alignment: Alignment, ours: Layer, theirs: Layer) -> list[str]:
    """The settings in which layers of one kind differ; not where an activation is called, within one or behind it."""
    if ours.common.kind != theirs.common.kind:
        return []
    found = set_otherwise(alignment.sides, ours, theirs)
    return [said for said in found if not said.startswith("activation ")]


def _in_order(
    sides: Sequence[Sequence[Layer]],
    rows: Mapping[int, tuple[Beside, Group]],
    partings: Sequence[Mapping[str, Any]],
) -> list[Beside]:
    """Merge both orders: before a pair stands what either run called before it, and has not been shown."""
    paired = [{id(layer) for _, group in rows.values() for layer in group[side]} for side in (0, 1)]
    waiting = [layer for layer in sides[1] if id(layer) not in paired[1]]
    found = []
    for ours in sides[0]:
        if id(ours) not in rows:
            if id(ours) not in paired[0]:
                found.append(Beside(ours=_named(ours), theirs=None, parting=_parting(partings, ours, None)))
            continue
        row, group = rows[id(ours)]
        place = sides[1].index(group[1][0])
        while waiting and sides[1].index(waiting[0]) < place:
            found.append(_alone(waiting.pop(0), partings))
        found.append(row)
    return found + [_alone(layer, partings) for layer in waiting]


def _alone(theirs: Layer, partings: Sequence[Mapping[str, Any]]) -> Beside:
    return Beside(ours=None, theirs=_named(theirs), parting=_parting(partings, None, theirs))


def _with_functions(rows: list[Beside], partings: Sequence[Mapping[str, Any]]) -> list[Beside]:
    """Say of each parting what a run makes in functions between layers, in a row of its own if no layer is in it."""
    rows = [row if row.parting is None else _whole(row, partings[row.parting]) for row in rows]
    marked = {row.parting for row in rows}
    for number, parting in enumerate(partings):
        if number in marked:
            continue
        places = [parting[which] for which in ("ours", "theirs")]
        said = [None if place is None else _of_place(place) for place in places]
        before = [None if place is None else place["before"] or None for place in places]
        at = next(
            (
                place
                for place, row in enumerate(rows)
                if any(
                    layer is not None and layer[0] == name
                    for layer, name in zip((row.ours, row.theirs), before, strict=True)
                )
            ),
            len(rows),
        )
        row = Beside(ours=said[0], theirs=said[1], how=PARTING, floors=parting["output"], parting=number)
        rows.insert(at, replace(row, differences=tuple(parting["differences"])))
    return rows


def _whole(row: Beside, parting: Mapping[str, Any]) -> Beside:
    """Add to the row of a parting the place where the other run makes the same, and how far they are apart."""
    ours, theirs = (
        named or (None if parting[which] is None else _of_place(parting[which]))
        for named, which in ((row.ours, "ours"), (row.theirs, "theirs"))
    )
    floors = row.floors if row.floors is not None else parting["output"]
    return replace(row, ours=ours, theirs=theirs, how=PARTING, floors=floors)


def _of_place(place: Mapping[str, Any]) -> tuple[str, str]:
    if place["name"] is not None:
        return place["name"], place["kind"]
    return ", ".join((*place["with"], "functions")), f"before {place['before']}" if place["before"] else ""
