"""Tensors matched by what they begin with: renamed, transposed, reshaped, split, fused, stacked, gates in any order."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

import numpy as np

from parity.judging.tensors.arrangement import arrangements
from parity.judging.tensors.components import components
from parity.judging.tensors.fingerprint import Fingerprint, places_of
from parity.judging.tensors.search import EndedError, Search
from parity.judging.tensors.sides import Side
from parity.judging.tensors.slots import Both, Tensor, many_to_one, one_to_one
from parity.layout import Slot
from parity.typing import Array

T = TypeVar("T")
PROBES = 32
"""So many values of a tensor are looked for in tensors that may hold it."""
WHOLE = 0.9
"""A tensor that holds this share of another's probes may hold all of it; others hold some by chance."""
PART = 0.2


class Match(NamedTuple):
    """Slots of both sides that bring some of their tensors to common canonical ones."""

    ours: tuple[Slot, ...]
    theirs: tuple[Slot, ...]


@dataclass
class Values:
    """What values told: matches that all of them prove, what is left of both sides, and what they leave open.

    ``ended`` says whether the search has taken what it may before all was looked at.
    """

    matches: list[Match] = field(default_factory=list)
    ours: list[Tensor] = field(default_factory=list)
    theirs: list[Tensor] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    ended: bool = False


def by_value(
    ours: Side, theirs: Side, mine: Sequence[Tensor], others: Sequence[Tensor], search: Search | None = None
) -> Values:
    """Match the tensors whose initial values are the same, in whatever arrangement a layout can say.

    Args:
        ours: One side.
        theirs: The other side.
        mine: The tensors of ``ours`` that are to be matched.
        others: Those of ``theirs``.
        search: What the search may take.

    Returns:
        The matches and what is left. Canonical names and shapes are those of ``theirs`` where one tensor is one, of
        the fused one where several are, and of the separate ones where they are stacked.
    """
    found, search = Values(ours=list(mine), theirs=list(others)), search or Search()
    try:
        _find(ours, theirs, mine, others, found, search)
    except EndedError:
        found.ended = True
    return found


def _find(
    ours: Side, theirs: Side, mine: Sequence[Tensor], others: Sequence[Tensor], found: Values, search: Search
) -> None:
    """Match what can be matched: first the tensors that are one, then those that are parts."""
    _alike(ours, theirs, mine, others, found, search)
    marks = [
        {side.fingerprint(tensor) for tensor in left if side.telling(tensor)}
        for side, left in ((ours, found.ours), (theirs, found.theirs))
    ]
    if all(marks):
        # What is whole on both sides is no part, though values did not tell which is which, or how it lies.
        _parts(ours, theirs, found, marks[0] & marks[1], search)
        named = [
            _grouped(left, lambda tensor, side=side: side.fingerprint(tensor))  # type: ignore[misc]
            for side, left in ((ours, found.ours), (theirs, found.theirs))
        ]
        for mark in marks[0] & marks[1]:
            some, its = ([tensor.name for tensor in groups.get(mark, [])] for groups in named)
            if len(some) != len(its):
                found.notes.append(
                    f"{' and '.join(some)} of the first run and {' and '.join(its)} of the second begin with the same "
                    "values: are they tied in one run alone?"
                )


def _alike(
    ours: Side, theirs: Side, mine: Sequence[Tensor], others: Sequence[Tensor], found: Values, search: Search
) -> None:
    """Match tensors that hold the same values, one by one."""
    sizes = {tensor.size for tensor in others}
    left = {id(tensor): tensor for tensor in (*mine, *others)}
    groups = _grouped((t for t in mine if t.size in sizes and ours.telling(t)), lambda tensor: ours.fingerprint(tensor))
    their_groups = _grouped((t for t in others if theirs.telling(t)), lambda tensor: theirs.fingerprint(tensor))
    try:
        for mark, group in groups.items():
            partners = their_groups.get(mark, [])
            if len(group) != 1 or len(partners) != 1:
                continue
            one, other = group[0], partners[0]
            ways = arrangements(ours.values(one), one.shape, theirs.values(other), other.shape, search)
            both = one_to_one(one, other, ways[0], canonical_of(one, other)) if len(ways) == 1 else None
            if both is not None:
                found.matches.append(Match(both.source, both.target))
                del left[id(one)], left[id(other)]
            elif not ways:
                found.notes.append(f"{one.name} and {other.name} hold the same values in an order that no slot can say")
    finally:
        found.ours = [tensor for tensor in mine if id(tensor) in left]
        found.theirs = [tensor for tensor in others if id(tensor) in left]


