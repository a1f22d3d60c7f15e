"""Where the forward pass parts: layers whose inputs agree and whose output does not, in both runs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from functools import cached_property

import numpy as np

from parity.explaining.alignment import Alignment, Relation, distance, floor_of
from parity.explaining.arrangement import nearest
from parity.explaining.dataflow import CALL, Dataflow, Layer, Tensor
from parity.nn import configuration as words
from parity.tolerance import FACTOR
from parity.typing import Array

DEPTH = 2
"""The partner of a layer that parts gives at most the so many-eth tensor beyond those that agree."""
DEEPER = 8
"""The same of what two layers take, if functions and layers before them cannot be told apart one by one."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where one of the runs parts: in a layer, or in functions between layers."""

    layer: Layer | None
    after: tuple[str, ...]
    """The last tensors that agree before it."""
    before: str
    """The layer that takes what parts; empty if none does."""
    with_it: tuple[Layer, ...] = ()
    """More layers that are within the place, because one layer of the other run does what they do."""

    @property
    def words(self) -> str:
        """Name the place."""
        if self.layer is not None:
            return " with ".join(f"{layer.name} ({layer.kind})" for layer in (self.layer, *self.with_it))
        what = ", ".join((*(f"{layer.name} ({layer.kind})" for layer in self.with_it), "functions"))
        after = f"after {', '.join(self.after)}" if self.after else "at the beginning"
        return f"{what} {after}" + (f" and before {self.before}" if self.before else "")


@dataclass(frozen=True, kw_only=True)
class Parting:
    """A place whose inputs agree and whose output does not."""

    direction: str
    """``forward``, ``backward`` or ``state``."""
    ours: Place | None
    """None if the first run has no partner of what parts in the second."""
    theirs: Place | None
    inputs: float
    """The distance of the farthest input, in noise floors; NaN if inputs differ already."""
    output: float
    """The distance of the output, in noise floors."""
    differences: tuple[str, ...] = ()
    pattern: str = ""
    note: str = ""
    certain: bool = True
    """Whether both places are surely one another's: both take tensors that agree, and are of one kind."""

    @property
    def sentence(self) -> str:
        """Say where it is and what is seen there."""
        partners = [place.words for place in (self.ours, self.theirs) if place is not None]
        said = " ↔ ".join(partners)
        if len(partners) < 2:
            said += f" of the {'first' if self.ours else 'second'} run, no partner found"
        words_of_inputs, words_of_output = SEEN[self.direction]
        seen = []
        if np.isfinite(self.inputs):
            seen.append(f"{words_of_inputs} to {self.inputs:.2g} of the noise floor")
        if np.isfinite(self.output):
            seen.append(f"{words_of_output} by {self.output:.2g}" + ("" if seen else " noise floors"))
        said += f": {', '.join(seen)}"
        pattern = f"pattern: {self.pattern}" if self.pattern else ""
        return "; ".join(filter(None, (said, *self.differences, self.note, pattern)))


SEEN = {
    "forward": ("inputs agree", "output parts"),
    "backward": ("the gradients that come back agree", "those that go on part"),
    "state": ("inputs agree", "running statistics part"),
}


@dataclass(frozen=True)
class _Match:
    """Two tensors that part and may be one another's."""

    score: float
    ours: Tensor
    theirs: Tensor
    certain: bool
    region: bool = False
    """Whether they are what two layers take, after several layers and functions any of which may part."""


