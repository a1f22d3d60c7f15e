"""Which tensors of one run are which of another's, by their values.

Both runs begin an update with equal weights and inputs. So a layer gives the same numbers in both, up to the order of
their axes, whatever it is called. A sketch of the values finds candidates, all values prove them, and order decides
between tensors that are equal to each other.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np

from parity.explaining.layers.arrangement import Arrangement, arranged
from parity.explaining.layers.dataflow import Dataflow, Tensor, kind_of
from parity.explaining.layers.holding import Holding
from parity.judging.tensors.correspondence import Correspondence
from parity.recording.sketch import sketch
from parity.tolerance import FACTOR
from parity.typing import Array

BLOCKS = 8
"""One tensor may hold so many of the other run's, side by side, as a fused query, key and value."""


class Relation(IntEnum):
    """How two tensors are alike."""

    OTHER = 0
    REORDERED = 1
    """The same values, and no order of axes takes the one to the other."""
    ALIKE = 2
    """Their sketches agree, and a sketch is all there is."""
    EQUAL = 3


WEIGHTS = np.array([0.0, 0.3, 0.8, 1.0])
"""What a pair counts where order decides."""


@dataclass(frozen=True)
class Pair:
    """A tensor of the first run and the same of the second."""

    ours: Tensor
    theirs: Tensor
    relation: Relation
    arrangement: Arrangement | None = None

    @property
    def floors(self) -> float:
        """Their distance in noise floors; of rounding alone, at most FACTOR."""
        return distance(self.ours, self.theirs, self.arrangement) / (floor_of(self.ours, self.theirs) or 1.0)


