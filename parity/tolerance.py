"""How far rounding alone carries a run, measured, and the tolerance that follows from it.

The reference is run again with every rounding error stirred: inputs and initial parameters moved by one unit in
the last place, parameters and optimizer slots moved again after every update, the rows of every batch permuted
so that sums add up in another order. How far such runs stray from the undisturbed float64 run, at most, up to
each snapshot, is the noise floor. Any faithful implementation strays about as far; a mistake strays further.

For a quantity q (a parameter tensor, or the loss), with u the unit roundoff of the dtype and S the running
maximum of |reference|:

    stray32(t) = max over RUNS stirred float32 runs, s <= t, of |stirred(s) - reference(s)|
    stray64(t) = max(the same in float64, 2^-29 stray32(t))
    floor(t)   = max(stray(t), 4 u S(t))
    tolerance  = FACTOR · floor

float16 and bfloat16 likewise, each by itself, with the run that nothing stirs as one more of its runs. The NumPy
reference has them as processors do: sums and products in float32, what is kept in two bytes.

The float32 term in stray64 carries over what 16 float64 runs may miss: float64 rounding is float32 rounding
times 2^-29, and a path that float32 shows to be sensitive is no less so in float64.
"""

from __future__ import annotations

import numpy as np

from parity.dtypes import rounded, spacing
from parity.typing import Array

RUNS = 16
FACTOR = 16
"""Faithful implementations used at most 9.65 floors in float32 and 7.0 in float64; one constant for everything."""


def stir(values: Array, generator: np.random.Generator, dtype: str) -> Array:
    """Floats rounded to ``dtype``, each moved by one unit in its last place; zeros, infinities and integers stay."""
    if values.dtype.kind != "f":
        return values
    values = rounded(values, dtype)
    signs = generator.integers(0, 2, values.shape, np.int8) * 2 - 1
    step = spacing(np.where(np.isfinite(values), values, 0), dtype) * signs
    with np.errstate(over="ignore"):
        return np.where(values == 0, values, values + step).astype(values.dtype)
