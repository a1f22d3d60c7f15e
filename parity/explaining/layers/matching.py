"""Which of what parts in one run is which of the other's: by the tensors that agree before it, kind, size and name."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from parity.explaining.layers.dataflow import Tensor, kind_of
from parity.explaining.layers.frontier import Frontier
from parity.judging.tensors.sides import is_within
from parity.nn import configuration as words
from parity.recording.layers import CALL

DEPTH = 2
"""The partner of a layer that parts gives at most the so many-eth tensor beyond those that agree."""
DEEPER = 8
"""The same of what two layers take, if functions and layers before them cannot be told apart one by one."""


@dataclass(frozen=True)
class Match:
    """Two tensors that part and may be one another's."""

    score: float
    ours: Tensor
    theirs: Tensor
    certain: bool
    region: bool = False
    """Whether they are what two layers take, after several layers and functions any of which may part."""


def matches(frontier: Frontier) -> list[Match]:
    """Pair what parts in one run with what parts in the other, the surest first, each once."""
    proposed = []
    direct = [{t.label for t in frontier.candidates[side]} for side in (0, 1)]
    theirs = [t for t in frontier.beyond(1) if frontier.depths[1][t.label] <= DEEPER]
    for one in (t for t in frontier.beyond(0) if frontier.depths[0][t.label] <= DEEPER):
        for other in theirs:
            if one.label in direct[0] or other.label in direct[1]:
                match = _match(frontier, one, other)
                if match is not None:
                    proposed.append(match)
    found: list[Match] = []
    for match in sorted(proposed, key=lambda match: -match.score):
        if all(match.ours is not known.ours and match.theirs is not known.theirs for known in found):
            found.append(match)
    return found


def _match(frontier: Frontier, ours: Tensor, theirs: Tensor) -> Match | None:
    kinds = kind_of(ours), kind_of(theirs)
    holding = frontier.alignment.holding
    if holding.others(ours.layer, theirs.layer):
        return None
    held = holding.same(ours.layer, theirs.layer) and _number(ours) == _number(theirs)
    same = kinds[0] == kinds[1] != "" or (held and (kinds[0] == kinds[1] or _innermost(frontier, ours, theirs)))
    exchangeable = all(kind in words.FUNCTIONS or kind == "" for kind in kinds)
    depths = frontier.depths[0][ours.label], frontier.depths[1][theirs.label]
    fits = frontier.fits(ours, theirs) or int(held)
    if not fits:
        return None
    sized = ours.size == theirs.size
    if same and max(depths) <= (DEEPER if held else DEPTH):
        pass
    elif not (sized and exchangeable and not any(depths)):
        takers = [t.taker.common.kind for t in (ours, theirs) if t.taker is not None]
        if sized and len(takers) == 2 and takers[0] == takers[1] != "":
            return Match(fits - 2 - 0.1 * sum(depths), ours, theirs, certain=fits == 2, region=True)
        return None
    score = 1.0 * held + 4.0 * same + 2.0 * (ours.size == theirs.size) + 2.0 * (fits == 2) - sum(depths)
    score += 0.5 * (_shape(ours) == _shape(theirs)) + 0.4 * likeness(ours.label, theirs.label)
    # What stands between an agreeing tensor and a layer must move values only, or it may be what parts.
    passed = all(frontier.moved_only(side, t) for side, t in ((0, ours), (1, theirs)))
    # If one run has more such layers than the other, its partner may be another of them, unless its tensors tell.
    as_many = held or not same or len({_alike(frontier, side, t) for side, t in ((0, ours), (1, theirs))}) == 1
    return Match(score, ours, theirs, fits == 2 and passed and as_many)


def _innermost(frontier: Frontier, ours: Tensor, theirs: Tensor) -> bool:
    """Tell whether the one of two layers that is of no known kind has no layers within it."""
    if all(kind_of(tensor) for tensor in (ours, theirs)):
        return False
    names = [CALL.sub("", t.layer.name) if t.layer is not None and not kind_of(t) else "" for t in (ours, theirs)]
    flows = zip(names, frontier.sides, strict=True)
    return not any(name and is_within(layer.name, name) for name, flow in flows for layer in flow.layers)


def _number(tensor: Tensor) -> str:
    """Which call of its layer gave a tensor."""
    call = CALL.search(tensor.layer.name) if tensor.layer is not None else None
    return call[0] if call else ""


def _alike(frontier: Frontier, side: int, tensor: Tensor) -> int:
    """Count the tensors that part and are of one kind and size with a tensor."""
    return sum(kind_of(other) == kind_of(tensor) and other.size == tensor.size for other in frontier.beyond(side))


def regions(
    frontier: Frontier, matches: Sequence[Match], alone: Sequence[tuple[int, Tensor]]
) -> Iterator[tuple[list[Match], list[tuple[int, Tensor]]]]:
    """Gather what follows on the same tensors: it is one parting."""
    marks: list[tuple[set[str], Match | tuple[int, Tensor]]] = []
    for match in matches:
        marks.append(
            (
                set(frontier.reach[0][match.ours.label]) | frontier.partners(1, frontier.reach[1][match.theirs.label]),
                match,
            )
        )
    for side, tensor in alone:
        reach = frontier.reach[side][tensor.label]
        marks.append((set(reach) if side == 0 else frontier.partners(1, reach), (side, tensor)))
    groups: list[tuple[set[str], list[Match | tuple[int, Tensor]]]] = []
    for mark, what in marks:
        joined = [group for group in groups if group[0] & mark or (not group[0] and not mark)]
        groups = [group for group in groups if all(group is not one for one in joined)]
        groups.append((mark.union(*(g[0] for g in joined)), [w for g in joined for w in g[1]] + [what]))
    for _, members in groups:
        yield [w for w in members if isinstance(w, Match)], [w for w in members if not isinstance(w, Match)]


def likeness(one: str, other: str) -> float:
    """How alike two names are, from 0 to 1, marks between words aside."""
    plain, others = (re.sub(r"[^a-z0-9]+", " ", name.lower()) for name in (one, other))
    return SequenceMatcher(None, plain, others).ratio()


def _shape(tensor: Tensor) -> tuple[int, ...]:
    return tuple(sorted(tensor.values.shape)) if tensor.values is not None else ()
