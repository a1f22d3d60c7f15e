"""The floating dtypes of a run: their names, how coarse they are, and how NumPy holds them.

NumPy has no bfloat16. A bfloat16 is the upper half of a float32, so wherever NumPy has one in its hands it is a
float32 whose lower half is zero: nothing is lost, and no package beside NumPy is needed.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray
"""An array of any shape and dtype."""

DTYPES = ("float32", "float64")
"""What is run unless told otherwise."""
NARROW = ("float16", "bfloat16")
"""Two bytes a number; their noise floors are measured when they are asked for."""
KNOWN = (*DTYPES, *NARROW)
"""Every dtype that a run may have."""

_HALF, _ONE, _ALMOST, _UPPER = (np.uint32(bits) for bits in (16, 1, 0x7FFF, 0xFFFF0000))


def carrier(dtype: str) -> np.dtype[Any]:
    """Say which NumPy dtype holds the values of a dtype.

    Args:
        dtype: The name of a floating dtype, one of ``KNOWN`` or another of NumPy's.

    Returns:
        float32 for bfloat16, else the dtype of that name.

    Examples:
        >>> carrier("bfloat16"), carrier("float16")
        (dtype('float32'), dtype('float16'))
    """
    return np.dtype("float32" if dtype == "bfloat16" else dtype)


def unit(dtype: str) -> float:
    """Say how coarse a dtype is.

    Args:
        dtype: The name of a floating dtype.

    Returns:
        The unit roundoff, the largest relative error of rounding to ``dtype``.

    Examples:
        >>> unit("float64") == 2**-53, unit("bfloat16") == 2**-8
        (True, True)
    """
    return 2.0**-8 if dtype == "bfloat16" else float(np.finfo(dtype).eps) / 2


def coarsest(*dtypes: str) -> str:
    """Name the dtype of some that rounds most.

    Args:
        dtypes: Names of floating dtypes, one at least.

    Returns:
        The name of the coarsest.

    Examples:
        >>> coarsest("float64", "float32"), coarsest("bfloat16", "float16")
        ('float32', 'bfloat16')
    """
    return max(dtypes, key=unit)


def rounded(values: Array, dtype: str) -> Array:
    """Round floats to the nearest numbers of a dtype, ties to even.

    A float64 reaches bfloat16 through float32, as it does in every framework. A NaN stays one; what is too large
    becomes an infinity.

    Args:
        values: An array of any shape.
        dtype: The name of a floating dtype.

    Returns:
        An array of the same shape in ``carrier(dtype)``; one that holds no floats as it came.

    Examples:
        >>> rounded(np.array([1.01, 1.005]), "bfloat16").tolist()
        [1.0078125, 1.0078125]
    """
    if values.dtype.kind != "f":
        return values
    carried: Array = values
    if values.dtype != carrier(dtype):
        with np.errstate(over="ignore", under="ignore"):
            carried = values.astype(carrier(dtype))
    if dtype != "bfloat16":
        return carried
    bits = carried.view(np.uint32)
    # Half a unit, less a little where the last bit kept is even: the carry out of the lower half rounds to even.
    nearest = bits + (((bits >> _HALF) & _ONE) + _ALMOST) & _UPPER
    found: Array = nearest.view(np.float32)
    unknown = carried != carried
    if unknown.any():  # adding to the bits of a NaN may make a number of it
        found = np.where(unknown, np.float32(np.nan), found)
    return found


def spacing(values: Array, dtype: str) -> Array:
    """Say how far each value is from the next one of its dtype, away from zero.

    Args:
        values: Finite values of ``dtype``, in its carrier, of any shape.
        dtype: The name of a floating dtype.

    Returns:
        Signed distances of the same shape and dtype; at the largest number, what its last place is worth.

    Examples:
        >>> spacing(np.float32([1, -2]), "float32").tolist() == [2**-23, -(2**-22)]
        True
    """
    with np.errstate(over="ignore"):
        # Of magnitudes: NumPy's float16 says of -1 how far it is from the next number towards zero, which is half.
        steps: Array = np.copysign(np.spacing(np.abs(values)), values)
    if np.isinf(steps).any():  # beyond the largest number there is none: its last place is worth what it is below
        steps = np.where(np.isinf(steps), 2 * np.spacing(values / 2), steps)
    return steps * np.float32(2**16) if dtype == "bfloat16" else steps


def smallest(dtype: str) -> float:
    """Say which is the smallest positive number of a dtype, a subnormal one.

    Args:
        dtype: The name of a floating dtype.

    Returns:
        That number.

    Examples:
        >>> smallest("float16") == 2**-24
        True
    """
    return 2.0**-133 if dtype == "bfloat16" else float(np.finfo(dtype).smallest_subnormal)


def packed(values: Array) -> Array:
    """Give bfloat16 values by their bits, as they are stored.

    Args:
        values: float32 values of any shape, each a bfloat16.

    Returns:
        A little-endian uint16 array of the same shape.

    Raises:
        ValueError: If a value is not a bfloat16.

    Examples:
        >>> [hex(bits) for bits in packed(np.float32([1, -2])).tolist()]
        ['0x3f80', '0xc000']
    """
    nearest = rounded(values, "bfloat16")
    if not np.array_equal(nearest, values, equal_nan=True):
        raise ValueError("not every value is a bfloat16")
    return (nearest.view(np.uint32) >> 16).astype("<u2")


def unpacked(bits: Array) -> Array:
    """Give the values of bfloat16 numbers that are given by their bits.

    Args:
        bits: A uint16 array of any shape.

    Returns:
        A float32 array of the same shape, every value exact.

    Examples:
        >>> unpacked(np.array([0x3F80, 0xC000], np.uint16)).tolist()
        [1.0, -2.0]
    """
    values: Array = (bits.astype(np.uint32) << 16).view(np.float32)
    return values
