"""The number by which the steps of an update are a multiple of others."""

from __future__ import annotations

from collections.abc import Set

import numpy as np

from parity.explaining.location import Location
from parity.explaining.pattern import enumerated, multiple, times_in_words
from parity.tolerance import FACTOR, least_floor


def ratio_of_steps(place: Location, dtype: str) -> float | None:
    """Find the number that takes the expected steps to the steps made; None if no single number does."""
    ratios = []
    for check in place.parts:
        if check.tensor not in place.params:  # a slot
            continue
        before = place.params[check.tensor].astype(np.float64)
        allowed = FACTOR * least_floor(float(np.max(np.abs(check.wanted))), dtype)
        ratio = multiple(check.got - before, check.wanted - before, allowed)
        if ratio is None:
            return None
        ratios.append(ratio)
    return float(np.median(ratios)) if ratios and np.ptp(ratios) <= 0.01 * abs(np.median(ratios)) else None


def ratio_in_words(place: Location, trained: Set[str], dtype: str) -> str | None:
    """Say how many times the expected steps those of an update are."""
    ratio = ratio_of_steps(place, dtype)
    if ratio is None:
        return None
    parting = [check.tensor for check in place.parts if check.tensor in place.params]
    if set(parting) == trained:
        return f"in this update its steps are {times_in_words(ratio, 4)} times that optimizer's, everywhere"
    times = f"{times_in_words(ratio, 4)} times that optimizer's"
    text = f"in this update its steps of {enumerated(parting)} are {times}, and all others are its own"
    two = "as where two tensors are trained and their sum is recorded, or where some have a learning rate of their own"
    return f"{text}, {two}" if round(ratio) == 2 else text


@np.errstate(all="ignore")  # a recording may hold any numbers
def spread_of_steps(place: Location) -> str:
    """Say between which numbers nine of ten ratios of steps lie."""
    ratios = []
    for check in place.parts:
        if check.tensor in place.params:
            before = place.params[check.tensor].astype(np.float64)
            ratios.append(((check.got - before) / (check.wanted - before)).ravel())
    every = np.concatenate(ratios) if ratios else np.empty(0)
    every = every[np.isfinite(every)]
    if not every.size:
        return ""
    low, high = np.quantile(every, [0.05, 0.95])
    return f"{low:.3g} to {high:.3g}"
