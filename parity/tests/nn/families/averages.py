"""Averages of weights, over a few steps."""

from __future__ import annotations

from functools import wraps
from typing import Any, Literal

import numpy as np
from hypothesis import strategies as st

from parity.nn import averages as nn
from parity.tests.nn.conformance import Array, Asked, Function

STEPS = 5


@st.composite
def asked(draw: Any, *, exponential: bool) -> Asked:
    random = np.random.default_rng(draw(st.integers(0, 99)))
    arrays = {"initial": random.normal(size=3), "values": random.normal(size=(STEPS, 3))}
    if not exponential:
        return Asked({}, arrays)
    kind = draw(st.sampled_from(["plain", "debiased", "warm_up"]))
    decay = draw(st.sampled_from([0.5, 0.875, 0.9, 0.99]))
    return Asked({"decay": decay, "debias": kind == "debiased", "warm_up": kind == "warm_up"}, arrays)


@wraps(nn.exponential_average)
def exponential_average(
    initial: Array,
    values: Array,
    *,
    decay: float,
    debias: bool,
    warm_up: bool,
    begins: Literal["first", "initial", "zero"] = "first",
) -> Array:
    """The average after each step; it begins with the first step's value, with that before it, or with 0."""
    average = {"first": values[0], "initial": initial, "zero": np.zeros_like(initial)}[begins]
    found = []
    for step, value in enumerate(values):
        kept = nn.warmed_up_decay(decay, updates=step) if warm_up else decay
        average = nn.exponential_average(average, value, decay=kept)
        found.append(nn.debiased(average, decay=decay, step=step + 1) if debias else average)
    return np.stack(found)


@wraps(nn.equal_average)
def equal_average(initial: Array, values: Array) -> Array:
    found = [np.zeros_like(initial)]
    for step, value in enumerate(values, 1):
        found.append(nn.equal_average(found[-1], value, step=step))
    return np.stack(found[1:])


FUNCTIONS = (
    Function(exponential_average, asked(exponential=True), results=("averages",), outputs=(), trained=()),
    Function(equal_average, asked(exponential=False), results=("averages",), outputs=(), trained=()),
)
