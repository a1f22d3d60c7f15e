"""Keras's normalization layers. Momentum is the share of the old statistics."""

from __future__ import annotations

from typing import Any

from keras import layers

from parity.tests.nn.conformance import Way
from parity.tests.nn.ways.in_keras import applied, there


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
    has = scale is not None
    layer = layers.BatchNormalization(epsilon=epsilon, momentum=momentum, scale=has, center=has, dtype=x.dtype)
    weights = there(scale, bias, running_mean, running_variance)
    output, (mean, variance) = applied(layer, x, *weights, training=training)
    return {"output": output, "running_mean": mean, "running_variance": variance}


def layer_norm(x: Any, scale: Any = None, bias: Any = None, *, epsilon: float, axes: int) -> dict[str, Any]:
    has, last = scale is not None, list(range(-axes, 0))
    layer = layers.LayerNormalization(last, epsilon=epsilon, scale=has, center=has, dtype=x.dtype)
    return {"output": applied(layer, x, *there(scale, bias))[0]}


def group_norm(x: Any, scale: Any = None, bias: Any = None, *, epsilon: float, groups: int) -> dict[str, Any]:
    has = scale is not None
    layer = layers.GroupNormalization(groups, epsilon=epsilon, scale=has, center=has, dtype=x.dtype)
    return {"output": applied(layer, x, *there(scale, bias))[0]}


def instance_norm(x: Any, scale: Any = None, bias: Any = None, *, epsilon: float) -> dict[str, Any]:
    return group_norm(x, scale, bias, epsilon=epsilon, groups=-1)


def rms_norm(x: Any, scale: Any, *, epsilon: float, axes: int) -> dict[str, Any]:
    layer = layers.RMSNormalization(list(range(-axes, 0)), epsilon=epsilon, dtype=x.dtype)
    return {"output": applied(layer, x, scale)[0]}


WAYS = (
    Way("batch_norm", ("keras.layers.BatchNormalization",), batch_norm),
    Way("layer_norm", ("keras.layers.LayerNormalization",), layer_norm),
    Way("group_norm", ("keras.layers.GroupNormalization",), group_norm),
    Way("instance_norm", ("keras.layers.GroupNormalization",), instance_norm),
    Way(
        "rms_norm",
        ("keras.layers.RMSNormalization",),
        rms_norm,
        cannot={"no scale": lambda asked: "scale" not in asked.arrays},
    ),
)