def _parts(ours: Side, theirs: Side, found: Values, whole_marks: set[Fingerprint], search: Search) -> None:
    """Match tensors that are parts of others: fused or stacked on one side, separate on the other."""
    mine, its = (
        [tensor for tensor in left if side.telling(tensor) and side.fingerprint(tensor) not in whole_marks]
        for side, left in ((ours, found.ours), (theirs, found.theirs))
    )
    held = _held(ours, theirs, mine, its, search)  # which of theirs lies in which of ours
    holds = _held(theirs, ours, its, mine, search)
    for mine_whole, sides, table, wholes, pieces in (
        (True, (ours, theirs), held, found.ours, found.theirs),
        (False, (theirs, ours), holds, found.theirs, found.ours),
    ):
        held_by: dict[Tensor, set[Tensor]] = defaultdict(set)
        for (whole, part), share in table.items():
            if share >= WHOLE and part.size < whole.size:
                held_by[whole].add(part)
        for whole in list(wholes):
            parts = [part for part in pieces if part in held_by[whole]] if whole in held_by else []
            both = _joined(*sides, whole, parts, search)
            if both is not None:
                pair = (both.target, both.source) if mine_whole else (both.source, both.target)
                found.matches.append(Match(*pair))
                wholes.remove(whole)
                for part in parts:
                    pieces.remove(part)
    # Where several are parts of several, one side is stacked: its tensors are taken apart.
    left = set(found.ours), set(found.theirs)
    linked = {(a, b) for (a, b), share in held.items() if share >= PART and a in left[0] and b in left[1]}
    linked |= {(a, b) for (b, a), share in holds.items() if share >= PART and a in left[0] and b in left[1]}
    links = (({a}, {b}, None) for a, b in sorted(linked, key=str))
    for together in components(links, search.go_on):
        some, others = (sorted(side, key=str) for side in together[:2])
        if min(len(some), len(others)) < 2:
            continue
        for first, side in ((True, some), (False, others)):
            lengths = {tensor.shape[0] if tensor.shape and tensor.index is None else 0 for tensor in side}
            count = lengths.pop()
            if lengths or count < 2:
                continue
            slices = [Tensor(t.name, t.shape[1:], index) for t in side for index in range(count)]
            inner = by_value(ours, theirs, slices if first else some, others if first else slices, search)
            if not inner.ours and not inner.theirs:
                found.matches.append(
                    Match(
                        tuple(slot for match in inner.matches for slot in match.ours),
                        tuple(slot for match in inner.matches for slot in match.theirs),
                    )
                )
                found.ours = [tensor for tensor in found.ours if tensor not in some]
                found.theirs = [tensor for tensor in found.theirs if tensor not in others]
                break


def _joined(side: Side, other: Side, whole: Tensor, parts: Sequence[Tensor], search: Search) -> Both | None:
    """Say how parts fill a whole: its stack, or its concatenation along any axis. The parts are the source."""
    search.go_on()
    if len(parts) < 2 or sum(part.size for part in parts) != whole.size:
        return None
    target = side.values(whole)
    ways = []
    for part in parts:
        found = arrangements(other.values(part), part.shape, target, whole.shape, search)
        if not found:
            break
        ways += found[:1]
    if len(ways) == len(parts):
        if not stacks(whole, parts):
            return many_to_one(parts, whole, ways, whole.label)
        order = [way.start // parts[0].size for way in ways]
        if sorted(order) == list(range(len(parts))):
            return _stacked(side, other, whole, dict(zip(order, parts, strict=True)), search)
        return many_to_one(parts, whole, ways, whole.label)
    return None


def canonical_of(one: Tensor, other: Tensor) -> str:
    """What two tensors that are one are called: as theirs is, unless that is one of a stack."""
    return one.name if one.index is None and other.index is not None else other.label


def stacks(whole: Tensor, parts: Sequence[Tensor]) -> bool:
    """Say whether a whole has a leading axis of as many as there are parts, each of one size."""
    alike = len({part.size for part in parts}) == 1
    return alike and whole.index is None and len(whole.shape) > 1 and whole.shape[0] == len(parts)


def _stacked(side: Side, other: Side, whole: Tensor, parts: dict[int, Tensor], search: Search) -> Both | None:
    """Match each slice of a stack with its part. The canonical tensors are the parts."""
    sources: list[Slot] = []
    targets: list[Slot] = []
    for index, part in parts.items():
        piece = Tensor(whole.name, whole.shape[1:], index)
        ways = arrangements(side.values(piece), piece.shape, other.values(part), part.shape, search)
        both = one_to_one(piece, part, ways[0], part.name) if len(ways) == 1 else None
        if both is None:
            return None
        sources += both.target
        targets += both.source
    return Both(tuple(sources), tuple(targets))


def _held(
    side: Side, other: Side, wholes: Sequence[Tensor], parts: Sequence[Tensor], search: Search
) -> dict[tuple[Tensor, Tensor], float]:
    """The share of each part's probes that each whole holds, (whole, part); parts are the other side's."""
    probes: list[Array] = []
    owners: list[Tensor] = []
    for part in parts:
        values = other.values(part)
        places = np.random.default_rng(len(values)).integers(0, len(values), PROBES)
        probes.append(values[places])
        owners.append(part)
    if not probes:
        return {}
    wanted, place = np.unique(np.concatenate(probes), return_inverse=True)
    place = place.reshape(len(probes), PROBES)
    names = {str(number): whole for number, whole in enumerate(wholes)}
    found: dict[tuple[Tensor, Tensor], float] = {}
    for number, held in places_of(wanted, {name: side.values(whole) for name, whole in names.items()}):
        shares = held[place].mean(1)
        holding = np.flatnonzero(shares >= PART)
        search.go_on(pairs=len(holding))
        found |= {(names[number], owners[k]): float(shares[k]) for k in holding.tolist()}
    return found


def _grouped(items: Iterable[T], key: Callable[[T], Hashable]) -> dict[Hashable, list[T]]:
    found: dict[Hashable, list[T]] = defaultdict(list)
    for item in items:
        found[key(item)].append(item)
    return found
