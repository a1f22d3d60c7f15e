"""TensorFlow's functions, of which normalization is built by hand. Statistics are kept by whoever calls them."""

from __future__ import annotations

from typing import Any

import tensorflow.compat.v1 as tf

from parity.tests.nn.conformance import Departure, Way


def batch_norm(
    x: Any,
    running_mean: Any,
    running_variance: Any,
    scale: Any = None,
    bias: Any = None,
    *,
    epsilon: float,
    momentum: float,
    training: bool,
) -> dict[str, Any]:
    mean, variance = tf.nn.moments(x, list(range(x.shape.ndims - 1))) if training else (running_mean, running_variance)
    return {"output": tf.nn.batch_normalization(x, mean, variance, bias, scale, epsilon)}


def fused(
    x: Any,
    running_mean: Any,
    running_variance: Any,
    scale: Any,
    bias: Any,
    *,
    epsilon: float,
    momentum: float,
    training: bool,
) -> dict[str, Any]:
    output, mean, variance = tf.nn.fused_batch_norm(
        x,
        scale,
        bias,
        running_mean,
        running_variance,
        epsilon,
        is_training=training,
        exponential_avg_factor=1 - momentum,
    )
    return {"output": output, "running_mean": mean, "running_variance": variance}


def local_response_norm(x: Any, *, radius: int, alpha: float, beta: float, bias: float) -> dict[str, Any]:
    return {"output": tf.nn.local_response_normalization(x, radius, bias, alpha, beta)}


UNBIASED = Departure(
    "unbiased running variance",
    "The running variance takes up the unbiased variance, n / (n - 1) times that which normalizes the batch.",
    like={"unbiased": True},
    when=lambda asked: asked.configuration["training"],
)
WAYS = (
    Way(
        "batch_norm",
        ("tensorflow.compat.v1.nn.batch_normalization",),
        batch_norm,
        without=("running_mean", "running_variance"),
    ),
    Way(
        "batch_norm",
        ("tensorflow.compat.v1.nn.fused_batch_norm",),
        fused,
        cannot={
            "other than two spatial axes": lambda asked: asked.arrays["x"].ndim != 4,
            "no scale": lambda asked: "scale" not in asked.arrays,
        },
        departures=(UNBIASED,),
        dtype="float32",
    ),
    Way(
        "local_response_norm",
        ("tensorflow.compat.v1.nn.local_response_normalization",),
        local_response_norm,
        cannot={"other than two spatial axes": lambda asked: asked.arrays["x"].ndim != 4},
        words={"depth_radius": "radius"},
        dtype="float32",
    ),
)
