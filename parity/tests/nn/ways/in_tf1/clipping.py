"""TensorFlow's functions of gradients."""

from __future__ import annotations

from typing import Any

import tensorflow.compat.v1 as tf

from parity.tests.nn.conformance import Way


def clip_by_value(gradient: Any, *, limit: float) -> dict[str, Any]:
    return {"output": tf.clip_by_value(gradient, -limit, limit)}


def clip_by_norm(gradient: Any, *, limit: float) -> dict[str, Any]:
    return {"output": tf.clip_by_norm(gradient, limit)}


def clip_by_global_norm(first: Any, second: Any, *, limit: float, order: float) -> dict[str, Any]:
    (first, second), _ = tf.clip_by_global_norm([first, second], limit)
    return {"first": first, "second": second}


BASE = "tensorflow.compat.v1."
WAYS = (
    Way("clip_by_value", (BASE + "clip_by_value",), clip_by_value),
    Way("clip_by_norm", (BASE + "clip_by_norm",), clip_by_norm),
    Way(
        "clip_by_global_norm",
        (BASE + "clip_by_global_norm",),
        clip_by_global_norm,
        {"another norm than the second": lambda asked: asked.configuration["order"] != 2},
    ),
)
