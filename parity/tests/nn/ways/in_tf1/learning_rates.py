"""TF1's schedules, functions of the global step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow.compat.v1 as tf

from parity.tests.nn.conformance import Departure, Way


def rates(updates: int, schedule: Callable[[Any], Any], dtype: Any = tf.float64) -> dict[str, Any]:
    def rate(step: Any) -> Any:
        found = schedule(step)
        return found() if callable(found) else found

    return {"rates": tf.map_fn(rate, tf.range(updates, dtype=tf.int64), fn_output_signature=dtype)}


def number(value: float) -> Any:
    """A Python float would be float32, and so would the rate."""
    return tf.constant(value, tf.float64)


def step_decay(updates: int, learning_rate: float, every: int, factor: float) -> dict[str, Any]:
    rate, decay = number(learning_rate), number(factor)
    return rates(updates, lambda step: tf.train.exponential_decay(rate, step, every, decay, staircase=True))


def exponential_decay(updates: int, learning_rate: float, every: int, factor: float) -> dict[str, Any]:
    rate, decay = number(learning_rate), number(factor)
    return rates(updates, lambda step: tf.train.exponential_decay(rate, step, every, decay))


def inverse_time_decay(
    updates: int, learning_rate: float, every: int, factor: float, staircase: bool
) -> dict[str, Any]:
    rate, decay = number(learning_rate), number(factor)
    return rates(updates, lambda step: tf.train.inverse_time_decay(rate, step, every, decay, staircase))


def piecewise_constant(updates: int, values: tuple[float, ...], boundaries: tuple[int, ...]) -> dict[str, Any]:
    between = [number(value) for value in values]
    return rates(updates, lambda step: tf.train.piecewise_constant(step, list(boundaries), between))


def polynomial_decay(
    updates: int, learning_rate: float, end: float, steps: int, power: float, cycle: bool
) -> dict[str, Any]:
    rate, last = number(learning_rate), number(end)
    return rates(updates, lambda step: tf.train.polynomial_decay(rate, step, steps, last, power, cycle))


def cosine_decay(updates: int, learning_rate: float, end: float, steps: int, exponent: float) -> dict[str, Any]:
    least = end / learning_rate
    return rates(updates, lambda step: tf.train.cosine_decay(learning_rate, step, steps, least), tf.float32)


def cosine_restarts(
    updates: int, learning_rate: float, end: float, steps: int, growth: float, factor: float
) -> dict[str, Any]:
    least = end / learning_rate
    return rates(
        updates,
        lambda step: tf.train.cosine_decay_restarts(learning_rate, step, steps, growth, factor, least),
        tf.float32,
    )


BASE = "tensorflow.compat.v1.train."
LATER = Departure(
    "a boundary has the old rate",
    "The update at a boundary still has the rate before it, so that the rate changes an update later.",
    like={"boundary_has_old": True},
)
WAYS = (
    Way("step_decay", (BASE + "exponential_decay",), step_decay, words={"staircase": "staircase"}),
    Way("exponential_decay", (BASE + "exponential_decay",), exponential_decay),
    Way("inverse_time_decay", (BASE + "inverse_time_decay",), inverse_time_decay),
    Way("piecewise_constant", (BASE + "piecewise_constant",), piecewise_constant, departures=(LATER,)),
    Way(
        "polynomial_decay",
        (BASE + "polynomial_decay",),
        polynomial_decay,
        {"cycles in float64": lambda asked: asked.configuration["cycle"]},
        words={"end_learning_rate": "end", "power": "power", "cycle": "cycle"},
    ),
    Way(
        "cosine_decay",
        (BASE + "cosine_decay",),
        cosine_decay,
        {"an exponent": lambda asked: asked.configuration["exponent"] != 1},
        words={"alpha": "end"},
        dtype="float32",
    ),
    Way(
        "cosine_restarts",
        (BASE + "cosine_decay_restarts",),
        cosine_restarts,
        words={"t_mul": "growth", "m_mul": "factor", "alpha": "end"},
        dtype="float32",
    ),
)
