"""Activation functions as NumPy says them, beside what ``test_conformance`` holds of them."""

from __future__ import annotations

import numpy as np

from parity.nn.activations import ELEMENTWISE, erf

X = np.concatenate([np.linspace(-8, 8, 101), [-1e-6, 0.0, 1e-6, -30.0, 30.0]])


def test_erf_is_odd_and_ends_at_one() -> None:
    assert erf(np.array([0.0, 6.0])).tolist() == [0.0, 1.0]
    np.testing.assert_array_equal(erf(-X), -erf(X))


def test_no_two_functions_are_alike() -> None:
    values = {name: function(X) for name, function in ELEMENTWISE.items()}
    for name, one in values.items():
        for other, two in values.items():
            assert name == other or np.max(np.abs(one - two)) > 1e-4, (name, other)
