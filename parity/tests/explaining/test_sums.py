"""What a function gave is the sum of two tensors before it, if their values say so; and a parting that hardly grows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parity.explaining.layers.dataflow import sums
from parity.explaining.layers.parting import Parting
from parity.tolerance import FACTOR


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(3, 12), st.sampled_from(["float32", "float64"]))
def test_a_residual_stream_is_taken_apart(seed: int, depth: int, dtype: str) -> None:
    draw = np.random.default_rng(seed)
    tensors = {"x0": draw.normal(size=(3, 5)).astype(dtype)}
    expected = {}
    for k in range(depth):
        tensors[f"branch{k}"] = draw.normal(size=(3, 5)).astype(dtype)
        tensors[f"x{k + 1}"] = tensors[f"x{k}"] + tensors[f"branch{k}"]
        expected[f"x{k + 1}"] = (f"x{k}", f"branch{k}")
    assert sums(tensors, dtype, lambda label: label.startswith("x")) == expected


def test_nothing_else_is_a_sum() -> None:
    draw = np.random.default_rng(0)
    x, y = draw.normal(size=(2, 64))
    tensors = {"x": x, "zeros": np.zeros(64), "y": y, "scaled": x + 1.001 * y, "same": x.copy(), "unknown": x * np.nan}
    assert sums(tensors, "float64", lambda label: True) == {}


@pytest.mark.parametrize(("inputs", "output", "certain"), [(0.5, 17.0, True), (5.0, 20.0, False), (5.0, 100.0, True)])
def test_a_difference_that_hardly_grows_in_a_layer_is_not_surely_its_own(
    inputs: float, output: float, certain: bool
) -> None:
    assert (output > FACTOR * max(1.0, inputs)) == certain
    assert Parting(direction="backward", ours=None, theirs=None, inputs=inputs, output=output).certain == certain
