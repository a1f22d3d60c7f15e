"""The floating dtypes of a run: their names, how coarse they are, and how NumPy holds them.

NumPy has no bfloat16. A bfloat16 is the upper half of a float32, so wherever NumPy has one in its hands it is a
float32 whose lower half is zero: nothing is lost, and no package beside NumPy is needed.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray

DTYPES = ("float32", "float64")
"""What is run unless told otherwise."""
NARROW = ("float16", "bfloat16")
"""Two bytes a number; their noise floors are measured when they are asked for."""
KNOWN = (*DTYPES, *NARROW)


_HALF, _ONE, _ALMOST, _UPPER = (np.uint32(bits) for bits in (16, 1, 0x7FFF, 0xFFFF0000))


def carrier(dtype: str) -> np.dtype[Any]:
    """The NumPy dtype that holds the values of ``dtype``: float32 for bfloat16, else that of the same name."""
    return np.dtype("float32" if dtype == "bfloat16" else dtype)


def unit(dtype: str) -> float:
    """The unit roundoff: the largest relative error of rounding to ``dtype``, 2⁻⁸ for bfloat16."""
    return 2.0**-8 if dtype == "bfloat16" else float(np.finfo(dtype).eps) / 2


def rounded(values: Array, dtype: str) -> Array:
    """The nearest numbers of ``dtype``, ties to even, in its carrier. Floats alone are rounded; a NaN stays one.

    A float64 reaches bfloat16 through float32, as it does in every framework.
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
    """The distance of each finite value of ``dtype``, in its carrier, to the next one away from zero."""
    with np.errstate(over="ignore"):
        steps: Array = np.spacing(values)
    if np.isinf(steps).any():  # beyond the largest number there is none: its last place is worth what it is below
        steps = np.where(np.isinf(steps), 2 * np.spacing(values / 2), steps)
    return steps * np.float32(2**16) if dtype == "bfloat16" else steps


def smallest(dtype: str) -> float:
    """The smallest positive number."""
    return 2.0**-133 if dtype == "bfloat16" else float(np.finfo(dtype).smallest_subnormal)


def packed(values: Array) -> Array:
    """bfloat16 values in float32, as the two bytes that they are: uint16. ValueError for a value that is none."""
    nearest = rounded(values, "bfloat16")
    if not np.array_equal(nearest, values, equal_nan=True):
        raise ValueError("not every value is a bfloat16")
    return (nearest.view(np.uint32) >> 16).astype("<u2")


def unpacked(bits: Array) -> Array:
    """The float32 values of bfloat16 numbers that are given by their bits, uint16. Every one is exact."""
    values: Array = (bits.astype(np.uint32) << 16).view(np.float32)
    return values
