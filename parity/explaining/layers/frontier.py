"""What parts in the forward pass of each run, and how far it is beyond what agrees."""

from __future__ import annotations

from collections.abc import Set
from functools import cached_property

from parity.explaining.layers.alignment import Alignment
from parity.explaining.layers.dataflow import Dataflow, Tensor, kind_of
from parity.nn import configuration as words


class Frontier:
    """The tensors of both runs that have no partner, each with the last tensors before it that have one.

    A tensor without partner does not part if something made of it has one: then the other run does the same elsewhere.

    Args:
        alignment: The tensors of both runs.
        bridging: Whether it is so. A small difference may be lost in what comes after it, and part all the same.
    """

    def __init__(self, alignment: Alignment, bridging: bool = True) -> None:
        self.alignment, self.sides, self._bridging = alignment, alignment.sides, bridging
        self.reach: tuple[dict[str, frozenset[str]], dict[str, frozenset[str]]] = {}, {}
        """For each tensor that parts, of either side, the last before it that agree."""
        self.depths: tuple[dict[str, int], dict[str, int]] = {}, {}
        """How many tensors that part are before it."""
        for side in (0, 1):
            self._explore(side)

    def parts(self, side: int, label: str) -> bool:
        """Tell whether a tensor parts, or comes after one that does."""
        return label in self.reach[side]

    @cached_property
    def candidates(self) -> tuple[list[Tensor], list[Tensor]]:
        """Of each side the tensors without partner that were made of tensors with partners alone."""
        first, second = ([t for t in self.beyond(side) if not self.depths[side][t.label]] for side in (0, 1))
        return first, second

    def beyond(self, side: int) -> list[Tensor]:
        """The tensors that have no partner, unless something made of them has one: then they are only fused there."""
        flow = self.sides[side]
        return [t for t in flow.tensors.values() if t.label in self.reach[side]]

    def _explore(self, side: int) -> None:
        """Find for each tensor without a partner the last ones before it that have one, and how far they are."""
        flow, agrees = self.sides[side], self.alignment.agrees
        bridged = {
            source
            for tensor in flow.tensors.values()
            if self._bridging and agrees(side, tensor.label) and not tensor.constant
            for source in before(flow, tensor)
        }
        frontiers, depths = self.reach[side], self.depths[side]
        base: dict[str, frozenset[str]] = {}
        for tensor in flow.tensors.values():
            known = [base[source] for source in tensor.sources]
            # Of a layer that gives several, as a sequence and its last state, one that agrees is enough.
            given = tensor.layer.outputs if tensor.layer is not None else (tensor.label,)
            agreeing = [label for label in given if agrees(side, label)]
            own = [tensor.label] if tensor.label in agreeing else agreeing
            base[tensor.label] = frozenset(own or frozenset().union(*known))
            if tensor.label not in bridged and not agreeing:
                frontiers[tensor.label] = base[tensor.label]
                beyond = [source for source in tensor.sources if source in depths]
                passed = [depths[source] + (not passive(flow.tensors[source])) for source in beyond]
                depths[tensor.label] = max(passed, default=0)

    def fits(self, ours: Tensor, theirs: Tensor) -> int:
        """Tell whether two tensors follow on tensors that agree: 2 if on the same, 1 if on some, else 0."""
        one, other = self.reach[0][ours.label], self.reach[1][theirs.label]
        if not one and not other:
            return 2 if not ours.sources and not theirs.sources else 1
        to, back = self.partners(0, one), self.partners(1, other)
        if not to & self.unmoved(1, other):
            return 0
        same = all(to & self.unmoved(1, {label}) for label in other)
        return 2 if same and all(back & self.unmoved(0, {label}) for label in one) else 1

    def partners(self, side: int, labels: Set[str]) -> set[str]:
        """All that agrees with tensors of one side, or with what they hold in another order, on the other."""
        known = self.unmoved(side, labels)
        return {partner for label in known for partner in self.alignment.partners[side].get(label, ())}

    def unmoved(self, side: int, labels: Set[str]) -> set[str]:
        """Give tensors, and those that they hold the values of."""
        found, left = set[str](), list(labels)
        while left:
            label = left.pop()
            tensor = self.sides[side].tensors[label]
            found.add(label)
            if tensor.moved or kind_of(tensor) == "flatten":
                left += tensor.sources
        return found

    def moved_only(self, side: int, tensor: Tensor) -> bool:
        """Tell whether what lies between a tensor and those that agree moves values and computes none."""
        return all(passive(each) for each in self.between(side, tensor))

    def between(self, side: int, tensor: Tensor) -> list[Tensor]:
        """The tensors without a partner that a tensor was made of."""
        flow = self.sides[side]
        return [flow.tensors[label] for label in before(flow, tensor) if label in self.reach[side]]


def before(flow: Dataflow, tensor: Tensor) -> list[str]:
    """All that a tensor was made of, directly or not."""
    found: dict[str, None] = {}
    left = list(tensor.sources)
    while left:
        label = left.pop()
        if label not in found:
            found[label] = None
            left += flow.tensors[label].sources
    return list(found)


def passive(tensor: Tensor) -> bool:
    """Tell whether a tensor holds values that were only moved."""
    return tensor.moved or kind_of(tensor) in words.PASSIVE
