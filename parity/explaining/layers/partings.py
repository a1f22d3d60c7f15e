"""Where the forward pass parts: layers whose inputs agree and whose output does not, in both runs."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from parity.explaining.layers.alignment import Alignment, Relation, distance, floor_of
from parity.explaining.layers.arrangement import nearest
from parity.explaining.layers.dataflow import Dataflow, Tensor, kind_of
from parity.explaining.layers.elementwise import function_of, functions_in_words
from parity.explaining.layers.frontier import Frontier, passive
from parity.explaining.layers.functions.described import Between, between
from parity.explaining.layers.gates import gates_in_words
from parity.explaining.layers.matching import Match, matches, regions
from parity.explaining.layers.named import (
    Named,
    named,
    named_alone,
    named_between,
    named_function,
    named_in_attention,
    named_in_chain,
)
from parity.explaining.layers.parting import Parting, Place
from parity.explaining.layers.states import states_in_words
from parity.nn import configuration as words
from parity.recording.layers import CALL, Layer
from parity.tolerance import FACTOR
from parity.typing import Array


class Forward:
    """The partings of the forward pass of one update.

    Args:
        alignment: The tensors of both runs.
        look: Says what a difference looks like, from values that lie alike and their noise floor.
        bridging: As ``Frontier`` takes it.
    """

    def __init__(self, alignment: Alignment, look: Callable[[Array, Array, float], str], bridging: bool = True) -> None:
        self.alignment, self.sides, self._look = alignment, alignment.sides, look
        self.frontier = Frontier(alignment, bridging)

    def partings(self) -> list[Parting]:
        """Find every independent parting, in order."""
        matched = matches(self.frontier)
        paired = {match.ours.label for match in matched}, {match.theirs.label for match in matched}
        alone = [
            (side, tensor)
            for side in (0, 1)
            for tensor in self.frontier.candidates[side]
            if tensor.label not in paired[side]
        ]
        found: list[tuple[float, Parting]] = []
        for some, lone in regions(self.frontier, matched, alone):
            place, parting = self._of_region(some, lone)
            if parting is not None:
                found.append((place, parting))
        partings = [parting for _, parting in sorted(found, key=lambda one: one[0])]
        # What has no partner may be another way to do the same: it counts where nothing else is known.
        known = [one for one in partings if one.certain or None not in (one.ours, one.theirs)]
        return known or partings

    def _of_region(self, matched: Sequence[Match], alone: Sequence[tuple[int, Tensor]]) -> tuple[float, Parting | None]:
        """Say which of what parts together is the parting."""
        best = max(matched, key=lambda match: match.score, default=None)
        if best is not None and best.region:
            return best.ours.place / max(1, len(self.sides[0].tensors)), self._of_match(best)
        if best is not None:
            extra = [
                (side, each)
                for side, tensor in ((0, best.ours), (1, best.theirs))
                for each in self.frontier.between(side, tensor)
                if not passive(each)
                or (each.moved and not any(self.alignment.agrees(side, one) for one in each.sources))
            ]
            lone = next(iter(extra), None)
            place = best.ours.place / max(1, len(self.sides[0].tensors))
            if lone is not None:
                taken = self._taken(*lone, best)
                return place, self._of_match(taken) if taken is not None else self._alone(*lone, best)
            return place, self._of_match(best)
        lone = next((one for one in alone if not passive(one[1])), None)
        if lone is None:
            return 0.0, None
        place = lone[1].place / max(1, len(self.sides[lone[0]].tensors))
        return place, self._fused(alone) or self._alone(*lone, None)

    def _taken(self, side: int, tensor: Tensor, match: Match) -> Match | None:
        """Pair what functions made for one of two matched layers with what was only moved to the other."""
        layer = (match.theirs if side == 0 else match.ours).layer
        tensors = self.sides[1 - side].tensors
        if tensor.layer is not None or layer is None or tensor.taker is not (match.ours, match.theirs)[side].layer:
            return None
        others = [tensors[label] for label in layer.inputs if label in tensors]
        other = next((one for one in others if one.size == tensor.size and one.layer is None), None)
        if other is None or not self.frontier.parts(1 - side, other.label):
            return None
        return Match(0.0, *((tensor, other) if side == 0 else (other, tensor)), certain=False)

    def _fused(self, alone: Sequence[tuple[int, Tensor]]) -> Parting | None:
        """One layer of a run does what several of the other do."""
        first, second = ([t for side, t in alone if side == which] for which in (0, 1))
        for side, one, several in ((0, first, second), (1, second, first)):
            if not one or not several or one[0].layer is None:
                continue
            if any(kind_of(t) in words.COMPOSITE for t in several):  # it is the one that does what the others do
                continue
            parents = {_parent(t.label) for t in several}
            if len(parents) != 1 or not (parent := parents.pop()):
                continue
            inside = [t for t in self.frontier.beyond(1 - side) if t.label.startswith(parent) and t.layer is not None]
            if not inside:
                continue
            if inside[-1].size == one[0].size:
                both = (one[0], inside[-1]) if side == 0 else (inside[-1], one[0])
                match = Match(0.0, *both, certain=False)
                return self._of_match(match, {1 - side: _distinct(t.layer for t in inside[:-1])})
            if kind_of(one[0]) in words.COMPOSITE:
                parting = self._alone(side, one[0], None)
                place = replace(self._place(1 - side, inside[0]), with_it=_distinct(t.layer for t in inside)[1:])
                parting = replace(parting, theirs=place) if side == 0 else replace(parting, ours=place)
                if kind_of(one[0]) == kind_of(inside[0]) and parting.ours and parting.theirs:
                    ours, theirs = parting.ours.layer, parting.theirs.layer
                    found = set_otherwise(self.sides, ours, theirs) if ours and theirs else []
                    parting = replace(parting, differences=tuple(found))
                return parting
        return None

    def _alone(self, side: int, tensor: Tensor, match: Match | None) -> Parting:
        """A layer that one run has alone."""
        if (other := self._in_its_place(side, tensor)) is not None:
            found = self._of_match(Match(0.0, *((tensor, other) if side == 0 else (other, tensor)), certain=False))
            said = "they take other values, each made of values that agree"
            return replace(found, note="; ".join(filter(None, (said, found.note))))
        place = self._place(side, tensor)
        note = ""
        if match is not None:
            both = " ↔ ".join(t.layer.name if t.layer else t.label for t in (match.ours, match.theirs))
            note = f"what comes after it, {both}, has a partner and parts"
        known = None
        if match is not None and tensor.layer is None:
            other = match.theirs if side == 0 else match.ours
            known = self._between(*((tensor, other) if side == 0 else (other, tensor)))
        computed = known.words if known is not None else ""
        if match is not None:
            note = "; ".join(filter(None, (self._states(match), note)))
        if (made := function_of(self.sides[side], tensor)) is not None and tensor.layer is None and not computed:
            computed = f"it computes {made[0]}"
        note = "; ".join(filter(None, (computed, note)))
        if kind_of(tensor) in words.RANDOM:
            note = "; ".join(filter(None, ("it is on, and the other run has none that is", note)))
        return Parting(
            direction="forward",
            ours=place if side == 0 else None,
            theirs=place if side == 1 else None,
            inputs=self._inputs(side, tensor),
            output=float("inf"),
            note=note,
            mistake=self._left_out(side, tensor, match) or (named_function(known) if known is not None else None),
            certain=match is not None,
        )

    def _states(self, match: Match) -> str:
        """Say which states of a recurrent layer the layers of both runs take."""
        taken = [
            next((flow.tensors[label] for label in t.layer.inputs if label in flow.tensors), None) if t.layer else None
            for flow, t in zip(self.sides, (match.ours, match.theirs), strict=True)
        ]
        if taken[0] is None or taken[1] is None:
            return ""
        given = [t for flow in self.sides for t in flow.tensors.values()]
        return states_in_words(given, taken[0], taken[1], FACTOR * floor_of(taken[0], taken[1]))

    def _in_its_place(self, side: int, tensor: Tensor) -> Tensor | None:
        """Give what that layer of the other run gave which holds the same tensors, and is taken by the same layer."""
        if tensor.layer is None:
            return None
        holding = self.alignment.holding
        for other in self.sides[1 - side].tensors.values():
            ours, theirs = (tensor, other) if side == 0 else (other, tensor)
            if other.size != tensor.size or not holding.together(ours.layer, theirs.layer):
                continue
            takers = itertools.product(self._takers(0, ours), self._takers(1, theirs))
            if any(holding.same(one, two) for one, two in takers):
                return other
        return None

    def _takers(self, side: int, tensor: Tensor) -> list[Layer | None]:
        """The layers of a side that take a tensor; None of a function."""
        flow = self.sides[side]
        return [flow.tensors[label].layer for label in flow.below[tensor.label]]

    def _named(
        self, match: Match, ours: Tensor, theirs: Tensor, members: Mapping[int, tuple[Layer, ...]]
    ) -> Named | None:
        """Name the mistake that makes one of two tensors, if the layers that gave them are one another's."""
        found = None
        if not match.region or self._same_inputs(ours, theirs):
            found = named(self.alignment, ours, theirs, (members.get(0, ()), members.get(1, ())))
        if found is None and ours.layer is None and theirs.layer is None:
            reach = [sorted(self.frontier.reach[side].get(t.label, ())) for side, t in enumerate((ours, theirs))]
            found = named_between(self.alignment, ours, theirs, (reach[0], reach[1]))
        if found is None and sum(kind_of(one) == "attention" for one in (ours, theirs)) == 1:
            whole = 0 if kind_of(ours) == "attention" else 1
            given, last = (ours, theirs) if whole == 0 else (theirs, ours)
            projections = [*members.get(1 - whole, ()), *([last.layer] if last.layer is not None else [])]
            if len(projections) < 2:  # a module of the user's own holds them
                projections = list(self._region(1 - whole, last).with_it)
            found = named_in_attention(self.alignment, whole, given, projections)
        if found is None and match.region:
            chains = self._region(0, ours).with_it, self._region(1, theirs).with_it
            found = named_in_chain(self.alignment, ours, theirs, chains)
        return found

    def _same_inputs(self, ours: Tensor, theirs: Tensor) -> bool:
        """Tell whether two layers, of whatever kinds, take tensors that agree."""
        if ours.layer is None or theirs.layer is None or not ours.layer.inputs:
            return False
        pairs = zip(ours.layer.inputs, theirs.layer.inputs, strict=False)
        return all(other in self.alignment.partners[0].get(one, set()) for one, other in pairs)

    def _left_out(self, side: int, tensor: Tensor, match: Match | None) -> Named | None:
        """Name what a layer or function of one run alone does, if the other run hands on what that takes."""
        after = None if match is None else (match.theirs if side == 0 else match.ours).layer
        if after is None or len(tensor.sources) != 1:
            return None
        if tensor.layer is not None and self.alignment.holding.has_partner(
            side, tensor.layer, self.sides[1 - side].layers
        ):
            return None  # the other run has it elsewhere
        handed = self.frontier.unmoved(1 - side, set(after.inputs) & self.sides[1 - side].tensors.keys())
        if not handed & self.alignment.partners[side].get(tensor.sources[0], set()):
            return None
        return named_alone(self.alignment, side, tensor)

    def _of_match(self, match: Match, members: Mapping[int, tuple[Layer, ...]] | None = None) -> Parting:
        ours, theirs = match.ours, match.theirs
        members = {side: layers for side, layers in (members or {}).items() if layers}
        note, pattern, certain = "", "", match.certain
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
                differences += gates_in_words(self.alignment.holding, ours.layer, theirs.layer)
            if kind_of(ours) == kind_of(theirs) and kind_of(ours) in words.RANDOM:
                note = "both draw at random, and frameworks draw other numbers: switch it off to compare"
            elif not members and self._reordered(ours.layer, theirs.layer):
                note = (
                    "it takes the same values in another order, as flattening (channels, height, width) for (height, "
                    "width, channels) gives"
                )
        elif self.alignment.relation(ours, theirs)[0] is Relation.REORDERED:
            note = "they are the same values in another order"
        known = self._between(ours, theirs)
        computed = functions_in_words(self.sides, ours, theirs) or (known.words if known is not None else "")
        sizes = f"they give {ours.size:,} and {theirs.size:,} values" if ours.size != theirs.size else ""
        note = "; ".join(filter(None, (note, sizes, computed)))
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
            mistake=self._named(match, ours, theirs, members) or (named_function(known) if known is not None else None),
            certain=certain,
        )

    def _between(self, ours: Tensor, theirs: Tensor) -> Between | None:
        """Find what functions made each of two tensors, or what two layers take, if it is made of what agrees."""
        both = [self._made(side, tensor) for side, tensor in enumerate((ours, theirs))]
        if both[0] is None or both[1] is None or all(tensor.layer is not None for tensor in both if tensor):
            return None
        return between(self.alignment, both[0], both[1])

    def _made(self, side: int, tensor: Tensor) -> Tensor | None:
        """A tensor that a function made; of a layer's output the one tensor that it takes, if that has no partner."""
        if tensor.layer is None:
            return tensor
        taken = [self.sides[side].tensors[label] for label in tensor.layer.inputs if label in self.sides[side].tensors]
        return taken[0] if len(taken) == 1 else None

    def _after_activation(self, match: Match) -> tuple[Tensor, Tensor, dict[int, tuple[Layer, ...]]] | None:
        """If one layer has an activation within it, and the other's comes after it, hold what both give in the end."""
        ours, theirs = match.ours, match.theirs
        if ours.layer is None or theirs.layer is None:
            return None
        if any(kind_of(t) in words.COMPOSITE for t in (ours, theirs)):
            return None  # its activations are amid what it computes
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
        return set_otherwise(self.sides, ours, theirs)

    def _place(self, side: int, tensor: Tensor, members: tuple[Layer, ...] = ()) -> Place:
        frontier = self.frontier.reach[side].get(tensor.label, frozenset(tensor.sources))
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
        given = [t.layer for t in (*self.frontier.between(side, tensor), tensor) if t.layer is not None]
        order = sorted(set(given), key=self.sides[side].layers.index)
        return replace(self._place(side, tensor), layer=None, with_it=tuple(order))

    def _inputs(self, side: int, tensor: Tensor) -> float:
        """The distance of the farthest of the tensors that agree before one, in noise floors."""
        far = [0.0]
        for label in self.frontier.reach[side].get(tensor.label, ()):
            for partner in self.alignment.partners[side].get(label, ()):
                pair = (label, partner) if side == 0 else (partner, label)
                one, other = self.sides[0].tensors[pair[0]], self.sides[1].tensors[pair[1]]
                how, lying = self.alignment.relation(one, other)
                if how >= Relation.ALIKE:  # else one holds the other
                    far.append(distance(one, other, lying) / (floor_of(one, other) or 1.0))
        return max(far)


