"""The inputs of a recurrent layer are found by its outputs, where it has more units than features."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from parity.explaining.layers.cells import inputs_of
from parity.nn.layers import Call, compute


def layer(seed: int, cell: str, features: int, units: int, steps: int) -> Call:
    draw, gates = np.random.default_rng(seed), {"LSTM": 4, "GRU": 3, "RNN": 1}[cell]
    params = {
        "kernel": draw.normal(size=(features, gates * units)) / features**0.5,
        "recurrent_kernel": draw.normal(size=(units, gates * units)) / units**0.5,
        "bias": 0.25 * draw.normal(size=gates * units),
    }
    x = draw.normal(size=(4, steps, features))
    return Call(kind="recurrent", settings={"cell": cell}, params=params, inputs=(x,))


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["LSTM", "GRU", "RNN"]), st.integers(1, 3), st.integers(2, 4))
def test_what_is_found_makes_the_outputs(seed: int, cell: str, features: int, steps: int) -> None:
    call = layer(seed, cell, features, features + 3, steps)
    states = compute(call)
    x, rows = inputs_of(call, states, 4e-16)
    if rows.any():  # of saturated gates no input is left
        again = compute(Call(kind=call.kind, settings=call.settings, params=call.params, inputs=(x,)))
        np.testing.assert_allclose(again[rows], states[rows], atol=1e-10)


def test_nothing_is_found_where_any_outputs_have_inputs_or_none_have() -> None:
    call = layer(0, "GRU", 5, 5, 3)
    assert not inputs_of(call, compute(call), 4e-16)[1].any()
    call = layer(0, "GRU", 2, 6, 3)
    noise = np.random.default_rng(1).uniform(-0.9, 0.9, size=(4, 3, 6))
    assert not inputs_of(call, noise, 4e-16)[1].any()
