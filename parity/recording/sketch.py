"""A tensor's values in a few numbers: a sketch that no transposing changes, or a digest that any bit changes."""

from __future__ import annotations

import hashlib

import numpy as np

from parity.typing import Array

QUANTILES = 33
"""Of so many places in the sorted values a sketch keeps the value: the least, the largest, and evenly between them."""
SIZE = QUANTILES + 3


def sketch(values: Array) -> Array:
    """Sum a tensor up in ``SIZE`` numbers that depend on its values alone, and not on their order or its shape.

    Tensors that are equal up to the order of their axes have equal sketches. Tensors whose values differ by rounding
    have sketches that differ by rounding: each number is a value, or a mean of all values or of their squares.

    Args:
        values: Numbers of any shape and dtype.

    Returns:
        float64 (``SIZE``,): how many values there are, their mean, the root of their mean square, and ``QUANTILES`` of
        them in ascending order, NaN last. Without any value all but the count are zero.

    Examples:
        >>> kernel = np.arange(6.0).reshape(2, 3)
        >>> bool(np.array_equal(sketch(kernel), sketch(kernel.T)))
        True
        >>> sketch(kernel)[:2].tolist()
        [6.0, 2.5]
    """
    ordered = np.sort(np.asarray(values).astype(np.float64).reshape(-1))
    found = np.zeros(SIZE)
    found[0] = len(ordered)
    if len(ordered):
        places = np.round(np.linspace(0, len(ordered) - 1, QUANTILES)).astype(np.int64)
        with np.errstate(over="ignore", invalid="ignore"):
            found[1:3] = ordered.mean(), np.sqrt(np.mean(ordered**2))
        found[3:] = ordered[places]
    return found


def evenly(size: int, most: int) -> Array:
    """Choose places along an axis that lie evenly: all of them where they are few.

    Args:
        size: How many places there are.
        most: How many are wanted at most.

    Returns:
        int64, ascending, from the first to the last.

    Examples:
        >>> evenly(3, 5).tolist(), evenly(9, 3).tolist()
        ([0, 1, 2], [0, 4, 8])
    """
    return np.arange(size) if size <= most else np.linspace(0, size - 1, most).astype(np.int64)


def digest(values: Array) -> Array:
    """Sum a tensor up in its SHA-256, which tells whether two are equal to the bit, and no more.

    Args:
        values: Numbers of any shape and dtype. Shape and dtype are a part of what is summed up.

    Returns:
        int64 (4,).

    Examples:
        >>> bool(np.array_equal(digest(np.zeros(3)), digest(np.zeros(3))))
        True
        >>> bool(np.array_equal(digest(np.zeros(3)), digest(-np.zeros(3))))
        False
    """
    found = hashlib.sha256(f"{values.dtype.str} {values.shape}".encode())
    found.update(np.ascontiguousarray(values).tobytes())
    return np.frombuffer(found.digest(), "<i8").astype(np.int64)
