"""Which layers of two runs hold the same tensors: where values no longer tell, parameters still do."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from parity.judging.tensors.correspondence import Correspondence, How, Pairing
from parity.judging.tensors.sides import ancestors, layer_of
from parity.layout import Slot
from parity.recording.layers import CALL, Layer
from parity.trajectory import Trajectory


class Holding:
    """The tensors that the layers of two runs hold, and which of them are one another's.

    Args:
        runs: Both runs.
        matched: The correspondence of their tensors; None where equal names are the same tensors.
    """

    def __init__(self, runs: tuple[Trajectory, Trajectory], matched: Correspondence | None) -> None:
        both = [name for name in runs[0].params if name in runs[1].params] if matched is None else []
        plain = [Pairing((Slot(name, name),), (Slot(name, name),), How.NAME, proven=True) for name in both]
        self._pairings = plain if matched is None else list(matched.pairings)
        self._held: tuple[dict[str, set[int]], dict[str, set[int]]] = defaultdict(set), defaultdict(set)
        for number, pairing in enumerate(self._pairings):
            for side, names in enumerate(pairing.names):
                for block in {block for name in names for block in ancestors(layer_of(name)) if block}:
                    self._held[side][block].add(number)

    def holds(self, side: int, layer: Layer) -> bool:
        """Tell whether a layer of a side holds any tensor that has a partner."""
        return bool(self._of(side, layer))

    def same(self, ours: Layer | None, theirs: Layer | None) -> bool:
        """Tell whether two layers hold the same tensors, one of which is proven to be."""
        return self.together(ours, theirs) and bool(self._proven(self._of(0, ours)))

    def together(self, ours: Layer | None, theirs: Layer | None) -> bool:
        """Tell whether two layers hold tensors that were matched, by whatever told."""
        one, other = self._of(0, ours), self._of(1, theirs)
        return bool(one) and one == other

    def alike(self, ours: Layer | None, theirs: Layer | None) -> bool:
        """Tell whether two layers hold tensors that were matched, by more than their order if not proven."""
        hows = [self._pairings[number].how for number in self._of(0, ours)]
        return self.together(ours, theirs) and any(how is not How.ORDER for how in hows)

    def has_partner(self, side: int, layer: Layer, others: Iterable[Layer]) -> bool:
        """Tell whether one of the other side's layers holds the same tensors as a layer: see ``alike``."""
        return self.holds(side, layer) and any(
            self.alike(*((layer, other) if side == 0 else (other, layer))) for other in others
        )

    def others(self, ours: Layer | None, theirs: Layer | None) -> bool:
        """Tell whether two layers are proven to hold tensors that are not one another's."""
        one, other = self._proven(self._of(0, ours)), self._proven(self._of(1, theirs))
        return bool(one) and bool(other) and not one & other

    def apart(self, ours: Layer, theirs: Layer) -> bool:
        """Tell whether a layer holds tensors that were matched, and the other none of these."""
        one, other = self._of(0, ours), self._of(1, theirs)
        return bool(one | other) and not one & other

    def pairings(self, ours: Layer, theirs: Layer) -> list[Pairing]:
        """List the pairings of tensors that two layers hold."""
        return [self._pairings[number] for number in sorted(self._of(0, ours) & self._of(1, theirs))]

    def names(self, side: int, layer: Layer | None) -> list[str]:
        """Name the tensors that a layer of a side holds, as both runs have them in common."""
        found = [self._pairings[number] for number in sorted(self._of(side, layer))]
        return list(dict.fromkeys(name for one in found for name in (*one.canonical, *one.parts)))

    def _of(self, side: int, layer: Layer | None) -> set[int]:
        return set() if layer is None else self._held[side].get(CALL.sub("", layer.name), set())

    def _proven(self, numbers: Iterable[int]) -> set[int]:
        return {number for number in numbers if self._pairings[number].proven}
