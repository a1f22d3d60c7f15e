"""How far rounding alone carries a run, measured, and the tolerance that follows from it.

The reference is run again with every rounding error stirred: inputs and initial parameters moved by one unit in
the last place, parameters and optimizer slots moved again after every update, the rows of every batch permuted
so that sums add up in another order. How far such runs stray from the undisturbed float64 run, at most, lately, is
the noise floor. Any faithful implementation strays about as far; a mistake strays further.

For a quantity q (a parameter tensor, or the loss), with u the unit roundoff of the dtype:

    stray32(t) = max over RUNS stirred float32 runs of |stirred(t) - reference(t)|
    stray64(t) = max(the same in float64, 2^-29 stray32(t))
    floor(t)   = max over t/2 <= s <= t of max(stray(s), ROUNDINGS u |reference(s)|)
    tolerance  = FACTOR · floor(t)

t counts updates from the start, and where values are further apart the window reaches back to the last one that is
not after t/2. float16 and bfloat16 likewise, each by itself, with the run that nothing stirs as one more of its runs,
and one rounding for ROUNDINGS. The NumPy reference has them as processors do: sums and products in float32, what is
kept in two bytes.

The float32 term in stray64 carries over what 16 float64 runs may miss: float64 rounding is float32 rounding
times 2^-29, and a path that float32 shows to be sensitive is no less so in float64.

Why the window begins at t/2
    An error e obeys e(t+1) = A(t) e(t) + r(t): it is what rounding r has added at every update, carried on by the
    updates since. Where training contracts, what was added early is forgotten, and r follows the present size of the
    parameters and of the terms of a sum. So a maximum since the start is too wide: of a loss that falls from 2e5 to 9
    it keeps the roundings of 2e5.

    The stray at t alone is too narrow. What was added early may dominate the error of every run, stirred or not, and
    then all of them carry the same mode and cross zero together; an implementation that rounds at other places
    crosses a little earlier or later. How long a mode stays near zero depends on its own period, so the window must
    grow with the run. With half of the run so far no mode escapes: a window of t/2 reaches at least a third as far
    from a zero as the run itself does, and |sin rx| <= r sin x for r >= 1 and 0 <= x <= pi/2. So a mode that does not
    decay is, somewhere in the window, at least a third as large as ever before, whatever its period and phase. Those
    three floors of FACTOR are the price. Of errors that decay exponentially, by d since the start, the floor decays by
    the root of d.

Fewer than RUNS runs do not sample what half a run strays: then, and where nothing was measured, the maximum runs from
the start of the run.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from parity.dtypes import NARROW, rounded, spacing, unit
from parity.typing import Array

RUNS = 16
"""The number of stirred runs that a noise floor is measured on, in each dtype."""
FACTOR = 16
"""The tolerance in noise floors, one constant for everything: faithful implementations used at most 9.65 of them in
float32 and 7.0 in float64."""
ROUNDINGS = 4
"""The least noise floor, in roundings of the largest value: a value that a few operations made is known no better. In
float16 and bfloat16, where 64 roundings are 3 % and 25 % of a value, it is one rounding if RUNS stirred runs say so: a
stir moves a value by at least that."""


def least_floor(largest: Any, dtype: str, measured: bool = False) -> Any:
    """Give the part of a noise floor that needs no measurement.

    Args:
        largest: The largest magnitude of a quantity, a number or an array of them.
        dtype: The run's: float64, float32, float16 or bfloat16.
        measured: Whether RUNS stirred runs were made.

    Returns:
        ``ROUNDINGS`` unit roundoffs of it, in its units and shape; one if it was measured in two bytes.

    Examples:
        >>> float(least_floor(2.0, "float64")) == 2.0**-50
        True
        >>> least_floor(1.0, "bfloat16"), least_floor(1.0, "bfloat16", measured=True)
        (0.015625, 0.00390625)
    """
    return (1 if measured and dtype in NARROW else ROUNDINGS) * unit(dtype) * largest


def largest_lately(values: Array, at: Array) -> Array:
    """Give the largest value over the recent half of a run, at each place of it.

    Args:
        values: What is measured along a run, (n,). A NaN counts as the largest.
        at: The updates or epochs that had been done at each place, (n,), rising from 0 or more.

    Returns:
        The largest value between the last place that is not after ``at / 2`` and the place itself, (n,).

    Examples:
        >>> largest_lately(np.array([9.0, 8, 7, 6, 5, 4]), np.arange(6)).tolist()
        [9.0, 9.0, 8.0, 8.0, 7.0, 7.0]
    """
    places = np.arange(len(values))
    first = np.maximum(np.searchsorted(at, np.asarray(at) / 2, "right") - 1, 0)
    length = places - first + 1
    # ``widest`` holds the maxima of the last ``reach`` values. Two such windows cover one of up to twice the length.
    found, widest, reach = np.array(values), np.array(values), 1
    while reach <= length.max(initial=0):
        here = (reach <= length) & (length < 2 * reach)
        found[here] = np.maximum(widest[here], widest[(first + reach - 1)[here]])
        widest[reach:] = np.maximum(widest[reach:], widest[:-reach])
        reach *= 2
    return found


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
