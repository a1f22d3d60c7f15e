"""Optimizers: several steps with random gradients, and what is kept between them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np
from hypothesis import strategies as st

from parity.nn import optimizers as nn
from parity.nn import rarer_optimizers as rarer
from parity.tests.nn.conformance import Array, Asked, Function

STEPS = 5
NUMBERS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "learning_rate": ((0.125, 0.5), (0.1, 0.01)),
    "momentum": ((0.5, 0.875), (0.9, 0.99)),
    "beta1": ((0.5, 0.875), (0.9, 0.95)),
    "beta2": ((0.75, 0.9375), (0.99, 0.999)),
    "rho": ((0.5, 0.875), (0.9, 0.95)),
    "epsilon": ((2.0**-20, 0.125), (1e-8, 1e-3)),
    "weight_decay": ((0.25, 0.0), (0.1, 0.0)),
}
"""What is drawn for a word: numbers that float32 has, and others. A framework that keeps its constants in float32 is
held to all digits with the first, and departs with the second alone."""


def in_float32(asked: Asked) -> bool:
    """Whether float32 has every number of a configuration."""
    values = [
        one for value in asked.configuration.values() for one in (value if isinstance(value, tuple) else (value,))
    ]
    return all(float(np.float32(value)) == value for value in values if isinstance(value, float))


@st.composite
def asked(
    draw: Any,
    *numbers: str,
    steps: int = STEPS,
    shapes: tuple[tuple[int, ...], ...] = ((3,), (2, 3)),
    **words: Any,
) -> Asked:
    """A parameter, a gradient and a learning rate for each step, and the configuration.

    ``numbers`` are drawn as ``NUMBERS`` says; a function of the configuration so far gives a strategy for a word.
    """
    others = draw(st.booleans())
    rate, *settings = (draw(st.sampled_from(NUMBERS[name][others])) for name in ("learning_rate", *numbers))
    factors = draw(st.sampled_from([(1,) * steps, (1, 1, 0.5, 0.5, *(2,) * (steps - 4))]))
    rates = tuple(rate * factor for factor in factors)
    configuration: dict[str, Any] = {"learning_rates": rates, **dict(zip(numbers, settings, strict=True))}
    for word, values in words.items():
        configuration[word] = draw(values(configuration) if callable(values) else values)
    shape = draw(st.sampled_from(shapes))
    random = np.random.default_rng(draw(st.integers(0, 99)))
    size = draw(st.sampled_from([1.0, 1e-3]))  # with the small one epsilon is seen
    return Asked(
        configuration,
        {"parameter": random.normal(0, 1, shape), "gradients": random.normal(0, size, (steps, *shape))},
    )


def over_steps(rule: Callable[..., tuple[Array, nn.Slots]], *slots: str) -> Callable[..., tuple[Array, ...]]:
    """The parameter after each step, and each slot after the last; 0 where there is none."""
    counts = "step" in inspect.signature(rule).parameters

    @wraps(rule)
    def path(parameter: Array, gradients: Array, *, learning_rates: tuple[float, ...], **settings: Any) -> Any:
        kept: nn.Slots = {}
        found = []
        for step, (gradient, rate) in enumerate(zip(gradients, learning_rates, strict=True), 1):
            numbered = {"step": step} if counts else {}
            parameter, kept = rule(parameter, gradient, kept, learning_rate=rate, **numbered, **settings)
            found.append(parameter)
        return np.stack(found), *(kept.get(name, np.zeros_like(parameter)) for name in slots)

    return path


def function(rule: Callable[..., Any], drawn: Any, *slots: str) -> Function:
    return Function(over_steps(rule, *slots), drawn, results=("parameters", *slots), outputs=(), trained=())


def if_moving(values: Any, otherwise: Any) -> Callable[[dict[str, Any]], Any]:
    """A word that says nothing without momentum."""
    return lambda configuration: values if configuration["momentum"] else st.just(otherwise)


MOMENTUM = st.sampled_from([0.0, 0.875, 0.9])
MOMENTS = ("first_moment", "second_moment")
FUNCTIONS = (
    function(
        nn.sgd,
        asked(
            "weight_decay",
            momentum=MOMENTUM,
            nesterov=if_moving(st.booleans(), False),
            dampening=lambda some: st.sampled_from([0.0, 0.5] if some["momentum"] and not some["nesterov"] else [0.0]),
        ),
        "momentum",
    ),
    function(
        nn.adam,
        asked("beta1", "beta2", "epsilon", "weight_decay", epsilon_root=st.sampled_from([0.0, 0.0, 0.125])),
        *MOMENTS,
    ),
    function(nn.adamw, asked("beta1", "beta2", "epsilon", "weight_decay"), *MOMENTS),
    function(nn.amsgrad, asked("beta1", "beta2", "epsilon", "weight_decay"), *MOMENTS, "largest_second_moment"),
    function(
        nn.nadam,
        asked("beta1", "beta2", "epsilon", "weight_decay", momentum_decay=st.sampled_from([0.004, 0.25])),
        *MOMENTS,
    ),
    function(nn.adamax, asked("beta1", "beta2", "epsilon", "weight_decay"), "first_moment", "infinity_norm"),
    function(
        nn.rmsprop,
        asked(
            *("rho", "epsilon", "weight_decay"),
            centered=st.booleans(),
            momentum=MOMENTUM,
            nesterov=if_moving(st.booleans(), False),
        ),
        *("mean_square", "mean_gradient", "momentum"),
    ),
    function(
        nn.adagrad,
        asked(
            *("epsilon", "weight_decay"),
            initial_sum_of_squares=st.sampled_from([0.125, 0.1]),
            learning_rate_decay=st.sampled_from([0.0, 0.0, 0.25]),
        ),
        "sum_of_squares",
    ),
    function(nn.adadelta, asked("rho", "epsilon", "weight_decay"), "mean_square", "mean_square_update"),
    function(nn.lion, asked("beta1", "beta2", "weight_decay"), "first_moment"),
    function(nn.lamb, asked("beta1", "beta2", "epsilon", "weight_decay"), *MOMENTS),
    function(
        nn.adafactor,
        asked(
            "weight_decay",
            decay_rate=st.sampled_from([0.75, 0.8]),
            epsilon=st.sampled_from([2.0**-20, 1e-30]),
            epsilon_scale=st.sampled_from([2.0**-10, 0.001]),
            clip_threshold=st.sampled_from([1.0, 2.0]),
        ),
    ),
    function(
        rarer.radam,
        asked("beta1", "epsilon", "weight_decay", steps=8, beta2=st.sampled_from([0.9375, 0.999, 0.9])),
        *MOMENTS,
    ),
    function(
        rarer.rprop,
        asked(
            eta_minus=st.sampled_from([0.5, 0.4]),
            eta_plus=st.sampled_from([1.25, 1.2]),
            least_step=st.sampled_from([2.0**-20, 0.0625, 0.2]),
            largest_step=st.sampled_from([0.375, 50.0]),
        ),
        "step_size",
    ),
    function(
        rarer.ftrl,
        asked(
            learning_rate_power=st.sampled_from([-0.5, -0.5, -0.75, 0.0]),
            initial_sum_of_squares=st.sampled_from([0.125, 0.1]),
            l1=st.sampled_from([0.0, 0.5, 0.1]),
            l2=st.sampled_from([0.0, 0.25]),
            l2_shrinkage=st.sampled_from([0.0, 0.25]),
            beta=st.sampled_from([0.0, 1.0]),
        ),
        *("sum_of_squares", "linear"),
    ),
    function(
        rarer.muon,
        asked(
            *("momentum", "epsilon", "weight_decay"),
            shapes=((2, 3), (4, 2)),
            newton_schulz_steps=st.integers(1, 5),
            nesterov=st.booleans(),
            scale=st.sampled_from(["width", "rms"]),
        ),
        "momentum",
    ),
)
