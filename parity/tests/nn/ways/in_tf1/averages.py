"""TF1's average, which keeps a shadow of each variable."""

from __future__ import annotations

from typing import Any

import tensorflow.compat.v1 as tf

from parity.dtypes import unit
from parity.tests.nn.conformance import Departure, Way


def exponential_average(initial: Any, values: Any, *, decay: float, debias: bool, warm_up: bool) -> dict[str, Any]:
    variable = tf.Variable(tf.zeros(initial.shape, initial.dtype), use_resource=True)
    count = tf.Variable(0, dtype=tf.int64, use_resource=True)
    average = tf.train.ExponentialMovingAverage(decay, count if warm_up else None)
    # The shadow is a copy of the variable's first value, which here comes from the session's caller.
    average.apply([variable])
    shadow = average.average(variable)
    done: Any = shadow.assign(initial)
    found = []
    for step in range(values.shape[0]):
        with (
            tf.control_dependencies([done]),
            tf.control_dependencies([variable.assign(values[step]), count.assign(step)]),
        ):
            applied = average.apply([variable])
        with tf.control_dependencies([applied]):
            done = shadow.read_value()
            found.append(done)
    return {"averages": tf.stack(found)}


WAYS = (
    Way(
        "exponential_average",
        ("tensorflow.compat.v1.train.ExponentialMovingAverage",),
        exponential_average,
        {"a beginning with 0 that is corrected": lambda asked: asked.configuration["debias"]},
        (
            Departure(
                "begins before the first step",
                "The average begins with the variable's value before the first step.",
                like={"begins": "initial"},
            ),
            Departure(
                "decay in float32",
                "The decay, warmed up or not, is a float32, and so is 1 less it.",
                size=16 * unit("float32"),  # a rounding of the decay at each of the steps, and of 1 less it
            ),
        ),
    ),
)
