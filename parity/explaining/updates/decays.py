"""What a weight decay is and what it leaves out, put together from the decay of each tensor."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from parity.explaining.pattern import enumerated
from parity.explaining.updates.fits import Followed, plainly

FEW = 4
"""So many tensors are named; more are counted."""
BIASES, SCALES = ("bias", "beta", "b"), ("weight", "scale", "gamma", "g")
"""The last words of the names of what is added, and of what multiplies channel by channel."""


@dataclass(frozen=True)
class Spread:
    """One weight decay, the tensors that have it and those that have none."""

    value: float
    """0 if no tensor decays."""
    unsure: float
    touched: frozenset[str]
    spared: frozenset[str]
    """Of a tensor in neither, rounding hides whether it decays."""

    @property
    def plain(self) -> float:
        """The decay, with the fewest digits that rounding leaves of it."""
        return plainly(self.value, self.unsure)


def spread_of(found: Followed) -> Spread | None:
    """Find the one weight decay that some of a run's tensors have; None if they have several."""
    beyond = {name: one for name, one in found.decays.items() if abs(one[0]) > one[1]}
    if not beyond:
        return Spread(0.0, 0.0, frozenset(), frozenset(found.decays))
    value, unsure = min(beyond.values(), key=lambda one: one[1])
    touched = {name for name, (own, its) in found.decays.items() if abs(own - value) <= its + unsure}
    spared = {name for name, (own, its) in found.decays.items() if abs(own) <= its}
    if len(touched | spared) < len(found.decays):
        return None
    return Spread(value, unsure, frozenset(touched - spared), frozenset(spared - touched))


def as_meant(one: Spread, meant: Mapping[str, float]) -> Spread:
    """Count the tensors of which rounding tells nothing to where they are meant to be."""
    untold = set(meant) - one.touched - one.spared
    decaying = {name for name in untold if meant[name]}
    return Spread(one.value, one.unsure, one.touched | decaying, one.spared | (untold - decaying))


def tensors_in_words(names: Collection[str], shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Name some of a run's tensors, or count them and say which kinds they are, if they are all of those.

    >>> shapes = {f"{layer}/{role}": (2,) * count for layer in "abc" for role, count in (("kernel", 2), ("bias", 1))}
    >>> tensors_in_words(["a/kernel"], shapes), tensors_in_words([name for name in shapes if "bias" in name], shapes)
    ('a/kernel', '3 tensors (every bias)')
    """
    kinds = {name: _kind(name, shape) for name, shape in shapes.items()}
    mine = {kinds[name] for name in names}
    whole = len(mine) < len(set(kinds.values())) and all(name in names for name in shapes if kinds[name] in mine)
    if len(names) == len(shapes):
        return "all tensors"
    if whole and len(names) > 1:
        return f"{len(names)} tensors (every {enumerated(sorted(mine))})"
    if len(names) <= FEW:
        return enumerated(sorted(names))
    return f"{len(names)} tensors ({enumerated(sorted(names), most=FEW)})"


def _kind(name: str, shape: tuple[int, ...]) -> str:
    word = name.replace("/", ".").rpartition(".")[2]
    if word in BIASES or word.startswith("bias"):
        return "bias"
    if len(shape) < 2:
        return "scale" if word in SCALES else word
    return "kernel" if word in ("weight", "kernel", "w") else word


def decay_in_words(one: Spread, shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Say a weight decay with what it is on and what it leaves out.

    >>> shapes = {"a/kernel": (2, 2), "a/bias": (2,), "b/kernel": (2, 2), "b/bias": (2,)}
    >>> decay_in_words(Spread(0.01, 1e-9, frozenset(["a/kernel", "b/kernel"]), frozenset(["a/bias", "b/bias"])), shapes)
    '0.01 on all but 2 tensors (every bias)'
    """
    if not one.touched:
        return "0"
    left_out = set(shapes) - one.touched if not (set(shapes) - one.touched - one.spared) else one.spared
    if not left_out:
        return f"{one.plain:.6g} on all tensors"
    return f"{one.plain:.6g} on all but {tensors_in_words(left_out, shapes)}"


def alike(one: Spread, other: Spread) -> bool:
    """Tell whether the values of two decays are the same but for rounding."""
    return bool(np.abs(one.value - other.value) <= one.unsure + other.unsure)
