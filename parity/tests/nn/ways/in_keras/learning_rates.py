"""Keras's schedules, called with the number of updates before. From Python floats they compute in float32."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf
from keras.optimizers import schedules

from parity.tests.nn.conformance import Departure, Way


def rates(updates: int, schedule: Callable[[Any], Any]) -> dict[str, Any]:
    return {"rates": tf.stack([schedule(tf.constant(step, tf.int64)) for step in range(updates)])}


def step_decay(updates: int, learning_rate: float, every: int, factor: float) -> dict[str, Any]:
    return rates(updates, schedules.ExponentialDecay(learning_rate, every, factor, staircase=True))


def exponential_decay(updates: int, learning_rate: float, every: int, factor: float) -> dict[str, Any]:
    return rates(updates, schedules.ExponentialDecay(learning_rate, every, factor))


def inverse_time_decay(
    updates: int, learning_rate: float, every: int, factor: float, staircase: bool
) -> dict[str, Any]:
    return rates(updates, schedules.InverseTimeDecay(learning_rate, every, factor, staircase))


def piecewise_constant(updates: int, values: tuple[float, ...], boundaries: tuple[int, ...]) -> dict[str, Any]:
    return rates(updates, schedules.PiecewiseConstantDecay(boundaries, values))


def polynomial_decay(
    updates: int, learning_rate: float, end: float, steps: int, power: float, cycle: bool
) -> dict[str, Any]:
    return rates(updates, schedules.PolynomialDecay(learning_rate, steps, end, power, cycle))


def cosine_decay(updates: int, learning_rate: float, end: float, steps: int, exponent: float) -> dict[str, Any]:
    return rates(updates, schedules.CosineDecay(learning_rate, steps, end / learning_rate))


def cosine_restarts(
    updates: int, learning_rate: float, end: float, steps: int, growth: float, factor: float
) -> dict[str, Any]:
    return rates(updates, schedules.CosineDecayRestarts(learning_rate, steps, growth, factor, end / learning_rate))


def warmup_cosine(
    updates: int, learning_rate: float, start: float, end: float, steps: int, warmup_steps: int
) -> dict[str, Any]:
    return rates(
        updates,
        schedules.CosineDecay(
            start, steps, end / learning_rate, warmup_target=learning_rate, warmup_steps=warmup_steps
        ),
    )


BASE = "keras.optimizers.schedules."
LATER = Departure(
    "a boundary has the old rate",
    "The update at a boundary still has the rate before it, so that the rate changes an update later.",
    like={"boundary_has_old": True},
)
WAYS = (
    Way("step_decay", (BASE + "ExponentialDecay",), step_decay, words={"staircase": "staircase"}, dtype="float32"),
    Way("exponential_decay", (BASE + "ExponentialDecay",), exponential_decay, dtype="float32"),
    Way("inverse_time_decay", (BASE + "InverseTimeDecay",), inverse_time_decay, dtype="float32"),
    Way(
        "piecewise_constant",
        (BASE + "PiecewiseConstantDecay",),
        piecewise_constant,
        departures=(LATER,),
        dtype="float32",
    ),
    Way(
        "polynomial_decay",
        (BASE + "PolynomialDecay",),
        polynomial_decay,
        words={"end_learning_rate": "end", "power": "power", "cycle": "cycle"},
        dtype="float32",
    ),
    Way(
        "cosine_decay",
        (BASE + "CosineDecay",),
        cosine_decay,
        {"an exponent": lambda asked: asked.configuration["exponent"] != 1},
        words={"alpha": "end"},
        dtype="float32",
    ),
    Way(
        "cosine_restarts",
        (BASE + "CosineDecayRestarts",),
        cosine_restarts,
        words={"t_mul": "growth", "m_mul": "factor", "alpha": "end"},
        dtype="float32",
    ),
    Way(
        "warmup_cosine",
        (BASE + "CosineDecay",),
        warmup_cosine,
        words={"alpha": "end", "warmup_steps": "warmup_steps"},
        dtype="float32",
    ),
)
