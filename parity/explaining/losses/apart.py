"""Say in what the losses of two runs differ that predict the same: one way for every loss that can be read off."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from parity.dtypes import unit
from parity.explaining.losses import crossentropy, errors, last_layer, weights
from parity.explaining.losses.given import NEEDED, gradient_of
from parity.recording.steps import Step

T = TypeVar("T")
UPDATES = 8
"""So many updates are looked at."""
SENTENCES = crossentropy.SENTENCES | weights.SENTENCES | errors.SENTENCES


@dataclass(frozen=True)
class Apart:
    """In what two losses differ.

    Attributes:
        names: The mistakes, all of which are made; none where no mistake is proven, and words alone say what is seen.
        words: What either loss is.
    """

    names: tuple[str, ...]
    words: str


def losses_apart(steps: Sequence[tuple[Step, Step]], dtypes: tuple[str, str]) -> Apart | None:
    """Name the difference of two losses of one prediction.

    Args:
        steps: The same updates of the first run and of the second, the first of them with equal predictions.
        dtypes: Those of the runs.

    Returns:
        The difference, of which each update is proof; None if it is not known.
    """
    steps = steps[:UPDATES]
    found = _held(steps, dtypes, crossentropy.entropy_of, crossentropy.entropies_apart)
    found = found or _held(steps, dtypes, weights.weighted_of, weights.weights_apart)
    return found or _of_errors(steps, dtypes) or _of_last_layers(steps, dtypes)


def _of_last_layers(steps: Sequence[tuple[Step, Step]], dtypes: tuple[str, str]) -> Apart | None:
    """Tell the losses by the gradients of the last layer's parameters, where those for predictions are missing."""
    if not steps or all(gradient_of(step) is not None for step in steps[0]):
        return None
    sides = list(zip(*steps, strict=True))
    first, second = (last_layer.smoothing_of(side, dtype) for side, dtype in zip(sides, dtypes, strict=True))
    if first is not None and second is not None and np.array_equal(first.counts, second.counts):
        unsure = first.unsure + second.unsure
        if abs(first.share - second.share) > unsure:
            name, words = crossentropy.smoothings_apart(first.share, second.share, first.outputs, unsure)
            return Apart((name,), words)
    signs = [last_layer.signs_of(side, dtype) for side, dtype in zip(sides, dtypes, strict=True)]
    for which, mine, other in (("first", signs[0], signs[1]), ("second", signs[1], signs[0])):
        if mine is not None and other is None:
            name, count = mine
            where = f"in each of {len(steps)} updates of the {which} run"
            what = f"the gradients of {name} are whole multiples of 1/{count}, as those of absolute errors are"
            return Apart((), f"{where} {what}, and the other's are not")
    return _held(steps, dtypes, last_layer.labelled, weights.weights_apart)


def _held(
    steps: Sequence[tuple[Step, Step]],
    dtypes: tuple[str, str],
    read: Callable[[Step, str], T | None],
    apart: Callable[[Sequence[tuple[T, T]]], tuple[list[str], str]],
) -> Apart | None:
    pairs = []
    for both in steps:
        one, other = (read(step, dtype) for step, dtype in zip(both, dtypes, strict=True))
        if one is None or other is None:
            return None
        pairs.append((one, other))
    names, words = apart(pairs) if pairs else ([], "")
    return Apart(tuple(names), words) if names else None


def _of_errors(steps: Sequence[tuple[Step, Step]], dtypes: tuple[str, str]) -> Apart | None:
    """Try each pair of losses that the first update leaves possible; two pairs that name otherwise name nothing."""
    read = [[errors.errors_of(step, dtype) for step, dtype in zip(both, dtypes, strict=True)] for both in steps]
    found: dict[tuple[str, ...], Apart] = {}
    coarser = max(dtypes, key=unit)
    for one, other in itertools.product(*read[0]) if read else ():
        pairs = []
        for mine, its in read:
            left = next((each for each in mine if errors.same(each, one)), None)
            right = next((each for each in its if errors.same(each, other)), None)
            if left is None or right is None:
                break
            pairs.append((left, right))
        if len(pairs) == len(read):
            names, words = errors.errors_apart(steps, pairs, coarser)
            if names:
                found[tuple(names)] = Apart(tuple(names), words)
    return next(iter(found.values())) if len(found) == 1 else None


def missing(steps: Sequence[tuple[Step, Step]]) -> str:
    """Say what would have to be recorded for a loss to be told; empty if it is recorded.

    Args:
        steps: The same updates of the first run and of the second.
    """
    return "" if steps and all(gradient_of(step) is not None for step in steps[0]) else NEEDED
