"""TensorFlow's pooling."""

from __future__ import annotations

from typing import Any

import tensorflow.compat.v1 as tf

from parity.tests.nn.conformance import Asked, Way
from parity.tests.nn.ways.in_tf1.convolution import explicit


def windows(kind: str) -> Any:
    def pool(x: Any, *, kernel_size: Any, stride: Any, padding: str, count_padding: bool = False) -> dict[str, Any]:
        return {"output": tf.nn.pool(x, kernel_size, kind, padding, strides=stride)}

    return pool


def three(asked: Asked) -> bool:
    return asked.arrays["x"].ndim == 5


CANNOT = {"explicit padding": explicit, "three axes in float64": three}
COUNTED = {"padding that counts": lambda asked: asked.configuration["count_padding"]}
POOL = ("tensorflow.compat.v1.nn.pool",)
WAYS = (
    Way("max_pool", POOL, windows("MAX"), CANNOT),
    Way("average_pool", POOL, windows("AVG"), {**CANNOT, **COUNTED}),
)
