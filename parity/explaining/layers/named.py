"""Name the mistake in a layer that parts: each mistake of the layer's family is replayed on what the layer took.

A name is given where three things hold. The layer of the one run, replayed as it is set, gives what was recorded of
it: so it is known. A mistake's replay of that layer gives what was recorded of the other run's. And no other mistake's
does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from parity.explaining.layers.alignment import Alignment
from parity.explaining.layers.between import KINDS, calls_between, seen_between, taken_between
from parity.explaining.layers.calls import OVER_AXES, UNFIT, Seen, Taken, calls_of, taken
from parity.explaining.layers.chain import in_chain
from parity.explaining.layers.dataflow import Tensor
from parity.explaining.layers.projected import named_in_projections
from parity.mistakes.catalogue.replayed import REPLAYED
from parity.mistakes.layer import LayerMistake
from parity.nn.configuration import ACTIVATIONS
from parity.nn.layers import Call, compute
from parity.recording.layers import Layer
from parity.tolerance import FACTOR
from parity.typing import Array

ALIKE = 3
"""So many mistakes may give what was seen; where more do, nothing is said."""
ELEMENTWISE = ACTIVATIONS - OVER_AXES - {"prelu"} | {"identity", "gelu_sigmoid"}
POOLS = ("max_pool", "average_pool")
FUNCTIONS = 2
"""So many functions may be what a run computes where no layer says it."""


@dataclass(frozen=True, kw_only=True)
class Named:
    """A mistake whose replay gives what was seen of a layer.

    Attributes:
        names: Its name; several where this update does not tell them apart.
        sentences: What each is, in a sentence.
        said: For each the number that was fitted, in words; empty if there is none.
        which: Whose layer makes it, ``first`` or ``second``.
        floors: How far the replay is from what was recorded, in noise floors; the farthest of several.
        right: The same of the other run's layer, replayed as it is set.
    """

    names: tuple[str, ...]
    sentences: tuple[str, ...]
    said: tuple[str, ...]
    which: str
    floors: float
    right: float

    @property
    def sentence(self) -> str:
        """Say it."""
        both = zip(self.names, self.said, strict=True)
        names = " or ".join(f"{name} ({said})" if said else name for name, said in both)
        apart = ", which this update does not tell apart," if len(self.names) > 1 else ""
        what = f": {self.sentences[0].rstrip('.')}" if len(self.names) == 1 else ""
        return (
            f"explained by {names}{apart} in the {self.which} run if the other is right (replay agrees to "
            f"{self.floors:.2g} of the noise floor, that of the other run's own layer to {self.right:.2g}){what}"
        )

    def as_json(self) -> dict[str, Any]:
        """Give it as plain data."""
        return {
            "names": list(self.names),
            "sentences": list(self.sentences),
            "said": list(self.said),
            "which": self.which,
            "floors": self.floors,
            "right": self.right,
        }


@np.errstate(all="ignore")  # a recording may hold any numbers
def named(
    alignment: Alignment, ours: Tensor, theirs: Tensor, members: tuple[tuple[Layer, ...], tuple[Layer, ...]] = ((), ())
) -> Named | None:
    """Name the mistake that makes one tensor of what gave the other.

    Args:
        alignment: The tensors of both runs.
        ours: What parts in the first run.
        theirs: What parts in the second.
        members: Of each run the layer before, if what parts is an activation that the other run has within that layer.

    Returns:
        The mistake; None if no layer is known, or none or too many mistakes explain it.
    """
    first = taken(alignment.sides[0], 0, ours, members[0])
    second = taken(alignment.sides[1], 1, theirs, members[1])
    if first is None or second is None:
        return None
    return _either(alignment, first, second)


@np.errstate(all="ignore")  # a recording may hold any numbers
def named_alone(alignment: Alignment, side: int, tensor: Tensor) -> Named | None:
    """Name the mistake that makes a layer or a function of one run, where the other run hands on what that takes.

    Args:
        alignment: The tensors of both runs.
        side: Whose layer or function it is, 0 or 1.
        tensor: What it gave.

    Returns:
        The mistake; None if no layer is known, or none or too many mistakes explain it.
    """
    mine = taken(alignment.sides[side], side, tensor)
    if mine is None:
        return None
    # The values are those of the run that has the layer, and so is the order of their axes.
    other = replace(mine, layer=None, output=mine.inputs[0])
    if mine.layer is None:  # a function too many is no function that the other run lacks
        return _explained(alignment, mine, other, None, ("first", "second")[side])
    return _either(alignment, *((mine, other) if side == 0 else (other, mine)))


@np.errstate(all="ignore")  # a recording may hold any numbers
def named_between(
    alignment: Alignment, ours: Tensor, theirs: Tensor, after: tuple[Sequence[str], Sequence[str]]
) -> Named | None:
    """Name the mistake in attention, or in a gate, that is written by hand between projections and the next layer.

    Args:
        alignment: The tensors of both runs.
        ours: What the layer behind takes in the first run.
        theirs: The same in the second.
        after: Of each run the last tensors before it that agree.

    Returns:
        The mistake; None if it is neither, or none or too many mistakes explain it.
    """
    for kind in KINDS:
        first, second = taken_between(alignment, kind, (ours, theirs), after)
        found = None if first is None or second is None else _either(alignment, first, second)
        if found is not None:
            return found
    return None


def named_in_chain(
    alignment: Alignment, ours: Tensor, theirs: Tensor, chains: tuple[Sequence[Layer], Sequence[Layer]]
) -> Named | None:
    """Name the mistake in one of several layers of a run, which the other run has as functions.

    Args:
        alignment: The tensors of both runs.
        ours: What the first run has behind them.
        theirs: The same of the second.
        chains: Of each run the layers between the last tensors that agree and these; one run has none.

    Returns:
        The mistake; None if the layers are not known, or none or too many mistakes explain it.
    """
    if bool(chains[0]) == bool(chains[1]):
        return None
    side = 0 if chains[0] else 1
    given, other = (ours, theirs) if side == 0 else (theirs, ours)
    found = in_chain(alignment, side, chains[side], given, other)
    if not 0 < len(found) <= ALIKE:
        return None
    return Named(
        names=tuple(mistake.name for mistake, *_ in found),
        sentences=tuple(mistake.sentence for mistake, *_ in found),
        said=tuple(said for _, said, *_ in found),
        which=("second", "first")[side],
        floors=max(far for *_, far, _ in found),
        right=max(right for *_, right in found),
    )


def named_in_attention(alignment: Alignment, whole: int, given: Tensor, members: Sequence[Layer]) -> Named | None:
    """Name the mistake in attention that one run has as one layer, and the other as several projections.

    Args:
        alignment: The tensors of both runs.
        whole: Which run has it as one layer, 0 or 1.
        given: What that layer gave.
        members: The layers of the other run that do what it does, its projections among them, in order.

    Returns:
        The mistake; None if attention is not proven, or none or too many mistakes explain it.
    """
    linear = [layer for layer in members if layer.common.kind == "linear" and layer.outputs]
    last = alignment.sides[1 - whole].tensors.get(linear[-1].outputs[0]) if linear else None
    explained = None if last is None else named_in_projections(alignment, whole, given, last, linear[:-1])
    if explained is None or len(explained[0]) > ALIKE:
        return None
    found, right, wrong = explained
    return Named(
        names=tuple(found),
        sentences=tuple(mistake.sentence for mistake, *_ in found.values()),
        said=tuple(said for *_, said in found.values()),
        which=("first", "second")[wrong],
        floors=max(floors for _, floors, _ in found.values()),
        right=right,
    )


def _either(alignment: Alignment, first: Taken, second: Taken) -> Named | None:
    """Explain the first run by the second, or else the second by the first."""
    layers = first.layer, second.layer
    for mine, other, partner, which in ((first, second, layers[0], "first"), (second, first, layers[1], "second")):
        found = _explained(alignment, mine, other, partner, which)
        if found is not None:
            return found
    return None


def _explained(alignment: Alignment, mine: Taken, other: Taken, partner: Layer | None, which: str) -> Named | None:
    """Find the mistake that makes what one run gave of what the other run's layer computes."""
    found: dict[str, tuple[LayerMistake, float, str]] = {}
    right = 0.0
    try:
        fitting = [(known, _seen(mine, known), apart) for known, apart in _known(alignment, other, partner)]
    except UNFIT:
        return None
    for known, seen, apart in fitting:
        if known.kind == "linear" and seen.floors(_computed(seen.call)) <= FACTOR:
            # The layer is right, and takes its values in another order than the other run's.
            seen = Seen(known, seen.output, seen.floor)
        # Which value is which does not matter where each is made of its own.
        own = known.kind in ELEMENTWISE
        alike = mine.takes_the_same(other) if own else _same_shapes(seen, _seen(other, known))
        if not alike or seen.floors(_computed(seen.call)) <= FACTOR:
            continue
        right = max(right, apart)
        for mistake in REPLAYED:
            if known.kind in mistake.kinds and mistake.name not in found:
                replayed = _replayed(mistake, seen)
                if replayed is not None:
                    found[mistake.name] = mistake, *replayed
    if not 0 < len(found) <= ALIKE:
        return None
    return Named(
        names=tuple(found),
        sentences=tuple(mistake.sentence for mistake, *_ in found.values()),
        said=tuple(said for *_, said in found.values()),
        which=which,
        floors=max(floors for _, floors, _ in found.values()),
        right=right,
    )


