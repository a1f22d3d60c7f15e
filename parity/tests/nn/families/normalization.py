"""Normalization: random shapes and configurations."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from parity.nn import normalization as nn
from parity.tests.nn.conformance import Array, Arrays, Asked, Function

EPSILONS = st.sampled_from([1e-5, 0.1])
FAR = 3000.0
"""A mean this many deviations from zero shows how a variance is computed."""


@st.composite
def asked(draw: Any, least: int, most: int, **words: Any) -> Asked:
    """An input of ``least`` to ``most`` axes, channels last, and what normalizes it.

    One shape for each number of axes: a compiling framework compiles for each.
    """
    rank = draw(st.integers(least, most))
    shape = (3, *(3, 2, 2)[: rank - 2], 4)
    random = np.random.default_rng(draw(st.integers(0, 99)))
    x = random.normal(draw(st.sampled_from([0.0, FAR])), 1, shape)
    configuration = {word: draw(value) for word, value in words.items()}
    parameters = shape[-configuration.get("axes", 1) :]
    arrays: Arrays = {"x": x}
    if draw(st.booleans()):
        arrays["scale"] = random.normal(1, 0.5, parameters)
        if "shifted" not in configuration:
            arrays["bias"] = random.normal(0, 0.5, parameters)
    configuration.pop("shifted", None)
    if "momentum" in configuration:
        arrays["running_mean"] = random.normal(0, 1, shape[-1])
        arrays["running_variance"] = random.uniform(0.5, 2, shape[-1])
    return Asked(configuration, arrays)


@st.composite
def asked_locally(draw: Any) -> Asked:
    shape = (2, *(3, 2)[: draw(st.integers(1, 2))], 6)
    x = np.random.default_rng(draw(st.integers(0, 99))).normal(0, 2, shape)
    words = {"radius": (1, 2), "alpha": (1e-4, 0.5), "beta": (0.5, 0.75), "bias": (1.0, 2.0)}
    return Asked({word: draw(st.sampled_from(values)) for word, values in words.items()}, {"x": x})


def batch_norm_backward(d_results: Arrays, arrays: Arrays, results: Arrays, configuration: Any) -> Arrays:
    passed = {word: value for word, value in configuration.items() if word not in ("momentum", "unbiased")}
    given = {name: value for name, value in arrays.items() if name != "bias"}
    return kept(arrays, nn.batch_norm_backward(d_results["output"], **given, **passed))


def layer_norm_backward(d_results: Arrays, arrays: Arrays, results: Arrays, configuration: Any) -> Arrays:
    given = {name: value for name, value in arrays.items() if name != "bias"}
    return kept(arrays, nn.layer_norm_backward(d_results["output"], **given, **configuration))


def kept(arrays: Arrays, gradients: tuple[Array, ...]) -> Arrays:
    """The gradients of the parameters that are there."""
    return {name: value for name, value in zip(TRAINED, gradients, strict=True) if name in arrays}


TRAINED = ("x", "scale", "bias")
FUNCTIONS = (
    Function(
        nn.batch_norm,
        asked(2, 5, epsilon=EPSILONS, momentum=st.sampled_from([0.5, 0.99]), training=st.booleans()),
        results=("output", "running_mean", "running_variance"),
        trained=TRAINED,
        backward=batch_norm_backward,
    ),
    Function(
        nn.layer_norm,
        asked(2, 4, epsilon=EPSILONS, axes=st.integers(1, 2)),
        trained=TRAINED,
        backward=layer_norm_backward,
    ),
    Function(nn.group_norm, asked(2, 4, epsilon=EPSILONS, groups=st.sampled_from([1, 2])), trained=TRAINED),
    Function(nn.instance_norm, asked(3, 5, epsilon=EPSILONS), trained=TRAINED),
    Function(
        nn.rms_norm, asked(2, 4, epsilon=EPSILONS, axes=st.integers(1, 2), shifted=st.just(False)), trained=TRAINED[:2]
    ),
    Function(nn.local_response_norm, asked_locally()),
)
