"""Say in what the losses of two runs differ that predict the same: one way for every loss that can be read off."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from parity.dtypes import unit
from parity.explaining.losses import crossentropy, errors, weights
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
        names: The mistakes, all of which are made.
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
    for read, apart in (
        (crossentropy.entropy_of, crossentropy.entropies_apart),
        (weights.weighted_of, weights.weights_apart),
    ):
        found = _held(steps, dtypes, read, apart)  # type: ignore[arg-type]
        if found is not None:
            return found
    return _of_errors(steps, dtypes)


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
