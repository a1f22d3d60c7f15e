"""Tensors that begin equal to others, zeros or ones, told apart by their gradients and by the values that follow."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from parity.judging.tensors.arrangement import Arrangement, Digit, transposes
from parity.judging.tensors.by_value import Match, canonical_of, stacks
from parity.judging.tensors.correspondence import How, Pairing
from parity.judging.tensors.search import Search
from parity.judging.tensors.sides import Seen, Side
from parity.judging.tensors.slots import Tensor, many_to_one, one_to_one
from parity.layout import Slot
from parity.recording.sketch import evenly
from parity.tolerance import FACTOR
from parity.typing import Array

MOST = 1 << 6
"""Of larger tensors so many of the sorted values are compared, before all values are in their places."""
PAIRS = 1 << 22
"""So many pairs of tensors that begin alike are held together at most."""
GATES = 4
"""The most gates whose order is looked for in a bias."""
PARTS = 4
"""The most parts whose order is looked for in a fused bias."""


@dataclass
class Evidence:
    """What is seen of both runs' tensors after their beginning, each looked up once; what looking may take."""

    ours: Side
    theirs: Side
    search: Search = field(default_factory=Search)
    _seen: dict[tuple[bool, str], dict[str, Seen]] = field(default_factory=dict)

    def of(self, tensor: Tensor, mine: bool) -> dict[str, Seen]:
        """What is seen of a tensor, or of its slice of a stack."""
        if (mine, tensor.label) not in self._seen:
            found = (self.ours if mine else self.theirs).seen(tensor.name)
            if tensor.index is not None:
                cut = slice(tensor.index * tensor.size, (tensor.index + 1) * tensor.size)
                found = {key: Seen(seen.values[cut], seen.allowed, seen.moved) for key, seen in found.items()}
            self._seen[mine, tensor.label] = found
        return self._seen[mine, tensor.label]

    def fits(self, one: Tensor, other: Tensor, way: Arrangement) -> bool | None:
        """Say whether all that is seen of ``one`` is what is seen of ``other``, so arranged; None if nothing tells."""
        return fits(self.of(one, True), self.of(other, False), way)


def fits(source: Mapping[str, Seen], target: Mapping[str, Seen], way: Arrangement) -> bool | None:
    """Say whether what is seen of a source is seen of a target, so arranged; None if it is rounding alone."""
    key = _telling(source, target)
    if key is None:
        return None
    sizes = [digit.size for digit in way.digits]
    if source[key].values.size != math.prod(sizes):
        return None  # a gradient of another shape than its parameter tells nothing
    return _near(source[key].values.reshape(sizes), way.seen_in(target[key].values), source[key], target[key])


def _telling(one: Mapping[str, Seen], other: Mapping[str, Seen]) -> str | None:
    """The first place where either moved by more than rounding: later on, right runs drift apart."""
    return next((key for key in one if key in other and (one[key].moved or other[key].moved)), None)


def _near(x: Array, y: Array, one: Seen, other: Seen) -> bool:
    return bool(np.max(np.abs(x - y), initial=0.0) <= max(one.allowed, other.allowed))