class Forward:
    """The partings of the forward pass of one update.

    Args:
        alignment: The tensors of both runs.
        look: Says what a difference looks like, from values that lie alike and their noise floor.
    """

    def __init__(self, alignment: Alignment, look: Callable[[Array, Array, float], str]) -> None:
        self.alignment, self._look = alignment, look
        self.sides = alignment.sides
        self._frontiers: tuple[dict[str, frozenset[str]], dict[str, frozenset[str]]] = {}, {}
        self._depths: tuple[dict[str, int], dict[str, int]] = {}, {}
        for side in (0, 1):
            self._explore(side)

    def parts(self, side: int, label: str) -> bool:
        """Tell whether a tensor parts, or comes after one that does."""
        return label in self._frontiers[side]

    def partings(self) -> list[Parting]:
        """Find every independent parting, in order."""
        matches = self._matches()
        paired = {match.ours.label for match in matches}, {match.theirs.label for match in matches}
        alone = [
            (side, tensor) for side in (0, 1) for tensor in self.candidates[side] if tensor.label not in paired[side]
        ]
        found: list[tuple[float, Parting]] = []
        regions = self._regions(matches, alone)
        for some, lone in regions:
            place, parting = self._of_region(some, lone)
            if parting is not None:
                found.append((place, parting))
        partings = [parting for _, parting in sorted(found, key=lambda one: one[0])]
        # What has no partner may be another way to do the same: it counts where nothing else is known.
        known = [one for one in partings if one.certain or None not in (one.ours, one.theirs)]
        return known or partings

    @cached_property
    def candidates(self) -> tuple[list[Tensor], list[Tensor]]:
        """Of each side the tensors without partner that were made of tensors with partners alone."""
        first, second = ([t for t in self._parting(side) if not self._depths[side][t.label]] for side in (0, 1))
        return first, second

    def _parting(self, side: int) -> list[Tensor]:
        """The tensors that have no partner, unless something made of them has one: then they are only fused there."""
        flow = self.sides[side]
        return [t for t in flow.tensors.values() if t.label in self._frontiers[side]]

    def _explore(self, side: int) -> None:
        """Find for each tensor without a partner the last ones before it that have one, and how far they are."""
        flow, agrees = self.sides[side], self.alignment.agrees
        bridged = {
            source
            for tensor in flow.tensors.values()
            if agrees(side, tensor.label) and not tensor.constant
            for source in _before(flow, tensor)
        }
        frontiers, depths = self._frontiers[side], self._depths[side]
        base: dict[str, frozenset[str]] = {}
        for tensor in flow.tensors.values():
            known = [base[source] for source in tensor.sources]
            base[tensor.label] = frozenset({tensor.label} if agrees(side, tensor.label) else frozenset().union(*known))
            # Of a layer that gives several, as a sequence and its last state, one that agrees is enough.
            given = tensor.layer.outputs if tensor.layer is not None else (tensor.label,)
            if tensor.label not in bridged and not any(agrees(side, label) for label in given):
                frontiers[tensor.label] = base[tensor.label]
                beyond = [source for source in tensor.sources if source in depths]
                passed = [depths[source] + (not _passive(flow.tensors[source])) for source in beyond]
                depths[tensor.label] = max(passed, default=0)

    def _fits(self, ours: Tensor, theirs: Tensor) -> int:
        """Tell whether two tensors follow on tensors that agree: 2 if on the same, 1 if on some, else 0."""
        one, other = self._frontiers[0][ours.label], self._frontiers[1][theirs.label]
        if not one and not other:
            return 2 if not ours.sources and not theirs.sources else 1
        to, back = self._partners(0, one), self._partners(1, other)
        if not to & other:
            return 0
        return 2 if other <= to and one <= back else 1

    def _partners(self, side: int, labels: frozenset[str]) -> set[str]:
        return {partner for label in labels for partner in self.alignment.partners[side].get(label, ())}

    def _matches(self) -> list[_Match]:
        """Pair what parts in one run with what parts in the other, the surest first, each once."""
        proposed = []
        direct = [{t.label for t in self.candidates[side]} for side in (0, 1)]
        theirs = [t for t in self._parting(1) if self._depths[1][t.label] <= DEEPER]
        for one in (t for t in self._parting(0) if self._depths[0][t.label] <= DEEPER):
            for other in theirs:
                if one.label in direct[0] or other.label in direct[1]:
                    match = self._match(one, other)
                    if match is not None:
                        proposed.append(match)
        found: list[_Match] = []
        for match in sorted(proposed, key=lambda match: -match.score):
            if all(match.ours is not known.ours and match.theirs is not known.theirs for known in found):
                found.append(match)
        return found

    def _match(self, ours: Tensor, theirs: Tensor) -> _Match | None:
        kinds = kind_of(ours), kind_of(theirs)
        same = kinds[0] == kinds[1] != ""
        exchangeable = all(kind in words.FUNCTIONS or kind == "" for kind in kinds)
        depths = self._depths[0][ours.label], self._depths[1][theirs.label]
        fits = self._fits(ours, theirs)
        if not fits:
            return None
        sized = ours.size == theirs.size
        if same and max(depths) <= DEPTH:
            pass
        elif not (sized and exchangeable and not any(depths)):
            takers = [t.taker.common.kind for t in (ours, theirs) if t.taker is not None]
            if sized and len(takers) == 2 and takers[0] == takers[1] != "":
                return _Match(fits - 2 - 0.1 * sum(depths), ours, theirs, certain=fits == 2, region=True)
            return None
        score = 4.0 * same + 2.0 * (ours.size == theirs.size) + 2.0 * (fits == 2) - sum(depths)
        score += 0.5 * (_shape(ours) == _shape(theirs)) + 0.4 * likeness(ours.label, theirs.label)
        # What stands between an agreeing tensor and a layer must move values only, or it may be what parts.
        passed = all(self._moved_only(side, t) for side, t in ((0, ours), (1, theirs)))
        return _Match(score, ours, theirs, fits == 2 and passed and (same or exchangeable))

    def _moved_only(self, side: int, tensor: Tensor) -> bool:
        return all(_passive(each) for each in self._between(side, tensor))

    def _between(self, side: int, tensor: Tensor) -> list[Tensor]:
        """The tensors without a partner that a tensor was made of."""
        flow = self.sides[side]
        return [flow.tensors[label] for label in _before(flow, tensor) if label in self._frontiers[side]]

    def _regions(
        self, matches: Sequence[_Match], alone: Sequence[tuple[int, Tensor]]
    ) -> Iterator[tuple[list[_Match], list[tuple[int, Tensor]]]]:
        """Gather what follows on the same tensors: it is one parting."""
        marks: list[tuple[set[str], _Match | tuple[int, Tensor]]] = []
        for match in matches:
            marks.append(
                (
                    set(self._frontiers[0][match.ours.label])
                    | self._partners(1, self._frontiers[1][match.theirs.label]),
                    match,
                )
            )
        for side, tensor in alone:
            frontier = self._frontiers[side][tensor.label]
            marks.append((set(frontier) if side == 0 else self._partners(1, frontier), (side, tensor)))
        groups: list[tuple[set[str], list[_Match | tuple[int, Tensor]]]] = []
        for mark, what in marks:
            joined = [group for group in groups if group[0] & mark or (not group[0] and not mark)]
            groups = [group for group in groups if all(group is not one for one in joined)]
            groups.append((mark.union(*(g[0] for g in joined)), [w for g in joined for w in g[1]] + [what]))
        for _, members in groups:
            yield [w for w in members if isinstance(w, _Match)], [w for w in members if not isinstance(w, _Match)]

    def _of_region(
        self, matches: Sequence[_Match], alone: Sequence[tuple[int, Tensor]]
    ) -> tuple[float, Parting | None]:
        """Say which of what parts together is the parting."""
        best = max(matches, key=lambda match: match.score, default=None)
        if best is not None and best.region:
            return best.ours.place / max(1, len(self.sides[0].tensors)), self._of_match(best)
        if best is not None:
            extra = [
                (side, each)
                for side, tensor in ((0, best.ours), (1, best.theirs))
                for each in self._between(side, tensor)
                if not _passive(each)
            ]
            lone = next(iter(extra), None)
            place = best.ours.place / max(1, len(self.sides[0].tensors))
            if lone is not None:
                return place, self._alone(*lone, best)
            return place, self._of_match(best)
        lone = next((one for one in alone if not _passive(one[1])), None)
        if lone is None:
            return 0.0, None
        place = lone[1].place / max(1, len(self.sides[lone[0]].tensors))
        return place, self._fused(alone) or self._alone(*lone, None)

    def _fused(self, alone: Sequence[tuple[int, Tensor]]) -> Parting | None:
        """One layer of a run does what several of the other do."""
        first, second = ([t for side, t in alone if side == which] for which in (0, 1))
        for side, one, several in ((0, first, second), (1, second, first)):
            if not one or not several or one[0].layer is None:
                continue
            parents = {_parent(t.label) for t in several}
            if len(parents) != 1 or not (parent := parents.pop()):
                continue
            inside = [t for t in self._parting(1 - side) if t.label.startswith(parent) and t.layer is not None]
            if not inside:
                continue
            if inside[-1].size == one[0].size:
                both = (one[0], inside[-1]) if side == 0 else (inside[-1], one[0])
                match = _Match(0.0, *both, certain=False)
                return self._of_match(match, {1 - side: _distinct(t.layer for t in inside[:-1])})
            if kind_of(one[0]) in words.COMPOSITE:
                parting = self._alone(side, one[0], None)
                place = self._place(1 - side, inside[0], _distinct(t.layer for t in inside[1:]))
                return replace(parting, **{"theirs" if side == 0 else "ours": place})
        return None

    def _alone(self, side: int, tensor: Tensor, match: _Match | None) -> Parting:
        """A layer that one run has alone."""
        place = self._place(side, tensor)
        note = ""
        if match is not None:
            both = " ↔ ".join(t.layer.name if t.layer else t.label for t in (match.ours, match.theirs))
            note = f"what comes after it, {both}, has a partner and parts"
        if kind_of(tensor) in words.RANDOM:
            note = "; ".join(filter(None, ("it is on, and the other run has none that is", note)))
        return Parting(
            direction="forward",
            ours=place if side == 0 else None,
            theirs=place if side == 1 else None,
            inputs=self._inputs(side, tensor),
            output=float("inf"),
            note=note,
            certain=match is not None,
        )

    def _of_match(self, match: _Match, members: Mapping[int, tuple[Layer, ...]] | None = None) -> Parting:
        ours, theirs = match.ours, match.theirs
        members, note, pattern, certain = dict(members or {}), "", "", match.certain
        differences: list[str] = []
        if (shifted := self._after_activation(match)) is not None:
            ours, theirs, members = shifted
            certain = False
        places = self._place(0, ours, members.get(0, ())), self._place(1, theirs, members.get(1, ()))
        if match.region:
            places = self._region(0, ours), self._region(1, theirs)
        elif ours.layer is not None and theirs.layer is not None:
            if shifted is not None:
                differences = [" against ".join(map(_function, (ours, theirs)))]
            elif not members:
                differences = self._differences(ours.layer, theirs.layer)
            if kind_of(ours) == kind_of(theirs) and kind_of(ours) in words.RANDOM:
                note = "both draw at random, and frameworks draw other numbers: switch it off to compare"
            elif not members and self._reordered(ours.layer, theirs.layer):
                note = (
                    "it takes the same values in another order, as flattening (channels, height, width) for (height, "
                    "width, channels) gives"
                )
        elif self.alignment.relation(ours, theirs)[0] is Relation.REORDERED:
            note = "they are the same values in another order"
        floor = floor_of(ours, theirs) or 1.0
        lying = None
        if ours.values is not None and theirs.values is not None:
            lying = nearest(ours.values, theirs.values, FACTOR * floor)
            if lying is not None:
                pattern = self._look(lying.of(ours.values), theirs.values, floor)
        return Parting(
            direction="forward",
            ours=places[0],
            theirs=places[1],
            inputs=max(self._inputs(0, ours), self._inputs(1, theirs)),
            output=distance(ours, theirs, lying) / floor,
            differences=tuple(differences),
            pattern=pattern,
            note=note,
            certain=certain,
        )

    def _after_activation(self, match: _Match) -> tuple[Tensor, Tensor, dict[int, tuple[Layer, ...]]] | None:
        """If one layer has an activation within it, and the other's comes after it, hold what both give in the end."""
        ours, theirs = match.ours, match.theirs
        if ours.layer is None or theirs.layer is None:
            return None
        has = [bool(t.layer.common.settings.get("activation")) for t in (ours, theirs) if t.layer]
        if has[0] == has[1]:
            return None
        side, plain, fused = (1, theirs, ours) if has[0] else (0, ours, theirs)
        flow = self.sides[side]
        following = [flow.tensors[label] for label in flow.below[plain.label]]
        after = next((t for t in following if t.size == plain.size), None)
        if after is None or plain.layer is None:
            return None
        members: dict[int, tuple[Layer, ...]] = {side: (plain.layer,)}
        return (*((fused, after) if side == 1 else (after, fused)), members)

    def _reordered(self, ours: Layer, theirs: Layer) -> bool:
        """Tell whether two layers take the same values in another order."""
        flows = self.sides
        for one, other in zip(ours.inputs, theirs.inputs, strict=False):
            if one in flows[0].tensors and other in flows[1].tensors:
                pair = flows[0].tensors[one], flows[1].tensors[other]
                if self.alignment.relation(*pair)[0] is Relation.REORDERED:
                    return True
        return False

    def _differences(self, ours: Layer, theirs: Layer) -> list[str]:
        return words.differences(padded(self.sides[0], ours), padded(self.sides[1], theirs))

    def _place(self, side: int, tensor: Tensor, members: tuple[Layer, ...] = ()) -> Place:
        frontier = self._frontiers[side].get(tensor.label, frozenset(tensor.sources))
        order = sorted(frontier, key=lambda label: self.sides[side].tensors[label].place)
        taker = tensor.taker
        return Place(
            layer=tensor.layer,
            after=tuple(order),
            before=taker.name if taker is not None else "",
            with_it=members,
        )

    def _region(self, side: int, tensor: Tensor) -> Place:
        """All that lies between the tensors that agree and one that does not."""
        given = [t.layer for t in (*self._between(side, tensor), tensor) if t.layer is not None]
        order = sorted(set(given), key=self.sides[side].layers.index)
        return replace(self._place(side, tensor), layer=None, with_it=tuple(order))

    def _inputs(self, side: int, tensor: Tensor) -> float:
        """The distance of the farthest of the tensors that agree before one, in noise floors."""
        far = [0.0]
        for label in self._frontiers[side].get(tensor.label, ()):
            for partner in self.alignment.partners[side].get(label, ()):
                pair = (label, partner) if side == 0 else (partner, label)
                one, other = self.sides[0].tensors[pair[0]], self.sides[1].tensors[pair[1]]
                if one.size == other.size:
                    lying = self.alignment.relation(one, other)[1]
                    far.append(distance(one, other, lying) / (floor_of(one, other) or 1.0))
        return max(far)


