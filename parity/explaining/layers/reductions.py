"""Say which of several numbers a function took, as the first position, the last, or the mean over all."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from parity.tolerance import FACTOR
from parity.typing import Array

REDUCTIONS: Mapping[str, Callable[[Array], Array]] = {
    "the first": lambda values: values[:, 0],
    "the last": lambda values: values[:, -1],
    "the mean": lambda values: values.mean(1),
    "the largest": lambda values: values.max(1),
    "the sum": lambda values: values.sum(1),
    "the mean of all but the first": lambda values: values[:, 1:].mean(1),
    "the largest of all but the first": lambda values: values[:, 1:].max(1),
}
"""What is left of an axis: ``(before, length, after)`` to ``(before, after)``."""


@np.errstate(all="ignore")  # a recording may hold any numbers
def reduction_of(source: Array, given: Array, floor: float) -> tuple[str, float] | None:
    """Find what was taken along one or several axes, or all but the first, of a tensor.

    Args:
        source: (batch, …) numbers.
        given: Fewer numbers, in the order of those that they come from.
        floor: The noise floor of them.

    Returns:
        What was taken, in words, and how far it is from what was given, in noise floors; None if it is none of these,
        or more than one.

    Examples:
        >>> tokens = np.sin(np.arange(24.0)).reshape(2, 3, 4)
        >>> reduction_of(tokens, tokens.mean(1), 1e-15)
        ('the mean along axis 1', 0.0)
        >>> reduction_of(tokens, tokens[:, 2], 1e-15)
        ('the last along axis 1', 0.0)
    """
    found = []
    for axes in _axes(source.shape, given.size):
        length = int(np.prod([source.shape[axis] for axis in axes]))
        cut = source.reshape(int(np.prod(source.shape[: axes[0]])), length, -1).astype(np.float64)
        for words, reduce in REDUCTIONS.items():
            far = float(np.max(np.abs(reduce(cut).reshape(-1) - given.reshape(-1)), initial=0.0)) / floor
            if far <= FACTOR:
                found.append((f"{words} along ax{'e' if len(axes) > 1 else 'i'}s {', '.join(map(str, axes))}", far))
    return found[0] if len(found) == 1 else None


def _axes(shape: tuple[int, ...], size: int) -> Iterator[tuple[int, ...]]:
    """The axes that lie beside each other, the first aside, without which so many numbers are left."""
    for first, end in itertools.combinations(range(1, len(shape) + 1), 2):
        axes = tuple(range(first, end))
        length = int(np.prod([shape[axis] for axis in axes]))
        if length > 1 and size * length == int(np.prod(shape)):
            yield axes