def _distinct(layers: Iterable[Layer | None]) -> tuple[Layer, ...]:
    """Each layer once, however often it was called."""
    named = {CALL.sub("", layer.name): layer for layer in reversed([one for one in layers if one is not None])}
    return tuple(reversed(named.values()))


def _function(tensor: Tensor) -> str:
    """The activation that a layer is, or has within it."""
    assert tensor.layer is not None
    return str(tensor.layer.common.settings.get("activation") or kind_of(tensor))


def set_otherwise(
    sides: Sequence[Dataflow], ours: Layer, theirs: Layer, asked: Collection[str] | None = None
) -> list[str]:
    """The settings in which a layer of each run differ, with what a layer before either pads; of ``asked`` ones."""
    both = [_padded(side, layer) for side, layer in zip(sides, (ours, theirs), strict=True)]
    if asked is not None:
        both = [replace(one, settings={k: v for k, v in one.settings.items() if k in asked}) for one in both]
    return words.differences(*both)


def _padded(flow: Dataflow, layer: Layer) -> words.Configuration:
    """A layer's configuration, with the padding of a layer before it that only pads."""
    said, settings = layer.common, dict(layer.common.settings)
    before = next((one for one in flow.layers if set(one.outputs) & set(layer.inputs)), None)
    if before is not None and before.common.kind == "pad" and "padding" in settings:
        added = before.common.settings.get("padding")
        bare = settings["padding"] == "VALID" or not np.any(
            [0 if isinstance(settings["padding"], str) else settings["padding"]]
        )
        settings.pop("padding")
        if bare and before.kind.startswith("ZeroPad"):
            settings["padding"] = added
    return words.Configuration(said.kind, settings)


def _parent(label: str) -> str:
    """The path of the module that a layer is in."""
    found = re.match(r"(.*[./])", label)
    return found[1] if found else ""
