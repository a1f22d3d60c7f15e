"""optax's schedules, functions of the number of updates before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import optax

from parity.tests.nn.conformance import Departure, Way


def rates(updates: int, schedule: Callable[[Any], Any]) -> dict[str, Any]:
    return {"rates": jnp.stack([jnp.asarray(schedule(jnp.asarray(step))) for step in range(updates)])}


def step_decay(updates: int, learning_rate: float, every: int, factor: float) -> dict[str, Any]:
    return rates(updates, optax.exponential_decay(learning_rate, every, factor, staircase=True))


def exponential_decay(updates: int, learning_rate: float, every: int, factor: float) -> dict[str, Any]:
    return rates(updates, optax.exponential_decay(learning_rate, every, factor))


def piecewise_constant(updates: int, values: tuple[float, ...], boundaries: tuple[int, ...]) -> dict[str, Any]:
    return rates(updates, optax.piecewise_constant_schedule(values[0], dict.fromkeys(boundaries, 0.5)))


def polynomial_decay(
    updates: int, learning_rate: float, end: float, steps: int, power: float, cycle: bool
) -> dict[str, Any]:
    return rates(updates, optax.polynomial_schedule(learning_rate, end, power, steps))


def linear_warmup(updates: int, learning_rate: float, start: float, steps: int) -> dict[str, Any]:
    return rates(updates, optax.warmup_constant_schedule(start, learning_rate, steps))


def cosine_decay(updates: int, learning_rate: float, end: float, steps: int, exponent: float) -> dict[str, Any]:
    return rates(updates, optax.cosine_decay_schedule(learning_rate, steps, end / learning_rate, exponent))


def warmup_cosine(
    updates: int, learning_rate: float, start: float, end: float, steps: int, warmup_steps: int
) -> dict[str, Any]:
    whole = warmup_steps + steps
    return rates(updates, optax.warmup_cosine_decay_schedule(start, learning_rate, warmup_steps, whole, end))


def one_cycle(
    updates: int, learning_rate: float, share: float, divisor: float, end_divisor: float, shape: str
) -> dict[str, Any]:
    if shape == "cosine":
        return rates(updates, optax.cosine_onecycle_schedule(updates, learning_rate, share, divisor, end_divisor))
    schedule = optax.linear_onecycle_schedule(
        updates, learning_rate, share, div_factor=divisor, final_div_factor=end_divisor
    )
    return rates(updates, schedule)


LATER = Departure(
    "the last update is not the end",
    "Of n updates, the peak belongs to the whole part of share * n, counted from 0, and the last rate to update n, "
    "which "
    "there is not.",
    like={"later": True},
)
IN_THREE = Departure(
    "three straight lines",
    "After 85 % of the updates the rate is back at its start; from there it falls to the end.",
    like={"in_three": True},
)
CYCLE = {"pct_start": "share", "div_factor": "divisor", "final_div_factor": "end_divisor"}
WAYS = (
    Way(
        "one_cycle",
        ("optax.cosine_onecycle_schedule",),
        one_cycle,
        {"straight lines": lambda asked: asked.configuration["shape"] == "linear"},
        (LATER,),
        CYCLE,
    ),
    Way(
        "one_cycle",
        ("optax.linear_onecycle_schedule",),
        one_cycle,
        {"waves": lambda asked: asked.configuration["shape"] == "cosine"},
        (LATER, IN_THREE),
        CYCLE,
    ),
    Way("step_decay", ("optax.exponential_decay",), step_decay, words={"staircase": "staircase"}),
    Way("exponential_decay", ("optax.exponential_decay",), exponential_decay),
    Way("piecewise_constant", ("optax.piecewise_constant_schedule",), piecewise_constant),
    Way(
        "polynomial_decay",
        ("optax.polynomial_schedule",),
        polynomial_decay,
        {"cycles": lambda asked: asked.configuration["cycle"]},
    ),
    Way("linear_warmup", ("optax.warmup_constant_schedule",), linear_warmup),
    Way(
        "cosine_decay",
        ("optax.cosine_decay_schedule",),
        cosine_decay,
        words={"alpha": "end", "exponent": "exponent"},
    ),
    Way("warmup_cosine", ("optax.warmup_cosine_decay_schedule",), warmup_cosine, words={"end_value": "end"}),
)
