"""Convolutions of one to three axes and their transposes."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from parity.nn import convolution as nn
from parity.tests.nn.conformance import Arrays, Asked, Function

SIZES = {1: (7,), 2: (6, 5), 3: (4, 3, 3)}
CHANNELS = 4
TRAINED = ("x", "kernel", "bias")


@st.composite
def padding(draw: Any, rank: int) -> nn.Padding:
    """SAME, VALID, the same before and after an axis, or not."""
    kind = draw(st.sampled_from(["SAME", "VALID", "even", "any"]))
    before, after = (tuple(draw(st.integers(0, 1)) for _ in range(rank)) for _ in range(2))
    return kind if kind.isupper() else tuple(zip(before, before if kind == "even" else after, strict=True))


@st.composite
def asked(draw: Any, transposed: bool = False) -> Asked:
    """A kernel that fits into the input, dilated, and steps of the same length or not."""
    rank = draw(st.integers(1, 3))
    random = np.random.default_rng(draw(st.integers(0, 99)))
    groups = draw(st.sampled_from([1, 1, 2, CHANNELS]))
    sizes = tuple(draw(st.sampled_from([1, 2, 3] if rank < 3 else [1, 2])) for _ in range(rank))
    configuration = {
        "stride": tuple(draw(st.sampled_from([(1,) * rank, (2,) * rank, (1, 2, 2)[:rank], (3,) * rank]))),
        "padding": draw(padding(rank)),
        "dilation": draw(st.sampled_from([(1,) * rank, (2,) * rank])),
        "groups": groups,
    }
    channels = (CHANNELS, 8 // groups) if transposed else (CHANNELS // groups, 8)
    arrays = {"x": random.normal(size=(2, *SIZES[rank], CHANNELS)), "kernel": random.normal(size=(*sizes, *channels))}
    return Asked(configuration, arrays | ({"bias": random.normal(size=8)} if draw(st.booleans()) else {}))


def conv_backward(d_results: Arrays, arrays: Arrays, results: Arrays, configuration: Any) -> Arrays:
    gradients = nn.conv_backward(d_results["output"], arrays["x"], arrays["kernel"], **configuration)
    return {name: value for name, value in zip(TRAINED, gradients, strict=True) if name in arrays}


FUNCTIONS = (
    Function(nn.conv, asked(), trained=TRAINED, backward=conv_backward),
    Function(nn.conv_transpose, asked(transposed=True), trained=TRAINED),
)
