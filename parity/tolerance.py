"""How far rounding alone carries a run, measured, and the tolerance that follows from it.

The reference is run again with every rounding error stirred: inputs and initial parameters moved by one unit in
the last place, parameters and optimizer slots moved again after every update, the rows of every batch permuted
so that sums add up in another order. How far such runs stray from the undisturbed float64 run, at most, up to
each snapshot, is the noise floor. Any faithful implementation strays about as far; a mistake strays further.

For a quantity q (a parameter tensor, or the loss), with u the unit roundoff of the dtype and S the running
maximum of |reference|:

    stray32(t) = max over RUNS stirred float32 runs, s <= t, of |stirred(s) - reference(s)|
    stray64(t) = max(the same in float64, 2^-29 stray32(t))
    floor(t)   = max(stray(t), ROUNDINGS u S(t))
    tolerance  = FACTOR · floor

float16 and bfloat16 likewise, each by itself, with the run that nothing stirs as one more of its runs. The NumPy
reference has them as processors do: sums and products in float32, what is kept in two bytes.

The float32 term in stray64 carries over what 16 float64 runs may miss: float64 rounding is float32 rounding
times 2^-29, and a path that float32 shows to be sensitive is no less so in float64.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from parity.dtypes import rounded, spacing, unit
from parity.typing import Array

RUNS = 16
"""The number of stirred runs that a noise floor is measured on, in each dtype."""
FACTOR = 16
"""The tolerance in noise floors, one constant for everything: faithful implementations used at most 9.65 of them in
float32 and 7.0 in float64."""
ROUNDINGS = 4
"""The least noise floor, in roundings of the largest value: a value that a few operations made is known no better."""


def least_floor(largest: Any, dtype: str) -> Any:
    """Give the part of a noise floor that needs no measurement.

    Args:
        largest: The largest magnitude of a quantity, a number or an array of them.
        dtype: The run's: float64, float32, float16 or bfloat16.

    Returns:
        ``ROUNDINGS`` unit roundoffs of it, in its units and shape.

    Examples:
        >>> float(least_floor(2.0, "float64")) == 2.0**-50
        True
    """
    return ROUNDINGS * unit(dtype) * largest


def stir(values: Array, generator: np.random.Generator, dtype: str) -> Array:
    """Round floats to a dtype and move each by one unit in its last place, up or down at random.

    Zeros, infinities, NaN and integers stay as they are. A run that begins from stirred parameters shows how far
    rounding alone carries it.

    Args:
        values: An array of any shape.
        generator: Where the directions are drawn, one for each value.
        dtype: float64, float32, float16 or bfloat16.

    Returns:
        An array of the same shape in ``dtype``, bfloat16 in float32; integers as they came.

    Examples:
        >>> import numpy as np
        >>> moved = stir(np.array([0.0, 1.0, 2.0]), np.random.default_rng(0), "float64")
        >>> bool(moved[0] == 0), bool(0 < abs(moved[1] - 1) < 3e-16)
        (True, True)
    """
    if values.dtype.kind != "f":
        return values
    values = rounded(values, dtype)
    signs = generator.integers(0, 2, values.shape, np.int8) * 2 - 1
    step = spacing(np.where(np.isfinite(values), values, 0), dtype) * signs
    with np.errstate(over="ignore"):
        return np.where(values == 0, values, values + step).astype(values.dtype)
