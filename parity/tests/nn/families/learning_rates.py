"""Learning-rate schedules: the rates of the first updates, and of some after the schedule's end."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np
from hypothesis import strategies as st

from parity.nn import learning_rates as nn
from parity.tests.nn.conformance import Array, Asked, Function

UPDATES = 14
RATES = st.integers(16, 64).map(lambda count: count / 64) | st.integers(20, 99).map(lambda count: count / 100)
"""Rates that float32 has, and others."""
NUMBERS = {
    "learning_rate": RATES,
    "start": st.sampled_from([0.0, 0.03125, 0.01]),
    "end": st.sampled_from([0.0, 0.0625, 0.001]),
    "steps": st.integers(2, 10),
    "every": st.integers(1, 5),
    "factor": st.sampled_from([0.5, 0.75, 0.9]),
}


def over_updates(schedule: Callable[..., float]) -> Callable[..., Array]:
    """The rate of each update, from the first on."""

    @wraps(schedule)
    def rates(*, updates: int, **settings: Any) -> Array:
        return np.array([schedule(step, **settings) for step in range(updates)])

    return rates


@st.composite
def asked(draw: Any, *numbers: str, updates: int = UPDATES, **words: Any) -> Asked:
    configuration = {word: draw(NUMBERS[word]) for word in numbers}
    for word, values in words.items():
        configuration[word] = draw(values(configuration) if callable(values) else values)
    return Asked({"updates": updates, **configuration}, {})


def function(schedule: Callable[..., float], drawn: Any) -> Function:
    return Function(over_updates(schedule), drawn, results=("rates",), outputs=(), trained=())


@st.composite
def pieces(draw: Any) -> Asked:
    boundaries = tuple(sorted(draw(st.sets(st.integers(1, UPDATES - 2), min_size=1, max_size=3))))
    rate = draw(RATES)
    values = tuple(rate * 0.5**place for place in range(len(boundaries) + 1))
    return Asked({"updates": UPDATES, "values": values, "boundaries": boundaries}, {})


@st.composite
def cycles(draw: Any) -> Asked:
    """As torch and optax are asked: how many updates there are, and for which share of them the rate rises."""
    shape = draw(st.sampled_from(["cosine", "linear"]))
    words = {"share": draw(st.sampled_from([0.25, 0.3, 0.5])), "shape": shape}
    divisors = {"divisor": draw(st.sampled_from([4.0, 25.0])), "end_divisor": draw(st.sampled_from([8.0, 1e4]))}
    return Asked(
        {"updates": draw(st.integers(8, 20)), "learning_rate": draw(NUMBERS["learning_rate"])} | words | divisors, {}
    )


def one_cycle(
    *,
    updates: int,
    learning_rate: float,
    share: float,
    divisor: float,
    end_divisor: float,
    shape: Any,
    later: bool = False,
    in_three: bool = False,
) -> Array:
    """In the words of torch and optax; ``later`` lets the last rate come after the last update."""
    start = learning_rate / divisor
    peak, end = (int(share * updates), updates) if later else (share * updates - 1, updates - 1)
    return over_updates(nn.one_cycle)(
        updates=updates,
        learning_rate=learning_rate,
        start=start,
        end=start / end_divisor,
        peak_step=peak,
        end_step=end,
        return_step=int(0.85 * updates) if in_three else None,
        shape=shape,
    )


FUNCTIONS = (
    function(nn.step_decay, asked("learning_rate", "every", "factor")),
    function(nn.exponential_decay, asked("learning_rate", "every", "factor")),
    function(nn.inverse_time_decay, asked("learning_rate", "every", "factor", staircase=st.booleans())),
    function(nn.piecewise_constant, pieces()),
    function(
        nn.polynomial_decay,
        asked("learning_rate", "end", "steps", power=st.sampled_from([1.0, 2.0, 0.5]), cycle=st.booleans()),
    ),
    function(nn.linear_warmup, asked("learning_rate", "start", "steps")),
    function(nn.cosine_decay, asked("learning_rate", "end", "steps", exponent=st.sampled_from([1.0, 1.0, 2.0]))),
    function(
        nn.cosine_restarts,
        asked(
            *("learning_rate", "end", "steps"),
            growth=st.sampled_from([1.0, 2.0]),
            factor=st.sampled_from([1.0, 0.5]),
        ),
    ),
    function(
        nn.warmup_cosine,
        asked("learning_rate", "start", "end", "steps", warmup_steps=st.integers(1, 5)),
    ),
    Function(one_cycle, cycles(), results=("rates",), outputs=(), trained=()),
)
