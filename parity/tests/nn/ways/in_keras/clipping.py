"""Keras's clipping, which is the optimizers' own: seen in a step of 1 from 0."""

from __future__ import annotations

from typing import Any

import keras

from parity.tests.nn.conformance import Way
from parity.tests.nn.ways.in_keras import in_float64


def clipped(setting: str, limit: float, **gradients: Any) -> dict[str, Any]:
    with in_float64():
        variables = [keras.Variable(keras.ops.zeros_like(gradient)) for gradient in gradients.values()]
        optimizer = keras.optimizers.SGD(1.0, **{setting: limit})
        optimizer.apply(list(gradients.values()), variables)
    return {name: -variable.value for name, variable in zip(gradients, variables, strict=True)}


def clip_by_value(gradient: Any, *, limit: float) -> dict[str, Any]:
    return clipped("clipvalue", limit, output=gradient)


def clip_by_norm(gradient: Any, *, limit: float) -> dict[str, Any]:
    return clipped("clipnorm", limit, output=gradient)


def clip_by_global_norm(first: Any, second: Any, *, limit: float, order: float) -> dict[str, Any]:
    return clipped("global_clipnorm", limit, first=first, second=second)


OPTIMIZER = ("keras.optimizers.SGD",)
WAYS = (
    Way("clip_by_value", OPTIMIZER, clip_by_value, words={"clipvalue": "limit"}),
    Way("clip_by_norm", OPTIMIZER, clip_by_norm, words={"clipnorm": "limit"}),
    Way(
        "clip_by_global_norm",
        OPTIMIZER,
        clip_by_global_norm,
        {"another norm than the second": lambda asked: asked.configuration["order"] != 2},
        words={"global_clipnorm": "limit"},
    ),
)
