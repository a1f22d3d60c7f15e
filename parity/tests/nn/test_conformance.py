"""What ``parity.nn`` says of layers, losses, optimizers and schedules is what every framework computes."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from parity.nn.table import as_json, read
from parity.tests.nn.conformance import EXAMPLES, FRAMEWORKS, Asked, Function, cotangents, families, held, mismatch
from parity.tests.nn.table import FILE, described, row

FUNCTIONS = [function for some in families().values() for function in some]
QUICK = ("batch_norm", "gelu", "dense", "softmax", "cross_entropy", "huber", "sgd")
"""The functions that every pytest asks about. All together take minutes, and ``python -m parity.tests.nn`` longer."""
TABLE = {one["name"]: one for one in json.loads(FILE.read_text(encoding="utf-8"))["functions"]}


@pytest.mark.asks(question=held, examples=EXAMPLES)
@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize(
    "function", [pytest.param(one.name, marks=() if one.name in QUICK else pytest.mark.slow) for one in FUNCTIONS]
)
def test_a_framework_computes_the_same_and_the_table_says_it(
    function: str, framework: str, answer: list[dict[str, Any]]
) -> None:
    """What does not hold fails where the framework is, and says with which configuration."""
    said = [way for way in TABLE[function]["ways"] if way["framework"] == framework]
    found = [{"framework": framework, **way} for way in answer]
    if [way["version"] for way in found] == [way["version"] for way in said]:
        assert found == said, "the table is stale: python -m parity.tests.nn.table"
    else:  # of another version the table says nothing
        assert [way["names"] for way in found] == [way["names"] for way in said]


def test_the_table_has_every_function_and_none_beside_and_some_framework_for_each() -> None:
    known = [row(name, family, about, {}) for name, family, about in described()]
    assert known == [{**one, "ways": []} for one in TABLE.values()]
    assert all(one["ways"] for one in TABLE.values())
    assert as_json(read()) == {"functions": list(TABLE.values())}


BACKWARD = [function for function in FUNCTIONS if function.backward]


@pytest.mark.parametrize("function", BACKWARD, ids=lambda function: function.name)
def test_what_is_written_backward_is_the_derivative(function: Function) -> None:
    @settings(max_examples=25, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(function.asked.filter(function.derivable))
    def holds(asked: Asked) -> None:
        results = function(asked.arrays, asked.configuration)
        d_results = cotangents(function, results)
        gradients = function.backward(d_results, asked.arrays, results, asked.configuration)
        assert set(gradients) == {name for name in function.trained if name in asked.arrays}
        found = {f"gradient of {name}": value for name, value in gradients.items()}
        off = mismatch(replace(function, backward=None), asked, found, d_results, [], "float64")
        assert not off, (off, asked)

    holds()