def _before(flow: Dataflow, tensor: Tensor) -> list[str]:
    """All that a tensor was made of, directly or not."""
    found: dict[str, None] = {}
    left = list(tensor.sources)
    while left:
        label = left.pop()
        if label not in found:
            found[label] = None
            left += flow.tensors[label].sources
    return list(found)


def _passive(tensor: Tensor) -> bool:
    """Tell whether a tensor holds values that were only moved."""
    return tensor.moved or kind_of(tensor) in words.PASSIVE


def _distinct(layers: Iterable[Layer | None]) -> tuple[Layer, ...]:
    """Each layer once, however often it was called."""
    named = {CALL.sub("", layer.name): layer for layer in reversed([one for one in layers if one is not None])}
    return tuple(reversed(named.values()))


def _function(tensor: Tensor) -> str:
    """The activation that a layer is, or has within it."""
    assert tensor.layer is not None
    return str(tensor.layer.common.settings.get("activation") or kind_of(tensor))


def kind_of(tensor: Tensor) -> str:
    """The common kind of the layer that gave a tensor; empty if none did, or it has no common word."""
    return tensor.layer.common.kind if tensor.layer is not None else ""


def padded(flow: Dataflow, layer: Layer) -> words.Configuration:
    """A layer's configuration, with the padding of a layer before it that only pads."""
    said, settings = layer.common, dict(layer.common.settings)
    before = next((one for one in flow.layers if set(one.outputs) & set(layer.inputs)), None)
    if before is not None and before.common.kind == "pad" and "padding" in settings:
        added = before.common.settings.get("padding")
        bare = settings["padding"] == "VALID" or not np.any(
            [0 if isinstance(settings["padding"], str) else settings["padding"]]
        )
        settings.pop("padding")
        if bare and before.kind.startswith("ZeroPadding"):
            settings["padding"] = added
    return words.Configuration(said.kind, settings)


def likeness(one: str, other: str) -> float:
    """How alike two names are, from 0 to 1, marks between words aside."""
    plain, others = (re.sub(r"[^a-z0-9]+", " ", name.lower()) for name in (one, other))
    return SequenceMatcher(None, plain, others).ratio()


def _shape(tensor: Tensor) -> tuple[int, ...]:
    return tuple(sorted(tensor.values.shape)) if tensor.values is not None else ()


def _parent(label: str) -> str:
    """The path of the module that a layer is in."""
    found = re.match(r"(.*[./])", label)
    return found[1] if found else ""