def by_evidence(evidence: Evidence, ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> list[Pairing]:
    """Pair the tensors that begin with equal values, where gradients or later values fit one partner alone.

    Args:
        evidence: What is seen of both runs.
        ours: The first run's tensors that initial values do not tell.
        theirs: The second run's.

    Returns:
        Pairings; proven where the arrangement is told as well.
    """
    found = []
    for some, others in _by_values(evidence, ours, theirs):
        alike = _apart(evidence, some, others)[0] <= 1
        for i, one in enumerate(some):
            partners = np.flatnonzero(alike[i])
            if len(partners) == 1 and alike[:, partners[0]].sum() == 1:
                pairing = paired(evidence, one, others[int(partners[0])], How.GRADIENT)
                if pairing is not None:
                    found.append(pairing)
    return found


def _apart(evidence: Evidence, some: Sequence[Tensor], others: Sequence[Tensor]) -> tuple[Array, Array]:
    """How far each tensor's sorted values are from each other one's, where either first moved by more than rounding.

    In what another right run may be apart, and relative to the values' own size; infinite where nothing tells.
    """
    apart, relative = (np.full((len(some), len(others)), np.inf) for _ in range(2))
    trained = [
        np.array([side.trained(tensor.name) for tensor in tensors])
        for side, tensors in ((evidence.ours, some), (evidence.theirs, others))
    ]
    left = trained[0][:, None] == trained[1][None, :]
    seen = [[evidence.of(tensor, mine) for tensor in of] for of, mine in ((some, True), (others, False))]
    for key in dict.fromkeys(key for one in seen[0] for key in one):
        rows, columns = ([k for k, one in enumerate(of) if key in one] for of in seen)
        if not rows or not columns:
            continue
        ranked = np.stack([_ranked(seen[1][j][key].values) for j in columns])
        allowed, moved = (np.array([getattr(seen[1][j][key], what) for j in columns]) for what in ("allowed", "moved"))
        largest = np.max(np.abs(ranked), axis=1, initial=0.0)
        for i in rows:
            evidence.search.go_on()
            mine = seen[0][i][key]
            told = left[i, columns] & (moved | mine.moved)
            if told.any():
                x, here = _ranked(mine.values), np.asarray(columns)[told]
                far = np.max(np.abs(ranked[told] - x), axis=1, initial=0.0)
                apart[i, here] = far / np.maximum(allowed[told], mine.allowed)
                relative[i, here] = far / np.maximum(largest[told], np.max(np.abs(x), initial=0.0))
                left[i, here] = False
    return apart, relative


def nearest(evidence: Evidence, ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> list[Pairing]:
    """Pair the tensors that begin with equal values, and are far nearer to each other later than to any other.

    So a mistake that changes all gradients a little hides no partner. It proves none either.

    Args:
        evidence: What is seen of both runs.
        ours: The first run's tensors without a partner.
        theirs: The second run's.

    Returns:
        Pairings, unproven.
    """
    found = []
    for some, others in _by_values(evidence, ours, theirs):
        apart = _apart(evidence, some, others)[1]
        for i, one in enumerate(some):
            evidence.search.go_on()
            j = int(np.argmin(apart[i]))
            rest = [*np.delete(apart[i], j), *np.delete(apart[:, j], i)]
            if rest and FACTOR * apart[i, j] < min(rest):
                pairing = paired(evidence, one, others[j], How.GRADIENT)
                found += [] if pairing is None else [replace(pairing, proven=False)]
    return found


def _by_values(
    evidence: Evidence, ours: Sequence[Tensor], theirs: Sequence[Tensor]
) -> Iterator[tuple[list[Tensor], list[Tensor]]]:
    """Tensors of both runs that begin with the same values, but for those that are too many to be held together."""
    evidence.search.go_on()
    groups: dict[object, tuple[list[Tensor], list[Tensor]]] = defaultdict(lambda: ([], []))
    for side, tensors, place in ((evidence.ours, ours, 0), (evidence.theirs, theirs, 1)):
        for tensor in tensors:
            groups[side.fingerprint(tensor)][place].append(tensor)
    yield from (both for both in groups.values() if 0 < len(both[0]) * len(both[1]) <= PAIRS)


def _ranked(values: Array) -> Array:
    ranked: Array = np.sort(values)[evenly(len(values), MOST)]
    return ranked


def paired(
    evidence: Evidence, one: Tensor, other: Tensor, how: How, gates: tuple[int, ...] | None = None
) -> Pairing | None:
    """Pair two tensors of one size, in the arrangement that fits what is seen of them.

    Args:
        evidence: What is seen of both runs.
        one: A tensor of ours.
        other: A tensor of theirs.
        how: What told that they are one.
        gates: The order of gates of other tensors of the layer, which this one has where nothing is seen of it.

    Returns:
        The pairing; None if no slot can say it.
    """
    evidence.search.go_on()
    plain = list(transposes(one.shape, other.shape)) or [Arrangement(0, (Digit(one.size, 1),))]
    ordered = [way for way in _orders(one, other) if gates is None or way.digits[0].order == gates]
    if gates is not None:
        plain, ordered = ordered or plain, []
    told: list[Arrangement] = []
    for ways in (plain, list(_orders(one, other))):
        told = told or [way for way in ways if evidence.fits(one, other, way)]
    way = (told or plain)[0]
    both = one_to_one(one, other, way, canonical_of(one, other))
    if both is None:
        return None
    differs = not _equal(evidence, one, other, way)
    proven = how is How.GRADIENT and len(told) == 1 and not differs
    return Pairing(both.source, both.target, how, proven, differs)


def _equal(evidence: Evidence, one: Tensor, other: Tensor, way: Arrangement) -> bool:
    source, target = evidence.ours.values(one), evidence.theirs.values(other)
    return np.array_equal(source.reshape([digit.size for digit in way.digits]), way.seen_in(target), equal_nan=True)


def _orders(one: Tensor, other: Tensor) -> Iterator[Arrangement]:
    """The orders of gates that a bias may have."""
    if max(len(one.shape), len(other.shape)) > 1:
        return
    for count in range(2, GATES + 1):
        if one.size % count == 0:
            step = one.size // count
            for order in itertools.permutations(range(count)):
                if order != tuple(range(count)):
                    yield Arrangement(0, (Digit(count, step, order), Digit(step, 1)))


def fused(
    evidence: Evidence,
    mine: Sequence[Tensor],
    others: Sequence[Tensor],
    gates: tuple[int, ...] | None,
) -> list[Pairing]:
    """Pair, within one layer, a bias with the parts that it is fused or stacked of.

    Args:
        evidence: What is seen of both runs.
        mine: Our tensors of the layer that have no partner, in the order in which other tensors of it are fused.
        others: Theirs.
        gates: The order of gates of other tensors of the layer.

    Returns:
        Pairings; proven where gradients fit one order of the parts alone.
    """
    found = []
    left: tuple[list[Tensor], list[Tensor]] = (list(mine), list(others))
    for side in (0, 1):
        for whole in list(left[side]):
            few = [part for part in left[1 - side] if part.size < whole.size]
            made = []
            for count in range(2, min(PARTS, len(few)) + 1):
                for parts in itertools.permutations(few, count):
                    evidence.search.go_on()
                    if sum(part.size for part in parts) == whole.size:
                        made.append((parts, _made(evidence, whole, parts, side == 0, gates)))
            told = [(parts, one) for parts, (one, seen) in made if one is not None and seen]
            sure = len(told) == 1
            guess = told or [(parts, one) for parts, (one, seen) in made if one is not None and seen is None]
            guess = guess or [(parts, one) for parts, (one, _) in made if one is not None]
            if guess:
                parts, match = guess[0]
                found.append(Pairing(match.ours, match.theirs, How.GRADIENT if sure else How.NEIGHBOUR, sure))
                left[side].remove(whole)
                for part in parts:
                    left[1 - side].remove(part)
    return found


def _made(
    evidence: Evidence, whole: Tensor, parts: Sequence[Tensor], mine: bool, gates: tuple[int, ...] | None
) -> tuple[Match | None, bool | None]:
    """The match in which the parts follow each other in a whole, and whether what is seen of them fits."""
    if stacks(whole, parts):
        slots: tuple[list[Slot], list[Slot]] = ([], [])
        seen: list[bool | None] = []
        for index, part in enumerate(parts):
            piece = Tensor(whole.name, whole.shape[1:], index)
            one, other = (piece, part) if mine else (part, piece)
            pairing = paired(evidence, one, other, How.GRADIENT, gates)
            if pairing is None or pairing.differs:
                return None, None
            known = evidence.fits(one, other, _flat(one.size))
            seen.append(True if pairing.proven else known)
            slots[0].extend(pairing.ours)
            slots[1].extend(pairing.theirs)
        return Match(*map(tuple, slots)), _all(seen)
    starts = [0, *itertools.accumulate(part.size for part in parts)]
    ways = [_flat(part.size, start) for part, start in zip(parts, starts, strict=False)]
    values = (evidence.ours if mine else evidence.theirs).values(whole)
    side = evidence.theirs if mine else evidence.ours
    if not all(np.array_equal(side.values(part), way.seen_in(values)) for part, way in zip(parts, ways, strict=True)):
        return None, None
    both = many_to_one(parts, whole, ways, whole.label)
    if both is None:
        return None, None
    target = evidence.of(whole, mine)
    fit = _all([fits(evidence.of(part, not mine), target, way) for part, way in zip(parts, ways, strict=True)])
    return Match(*((both.target, both.source) if mine else (both.source, both.target))), fit


def _flat(size: int, start: int = 0) -> Arrangement:
    return Arrangement(start, (Digit(size, 1),))


def _all(seen: Sequence[bool | None]) -> bool | None:
    """Whether all fit; None if nothing tells of some, and none does not fit."""
    if any(one is False for one in seen):
        return False
    return None if any(one is None for one in seen) else True
