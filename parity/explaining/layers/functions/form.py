"""A function that makes one recorded tensor of others, in words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from parity.explaining.layers.dataflow import Tensor
from parity.nn.layers import Call
from parity.recording.sketch import evenly
from parity.tolerance import FACTOR
from parity.typing import Array

VALUES, FIRST = 4096, 256
"""So many values of a tensor are enough to tell one function from another, and so many to leave one out."""


@dataclass(frozen=True)
class Form:
    """A function of tensors that both runs have.

    Attributes:
        key: What it is, the same for both runs: its family, then numbers, words, and which of the sources it takes.
        words: What it is, with the run's own names of the sources.
        floors: How far its replay is from what was recorded, in noise floors.
        call: The function in the words of ``parity.nn.layers``, with what it took; None where mistakes are not replayed
            on it.
    """

    key: tuple[object, ...]
    words: str
    floors: float
    call: Call | None = None


@dataclass(frozen=True)
class Source:
    """A tensor that agrees in both runs.

    Attributes:
        number: Which of the sources that both runs have, from 0.
        tensor: The run's own.
    """

    number: int
    tensor: Tensor

    @cached_property
    def values(self) -> Array:
        """Its values in float64."""
        assert self.tensor.values is not None
        return self.tensor.values.astype(np.float64)


@dataclass(frozen=True)
class Given:
    """What a function gave in one run, and what it may have been made of.

    Attributes:
        made: What it gave.
        sources: The tensors before it that both runs have, the nearest first.
        tables: The run's parameters that may be added, by name.
        channels_first: Whether the run's framework has channels before places.
    """

    made: Tensor
    sources: tuple[Source, ...]
    tables: tuple[tuple[str, Array], ...]
    channels_first: bool

    @cached_property
    def values(self) -> Array:
        """What it gave, in float64."""
        assert self.made.values is not None
        return self.made.values.astype(np.float64)

    def floors(self, replayed: Array) -> float:
        """How far other values of the same shape are from what was given, in noise floors."""
        return apart(replayed, self.values, self.made.floor)

    def alike(self) -> Iterator[Source]:
        """The sources of the shape that was given."""
        for source in self.sources:
            if source.values.shape == self.values.shape:
                yield source


@np.errstate(all="ignore")  # a recording may hold any numbers
def apart(one: Array, other: Array, floor: float) -> float:
    """How far two arrays of one shape are from each other, in noise floors; infinite if that is not finite."""
    far = float(np.max(np.abs(one - other), initial=0.0)) / floor
    return far if np.isfinite(far) else np.inf


def places_of(size: int) -> tuple[Array, Array]:
    """Choose places of a tensor's values: a few, by which most functions are left out, and those that prove one."""
    many = evenly(size, VALUES)
    return many[evenly(len(many), FIRST)], many


def fits(floors: float) -> bool:
    """Tell whether a replay is what was recorded."""
    return floors <= FACTOR
