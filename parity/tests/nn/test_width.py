"""Every function computes in the dtype of its arrays, and changes none of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from parity.dtypes import rounded
from parity.tests.nn.conformance import Asked, Function, families

IN_FLOAT64 = ("gelu",)
"""What says that it answers in float64: Python's error function knows nothing else."""
FUNCTIONS = [function for some in families().values() for function in some]


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.name)
def test_floats_stay_as_wide_as_they_were(function: Function) -> None:
    @settings(max_examples=10, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(function.asked)
    def stays(asked: Asked) -> None:
        arrays = {name: rounded(value, "float32") for name, value in asked.arrays.items()}
        before = {name: value.copy() for name, value in arrays.items()}
        wanted = np.float64 if function.name in IN_FLOAT64 or not arrays else np.float32
        for name, value in function(arrays, asked.configuration).items():
            assert value.dtype == wanted, name
        for name, value in before.items():
            np.testing.assert_array_equal(arrays[name], value, err_msg=name)

    stays()
