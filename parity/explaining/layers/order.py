"""Say which layers two runs put in another order, as a norm before or after what it normalizes."""

from __future__ import annotations

import itertools

from parity.explaining.layers.alignment import Alignment
from parity.explaining.layers.dataflow import Dataflow
from parity.judging.tensors.sides import is_within
from parity.recording.layers import CALL, Layer

MOST = 200
"""Of models with more layers that hold tensors, so many are asked."""


def order_in_words(alignment: Alignment) -> str:
    """Say which two layers of a run the other run has in the other order.

    Layers are one another's if they hold the same tensors; one may hold some of what the other holds, as a query's
    projection of attention. The first takes what agrees in the one run, the second takes the same in the other run, and
    each comes before the other there: so neither order is guessed.

    Args:
        alignment: The tensors of both runs.

    Returns:
        A sentence; empty if no two layers are in another order.
    """
    same, sharing = _one_anothers(alignment)
    for ((first, theirs), (second, others)), turned in itertools.product(
        itertools.product(same, sharing), (False, True)
    ):
        if _nested(first, second) or _nested(theirs, others):
            continue
        one, two = ((first, second), (others, theirs)) if not turned else ((second, first), (theirs, others))
        if not _agree(alignment, one[0], two[0]):
            continue
        if _comes_after(alignment.sides[0], one[1], one[0]) and _comes_after(alignment.sides[1], two[1], two[0]):
            return (
                f"{_name(one[0])} comes before {_name(one[1])} in the first run, and {_name(two[1])} after "
                f"{_name(two[0])} in the second: the same layers in another order{_as_known(first, second)}"
            )
    return ""


def _one_anothers(alignment: Alignment) -> tuple[list[tuple[Layer, Layer]], list[tuple[Layer, Layer]]]:
    """The layers of both runs that hold the same tensors, and those that hold some of one another's; called once."""
    called = [[layer for layer in flow.layers if _once(flow, layer) and layer.inputs] for flow in alignment.sides]
    both = list(itertools.product(called[0][:MOST], called[1][:MOST]))
    same = [pair for pair in both if alignment.holding.same(*pair)]
    sharing = [pair for pair in both if any(one.proven for one in alignment.holding.pairings(*pair))]
    return same, sharing


def _as_known(*layers: Layer) -> str:
    norm = any(layer.common.kind.endswith("_norm") for layer in layers)
    return ", as normalization before and after a layer" if norm else ""


def _nested(one: Layer, other: Layer) -> bool:
    """Tell whether a layer is within another, or both are one."""
    names = _name(one), _name(other)
    return names[0] == names[1] or is_within(*names) or is_within(*reversed(names))


def _once(flow: Dataflow, layer: Layer) -> bool:
    return sum(_name(other) == _name(layer) for other in flow.layers) == 1


def _agree(alignment: Alignment, ours: Layer, theirs: Layer) -> bool:
    """Tell whether what a layer of each run takes agrees."""
    partners = [alignment.partners[0].get(label, set()) for label in ours.inputs]
    return any(label in some for some in partners for label in theirs.inputs)


def _comes_after(flow: Dataflow, layer: Layer, before: Layer) -> bool:
    """Tell whether a layer takes what is made of another's output, and the other nothing of its own."""
    return _takes(flow, layer, before) and not _takes(flow, before, layer)


def _takes(flow: Dataflow, layer: Layer, before: Layer) -> bool:
    made = {after for label in before.outputs if label in flow.tensors for after in (label, *flow.after(label))}
    return any(label in made for label in layer.inputs)


def _name(layer: Layer) -> str:
    return CALL.sub("", layer.name)
