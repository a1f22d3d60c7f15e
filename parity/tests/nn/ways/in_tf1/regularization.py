"""TensorFlow's dropout, from a seed."""

from __future__ import annotations

from typing import Any

import tensorflow.compat.v1 as tf

from parity.tests.nn.conformance import Arrays, Asked, Way


def dropout(x: Any, mask: Any, *, rate: float, training: bool) -> dict[str, Any]:
    # A stateless draw, whatever else the graph holds: of tf.nn.dropout's two seeds one counts the graph's operations.
    return {"output": tf.nn.experimental.stateless_dropout(x, rate, seed=(0, 0))}


def mask(asked: Asked) -> Arrays:
    """What is kept of ones is kept of all."""
    with tf.Graph().as_default(), tf.Session() as session:
        ones = tf.ones(asked.arrays["x"].shape, tf.float64)
        return {"mask": session.run(dropout(ones, None, **asked.configuration)["output"]) != 0}


WAYS = (
    Way(
        "dropout",
        ("tensorflow.nn.experimental.stateless_dropout",),
        dropout,
        cannot={"evaluation": lambda asked: not asked.configuration["training"]},
        draws=mask,
    ),
)
