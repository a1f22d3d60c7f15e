"""TF1's initializers. Their normal distributions are cut, unless they are called untruncated."""

from __future__ import annotations

from typing import Any

import tensorflow.compat.v1 as tf

from parity.tests.nn.conformance import Way
from parity.tests.nn.families.initializers import spread_by

SEED = 1


def spread(shape: tuple[int, ...], distribution: str, initializer: Any) -> dict[str, Any]:
    """How much larger draws are than those of the unit distribution from the same seeds."""
    tf.set_random_seed(SEED)
    unit = {
        "uniform": lambda: tf.random_uniform(shape, -1.0, 1.0, tf.float64, SEED),
        "normal": lambda: tf.random_normal(shape, dtype=tf.float64, seed=SEED),
        "truncated_normal": lambda: tf.truncated_normal(shape, dtype=tf.float64, seed=SEED),
    }[distribution]()
    drawn = initializer(shape, dtype=tf.float64)
    return spread_by(tf.reduce_max(tf.abs(drawn)) / tf.reduce_max(tf.abs(unit)), distribution)


def variance_scaling(shape: tuple[int, ...], scale: float, mode: str, distribution: str) -> dict[str, Any]:
    own = {"normal": "untruncated_normal"}.get(distribution, distribution)
    return spread(shape, distribution, tf.variance_scaling_initializer(scale, mode, own, seed=SEED))


def glorot(shape: tuple[int, ...], distribution: str, gain: float) -> dict[str, Any]:
    make = {"uniform": tf.glorot_uniform_initializer, "truncated_normal": tf.glorot_normal_initializer}
    return spread(shape, distribution, make[distribution](seed=SEED))


def he(shape: tuple[int, ...], distribution: str, mode: str, negative_slope: float) -> dict[str, Any]:
    make = {"uniform": tf.initializers.he_uniform, "truncated_normal": tf.initializers.he_normal}
    return spread(shape, distribution, make[distribution](seed=SEED))


def lecun(shape: tuple[int, ...], distribution: str) -> dict[str, Any]:
    make = {"uniform": tf.initializers.lecun_uniform, "truncated_normal": tf.initializers.lecun_normal}
    return spread(shape, distribution, make[distribution](seed=SEED))


def truncated_normal(shape: tuple[int, ...], standard_deviation: float) -> dict[str, Any]:
    return spread(shape, "truncated_normal", tf.truncated_normal_initializer(stddev=standard_deviation, seed=SEED))


UNCUT = {"a normal distribution that is not cut": lambda asked: asked.configuration["distribution"] == "normal"}
BASE = "tensorflow.compat.v1."
WAYS = (
    Way(
        "variance_scaling",
        (BASE + "variance_scaling_initializer",),
        variance_scaling,
        {"the root of both fans' product": lambda asked: asked.configuration["mode"] == "fan_geo_avg"},
    ),
    Way(
        "glorot",
        (BASE + "glorot_uniform_initializer", BASE + "glorot_normal_initializer"),
        glorot,
        {**UNCUT, "a gain": lambda asked: asked.configuration["gain"] != 1},
    ),
    Way(
        "he",
        (BASE + "initializers.he_uniform", BASE + "initializers.he_normal"),
        he,
        {
            **UNCUT,
            "the fan of the outputs": lambda asked: asked.configuration["mode"] != "fan_in",
            "a slope": lambda asked: asked.configuration["negative_slope"] != 0,
        },
    ),
    Way("lecun", (BASE + "initializers.lecun_uniform", BASE + "initializers.lecun_normal"), lecun, UNCUT),
    Way(
        "truncated_normal",
        (BASE + "truncated_normal_initializer",),
        truncated_normal,
        words={"stddev": "standard_deviation"},
    ),
)