class Alignment:
    """The tensors of one update of two runs, side by side.

    Args:
        ours: The first run's.
        theirs: The second run's.
        matched: Which parameters are one another's; None if equal names are.
    """

    def __init__(self, ours: Dataflow, theirs: Dataflow, matched: Correspondence | None = None) -> None:
        self.sides = ours, theirs
        self.holding = Holding((ours.run, theirs.run), matched)
        self._relations: dict[tuple[str, str], tuple[Relation, Arrangement | None]] = {}
        self.pairs: list[Pair] = []
        """Each tensor with its nearest partner in order."""
        self.partners: tuple[dict[str, set[str]], dict[str, set[str]]] = {}, {}
        """Of each side's tensors, all that agree with it on the other side."""
        self.cells: dict[tuple[int, str, str], Any] = {}
        """What is known already of recurrent cells that one run has written by hand."""
        self._align()
        self._part_identities()
        self._fuse(0)
        self._fuse(1)
        self._choose()

    def _choose(self) -> None:
        """Pair what recurrent layers give where one gives some of the states that the other gives, as the last one."""
        first, second = (
            [
                tensor
                for tensor in flow.tensors.values()
                if kind_of(tensor) == "recurrent" and not self.agrees(side, tensor.label) and not tensor.constant
            ]
            for side, flow in enumerate(self.sides)
        )
        for ours, theirs in itertools.product(first, second):
            if _are_states(ours, theirs):
                self._pair(ours, theirs)

    def agrees(self, side: int, label: str) -> bool:
        """Tell whether a tensor has a partner."""
        return label in self.partners[side]

    def relation(self, ours: Tensor, theirs: Tensor) -> tuple[Relation, Arrangement | None]:
        """Say how two tensors are alike."""
        key = ours.label, theirs.label
        if key not in self._relations:
            self._relations[key] = relation(ours, theirs)
        return self._relations[key]

    def _align(self) -> None:
        ours, theirs = (list(side.tensors.values()) for side in self.sides)
        found = np.zeros((len(ours), len(theirs)), np.int64)
        for i, j in _near(ours, theirs):
            found[i, j] = self.relation(ours[i], theirs[j])[0]
        in_order = set(longest_common(WEIGHTS[found]))
        for i, j in zip(*np.nonzero(found >= Relation.ALIKE), strict=True):
            one, other = ours[i], theirs[j]
            # A tensor of zeros equals many: order alone says which it is.
            if (i, j) in in_order or not one.constant:
                self._pair(one, other)
        self.pairs = [
            Pair(ours[i], theirs[j], *self.relation(ours[i], theirs[j]))
            for i, j in sorted(in_order)
            if found[i, j] >= Relation.ALIKE
        ]

    def _pair(self, ours: Tensor, theirs: Tensor) -> None:
        self.partners[0].setdefault(ours.label, set()).add(theirs.label)
        self.partners[1].setdefault(theirs.label, set()).add(ours.label)

    def _part_identities(self) -> None:
        """Take a norm that hardly changes its input for no other layer's output, if its own partner is known.

        In evaluation, a BatchNorm with its first statistics gives what it is given: the output of the layer before it.
        """
        for side in (0, 1):
            mine, others = self.partners[side], self.partners[1 - side]
            for tensor in self.sides[side].tensors.values():
                same, kind = mine.get(tensor.label, set()), kind_of(tensor)
                if not kind.endswith("_norm") or not same or not tensor.sources:
                    continue
                if not same <= mine.get(tensor.sources[0], set()):
                    continue
                norms = [each for each in self.sides[1 - side].tensors.values() if kind_of(each) == kind]
                if any(each.label not in others and same & set(each.sources) for each in norms):
                    for label in mine.pop(tensor.label):
                        others[label].discard(tensor.label)
                    self.pairs = [pair for pair in self.pairs if (pair.ours, pair.theirs)[side].label != tensor.label]

    def _fuse(self, side: int) -> None:
        """Find the tensors of one run that are several of the other's, side by side.

        Only what comes after tensors that agree is tried.
        """
        mine, others = self.sides[side], list(self.sides[1 - side].tensors.values())
        for tensor in mine.tensors.values():
            if self.agrees(side, tensor.label) or tensor.values is None or tensor.constant:
                continue
            if not all(self.agrees(side, source) for source in tensor.sources):
                continue
            sizes = {other.size for other in others if other.values is not None and not other.constant}
            counts = [count for count in range(2, BLOCKS + 1) if tensor.size == count * (tensor.size // count)]
            for count in (count for count in counts if tensor.size // count in sizes):
                parts = _blocks_found(tensor, count, others)
                if parts:
                    for part in parts:
                        self._pair(*((tensor, part) if side == 0 else (part, tensor)))
                    break


@np.errstate(all="ignore")  # a recording may hold any numbers
def _are_states(ours: Tensor, theirs: Tensor) -> bool:
    """Tell whether each row of one tensor holds no vector that the same row of the other lacks."""
    if ours.values is None or theirs.values is None or min(ours.values.ndim, theirs.values.ndim) < 2:
        return False
    if (len(ours.values), ours.values.shape[-1]) != (len(theirs.values), theirs.values.shape[-1]):
        return False
    rows = [t.values.reshape(len(t.values), -1, t.values.shape[-1]) for t in (ours, theirs) if t.values is not None]
    few, many = sorted(rows, key=lambda values: values.shape[1])
    allowed, left = FACTOR * floor_of(ours, theirs), np.ones(few.shape[:2], bool)
    for step in range(many.shape[1]):
        left &= ~np.all(np.abs(few - many[:, step, None]) <= allowed, axis=-1)
    return not left.any()


@np.errstate(all="ignore")  # a recording may hold any numbers
def _blocks_found(tensor: Tensor, count: int, others: Sequence[Tensor]) -> list[Tensor]:
    """The tensors that are the blocks of one along its last axis; none unless each is there."""
    assert tensor.values is not None
    candidates = [
        other
        for other in others
        if other.size * count == tensor.size and other.values is not None and not other.constant
    ]
    for blocks in _cut(tensor.values, count, candidates):
        found = []
        for block in blocks:
            seen, allowed = sketch(block), FACTOR * tensor.floor
            found += [
                other
                for other in candidates
                if np.all(np.abs(seen - other.sketch) <= FACTOR * max(tensor.floor, other.floor))
                and other.values is not None
                and arranged(block, other.values, max(allowed, FACTOR * other.floor)) is not None
            ][:1]
        if len(found) == count and len({one.label for one in found}) == count:
            return found
    return []


def _cut(values: Array, count: int, candidates: Sequence[Tensor]) -> Iterator[list[Array]]:
    """Ways to cut the last axis: one block after the other, within each head, and one value of each in turn."""
    length = values.shape[-1] if values.ndim else 0
    if not length or length % count:
        return
    rest, inner = values.shape[:-1], length // count
    yield np.split(values, count, -1)
    heads = {other.values.shape[-2] for other in candidates if other.values is not None and other.values.ndim > 2}
    for head in sorted({head for head in heads if inner % head == 0} | {inner}):
        cut = values.reshape(*rest, head, count, inner // head)
        yield [cut[..., k, :].reshape(*rest, inner) for k in range(count)]


def floor_of(ours: Tensor, theirs: Tensor) -> float:
    """The noise floor of the distance between two tensors."""
    return max(ours.floor, theirs.floor)


@np.errstate(all="ignore")  # a recording may hold any numbers
def distance(ours: Tensor, theirs: Tensor, arrangement: Arrangement | None) -> float:
    """The largest distance between the values of two tensors, or between their sketches if it is not known how."""
    if arrangement is None or ours.values is None or theirs.values is None:
        if ours.size != theirs.size:
            return float("inf")
        one, other = ours.sketch[1:], theirs.sketch[1:]
    else:
        one, other = arrangement.of(ours.values), theirs.values
    far = np.abs(one.astype(np.float64) - other)
    far = np.where((one == other) | (np.isnan(one) & np.isnan(other)), 0.0, far)
    return float(np.max(np.where(np.isnan(far), np.inf, far), initial=0.0))


def relation(ours: Tensor, theirs: Tensor) -> tuple[Relation, Arrangement | None]:
    """Say how two tensors are alike, and by which arrangement."""
    allowed = FACTOR * floor_of(ours, theirs)
    if not distance(ours, theirs, None) <= allowed:
        return Relation.OTHER, None
    if ours.values is None or theirs.values is None:
        return Relation.ALIKE, None
    found = arranged(ours.values, theirs.values, allowed)
    if found is not None:
        return Relation.EQUAL, found
    one, other = np.sort(ours.values, None).astype(np.float64), np.sort(theirs.values, None)
    return (Relation.REORDERED if np.all(np.abs(one - other) <= allowed) else Relation.OTHER), None


@np.errstate(all="ignore")  # a recording may hold any numbers
def _near(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> list[tuple[int, int]]:
    """The places of tensors whose sketches agree."""
    found: list[tuple[int, int]] = []
    if not theirs:
        return found
    seen = np.stack([tensor.sketch for tensor in theirs])
    floors = np.array([tensor.floor for tensor in theirs])
    for i, tensor in enumerate(ours):
        far = np.abs(seen - tensor.sketch)
        far[(seen == tensor.sketch) | (np.isnan(seen) & np.isnan(tensor.sketch))] = 0.0
        allowed = FACTOR * np.maximum(floors, tensor.floor)
        near = (far[:, 0] == 0) & np.all(far[:, 1:] <= allowed[:, None], axis=1)
        found += [(i, int(j)) for j in np.flatnonzero(near)]
    return found


def longest_common(weights: Array) -> list[tuple[int, int]]:
    """Pair two sequences in order, so that the weights of the pairs add up to the most.

    Args:
        weights: (n, m), what each pair counts; 0 for what is no pair.

    Returns:
        The places of each pair, ascending in both.

    Examples:
        >>> longest_common(np.array([[0, 1, 0], [1, 0, 0], [0, 0, 1]]))
        [(0, 1), (2, 2)]
    """
    n, m = weights.shape
    best = np.zeros((n + 1, m + 1))
    for i in range(n):
        row = np.maximum(best[i, 1:], np.where(weights[i] > 0, best[i, :-1] + weights[i], 0.0))
        best[i + 1, 1:] = np.maximum.accumulate(row)
    found, i, j = [], n, m
    while i and j:
        if best[i, j] == best[i - 1, j]:
            i -= 1
        elif best[i, j] == best[i, j - 1]:
            j -= 1
        else:
            i, j = i - 1, j - 1
            found.append((i, j))
    return found[::-1]
