"""Activation functions: values on both sides of every kink, none near one: differences across a kink say nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st

from parity.nn import activations as nn
from parity.tests.nn.conformance import Arrays, Asked, Function

SHAPES = ((6,), (4, 6), (2, 3, 6))
FAR = (-200.0625, -30.0625, 20.5625, 200.0625)
"""Where exponentials overflow, and beyond torch's threshold of 20."""


@st.composite
def asked(draw: Any, within: int = 8, **words: Any) -> Asked:
    """Odd sixteenths: every kink lies at an eighth."""
    shape = draw(st.sampled_from(SHAPES))
    random = np.random.default_rng(draw(st.integers(0, 99)))
    x = (random.integers(-8 * within, 8 * within, shape) + 0.5) / 8
    if draw(st.booleans()):
        x.flat[: len(FAR)] = FAR
    configuration = {word: draw(value) for word, value in words.items()}
    if "axis" in configuration:
        configuration["axis"] = max(configuration["axis"], -len(shape))
    return Asked(configuration, {"x": x})


@st.composite
def sloped(draw: Any) -> Asked:
    x = draw(asked().filter(lambda found: found.arrays["x"].ndim > 1)).arrays["x"]
    shape = draw(st.sampled_from([(), x.shape[-1:]]))
    return Asked({}, {"x": x, "negative_slope": np.random.default_rng(7).uniform(0, 0.5, shape)})


def of_output(backward: Callable[..., Any]) -> Callable[..., Arrays]:
    def gradients(d_results: Arrays, arrays: Arrays, results: Arrays, configuration: Any) -> Arrays:
        return {"x": backward(d_results["output"], results["output"], **configuration)}

    return gradients


def of_input(backward: Callable[..., Any]) -> Callable[..., Arrays]:
    def gradients(d_results: Arrays, arrays: Arrays, results: Arrays, configuration: Any) -> Arrays:
        return {"x": backward(d_results["output"], arrays["x"])}

    return gradients


def at(*x: float, **words: Any) -> Asked:
    """Kinks, in a row of their own: a layer may take the first axis for a batch."""
    return Asked(words, {"x": np.array([x])})


ALPHA = st.sampled_from([0.5, 1.0, 2.0])
SLOPE = st.sampled_from([0.01, 0.2, 0.3])
THRESHOLD = st.sampled_from([0.5, 1.0])
AXIS = st.integers(-2, -1)
FUNCTIONS = (
    Function(nn.relu, asked(), backward=of_output(nn.relu_backward), kinks=at(0.0)),
    Function(nn.sigmoid, asked(), backward=of_output(nn.sigmoid_backward)),
    Function(nn.log_sigmoid, asked()),
    Function(nn.tanh, asked(), backward=of_output(nn.tanh_backward)),
    Function(nn.softmax, asked(axis=AXIS), backward=of_output(nn.softmax_backward)),
    Function(nn.log_softmax, asked(axis=AXIS), backward=of_output(nn.log_softmax_backward)),
    Function(nn.gelu, asked(), backward=of_input(nn.gelu_backward)),
    # From 4 on until tanh is 1, what it lacks is a rounding, times x³: what every framework says of it is noise.
    Function(nn.gelu_tanh, asked(within=4), backward=of_input(nn.gelu_tanh_backward)),
    *(Function(one, asked()) for one in (nn.silu, nn.mish, nn.softplus, nn.softsign)),
    Function(nn.selu, asked(), kinks=at(0.0)),
    Function(nn.elu, asked(alpha=ALPHA), kinks=at(0.0, alpha=0.5)),
    Function(nn.celu, asked(alpha=ALPHA)),
    Function(nn.squareplus, asked(b=st.sampled_from([1.0, 4.0]))),
    Function(
        nn.leaky_relu, asked(negative_slope=st.sampled_from([0.01, 0.2, 0.3])), kinks=at(0.0, negative_slope=0.25)
    ),
    Function(nn.prelu, sloped(), trained=("x", "negative_slope")),
    Function(nn.relu6, asked(), kinks=at(0.0, 6.0)),
    *(Function(one, asked(), kinks=at(-3.0, 3.0)) for one in (nn.hard_sigmoid, nn.hard_silu)),
    Function(nn.hard_tanh, asked(), kinks=at(-1.0, 1.0)),
    *(
        Function(one, asked(threshold=THRESHOLD), kinks=at(-0.5, 0.5, threshold=0.5))
        for one in (nn.hard_shrink, nn.soft_shrink)
    ),
    *(Function(one, asked()) for one in (nn.tanh_shrink, nn.sparse_plus)),
    Function(nn.sparse_sigmoid, asked(), kinks=at(-1.0, 1.0)),
    Function(nn.glu, asked(axis=st.just(-1))),
)
