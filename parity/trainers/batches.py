"""The handling of rows and arrays that the trainers of several frameworks share, in NumPy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from parity.typing import Array, Batches

T = TypeVar("T")


def all_rows(segments: Sequence[Batches], rows: int) -> bool:
    """Say whether every batch is all rows of the data in their order, so that none need be gathered.

    Args:
        segments: Batches of row indices, (batch,) int64 each.
        rows: The number of rows in the data.

    Returns:
        True if each batch is 0, 1, …, rows - 1.

    Examples:
        >>> all_rows([(np.arange(3),)], rows=3), all_rows([(np.array([0, 2, 1]),)], rows=3)
        (True, False)
    """
    distinct = {id(batch): batch for segment in segments for batch in segment}
    return all(np.array_equal(batch, np.arange(rows)) for batch in distinct.values())


def placing(put: Callable[[Array], T], *arrays: Array | None) -> Callable[[Array], T]:
    """Make a ``put`` that copies some arrays to their device once.

    Args:
        put: Copies an array to a device.
        *arrays: The arrays that are copied now; None is left out.

    Returns:
        A function like ``put``, which gives the copy made now for these very arrays.

    Examples:
        >>> x = np.zeros(3)
        >>> place = placing(np.copy, x)
        >>> place(x) is place(x)
        True
    """
    placed = {id(array): (array, put(array)) for array in arrays if array is not None}

    def place(values: Array) -> T:
        return placed[id(values)][1] if id(values) in placed else put(values)

    return place
