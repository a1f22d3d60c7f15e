"""Rotary positions, of which no framework has a function of its own: pairs are turned as complex numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from parity.nn import positions as nn
from parity.tests.nn.conformance import Array, Asked, Function

STEPS, WIDTH = 3, 4


@st.composite
def asked(draw: Any) -> Asked:
    random = np.random.default_rng(draw(st.integers(0, 99)))
    start = draw(st.sampled_from([0, 5]))
    arrays = {"x": random.normal(0, 1, (2, STEPS, 2, WIDTH)), "positions": np.arange(start, start + STEPS)}
    return Asked({"base": draw(st.sampled_from([100.0, 10000.0])), "interleaved": draw(st.booleans())}, arrays)


def angles(positions: Array, base: float) -> Array:
    """Of each pair at each step, (steps, 1, width / 2)."""
    return positions[:, None, None] / base ** (np.arange(0, WIDTH, 2) / WIDTH)


FUNCTIONS = (Function(nn.rotary, asked()),)
