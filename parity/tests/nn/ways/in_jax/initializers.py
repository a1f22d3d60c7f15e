"""JAX's initializers, which flax hands out as well. Their ``normal`` distributions of a fan are cut."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.nn import initializers

from parity.tests.nn.conformance import Way
from parity.tests.nn.families.initializers import spread_by


def spread(shape: tuple[int, ...], distribution: str, initializer: Any) -> dict[str, Any]:
    """How much larger draws are than those of the unit distribution from the same key."""
    key = jax.random.key(0)
    unit = {
        "uniform": lambda: jax.random.uniform(key, shape, jnp.float64, -1),
        "normal": lambda: jax.random.normal(key, shape, jnp.float64),
        "truncated_normal": lambda: jax.random.truncated_normal(key, -2, 2, shape, jnp.float64),
    }[distribution]()
    drawn = initializer(key, shape, jnp.float64)
    return spread_by(jnp.abs(drawn).max() / jnp.abs(unit).max(), distribution)


def variance_scaling(shape: tuple[int, ...], scale: float, mode: str, distribution: str) -> dict[str, Any]:
    return spread(shape, distribution, initializers.variance_scaling(scale, mode, distribution))


def glorot(shape: tuple[int, ...], distribution: str, gain: float) -> dict[str, Any]:
    make = {"uniform": initializers.glorot_uniform, "truncated_normal": initializers.glorot_normal}
    return spread(shape, distribution, make[distribution]())


def he(shape: tuple[int, ...], distribution: str, mode: str, negative_slope: float) -> dict[str, Any]:
    make = {"uniform": initializers.he_uniform, "truncated_normal": initializers.he_normal}
    return spread(shape, distribution, make[distribution]())


def lecun(shape: tuple[int, ...], distribution: str) -> dict[str, Any]:
    make = {"uniform": initializers.lecun_uniform, "truncated_normal": initializers.lecun_normal}
    return spread(shape, distribution, make[distribution]())


def truncated_normal(shape: tuple[int, ...], standard_deviation: float) -> dict[str, Any]:
    return spread(shape, "truncated_normal", initializers.truncated_normal(standard_deviation))


UNCUT = {"a normal distribution that is not cut": lambda asked: asked.configuration["distribution"] == "normal"}
BASE = "jax.nn.initializers."
WAYS = (
    Way("variance_scaling", (BASE + "variance_scaling",), variance_scaling),
    Way(
        "glorot",
        (BASE + "glorot_uniform", BASE + "glorot_normal"),
        glorot,
        {**UNCUT, "a gain": lambda asked: asked.configuration["gain"] != 1},
    ),
    Way(
        "he",
        (BASE + "he_uniform", BASE + "he_normal"),
        he,
        {
            **UNCUT,
            "the fan of the outputs": lambda asked: asked.configuration["mode"] != "fan_in",
            "a slope": lambda asked: asked.configuration["negative_slope"] != 0,
        },
    ),
    Way("lecun", (BASE + "lecun_uniform", BASE + "lecun_normal"), lecun, UNCUT),
    Way("truncated_normal", (BASE + "truncated_normal",), truncated_normal, words={"stddev": "standard_deviation"}),
)
