"""Pooling over one to three axes. No two values are alike, and none is near another: which is larger is no question."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st

from parity.nn import pooling as nn
from parity.tests.nn.conformance import Arrays, Asked, Function
from parity.tests.nn.families.convolution import SIZES, padding

Draw = Callable[[st.SearchStrategy[Any]], Any]


def apart(draw: Draw, rank: int) -> Arrays:
    shape = (2, *SIZES[rank], 3)
    values = np.random.default_rng(draw(st.integers(0, 99))).permutation(int(np.prod(shape)))
    return {"x": (values.reshape(shape) - values.mean()) / 16}


@st.composite
def windows(draw: Any, **words: Any) -> Asked:
    rank = draw(st.integers(1, 3))
    sizes = st.sampled_from([(2,) * rank, (3,) * rank, (3, 2, 2)[:rank]])
    strides = st.sampled_from([(1,) * rank, (2,) * rank, (1, 2, 2)[:rank]])
    configuration = {"kernel_size": draw(sizes), "stride": draw(strides), "padding": draw(padding(rank))}
    words |= {"ceil_mode": st.sampled_from([False, False, True])}
    return Asked(configuration | {word: draw(value) for word, value in words.items()}, apart(draw, rank))


def ceiled(asked: Asked) -> bool:
    return bool(asked.configuration["ceil_mode"])


BEYOND = {"windows that end beyond the input": ceiled}
"""What torch alone can say."""


@st.composite
def places(draw: Any) -> Asked:
    return Asked({}, apart(draw, draw(st.integers(1, 3))))


@st.composite
def bins(draw: Any) -> Asked:
    rank = draw(st.integers(1, 3))
    sizes = tuple(draw(st.integers(1, size)) for size in SIZES[rank])
    return Asked({"output_size": sizes}, apart(draw, rank))


def backward(function: Callable[..., Any]) -> Callable[..., Arrays]:
    def gradients(d_results: Arrays, arrays: Arrays, results: Arrays, configuration: Any) -> Arrays:
        return {"x": function(d_results["output"], arrays["x"], **configuration)}

    return gradients


TIED = {"x": np.ones((1, 2, 1))}
WINDOW = {"kernel_size": (2,), "stride": (2,), "padding": "VALID", "ceil_mode": False}
FUNCTIONS = (
    Function(nn.max_pool, windows(), backward=backward(nn.max_pool_backward), kinks=Asked(WINDOW, TIED)),
    Function(nn.average_pool, windows(count_padding=st.booleans()), backward=backward(nn.average_pool_backward)),
    Function(nn.global_average_pool, places(), backward=backward(nn.global_average_pool_backward)),
    Function(nn.global_max_pool, places(), kinks=Asked({}, TIED)),
    Function(nn.adaptive_average_pool, bins()),
    Function(nn.adaptive_max_pool, bins(), kinks=Asked({"output_size": (1,)}, TIED)),
)
