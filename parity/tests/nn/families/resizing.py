"""Resizing over one axis and two, to more values and to fewer."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from parity.nn import resizing as nn
from parity.tests.nn.conformance import Asked, Departure, Function

SIZES = {1: ((5,), ((10,), (8,), (3,))), 2: ((5, 4), ((10, 8), (7, 3), (3, 2)))}


@st.composite
def asked(draw: Any) -> Asked:
    """Corners are aligned, and half pixels left out, without antialiasing alone."""
    rank = draw(st.sampled_from([1, 2, 2]))
    sizes, outputs = SIZES[rank]
    method = draw(st.sampled_from(["nearest", "linear", "linear", "cubic"]))
    places = draw(st.sampled_from(["half", "half", "aligned", "corner"]))
    blurred = places == "half" and method != "nearest" and draw(st.booleans())
    x = np.random.default_rng(draw(st.integers(0, 99))).normal(0, 1, (2, *sizes, 3))
    configuration = {
        "output_size": draw(st.sampled_from(outputs)),
        "method": method,
        "places": places,
        "antialias": blurred,
    }
    return Asked(configuration, {"x": x})


def is_(**words: Any) -> Any:
    """Whether a configuration says all of this."""
    return lambda asked: all(asked.configuration[word] == value for word, value in words.items())


def flat(asked: Asked) -> bool:
    return asked.arrays["x"].ndim != 4


def read_off(values: Any) -> str:
    """Where the input was read, if 0 and 3 became these four values by lines."""
    known = {(0, 0.75, 2.25, 3): "half", (0, 1.5, 3, 3): "corner", (0, 1, 2, 3): "aligned"}
    return known[tuple(float(value) for value in np.asarray(values).ravel()[:4].round(3))]


TABLE = Departure(
    "the cubic from a table",
    "The cubic is read from a table of 1,024 places between two values.",
    size=2.0**-8,  # a place is off by half of that at most, and the cubic is no steeper than 1.5
    when=is_(method="cubic", antialias=False),
)
"""What TensorFlow does, and Keras on it."""
FUNCTIONS = (Function(nn.resize, asked()),)
