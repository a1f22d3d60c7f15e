"""TensorFlow's pooling."""

from __future__ import annotations

from typing import Any

import tensorflow.compat.v1 as tf

from parity.tests.nn.conformance import Way
from parity.tests.nn.families.pooling import BEYOND
from parity.tests.nn.ways.of_tensorflow import COUNTED, explicit, three_axes


def windows(kind: str) -> Any:
    def pool(
        x: Any, *, kernel_size: Any, stride: Any, padding: str, ceil_mode: bool, count_padding: bool = False
    ) -> dict[str, Any]:
        return {"output": tf.nn.pool(x, kernel_size, kind, padding, strides=stride)}

    return pool


def stride() -> dict[str, Any]:
    """Of nine places a window of three that moves by its length makes three."""
    with tf.Graph().as_default():
        return {"stride": "kernel_size" if tf.nn.pool(tf.ones((1, 9, 1)), (3,), "MAX", "VALID").shape[1] == 3 else 1}


CANNOT = {"explicit padding": explicit, "three axes in float64": three_axes, **BEYOND}
POOL = ("tensorflow.compat.v1.nn.pool",)
WAYS = (
    Way("max_pool", POOL, windows("MAX"), CANNOT, measured=stride),
    Way("average_pool", POOL, windows("AVG"), {**CANNOT, **COUNTED}, measured=stride),
)
