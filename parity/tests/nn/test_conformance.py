"""What ``parity.nn`` says of layers, losses, optimizers and schedules is what every framework computes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from parity.tests.nn.conformance import FRAMEWORKS, Asked, Function, cotangents, families, held, mismatch

FUNCTIONS = [function for some in families().values() for function in some]


@pytest.mark.asks(question=held)
@pytest.mark.parametrize("examples", [25, pytest.param(300, marks=pytest.mark.slow)])
@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("function", [function.name for function in FUNCTIONS])
def test_a_framework_computes_the_same(
    function: str, framework: str, examples: int, answer: list[dict[str, Any]]
) -> None:
    """What does not hold fails where the framework is, and says with which configuration."""
    for way in answer:
        assert way["held"] >= examples, way


BACKWARD = [function for function in FUNCTIONS if function.backward]


@pytest.mark.parametrize("function", BACKWARD, ids=lambda function: function.name)
def test_what_is_written_backward_is_the_derivative(function: Function) -> None:
    @settings(max_examples=25, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(function.asked)
    def holds(asked: Asked) -> None:
        results = function(asked.arrays, asked.configuration)
        d_results = cotangents(function, results)
        gradients = function.backward(d_results, asked.arrays, results, asked.configuration)
        assert set(gradients) == {name for name in function.trained if name in asked.arrays}
        found = {f"gradient of {name}": value for name, value in gradients.items()}
        off = mismatch(replace(function, backward=None), asked, found, d_results, [], "float64")
        assert not off, (off, asked)

    holds()
