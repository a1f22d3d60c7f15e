"""Name a mistake in attention that one run has as one layer, and the other as projections with attention between them.

torch's ``MultiheadAttention`` is recorded whole; flax and Keras call a layer for each projection. The query, key and
value of the latter are known, and so is its last projection: what the former does between is replayed on them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from parity.explaining.layers.alignment import Alignment
from parity.explaining.layers.between import FEW, calls_between, seen_between
from parity.explaining.layers.calls import UNFIT, Seen, Taken, floors_apart
from parity.explaining.layers.dataflow import Dataflow, Tensor, kind_of
from parity.mistakes.catalogue.replayed import REPLAYED
from parity.mistakes.layer import LayerMistake
from parity.nn.layers import Call, compute
from parity.recording.layers import Layer
from parity.tolerance import FACTOR
from parity.typing import Array

Found = dict[str, tuple[LayerMistake, float, str]]


@np.errstate(all="ignore")  # a recording may hold any numbers
def named_in_projections(
    alignment: Alignment, whole: int, given: Tensor, last: Tensor, members: Sequence[Layer]
) -> tuple[Found, float, int] | None:
    """Find the mistakes that make one run's attention of the other's.

    Args:
        alignment: The tensors of both runs.
        whole: Which run has attention as one layer, 0 or 1.
        given: What that layer gave, (batch, steps, width).
        last: What the last projection of the other run gave.
        members: The layers of the other run that do what that layer does.

    Returns:
        The mistakes by name, each with how far its replay is and what was fitted; how far the right run's own replay
        is; and whose attention is wrong, 0 or 1. None if attention is not proven, or no mistake explains it.
    """
    flow = alignment.sides[1 - whole]
    taken = _taken(flow, 1 - whole, last, members)
    projection = None if taken is None else _projection(alignment, taken, last)
    y = given.values
    if taken is None or projection is None or y is None or last.values is None or y.size != last.values.size:
        return None
    kernel, bias = projection
    shape = (*taken.output.shape[:2], -1)
    try:
        y = y.astype(np.float64).reshape(*shape[:2], kernel.shape[1])
        inverse = np.linalg.pinv(kernel)
        inner = (y - bias) @ inverse  # (batch, steps, heads times width)
    except UNFIT:
        return None
    floor = given.floor * float(np.linalg.norm(inverse, 2))
    beyond = replace(taken, output=inner.reshape(taken.output.shape), floor=floor)

    def apart(one: Array | None) -> float:
        """How far attention, once projected, is from what the whole layer gave."""
        return np.inf if one is None else floors_apart(one.reshape(shape) @ kernel + bias, y, given.floor)

    for known, seen in _calls(taken, beyond):
        right = known.floors(_computed(known.call))
        if right <= FACTOR < apart(_computed(known.call)):
            found = _explained(known.call, seen.output, apart)
            if found:
                return found, right, whole
    for known, seen in _calls(beyond, taken):
        right = apart(_computed(known.call))
        if right <= FACTOR < seen.floors(_computed(known.call)):
            found = _explained(known.call, seen.output, seen.floors)
            if found:
                return found, right, 1 - whole
    return None


def _explained(call: Call, seen: Array, apart: Callable[[Array], float]) -> Found:
    found: Found = {}
    for mistake in REPLAYED:
        if call.kind not in mistake.kinds:
            continue
        try:
            made = [(apart(one.output), one.said) for one in mistake.wrong(call, seen)]
        except UNFIT:
            continue
        least = min((floors for floors, _ in made), default=np.inf)
        if least <= FACTOR:
            found[mistake.name] = mistake, *next(one for one in made if one[0] == least)
    return found


def _calls(right: Taken, other: Taken) -> Iterator[tuple[Seen, Seen]]:
    """The calls that may have made what one run's attention gave, each with the other run's as the call has it."""
    for seen in calls_between(right):
        width = seen.call.inputs[0].shape[-1]
        # Keras keeps the scale as a number of float32, in a float64 run too.
        for call in (seen.call, seen.call.set(scale=float(np.float32(1 / np.sqrt(width))))):
            yield replace(seen, call=call), seen_between(other, call)


def _taken(flow: Dataflow, side: int, last: Tensor, members: Sequence[Layer]) -> Taken | None:
    """What attention took and gave between the projections of a run; None if that was not recorded."""
    if last.layer is None or len(last.layer.inputs) != 1 or last.layer.inputs[0] not in flow.tensors:
        return None
    attended = flow.tensors[last.layer.inputs[0]]
    labels = [layer.outputs[0] for layer in members if layer.outputs and layer is not last.layer]
    tensors = [flow.tensors[label] for label in labels if label in flow.tensors]
    tensors = [one for one in tensors if kind_of(one) == "linear"]
    values = [one.values for one in (*tensors, attended) if one.values is not None and np.isfinite(one.values).all()]
    if len(tensors) != 3 or len(values) != 4 or any(one.ndim not in (3, 4) for one in values) or not attended.floor:
        return None
    if max(one.size for one in values) > FEW:
        return None
    strayed = max(one.floor for one in tensors)
    return Taken(flow, side, None, tuple(values[:3]), values[3], attended.floor, strayed, between="attend")


def _projection(alignment: Alignment, taken: Taken, last: Tensor) -> tuple[Array, Array] | None:
    """The last projection's kernel (in, out) and bias, proven by what it gave; None if they are not known."""
    flow = taken.flow
    if last.values is None or last.layer is None or not last.floor:
        return None
    width = last.values.shape[-1]
    names = alignment.holding.names(taken.side, last.layer)
    own = [flow.params[name].astype(np.float64) for name in names if name in flow.params]
    x = taken.output.astype(np.float64).reshape(*taken.output.shape[:2], -1)
    bias = next((one for one in own if one.shape == (width,)), np.zeros(width))
    for kernel in (one for one in own if one.ndim > 1 and one.size == x.shape[-1] * width):
        for turned in (kernel.reshape(-1, width), kernel.reshape(width, -1).T):
            y = (x @ turned + bias).reshape(last.values.shape)
            if turned.shape[0] == x.shape[-1] and floors_apart(y, last.values, last.floor) <= FACTOR:
                return turned, bias
    return None


def _computed(call: Call) -> Array | None:
    try:
        return compute(call)
    except UNFIT:
        return None
