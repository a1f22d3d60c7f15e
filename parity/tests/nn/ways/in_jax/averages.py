"""optax's averages: a transformation, and a function of two trees."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import optax

from parity.tests.nn.conformance import Departure, Way


def ema(initial: Any, values: Any, *, decay: float, debias: bool, warm_up: bool) -> dict[str, Any]:
    transformation = optax.ema(decay, debias)
    state = transformation.init(initial)
    found = []
    for value in values:
        average, state = transformation.update(value, state)
        found.append(average)
    return {"averages": jnp.stack(found)}


def incremental(initial: Any, values: Any, *, decay: float, debias: bool, warm_up: bool) -> dict[str, Any]:
    found = [initial]
    for value in values:
        found.append(optax.incremental_update(value, found[-1], 1 - decay))
    return {"averages": jnp.stack(found[1:])}


WARM_UP = {"a warm-up of the decay": lambda asked: asked.configuration["warm_up"]}
WAYS = (
    Way(
        "exponential_average",
        ("optax.ema",),
        ema,
        WARM_UP,
        (Departure("begins with 0", "The average begins with 0, corrected or not.", like={"begins": "zero"}),),
        {"debias": "debias"},
    ),
    Way(
        "exponential_average",
        ("optax.incremental_update",),
        incremental,
        {**WARM_UP, "a beginning with 0 that is corrected": lambda asked: asked.configuration["debias"]},
        (
            Departure(
                "begins before the first step",
                "The average begins with the value that it is given, which is as a rule that before the first step.",
                like={"begins": "initial"},
            ),
        ),
    ),
)
