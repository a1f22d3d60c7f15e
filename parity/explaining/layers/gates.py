"""The order in which recurrent layers keep their gates, held against what their frameworks want."""

from __future__ import annotations

from collections.abc import Sequence

from parity.explaining.layers.holding import Holding
from parity.layout import Slot
from parity.nn.configuration import gates_of
from parity.recording.layers import Layer


def gates_in_words(holding: Holding, ours: Layer, theirs: Layer) -> list[str]:
    """Say that two layers hold the gates of a kernel in an order that is not both their frameworks'.

    Args:
        holding: The tensors of both runs that are proven to be one another's, and how they lie.
        ours: A recurrent layer of the first run.
        theirs: The same of the second.

    Returns:
        A sentence; none where the order is right, or not known.
    """
    orders = [gates_of(layer.kind, layer.configuration) for layer in (ours, theirs)]
    if not all(orders) or len(set(map(frozenset, orders))) > 1:
        return []
    for pairing in holding.pairings(ours, theirs):
        slots = [*pairing.ours, *pairing.theirs]
        if not pairing.proven or len(slots) > 2 or any(slot.block is not None for slot in slots):
            continue
        lying = [_in_canonical_order(order, slot) for order, slot in zip(orders, slots, strict=True)]
        if lying[0] != lying[1]:
            both = zip(slots, orders, strict=True)
            wanted = " and ".join(f"{slot.framework} ({', '.join(order)})" for slot, order in both)
            return [f"the blocks of its gates lie alike, while each framework wants its own order of them: {wanted}"]
        return []
    return []


def _in_canonical_order(order: Sequence[str], slot: Slot) -> list[str]:
    """Name the gates of a framework's tensor in the order of the canonical one."""
    if slot.gates is None or len(slot.gates) != len(order):
        return list(order)
    return [order[slot.gates.index(place)] for place in range(len(order))]
