"""Initializers: by which factor a draw of the unit distribution is multiplied, for kernels of one to four axes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from hypothesis import strategies as st

from parity.nn import initializers as nn
from parity.tests.nn.conformance import Array, Asked, Function

SHAPES = st.sampled_from([(3, 4), (8, 2), (3, 4, 6), (2, 3, 4, 5)])
DISTRIBUTIONS = st.sampled_from(["uniform", "normal", "truncated_normal"])
RESULTS = ("standard_deviation", "bound")


def spread_by(factor: Any, distribution: nn.Distribution) -> dict[str, Any]:
    """The spread of a distribution whose draws are ``factor`` times those between -1 and 1, or of the unit normal."""
    if distribution == "uniform":
        return {"standard_deviation": factor / math.sqrt(3), "bound": factor}
    if distribution == "normal":
        return {"standard_deviation": factor, "bound": factor * math.inf}
    return {"standard_deviation": factor * nn.TRUNCATED, "bound": factor * 2}


def plainly(spread: nn.Spread) -> tuple[Array, Array]:
    return np.asarray(spread.standard_deviation), np.asarray(spread.bound)


def variance_scaling(
    *, shape: tuple[int, ...], scale: float, mode: nn.Mode, distribution: nn.Distribution
) -> tuple[Array, Array]:
    """Spread a kernel so that the variance of what goes through it is kept."""
    return plainly(nn.variance_scaling(nn.fans(shape), scale=scale, mode=mode, distribution=distribution))


def glorot(*, shape: tuple[int, ...], distribution: nn.Distribution, gain: float) -> tuple[Array, Array]:
    """Spread a kernel by the mean of its fans; torch says Xavier."""
    return plainly(nn.glorot(nn.fans(shape), distribution=distribution, gain=gain))


def he(
    *, shape: tuple[int, ...], distribution: nn.Distribution, mode: nn.Mode, negative_slope: float
) -> tuple[Array, Array]:
    """Spread a kernel for rectifiers behind it; torch says Kaiming."""
    return plainly(nn.he(nn.fans(shape), distribution=distribution, mode=mode, negative_slope=negative_slope))


def lecun(*, shape: tuple[int, ...], distribution: nn.Distribution) -> tuple[Array, Array]:
    """Spread a kernel by its inputs alone."""
    return plainly(nn.lecun(nn.fans(shape), distribution=distribution))


def truncated_normal(*, shape: tuple[int, ...], standard_deviation: float) -> tuple[Array, Array]:
    """Cut a normal distribution at two of its standard deviations."""
    return plainly(nn.truncated_normal(standard_deviation))


def function(compute: Any, **words: Any) -> Function:
    drawn = st.fixed_dictionaries({"shape": SHAPES, **words}).map(lambda configuration: Asked(configuration, {}))
    return Function(compute, drawn, results=RESULTS, outputs=(), trained=())


FUNCTIONS = (
    function(
        variance_scaling,
        scale=st.sampled_from([0.5, 1.0, 2.0]),
        mode=st.sampled_from(["fan_in", "fan_out", "fan_avg", "fan_geo_avg"]),
        distribution=DISTRIBUTIONS,
    ),
    function(glorot, distribution=DISTRIBUTIONS, gain=st.sampled_from([1.0, 1.0, 1.5])),
    function(
        he,
        distribution=DISTRIBUTIONS,
        mode=st.sampled_from(["fan_in", "fan_in", "fan_out"]),
        negative_slope=st.sampled_from([0.0, 0.0, math.sqrt(5)]),
    ),
    function(lecun, distribution=DISTRIBUTIONS),
    function(truncated_normal, standard_deviation=st.integers(1, 40).map(lambda count: count / 50)),
)
