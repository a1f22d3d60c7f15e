"""Keras's average, which the optimizer keeps, and puts into the model at the end of ``fit``."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from parity.tests.nn.conformance import Way
from parity.tests.nn.ways.in_keras import in_float64


def exponential_average(initial: Any, values: Any, *, decay: float, debias: bool, warm_up: bool) -> dict[str, Any]:
    with in_float64():
        variable = keras.Variable(initial)
        optimizer = keras.optimizers.SGD(0.0, use_ema=True, ema_momentum=decay)
        found = []
        for value in values:
            variable.assign(value)
            optimizer.apply([tf.zeros_like(value)], [variable])
            optimizer.finalize_variable_values([variable])
            found.append(tf.identity(variable.value))
    return {"averages": tf.stack(found)}


WAYS = (
    Way(
        "exponential_average",
        ("keras.optimizers.SGD",),
        exponential_average,
        {
            "a beginning with 0 that is corrected": lambda asked: asked.configuration["debias"],
            "a warm-up of the decay": lambda asked: asked.configuration["warm_up"],
        },
        words={"ema_momentum": "decay"},
    ),
)
