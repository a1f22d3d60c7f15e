"""Keras's initializers. Their normal distributions are cut, unless they are called untruncated."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from keras import initializers, random

from parity.dtypes import unit
from parity.tests.nn.conformance import Departure, Way
from parity.tests.nn.families.initializers import spread_by

SEED = 0


def spread(shape: tuple[int, ...], distribution: str, initializer: Any) -> dict[str, Any]:
    """How much larger draws are than those of the unit distribution from the same seed."""
    one = {
        "uniform": lambda: random.uniform(shape, -1.0, 1.0, "float64", seed=SEED),
        "normal": lambda: random.normal(shape, dtype="float64", seed=SEED),
        "truncated_normal": lambda: random.truncated_normal(shape, dtype="float64", seed=SEED),
    }[distribution]()
    drawn = initializer(shape, dtype="float64")
    return spread_by(tf.reduce_max(tf.abs(drawn)) / tf.reduce_max(tf.abs(one)), distribution)


def variance_scaling(shape: tuple[int, ...], scale: float, mode: str, distribution: str) -> dict[str, Any]:
    own = {"normal": "untruncated_normal"}.get(distribution, distribution)
    return spread(shape, distribution, initializers.VarianceScaling(scale, mode, own, seed=SEED))


def glorot(shape: tuple[int, ...], distribution: str, gain: float) -> dict[str, Any]:
    kind = {"uniform": initializers.GlorotUniform, "truncated_normal": initializers.GlorotNormal}[distribution]
    return spread(shape, distribution, kind(seed=SEED))


def he(shape: tuple[int, ...], distribution: str, mode: str, negative_slope: float) -> dict[str, Any]:
    kind = {"uniform": initializers.HeUniform, "truncated_normal": initializers.HeNormal}[distribution]
    return spread(shape, distribution, kind(seed=SEED))


def lecun(shape: tuple[int, ...], distribution: str) -> dict[str, Any]:
    kind = {"uniform": initializers.LecunUniform, "truncated_normal": initializers.LecunNormal}[distribution]
    return spread(shape, distribution, kind(seed=SEED))


def truncated_normal(shape: tuple[int, ...], standard_deviation: float) -> dict[str, Any]:
    kind = initializers.TruncatedNormal(stddev=standard_deviation, seed=SEED)
    return spread(shape, "truncated_normal", kind)


UNCUT = {"a normal distribution that is not cut": lambda asked: asked.configuration["distribution"] == "normal"}
FLOAT32 = Departure(
    "bound through float32",
    "The bound of a uniform distribution becomes float32 before draws of float64 are multiplied by it.",
    size=unit("float32"),
    when=lambda asked: asked.configuration["distribution"] == "uniform",
)
BASE = "keras.initializers."
WAYS = (
    Way(
        "variance_scaling",
        (BASE + "VarianceScaling",),
        variance_scaling,
        {"the root of both fans' product": lambda asked: asked.configuration["mode"] == "fan_geo_avg"},
        (FLOAT32,),
    ),
    Way(
        "glorot",
        (BASE + "GlorotUniform", BASE + "GlorotNormal"),
        glorot,
        {**UNCUT, "a gain": lambda asked: asked.configuration["gain"] != 1},
        (FLOAT32,),
    ),
    Way(
        "he",
        (BASE + "HeUniform", BASE + "HeNormal"),
        he,
        {
            **UNCUT,
            "the fan of the outputs": lambda asked: asked.configuration["mode"] != "fan_in",
            "a slope": lambda asked: asked.configuration["negative_slope"] != 0,
        },
        (FLOAT32,),
    ),
    Way("lecun", (BASE + "LecunUniform", BASE + "LecunNormal"), lecun, UNCUT, (FLOAT32,)),
    Way("truncated_normal", (BASE + "TruncatedNormal",), truncated_normal, words={"stddev": "standard_deviation"}),
)
