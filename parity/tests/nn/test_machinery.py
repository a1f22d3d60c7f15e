"""The check of what frameworks compute sees what is wrong, and what is said without need."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from parity.nn import activations as nn
from parity.tests.nn.conformance import Arrays, Departure, Way, calling, families, hold

TANH = next(function for function in families()["activations"] if function.name == "tanh")


def evaluation(off: float = 0.0, gradient_off: float = 0.0) -> Callable[..., tuple[Arrays, Arrays]]:
    """A framework whose derivative is NumPy's, and whose results are off by a share of themselves."""

    def evaluate(
        call: Callable[..., Mapping[str, Any]],
        arrays: Arrays,
        configuration: Mapping[str, Any],
        trained: list[str],
        d_results: Arrays,
    ) -> tuple[Arrays, Arrays]:
        output = call(**arrays, **configuration)["output"]
        gradient = nn.tanh_backward(d_results["output"], output)
        return {"output": output * (1 + off)}, {"x": gradient * (1 + gradient_off)}

    return evaluate


def way(**said: Any) -> Way:
    return calling("tanh", "numpy.tanh", **said)


def test_what_computes_the_same_is_held_in_as_many_configurations_as_were_asked_for() -> None:
    assert hold(way(), TANH, evaluation(), 25)["held"] == 25


@pytest.mark.parametrize("wrong", [{"off": 1e-9}, {"gradient_off": 1e-9}])
def test_a_result_and_a_gradient_that_are_off_are_seen(wrong: dict[str, float]) -> None:
    with pytest.raises(
        AssertionError, match=r"numpy\.tanh departs from parity\.nn\.tanh: (output|gradient of x) is off"
    ):
        hold(way(), TANH, evaluation(**wrong), 25)


def test_a_departure_is_seen_up_to_its_size_and_no_further() -> None:
    declared = way(departures=(Departure("short", "A constant is in float32.", size=2**-24),))
    assert hold(declared, TANH, evaluation(off=2**-26), 25)["departures"] == {"short": "A constant is in float32."}
    with pytest.raises(AssertionError, match="departs"):
        hold(declared, TANH, evaluation(off=2**-20), 25)


@pytest.mark.parametrize(
    "said",
    [
        {"departures": (Departure("short", "A constant is in float32.", size=2**-24),)},
        {"cannot": {"five axes": lambda asked: asked.arrays["x"].ndim == 5}},
    ],
)
def test_what_is_declared_and_not_there_is_seen(said: dict[str, Any]) -> None:
    with pytest.raises(AssertionError, match=r"declared, and seen in no configuration: (short|five axes)"):
        hold(way(**said), TANH, evaluation(), 25)


def test_a_departure_that_few_questions_meet_is_looked_for() -> None:
    """One value in 128 is 15/16: among 25 questions there may be none."""
    rare = Departure("rare", "It is off there.", size=1.0, when=lambda asked: bool((asked.arrays["x"] == 0.9375).any()))

    def call(x: Any) -> dict[str, Any]:
        return {"output": np.where(x == 0.9375, 0.5, np.tanh(x))}

    declared = Way("tanh", ("numpy.tanh",), call, departures=(rare,))
    assert hold(declared, TANH, evaluation(), 2)["departures"] == {"rare": "It is off there."}
