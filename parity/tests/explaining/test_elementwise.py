"""Which activation function made what a run recorded."""

from __future__ import annotations

import numpy as np
import pytest

from parity.explaining.layers.dataflow import Dataflow
from parity.explaining.layers.elementwise import function_of, functions_in_words
from parity.nn.activations import ELEMENTWISE
from parity.trajectory import Trajectory

X = np.random.default_rng(0).normal(size=(16, 8)).astype(np.float32) * 2


def flow(output: np.ndarray, x: np.ndarray = X) -> Dataflow:
    """A layer that makes ``output`` of ``x``, as a run in float32 records it."""
    layers = [
        {"name": "up", "kind": "Linear", "configuration": {}, "inputs": [""], "outputs": ["up"]},
        {"name": "act", "kind": "Activation", "configuration": {}, "inputs": ["up"], "outputs": ["act"]},
    ]
    steps = {"0/activations/up": x, "0/activations/act": output}
    return Dataflow(Trajectory({"dtype": "float32", "layers": layers}, np.arange(2), np.ones((1, 1)), {}, {}, steps), 0)


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_the_function_is_named(name: str) -> None:
    made = flow(ELEMENTWISE[name](X).astype(np.float32))
    found = function_of(made, made.tensors["act"])
    assert found is not None
    assert name in found[0].split(" or ")
    assert found[0] == name or name.startswith("relu")
    assert found[1] <= 1


def test_nothing_is_named_where_several_functions_fit_or_none() -> None:
    positive = np.abs(X)
    made = flow(positive, positive)
    assert function_of(made, made.tensors["act"]) is None
    made = flow(X**2)
    assert function_of(made, made.tensors["act"]) is None
    made = flow(X.T.copy())
    assert function_of(made, made.tensors["act"]) is None


def test_two_functions_are_said_and_one_is_not() -> None:
    exact, approximate = (flow(ELEMENTWISE[name](X).astype(np.float32)) for name in ("gelu", "gelu by tanh"))
    said = functions_in_words((approximate, exact), approximate.tensors["act"], exact.tensors["act"])
    assert said.startswith("the first run computes gelu by tanh (replay agrees to ")
    assert ", the second gelu (" in said
    assert functions_in_words((exact, exact), exact.tensors["act"], exact.tensors["act"]) == ""