def _known(alignment: Alignment, other: Taken, partner: Layer | None) -> Iterator[tuple[Call, float]]:
    """The call that a layer is proven to be, or the few functions that may be one; with how far its replay is."""
    guessed = not other.between and (other.layer is None or other.layer.common.kind in ("", "activation"))
    fitting = []
    for seen in calls_between(other) if other.between else calls_of(alignment, other, partner):
        floors = seen.floors(_computed(seen.call))
        if floors <= FACTOR:
            fitting.append((seen.call, floors))
            if not guessed:
                break
    if len(fitting) <= FUNCTIONS:
        yield from fitting


def _seen(found: Taken, call: Call) -> Seen:
    return seen_between(found, call) if found.between else found.seen(call)


def _computed(call: Call) -> Array | None:
    """What a call gives; None if its parameters or shapes do not fit."""
    try:
        return compute(call)
    except UNFIT:
        return None


def _same_shapes(one: Seen, other: Seen) -> bool:
    """Tell whether two calls took and gave what has the same shapes; a pool may have one window more than another."""
    inputs = zip(one.call.inputs, other.call.inputs, strict=False)
    gave = one.output.shape == other.output.shape or one.call.kind in POOLS
    return gave and all(a.shape == b.shape for a, b in inputs)


def _replayed(mistake: LayerMistake, seen: Seen) -> tuple[float, str] | None:
    """How far a mistake's replay is from what was seen, in floors, and what was fitted; None if that is too far."""
    try:
        made = [(seen.floors(one.output), one.said) for one in mistake.wrong(seen.call, seen.output)]
    except UNFIT:
        return None
    least = min((floors for floors, _ in made), default=np.inf)
    if not least <= FACTOR:
        return None
    # Rounder numbers come first: one that fits as well as any is what somebody wrote.
    return next(one for one in made if one[0] <= max(1.0, 2 * least))
