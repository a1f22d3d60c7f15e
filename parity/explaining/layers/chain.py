"""Name a mistake in a layer or one of several, all of which the other run has as functions that nobody recorded apart.

Torch's users write a ReLU and a pool as layers; in flax they are functions, and only what comes of both is recorded.
The layers are replayed one behind the other, each as it is set and each with every mistake of its family, and the
results of the last are held against what the other run has there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from parity.explaining.layers.alignment import Alignment
from parity.explaining.layers.calls import SPATIAL, UNFIT, Seen, calls_of, floors_apart, taken
from parity.explaining.layers.dataflow import Tensor
from parity.mistakes.catalogue.replayed import REPLAYED
from parity.mistakes.layer import LayerMistake
from parity.nn.configuration import ACTIVATIONS
from parity.nn.layers import compute
from parity.recording.layers import Layer
from parity.tolerance import FACTOR
from parity.typing import Array

LINKS = ACTIVATIONS - {"prelu", "activation"} | {"max_pool", "average_pool", "upsample", "response_norm"}
"""The kinds of layers that are functions elsewhere, without parameters."""
MOST = 4
"""So many layers may lie behind each other."""


@np.errstate(all="ignore")  # a recording may hold any numbers
def in_chain(
    alignment: Alignment, side: int, chain: Sequence[Layer], given: Tensor, other: Tensor
) -> list[tuple[LayerMistake, str, float, float]]:
    """Find the mistakes in a chain of layers that make what the other run's functions gave.

    Args:
        alignment: The tensors of both runs.
        side: Whose layers they are, 0 or 1.
        chain: The layers, in order.
        given: What the same run has behind them.
        other: What the other run has there, perhaps in another order of each example's values.

    Returns:
        Each mistake, its number in words, and how far its replay is from the other run, and that of the layers as they
        are from their own, in noise floors. Empty if the layers are not one behind the other, or not known.
    """
    if not 0 < len(chain) <= MOST or other.values is None or not other.floor or not given.floor:
        return []
    try:
        links = list(_links(alignment, side, chain))
    except UNFIT:
        return []
    if len(links) < len(chain) or given.values is None:
        return []
    rows = min(len(link.output) for link in links)  # of a large tensor some examples stand for all
    links = [_first(link, rows) for link in links]
    right = max(link.floors(compute(link.call)) for link in links)
    turned = alignment.sides[side].channels_first
    last = links[-1].output
    if (
        _sorted_floors(last, given.values[:rows], given.floor) > FACTOR
        or _sorted_floors(last, other.values[:rows], other.floor) <= FACTOR
    ):
        return []
    found: dict[str, tuple[LayerMistake, str, float, float]] = {}
    for number, link in enumerate(links):
        for mistake in REPLAYED:
            if link.call.kind in mistake.kinds and mistake.name not in found:
                try:
                    for made in mistake.wrong(link.call, link.output):
                        result = _through(links[number:], made.output, turned)
                        far = _sorted_floors(result, other.values[:rows], other.floor)
                        if far <= FACTOR:
                            found[mistake.name] = mistake, made.said, far, right
                            break
                except UNFIT:
                    continue
    return list(found.values())


def _links(alignment: Alignment, side: int, chain: Sequence[Layer]) -> Iterator[Seen]:
    """The calls that the layers are proven to be; ends before one that is not, or does not take what the last gave."""
    flow, before = alignment.sides[side], ""
    for layer in chain:
        tensor = flow.tensors.get(layer.outputs[0]) if layer.outputs else None
        if tensor is None or layer.common.kind not in LINKS or (before and tuple(layer.inputs) != (before,)):
            return
        mine = taken(flow, side, tensor)
        if mine is None or mine.layer is None:
            return
        known = None
        for seen in calls_of(alignment, mine, None):
            if seen.floors(compute(seen.call)) <= FACTOR:
                known = seen
                break
        if known is None:
            return
        yield known
        before = layer.outputs[0]


def _first(seen: Seen, rows: int) -> Seen:
    call = replace(seen.call, inputs=tuple(one[:rows] for one in seen.call.inputs))
    return replace(seen, call=call, output=seen.output[:rows])


def _through(links: Sequence[Seen], value: Array, turned: bool) -> Array:
    """What the layers behind the first one make of what that gave; in torch some have their channels first."""
    for before, link in pairwise(links):
        if turned and value.ndim > 2:
            value = np.moveaxis(value, -1, 1) if before.call.kind in SPATIAL else value
            value = np.moveaxis(value, 1, -1) if link.call.kind in SPATIAL else value
        value = compute(replace(link.call, inputs=(value,)))
    return value


def _sorted_floors(one: Array, other: Array, floor: float) -> float:
    """How far two arrays are from each other if the values of each example may lie in any order."""
    if one.size != other.size or len(one) != len(other):
        return np.inf
    ours, theirs = (np.sort(each.reshape(len(each), -1).astype(np.float64), 1) for each in (one, other))
    return floors_apart(ours, theirs, floor)
