"""Keras's pooling, on TensorFlow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import tensorflow as tf
from keras import layers

from parity.tests.nn.conformance import Asked, Way
from parity.tests.nn.families.pooling import BEYOND
from parity.tests.nn.ways.in_keras.convolution import named
from parity.tests.nn.ways.of_tensorflow import COUNTED, explicit, three_axes


def windows(kind: str) -> Any:
    def pool(
        x: Any, *, kernel_size: Any, stride: Any, padding: str, ceil_mode: bool, count_padding: bool = False
    ) -> dict[str, Any]:
        layer = getattr(layers, f"{kind}{len(x.shape) - 2}D")(kernel_size, stride, padding.lower(), dtype=x.dtype)
        return {"output": layer(x)}

    return pool


def places(kind: str) -> Any:
    return lambda x: {"output": getattr(layers, f"{kind}{len(x.shape) - 2}D")(dtype=x.dtype)(x)}


def bins(kind: str) -> Any:
    return lambda x, output_size: {
        "output": getattr(layers, f"{kind}{len(x.shape) - 2}D")(output_size, dtype=x.dtype)(x)
    }


def fewer(asked: Asked) -> bool:
    return not three_axes(asked)


def both(function: str, kind: str, pool: Any, cannot: Mapping[str, Callable[[Asked], bool]], **way: Any) -> list[Way]:
    """TensorFlow pools over three axes in float32 alone."""
    kind = kind + "{}D"
    return [
        Way(function, named(kind, 1, 2), pool, {**cannot, "three axes in float64": three_axes}, **way),
        Way(function, named(kind, 3), pool, {**cannot, "fewer axes": fewer}, dtype="float32", **way),
    ]


def stride(kind: str) -> dict[str, Any]:
    """Of nine places a window of three that moves by its length makes three."""
    return {"stride": "kernel_size" if getattr(layers, f"{kind}1D")(3)(tf.ones((1, 9, 1))).shape[1] == 3 else 1}


EXPLICIT = {"explicit padding": explicit, **BEYOND}
# A window longer than the input gives nothing, and the gradient of nothing, MaxPoolGrad's, is not set to zeros.
ONE = {
    "one bin along an axis (its gradient is memory that nothing was written to)": lambda asked: (
        1 in asked.configuration["output_size"]
    )
}
WAYS = (
    *both("max_pool", "MaxPooling", windows("MaxPooling"), EXPLICIT, measured=partial(stride, "MaxPooling")),
    *both(
        "average_pool",
        "AveragePooling",
        windows("AveragePooling"),
        {**EXPLICIT, **COUNTED},
        measured=partial(stride, "AveragePooling"),
    ),
    Way("global_average_pool", named("GlobalAveragePooling{}D"), places("GlobalAveragePooling")),
    Way("global_max_pool", named("GlobalMaxPooling{}D"), places("GlobalMaxPooling")),
    *both("adaptive_average_pool", "AdaptiveAveragePooling", bins("AdaptiveAveragePooling"), {}),
    *both("adaptive_max_pool", "AdaptiveMaxPooling", bins("AdaptiveMaxPooling"), ONE),
)
